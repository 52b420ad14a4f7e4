import json
import os

import pytest

from medgan.data.layouts import Study
from medgan.data.sidecars import damage, left_out, sidecar, without_augmented
from medgan.data.studies import Cohort
from medgan.errors import DataError

NOTES = {
    "made": {"Synthetic": True, "Augmentation": {"Method": "copy-paste"}, "Parents": ["a", "b"]},
    "phantom": {"phantom": True, "Synthetic": True, "kind": "head_mr"},
    "translated": {"Synthetic": True, "Direction": "to_target", "Augmentation": None},
    "real": {"Modality": "MR"},
    "a list": ["Augmentation"],
}


@pytest.fixture
def studies(tmp_path):
    """A study for each note, and one without."""
    for name, note in NOTES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(note))
    names = (*NOTES, "alone")
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    return {name: Study(name, "flair", tmp_path / f"{name}.nii.gz") for name in names}


def test_only_a_case_that_was_made_of_others_or_links_to_one_is_augmented(studies, tmp_path):
    link = tmp_path / "elsewhere" / "innocent.nii.gz"
    link.parent.mkdir()
    link.symlink_to(studies["made"].image)
    cohort = Cohort((*studies.values(), Study("innocent", "flair", link)), tmp_path)
    own, made = without_augmented(cohort)
    assert (own, made) == (Cohort(tuple(study for study in studies.values() if study.subject != "made"), tmp_path), 2)
    assert left_out(made).startswith("2 synthetic cases of `medgan augment` are left out")
    assert left_out(1).startswith("1 synthetic case of `medgan augment` is left out")
    assert left_out(0) == ""
    assert sidecar(studies["phantom"].image) == NOTES["phantom"]
    assert sidecar(studies["a list"].image) == {}
    with pytest.raises(
        DataError, match="all 1 images are synthetic cases of `medgan augment`; give the cohort of real"
    ):
        without_augmented(Cohort((studies["made"],), tmp_path))


@pytest.mark.parametrize("content", ['{"Augmentation": ', "", "[" * 100_000])
def test_a_damaged_sidecar_leaves_no_case_to_be_taken_for_a_real_one(studies, tmp_path, content):
    (tmp_path / "alone.json").write_text(content)
    assert sidecar(studies["alone"].image) == {}
    with pytest.raises(DataError, match=r"alone\.nii\.gz: alone\.json beside it cannot be read \(.+\), so whether"):
        without_augmented(Cohort(tuple(studies.values()), tmp_path))


def test_a_pipe_beside_an_image_is_no_sidecar_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    assert sidecar(tmp_path / "a.nii.gz") == {}
    assert damage(tmp_path / "a.nii.gz") == "a.json beside it cannot be read (not a regular file)"
