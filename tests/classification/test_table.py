import csv
import json

import numpy as np
import pytest

from medgan.classification.apply import Classified
from medgan.classification.table import SIDECAR, TABLE, ClassTable
from medgan.errors import DataError

CLASSES = ("healthy", "spot")
FACTS = {"Classification": True, "Model": {"WeightsSHA256": "one"}}


@pytest.fixture
def table(tmp_path):
    """The table of the folder as a batch opens it: ``table(overwrite=True)``."""

    def make(facts=FACTS, overwrite=False):
        return ClassTable(tmp_path, CLASSES, facts, overwrite=overwrite)

    return make


@pytest.fixture
def written(table, tmp_path):
    made = table()
    made.add("b.nii.gz", "hash b", Classified(np.array([0.25, 0.75]), 12, (1.0, -2.5, 30.0)), "train")
    made.add("a, odd.nii.gz", "hash a", Classified(np.array([0.9, 0.1]), 1, (0.0, 0.0, 0.0)), "unseen")
    made.write()
    return tmp_path


def rows(folder):
    with (folder / TABLE).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_row_has_the_class_the_probabilities_and_the_place(written):
    first, second = rows(written)
    assert first["image"] == "a, odd.nii.gz"
    assert second == {
        "image": "b.nii.gz", "class": "spot", "p_healthy": "0.250000", "p_spot": "0.750000", "patches": "12",
        "x_mm": "1.00", "y_mm": "-2.50", "z_mm": "30.00",
    }  # fmt: skip


def test_the_sidecar_vouches_for_table_and_images(written):
    note = json.loads((written / SIDECAR).read_text())
    assert note["Model"] == FACTS["Model"]
    assert note["SourceSHA256"] == {"a, odd.nii.gz": "hash a", "b.nii.gz": "hash b"}
    assert list(note["Outputs"]) == [TABLE]


def test_a_later_batch_knows_what_is_there_and_adds_to_it(written, table):
    again = table()
    assert again.knows("b.nii.gz", "hash b")
    assert not again.knows("c.nii.gz", "hash c")
    again.add("c.nii.gz", "hash c", Classified(np.array([0.5, 0.5]), 2, (0.0, 0.0, 0.0)), "unseen")
    before = rows(written)
    again.write()
    assert rows(written)[:2] == before
    assert len(rows(written)) == 3


def test_another_image_of_the_same_name_is_refused(written, table):
    with pytest.raises(DataError, match=r"b.nii.gz: classes.csv has another image of this name"):
        table().knows("b.nii.gz", "other")
    assert not table(overwrite=True).knows("b.nii.gz", "other")


def test_another_models_table_is_refused(written, table):
    with pytest.raises(DataError, match="made with another model"):
        table(FACTS | {"Model": {"WeightsSHA256": "two"}})


def test_a_table_that_was_changed_or_is_anothers_is_refused(written, table):
    with (written / TABLE).open("a") as stream:
        stream.write("c.nii.gz,spot\n")
    with pytest.raises(DataError, match="was changed since it was written"):
        table()
    (written / SIDECAR).unlink()
    with pytest.raises(DataError, match="is no output of medgan"):
        table()
    assert table(overwrite=True).rows == {}


def test_nothing_is_written_where_nothing_was_classified(table, tmp_path):
    table().write()
    assert list(tmp_path.iterdir()) == []
