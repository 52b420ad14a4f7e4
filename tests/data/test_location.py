from pathlib import Path

import pytest

from medgan.data.location import Location, Options, located, options
from medgan.errors import ConfigError


def test_what_a_run_notes_of_its_data_leads_back_to_it(tmp_path):
    given = located(tmp_path / "cohort.csv", tmp_path, "run=1, ACQ=acq-mprage,rec=")
    assert given == Location(tmp_path / "cohort.csv", Options(tmp_path, (("run", "1"), ("acq", "mprage"), ("rec", ""))))
    assert Location.of_facts(given.facts()) == given


def test_runs_of_before_noted_a_path_alone_or_nothing(tmp_path):
    assert Location.of_facts({"data": str(tmp_path)}) == Location(tmp_path)
    assert Location.of_facts({"data": None}) is None
    assert set(Location(tmp_path).facts()) == {"data"}


def test_a_path_is_read_as_it_is():
    assert Location.of(Path("data")) == Location(Path("data"), Options())
    assert str(Location.of(Location(Path("data")))) == "data"


def test_options_of_no_cohort_or_no_folder_are_refused(tmp_path):
    assert located(None) is None
    with pytest.raises(ConfigError, match="give it with --data"):
        located(None, tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        options(tmp_path / "nowhere", None)
