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
from medgan.synthesis.real_cases import RealCases, read_real_cases, write_cohort

OWN = GridConfig(spacing_mm=(None, None, None))


@pytest.fixture
def cohort(tmp_path, with_organ):
    """Six subjects without a ``split`` column; the last has no mask."""
    (folder := tmp_path / "cohort").mkdir()
    rows = ["subject,domain,image,mask"]
    for case in with_organ((36, 36, 4), 6):
        name = case.subject
        nib.Nifti1Image(case.image.voxels, np.eye(4)).to_filename(folder / f"{name}.nii.gz")
        nib.Nifti1Image(3 * case.labels, np.eye(4)).to_filename(folder / f"{name}_mask.nii.gz")
        rows.append(f"{name},t1,{name}.nii.gz," + (f"{name}_mask.nii.gz" if name != "s5" else ""))
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder


def real_cases(cohort, split=None, subjects=(), labels=None):
    cache = Cache(cohort.parent / "cache")
    return read_real_cases(cohort, domain_named("t1"), OWN, labels, split, subjects, cache)


def fixed(**parts):
    return Split(**({"train": (), "validation": (), "test": (), "files": {}} | parts))


def test_donors_and_recipients_are_the_training_subjects_with_a_mask(cohort):
    split = fixed(train=("s0", "s2", "s5"), validation=("s1",), test=("s3", "s4"))
    found = real_cases(cohort, split)
    assert [case.subject for case in found.donors] == ["s0", "s2"]
    assert [study.subject for study in found.recipients] == ["s0", "s2"]
    assert found.labels == {"label_3": (3,), "label_6": (6,)}
    assert set(np.unique(found.donors[0].labels)) == {0, 1, 2}


def test_without_a_split_one_is_drawn_and_always_the_same(cohort):
    found = real_cases(cohort)
    assert found.split == real_cases(cohort).split
    for study in found.recipients:
        assert found.split.part_of[study.subject] == "train"
    assert len(found.split.train) < 6


def test_what_donors_are_is_in_their_hash_what_cannot_be_read_is_set_aside_and_nothing_at_all_is_refused(cohort):
    split = fixed(train=("s0", "s1"), test=("s2", "s3", "s4", "s5"))
    before = real_cases(cohort, split).donors_hash
    assert real_cases(cohort, split).donors_hash == before
    mask = cohort / "s1_mask.nii.gz"
    mask.write_bytes((cohort / "s2_mask.nii.gz").read_bytes())
    assert real_cases(cohort, split).donors_hash != before
    mask.write_bytes(b"broken")
    found = real_cases(cohort, split)
    assert [study.subject for study in found.broken] == ["s1"]
    assert len(found.recipients) == 2  # its case is asked for, and fails by name
    (cohort / "s0.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="no labelled training image can be read"):
        real_cases(cohort, split)


def test_names_come_from_labels_json(cohort):
    (cohort / "labels.json").write_text(json.dumps({"labels": {"3": "front", "6": "behind"}}))
    assert real_cases(cohort).labels == {"front": (3,), "behind": (6,)}
    assert real_cases(cohort, labels={"both": (3, 6)}).labels == {"both": (3, 6)}


def test_who_is_not_in_the_split_or_not_trained_on_is_refused(cohort):
    with pytest.raises(DataError, match="does not know s5"):
        real_cases(cohort, fixed(train=("s0", "s1", "s2", "s3"), test=("s4",)))
    split = fixed(train=("s0", "s1"), validation=("s2",), test=("s3", "s4", "s5"))
    with pytest.raises(LeakageError, match=r"'s2' .in its validation part.*'s3' .in its test part"):
        real_cases(cohort, split, ("s0", "s2", "s3"))
    nobody = fixed(train=("s5",), test=("s0", "s1", "s2", "s3", "s4"))
    with pytest.raises(DataError, match="no labelled training image"):
        real_cases(cohort, nobody)


@pytest.fixture
def cases(tmp_path):
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
    return RealCases(Cohort(studies, root), split, studies[:1], {}, {}, {"lesion": (2, 3)})


def listed(out, cases, made=()):
    """The rows of the cohort that is written."""
    write_cohort(out, cases, made)
    return read_table(out / "cohort.csv").studies


def of(cases, studies, root=None, **parts):
    return replace(cases, cohort=Cohort(tuple(studies), root or cases.cohort.root), split=fixed(**parts))


def test_real_files_are_reached_beside_the_table_keep_their_part_and_labels_their_names(cases, tmp_path):
    out = tmp_path / "out"
    image, mask = out / "synthetic" / "x.nii.gz", out / "synthetic" / "x_labels.nii.gz"
    image.parent.mkdir(parents=True)
    image.touch(), mask.touch()
    real, series, made = listed(out, cases, [("s0_synthetic_0000", image, mask)])
    assert (real.image.read_bytes(), real.mask.read_bytes()) == (b"image", b"mask")
    assert (series.image / "1.dcm").read_bytes() == b"slice"
    assert [study.split for study in (real, series, made)] == ["train", "test", "train"]
    assert (made.subject, made.image, made.mask) == ("s0_synthetic_0000", image, mask)
    with (out / "cohort.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == ["subject", "domain", "image", "mask", "split"]
    assert json.loads((out / "labels.json").read_text()) == {"labels": {"2": "lesion", "3": "lesion"}}
    (cases.cohort.root / "labels.json").write_text('{"labels": {"2": "wml"}, "phantom": true}')
    listed(out, cases)
    assert json.loads((out / "labels.json").read_text())["phantom"] is True


def test_a_folder_that_was_one_series_and_is_several_leaves_the_real_files_alone(cases, tmp_path):
    """Each gets a folder of its own; what is written must not go through the link of an augmented cohort of before."""
    root, flat = cases.cohort.root, cases.cohort.root / "flat"
    save_stack(flat)
    listed(tmp_path / "out", of(cases, [Study("s0", "t1", flat)], train=("s0",)))
    save_stack(flat, stack(6, first=21, SeriesInstanceUID=f"{ROOT}.2", SeriesNumber=4), "B{:03d}")
    (flat / "lone.nii.gz").write_bytes(b"image")
    before = {path: path.read_bytes() for path in flat.iterdir()}
    studies = [Study("s0", "t1", flat / "lone.nii.gz"), Study("s1", "t1", flat / "series_4")]
    for _ in range(2):
        lone, series = listed(tmp_path / "out", of(cases, studies, root, train=("s0",)))
        assert (lone.image.read_bytes(), read_grid(series.image).size) == (b"image", (32, 32, 6))
    assert {path: path.read_bytes() for path in flat.iterdir()} == before
    assert not any(path.is_symlink() for path in before)


def test_a_place_that_cannot_be_written_is_said(cases, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "real").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        write_cohort(tmp_path / "out", cases, [])


@pytest.mark.parametrize("links", [True, False])
def test_real_files_are_linked_or_copied_and_those_of_another_cohort_replaced(cases, tmp_path, monkeypatch, links):
    def refuse(*_, **__):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    other, root = tmp_path / "other", cases.cohort.root
    for _ in range(2):
        real, series = listed(tmp_path / "out", cases)
    assert real.image.is_symlink() == links
    assert (real.image.read_bytes(), (series.image / "1.dcm").read_bytes()) == (b"image", b"slice")
    root.rename(other)
    (other / "a" / "one.nii.gz").write_bytes(b"another")
    one, of_series = cases.cohort.studies
    one = replace(one, image=other / "a" / "one.nii.gz", mask=other / "a" / "mask.nii.gz")
    studies = one, replace(of_series, image=other / "series")
    real, series = listed(tmp_path / "out", of(cases, studies, other))
    assert (real.image.read_bytes(), (series.image / "1.dcm").read_bytes()) == (b"another", b"slice")
