import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from dicom_files import ROOT, save_stack, stack
from medgan.data.cache import Cache
from medgan.data.domains import domain_named
from medgan.data.layouts import Study
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.data.tables import read_table
from medgan.data.volumes import read_grid
from medgan.errors import DataError, LeakageError
from medgan.synthesis.material import Material, find_material, write_cohort

OWN = GridConfig(spacing_mm=(None, None, None))


@pytest.fixture
def cohort(tmp_path, with_organ):
    """Six subjects without a ``split`` column; the last has no mask."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    rows = ["subject,domain,image,mask"]
    for case in with_organ((36, 36, 4), 6):
        name = case.subject
        nib.Nifti1Image(case.image.voxels, np.eye(4)).to_filename(folder / f"{name}.nii.gz")
        nib.Nifti1Image(3 * case.labels, np.eye(4)).to_filename(folder / f"{name}_mask.nii.gz")
        rows.append(f"{name},t1,{name}.nii.gz," + (f"{name}_mask.nii.gz" if name != "s5" else ""))
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder


def material_of(cohort, split=None, subjects=(), labels=None):
    cache = Cache(cohort.parent / "cache")
    return find_material(cohort, domain_named("t1"), OWN, labels, split, subjects, cache)


def fixed(**parts):
    return Split(**({"train": (), "validation": (), "test": (), "files": {}} | parts))


def test_donors_and_recipients_are_the_training_subjects_with_a_mask(cohort):
    split = fixed(train=("s0", "s2", "s5"), validation=("s1",), test=("s3", "s4"))
    found = material_of(cohort, split)
    assert [case.subject for case in found.donors] == ["s0", "s2"]
    assert [study.subject for study in found.recipients] == ["s0", "s2"]
    assert found.labels == {"label_3": (3,), "label_6": (6,)}
    assert set(np.unique(found.donors[0].labels)) == {0, 1, 2}


def test_without_a_split_one_is_drawn_and_always_the_same(cohort):
    found = material_of(cohort)
    assert found.split == material_of(cohort).split
    for study in found.recipients:
        assert found.split.part_of[study.subject] == "train"
    assert len(found.split.train) < 6


def test_what_donors_are_is_in_their_hash(cohort):
    split = fixed(train=("s0", "s2"), test=("s1", "s3", "s4", "s5"))
    before = material_of(cohort, split).donors_hash
    assert material_of(cohort, split).donors_hash == before
    (cohort / "s2_mask.nii.gz").write_bytes((cohort / "s1_mask.nii.gz").read_bytes())
    assert material_of(cohort, split).donors_hash != before


def test_what_cannot_be_read_is_set_aside_and_nothing_at_all_is_refused(cohort):
    split = fixed(train=("s0", "s1"), test=("s2", "s3", "s4", "s5"))
    (cohort / "s1_mask.nii.gz").write_bytes(b"broken")
    found = material_of(cohort, split)
    assert [study.subject for study in found.broken] == ["s1"]
    assert len(found.recipients) == 2  # its case is asked for, and fails by name
    (cohort / "s0.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="no labelled training image can be read"):
        material_of(cohort, split)


def test_names_come_from_labels_json(cohort):
    (cohort / "labels.json").write_text(json.dumps({"labels": {"3": "front", "6": "behind"}}))
    assert material_of(cohort).labels == {"front": (3,), "behind": (6,)}
    assert material_of(cohort, labels={"both": (3, 6)}).labels == {"both": (3, 6)}


def test_who_is_not_in_the_split_or_not_trained_on_is_refused(cohort):
    with pytest.raises(DataError, match="does not know s5"):
        material_of(cohort, fixed(train=("s0", "s1", "s2", "s3"), test=("s4",)))
    split = fixed(train=("s0", "s1"), validation=("s2",), test=("s3", "s4", "s5"))
    with pytest.raises(LeakageError, match=r"'s2' .in its validation part.*'s3' .in its test part"):
        material_of(cohort, split, ("s0", "s2", "s3"))
    nobody = fixed(train=("s5",), test=("s0", "s1", "s2", "s3", "s4"))
    with pytest.raises(DataError, match="no labelled training image"):
        material_of(cohort, nobody)


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


def test_a_place_that_cannot_be_written_is_said(material, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "real").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_cohort(tmp_path / "out", material, [])


@pytest.mark.parametrize("links", [True, False])
def test_real_files_are_linked_or_copied_and_those_of_another_cohort_replaced(material, tmp_path, monkeypatch, links):
    def refuse(*_, **__):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    out, other = tmp_path / "out", tmp_path / "other"
    for _ in range(2):
        write_cohort(out, material, [])
    real, series = read_table(out / "cohort.csv").studies
    assert real.image.is_symlink() == links
    assert (real.image.read_bytes(), (series.image / "1.dcm").read_bytes()) == (b"image", b"slice")
    root = material.cohort.root
    root.rename(other)
    (other / "a" / "one.nii.gz").write_bytes(b"another")
    studies = tuple(
        replace(
            each, image=other / each.image.relative_to(root), mask=each.mask and other / each.mask.relative_to(root)
        )
        for each in material.cohort.studies
    )
    write_cohort(out, replace(material, cohort=Cohort(studies, other), recipients=studies[:1]), [])
    real, series = read_table(out / "cohort.csv").studies
    assert (real.image.read_bytes(), (series.image / "1.dcm").read_bytes()) == (b"another", b"slice")
