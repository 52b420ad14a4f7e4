import json

import nibabel as nib
import numpy as np
import pytest

from medgan.data.labels import carried, label_values, labels_of, merged, named_labels
from medgan.data.preparation import Prepared
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_volume
from medgan.errors import DataError

VALUES = np.array([[[0, 1], [2, 3]]], dtype=np.float32)


@pytest.fixture
def mask(tmp_path):
    def save(voxels, name="mask.nii.gz"):
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / name)
        return tmp_path / name

    return save


def test_values_of_one_name_are_merged_and_numbered_in_order(mask):
    found = merged(read_volume(mask(VALUES)), {"square": (2, 3), "disc": (1,)})
    np.testing.assert_array_equal(found, [[[0, 2], [1, 1]]])
    assert found.dtype == np.uint8


def test_labels_are_carried_onto_another_grid_by_the_nearest_voxel():
    labels = VALUES.astype(np.uint8)
    finer = np.diag([1.0, 0.5, 1.0, 1.0])
    finer[1, 3] = -0.25
    onto = Prepared(np.zeros((1, 4, 2), np.float32), finer, ((0, 1), (0, 4), (0, 2)), (0.0, 1.0))
    np.testing.assert_array_equal(carried(labels, np.eye(4), onto), np.repeat(labels, 2, axis=1))


@pytest.mark.parametrize("voxels", [VALUES / 2, VALUES - 1], ids=["fractions", "negative"])
def test_an_image_is_no_label_map(mask, voxels):
    with pytest.raises(DataError, match=r"mask.nii.gz: holds values that are no labels"):
        label_values(read_volume(mask(voxels)))


def test_a_cohorts_labels_are_named_beside_it_or_by_their_values(mask, tmp_path):
    cohort = Cohort((Study("s0", "mr", tmp_path / "image.nii.gz", mask(VALUES)),), tmp_path)
    assert labels_of(cohort) == {"label_1": (1,), "label_2": (2,), "label_3": (3,)}
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"0": "air", "5": "liver", "7": "kidney"}}))
    assert labels_of(cohort) == {"liver": (5,), "kidney": (7,)}


def test_masks_that_mark_nothing_name_nothing(mask, tmp_path):
    study = Study("s0", "mr", tmp_path / "image.nii.gz", mask(np.zeros_like(VALUES)))
    with pytest.raises(DataError, match="no mask marks anything"):
        labels_of(Cohort((study,), tmp_path))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": ["liver"]}', '{"labels": {"liver": 5}}'])
def test_a_file_that_does_not_say_what_labels_mean_is_refused(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels.json: does not say what labels mean"):
        named_labels(tmp_path / "labels.json")
