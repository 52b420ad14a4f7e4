import json

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cache import Cache
from medgan.data.domains import domain_named
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.errors import DataError, LeakageError
from medgan.synthesis.material import find_material

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


def found(cohort, split=None, subjects=(), labels=None):
    cache = Cache(cohort.parent / "cache")
    return find_material(cohort, domain_named("t1"), OWN, labels, split, subjects, cache)


def fixed(**parts):
    return Split(**({"train": (), "validation": (), "test": (), "files": {}} | parts))


def test_donors_and_recipients_are_the_training_subjects_with_a_mask(cohort):
    split = fixed(train=("s0", "s2", "s5"), validation=("s1",), test=("s3", "s4"))
    material = found(cohort, split)
    assert [case.subject for case in material.donors] == ["s0", "s2"]
    assert [study.subject for study in material.recipients] == ["s0", "s2"]
    assert material.labels == {"label_3": (3,), "label_6": (6,)}
    assert set(np.unique(material.donors[0].labels)) == {0, 1, 2}


def test_without_a_split_one_is_drawn_and_always_the_same(cohort):
    material = found(cohort)
    assert material.split == found(cohort).split
    for study in material.recipients:
        assert material.split.part_of.get(study.subject) == "train"
    assert len(material.split.train) < 6


def test_what_donors_are_is_in_their_hash(cohort):
    split = fixed(train=("s0", "s2"), test=("s1", "s3", "s4", "s5"))
    before = found(cohort, split).donors_hash
    assert found(cohort, split).donors_hash == before
    (cohort / "s2_mask.nii.gz").write_bytes((cohort / "s1_mask.nii.gz").read_bytes())
    assert found(cohort, split).donors_hash != before


def test_what_cannot_be_read_is_set_aside_and_nothing_at_all_is_refused(cohort):
    split = fixed(train=("s0", "s1"), test=("s2", "s3", "s4", "s5"))
    (cohort / "s1_mask.nii.gz").write_bytes(b"broken")
    material = found(cohort, split)
    assert [study.subject for study in material.broken] == ["s1"]
    assert len(material.recipients) == 2  # its case is asked for, and fails by name
    (cohort / "s0.nii.gz").write_bytes(b"broken")
    with pytest.raises(DataError, match="no labelled training image can be read"):
        found(cohort, split)


def test_names_come_from_labels_json(cohort):
    (cohort / "labels.json").write_text(json.dumps({"labels": {"3": "front", "6": "behind"}}))
    assert found(cohort).labels == {"front": (3,), "behind": (6,)}
    assert found(cohort, labels={"both": (3, 6)}).labels == {"both": (3, 6)}


def test_who_is_not_in_the_split_or_not_trained_on_is_refused(cohort):
    with pytest.raises(DataError, match="does not know s5"):
        found(cohort, fixed(train=("s0", "s1", "s2", "s3"), test=("s4",)))
    split = fixed(train=("s0", "s1"), validation=("s2",), test=("s3", "s4", "s5"))
    with pytest.raises(LeakageError, match=r"'s2' .in its validation part.*'s3' .in its test part"):
        found(cohort, split, ("s0", "s2", "s3"))
    nobody = fixed(train=("s5",), test=("s0", "s1", "s2", "s3", "s4"))
    with pytest.raises(DataError, match="no labelled training image"):
        found(cohort, nobody)
