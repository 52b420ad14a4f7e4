"""The rows of all seven studies are those of the golden files, in one go and after a stop; see ``studies.py``."""

import json

import pytest

from golden.compare import MACHINE, differences, machine, table_differences
from golden.studies import STUDIES, written

ROWS = [
    ["subject", "metric", "n", "mean", "difference", "p_value"],
    ["s1", "dice", "2", "0.8", "", "0.5"],
    ["s2", "dice", "2", "0.75", "-0.05", "0.5"],
    ["s2", "hd95_mm", "2", "12.3456", "4", "0.5"],
]


@pytest.fixture(scope="module")
def same_machine():
    return machine() == json.loads(MACHINE.read_text())


def test_a_study_that_runs_in_one_go_finds_what_it_always_found_with_the_weights_of_one_that_was_stopped(
    golden, same_machine
):
    whole, parts = golden.whole("ablation"), golden.resumed("ablation").folder
    assert differences("ablation", whole, same_machine=same_machine) == []
    weights = [path.relative_to(whole) for path in whole.rglob("weights.safetensors")]
    assert len(weights) == 3
    assert all((whole / path).read_bytes() == (parts / path).read_bytes() for path in weights)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_that_was_stopped_and_goes_on_in_processes_finds_what_it_always_found(golden, name, same_machine):
    """The golden files are of studies in one go; so one run holds rows, going on and processes to them."""
    study = golden.resumed(name)
    after = written(study.folder)
    assert {path: after[path] for path in study.finished} == study.finished, "what was finished is not done again"
    assert 0 < len(study.finished) < len(after)
    assert differences(name, study.folder, same_machine=same_machine) == []


def changed(row, column, value):
    rows = [list(each) for each in ROWS]
    rows[row][ROWS[0].index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "here", "elsewhere"),
    [
        (ROWS, 0, 0),
        (changed(3, "mean", "12.3457"), 0, 0),
        (changed(3, "mean", "12.3458"), 1, 0),
        (changed(3, "mean", "13"), 1, 1),
        (changed(2, "difference", "-0.02"), 1, 0),
        (changed(2, "difference", "-0.005"), 1, 1),
        (changed(2, "difference", ""), 1, 1),
        (changed(1, "difference", "0"), 1, 1),
        (changed(1, "p_value", "1"), 1, 0),
        (changed(1, "n", "3"), 1, 1),
        (changed(1, "subject", "s3"), 1, 1),
        ([ROWS[0], ROWS[2], ROWS[1], ROWS[3]], 6, 6),
        (ROWS[:-1], 1, 1),
        ([row[::-1] for row in ROWS], 1, 1),
    ],
)
def test_what_differs_is_told(rows, here, elsewhere):
    found = [len(table_differences("subject metric n", rows, ROWS, elsewhere=elsewhere)) for elsewhere in (None, 0.05)]
    assert found == [here, elsewhere]
