import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cache import Cache
from medgan.data.layouts import read_table
from medgan.data.preparation import GridConfig
from medgan.data.studies import Cohort
from medgan.errors import DataError, GeometryError
from medgan.segmentation.labelled import LabelledHeldOut, labels_of, named_labels, read_labelled
from medgan.segmentation.settings import SOFT_TISSUE

OWN = GridConfig(spacing_mm=(None, None, None))
LABELS = {"square": (2, 3), "disc": (1,)}


@pytest.fixture
def read(tmp_path):
    def run(study, grid=OWN, labels=LABELS):
        return read_labelled(study, SOFT_TISSUE, grid, labels, Cache(tmp_path / "cache"))

    return run


def test_values_of_one_name_are_merged_and_numbered_in_order(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1))[0]
    stored = np.asarray(nib.load(study.mask).dataobj)
    found = read(study)
    assert found.subject == "s0"
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, np.select([stored >= 2, stored == 1], [1, 2], 0))
    np.testing.assert_array_equal(read(study, labels={"disc": (1,)}).labels, stored == 1)


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (-1, 1)])
def test_labels_follow_their_image_onto_the_networks_grid(save_cohort, read, tmp_path, signs):
    affine = np.diag([2.0 * signs[0], 2.0 * signs[1], 5.0, 1.0])
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1, affine=affine))[0]
    for grid in (OWN, GridConfig(spacing_mm=(1.0, 1.0, None)), GridConfig(spacing_mm=(3.0, 2.5, None))):
        found = read(study, grid)
        assert found.labels.shape == found.image.voxels.shape
        assert np.median(found.image.voxels[found.labels == 2]) > 150, "the disc is bright"
        assert np.median(found.image.voxels[found.labels == 1]) < -50, "the square is dark"
        volume = np.count_nonzero(found.labels) * abs(np.linalg.det(found.image.affine))
        true = np.count_nonzero(np.asarray(nib.load(study.mask).dataobj)) * 20
        assert volume == pytest.approx(true, rel=0.12)


def test_a_mask_on_another_grid_is_refused(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1))[0]
    nib.Nifti1Image(np.zeros((24, 24, 4), np.uint8), np.diag([2.0, 2.0, 4.0, 1.0])).to_filename(study.mask)
    with pytest.raises(GeometryError, match=r"s0_mask.nii.gz and .*s0.nii.gz are on different voxel grids"):
        read(study)


def test_a_study_without_a_mask_or_with_an_image_for_one_is_refused(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1))[0]
    nib.Nifti1Image(np.full((24, 24, 4), 0.5), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(study.mask)
    with pytest.raises(DataError, match="holds values that are no labels"):
        read(study)
    with pytest.raises(DataError, match=r"has no mask to learn from; name one in the cohort's `mask` column"):
        read(replace(study, mask=None))


def test_a_cohorts_labels_are_named_beside_it_or_by_their_values(save_cohort, tmp_path):
    table = save_cohort(tmp_path / "cohort", subjects=2)
    cohort = Cohort(tuple(read_table(table)), table.parent)
    assert labels_of(cohort) == {"label_1": (1,), "label_2": (2,), "label_3": (3,)}
    (table.parent / "labels.json").write_text(json.dumps({"labels": {"0": "air", "5": "liver", "7": "kidney"}}))
    assert labels_of(cohort) == {"liver": (5,), "kidney": (7,)}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"labels": ["liver"]}', '{"labels": {"liver": 5}}'])
def test_a_file_that_does_not_say_what_labels_mean_is_refused(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataError, match=r"labels.json: does not say what labels mean"):
        named_labels(tmp_path / "labels.json")


def test_masks_that_mark_nothing_name_nothing(save_cohort, tmp_path):
    table = save_cohort(tmp_path / "cohort", subjects=1)
    study = read_table(table)[0]
    nib.Nifti1Image(np.zeros((24, 24, 4), np.uint8), np.eye(4)).to_filename(study.mask)
    with pytest.raises(DataError, match="no mask marks anything"):
        labels_of(Cohort((study,), table.parent))


def test_held_out_subjects_keep_their_order(subjects):
    held_out = LabelledHeldOut.of(subjects(2))
    for image, labels, each in zip(held_out.source, held_out.labels, subjects(2), strict=True):
        np.testing.assert_array_equal(image.voxels, each.image.voxels)
        np.testing.assert_array_equal(labels, each.labels)
