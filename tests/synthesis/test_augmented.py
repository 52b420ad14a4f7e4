import csv
import json
from dataclasses import replace

import pytest

from dicom_files import ROOT, save_stack, stack
from medgan.data.layouts import Study
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.data.tables import read_table
from medgan.data.volumes import read_grid
from medgan.errors import DataError
from medgan.synthesis.material import Material, write_cohort


@pytest.fixture
def material(tmp_path):
    """A cohort of a file, and of a series in a folder; nothing of it is read."""
    root = tmp_path / "cohort"
    (root / "a").mkdir(parents=True)
    (root / "series").mkdir()
    (root / "series" / "1.dcm").write_bytes(b"slice")
    (root / "a" / "one.nii.gz").write_bytes(b"image")
    (root / "a" / "mask.nii.gz").write_bytes(b"mask")
    studies = (
        Study("s0", "t1", root / "a" / "one.nii.gz", root / "a" / "mask.nii.gz"),
        Study("s1", "t1", root / "series"),
    )
    split = Split(train=("s0",), validation=(), test=("s1",), files={})
    return Material(Cohort(studies, root), split, studies[:1], {}, {}, {"lesion": (2, 3)})


def test_real_files_are_reached_beside_the_table_and_keep_their_part(material, tmp_path):
    out = tmp_path / "out"
    image, mask = out / "synthetic" / "x.nii.gz", out / "synthetic" / "x_labels.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch(), mask.touch()
    write_cohort(out, material, [("s0_synthetic_0000", image, mask)])
    real, series, made = read_table(out / "cohort.csv").studies
    assert real.image.read_bytes() == b"image"
    assert real.mask.read_bytes() == b"mask"
    assert (series.image / "1.dcm").read_bytes() == b"slice"
    assert [study.split for study in (real, series, made)] == ["train", "test", "train"]
    assert (made.subject, made.image, made.mask) == ("s0_synthetic_0000", image, mask)
    with (out / "cohort.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == ["subject", "domain", "image", "mask", "split"]


def test_one_of_several_series_in_a_folder_gets_a_folder_of_its_own(material, tmp_path):
    root = material.cohort.root
    save_stack(root / "flat")
    save_stack(root / "flat", stack(6, first=21, SeriesInstanceUID=f"{ROOT}.2", SeriesNumber=4), "B{:03d}")
    series = Study("s2", "t1", root / "flat" / "series_4")
    material = replace(
        material, cohort=Cohort((series,), root), split=Split(train=("s2",), validation=(), test=(), files={})
    )
    for _ in range(2):
        write_cohort(tmp_path / "out", material, [])
        assert read_grid(read_table(tmp_path / "out" / "cohort.csv").studies[0].image).size == (32, 32, 6)


def test_a_folder_that_was_one_series_and_is_several_leaves_the_real_files_alone(material, tmp_path):
    """An augmented cohort of before links to the folder: what is written now must not go through that link."""
    root = material.cohort.root

    def written(*images):
        studies = tuple(Study(f"s{number}", "t1", root / "flat" / image) for number, image in enumerate(images))
        split = Split(train=("s0",), validation=(), test=(), files={})
        write_cohort(tmp_path / "out", replace(material, cohort=Cohort(studies, root), split=split), [])
        return read_table(tmp_path / "out" / "cohort.csv").studies

    save_stack(root / "flat")
    written("")
    save_stack(root / "flat", stack(6, first=21, SeriesInstanceUID=f"{ROOT}.2", SeriesNumber=4), "B{:03d}")
    (root / "flat" / "lone.nii.gz").write_bytes(b"image")
    before = {path: path.read_bytes() for path in (root / "flat").iterdir()}
    lone, series = written("lone.nii.gz", "series_4")
    assert (lone.image.read_bytes(), read_grid(series.image).size) == (b"image", (32, 32, 6))
    assert {path: path.read_bytes() for path in (root / "flat").iterdir()} == before
    assert not any(path.is_symlink() for path in before)


def test_label_values_keep_their_names(material, tmp_path):
    write_cohort(tmp_path / "out", material, [])
    named = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert named == {"labels": {"2": "lesion", "3": "lesion"}}
    (material.cohort.root / "labels.json").write_text('{"labels": {"2": "wml"}, "phantom": true}')
    write_cohort(tmp_path / "out", material, [])
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["phantom"] is True


def test_where_there_are_no_links_files_are_copied(material, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no links here")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    for _ in range(2):
        write_cohort(tmp_path / "out", material, [])
    real, series = read_table(tmp_path / "out" / "cohort.csv").studies
    assert not real.image.is_symlink()
    assert real.image.read_bytes() == b"image"
    assert (series.image / "1.dcm").read_bytes() == b"slice"


def test_a_place_that_cannot_be_written_is_said(material, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "real").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_cohort(tmp_path / "out", material, [])


@pytest.mark.parametrize("links", [True, False])
def test_real_files_of_another_cohort_are_replaced(material, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(
            "pathlib.Path.symlink_to", lambda *given, **named: (_ for _ in ()).throw(OSError("no links"))
        )
    out = tmp_path / "out"
    write_cohort(out, material, [])
    other = tmp_path / "other"
    material.cohort.root.rename(other)
    (other / "a" / "one.nii.gz").write_bytes(b"another")
    studies = tuple(
        Study(study.subject, study.domain, *(path and other / path.relative_to(material.cohort.root) for path in paths))
        for study, paths in ((each, (each.image, each.mask)) for each in material.cohort.studies)
    )
    write_cohort(out, replace(material, cohort=Cohort(studies, other), recipients=studies[:1]), [])
    real, series = read_table(out / "cohort.csv").studies
    assert real.image.read_bytes() == b"another"
    assert (series.image / "1.dcm").read_bytes() == b"slice"
