"""The table of hostile inputs: each is converted by the command line, and must end as its row says."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hostile import dicom_cases, domain_cases, entry_cases, format_cases, grid_cases, nifti_cases, table_cases
from hostile.case import Case
from medgan.cli import app
from medgan.data.belonging import Scans
from medgan.training.model_folder import read_model

TABLES = (nifti_cases, entry_cases, format_cases, dicom_cases, grid_cases, table_cases, domain_cases)
CASES = tuple(case for table in TABLES for case in table.CASES)
PIPELINES = {"ct": "ct_contrast", "mr": "mr_contrast", "mr to ct": "mr_to_ct"}
EXIT_CODES = {"converts": {0}, "warns": {0}, "fails": {1, 2}}


@pytest.fixture(scope="module")
def models(save_model, tmp_path_factory) -> Iterator[dict[str, Path]]:
    """The model folders; each is read once, since reading it takes longer than all else."""
    folder = tmp_path_factory.mktemp("models")
    flat = {
        pair: save_model(folder / pair / "model", pair, "none" if pair == "mr to ct" else "one-sided", directions=1)
        for pair in ("ct", "mr", "mr to ct")
    }
    blocks = save_model(folder / "ct 3d" / "model", dimensions="3", spacing=(1.5, 1.5, 3.0), directions=1)
    scans = Scans(spacing_mm=((2, 4), (2, 4), (5, 5)), field_mm=((90, 130), (90, 130), (20, 500)))
    abdomens = save_model(folder / "abdomens" / "model", directions=1, scans={"contrast": scans})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medgan.inference.convert.read_model", functools.cache(read_model))
        patch.setattr("medgan.translators.pipeline._check_patch", lambda *_: None)
        yield flat | {"ct 3d": blocks, "ct of abdomens": abdomens}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_odd_input_ends_as_the_table_says(case: Case, models, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    case.make(folder)
    options = [option.format(folder=folder) for option in case.options]
    asked = ["convert", str(folder / case.source), str(output), "--model", str(models[case.model]), "--device", "cpu"]
    if case.command == "check":
        asked = ["data", "check", str(folder / case.source), "--pipeline", PIPELINES[case.model]]
    ended = CliRunner().invoke(app, [*asked, *options])
    manifest = output / "manifest.jsonl"
    records = (
        [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()] if manifest.is_file() else []
    )
    said = ended.output + "\n".join(f"{record['input']}: {record['message']}" for record in records)
    assert ended.exit_code in EXIT_CODES[case.outcome], said
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert "\x1b" not in ended.output  # no name steers the terminal
    for text in case.says:
        assert text in said
    warned = [record["message"] for record in records if record["status"] == "done" and record["message"]]
    if case.outcome != "fails":
        assert bool(warned) == (case.outcome == "warns"), said
    made = {path.relative_to(output).as_posix() for path in output.rglob("*.nii.gz") if path.is_file()}
    assert made if case.outputs == ("*",) else made == set(case.outputs), said
    if case.holds:
        case.holds(folder, output)


def test_every_row_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_page_for_people_is_this_table():
    from hostile.page import page

    text = (Path(__file__).parents[2] / "docs" / "odd-inputs.md").read_text(encoding="utf-8")
    assert text == page(), "run: PYTHONPATH=tests python -m hostile.page > docs/odd-inputs.md"
