from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medgan.data.cache import Cache
from medgan.data.preparation import GridConfig
from medgan.data.studies import Cohort
from medgan.data.tables import read_table
from medgan.errors import DataError, GeometryError
from medgan.segmentation.labelled import LabelledHeldOut, is_phantom, read_labelled
from medgan.segmentation.settings import SOFT_TISSUE

OWN = GridConfig(spacing_mm=(None, None, None))
LABELS = {"square": (2, 3), "disc": (1,)}


@pytest.fixture
def read(tmp_path):
    def run(study, grid=OWN, labels=LABELS):
        return read_labelled(study, SOFT_TISSUE, grid, labels, Cache(tmp_path / "cache"))

    return run


def test_values_of_one_name_are_merged_and_numbered_in_order(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1)).studies[0]
    stored = np.asarray(nib.load(study.mask).dataobj)
    found = read(study)
    assert found.subject == "s0"
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, np.select([stored >= 2, stored == 1], [1, 2], 0))
    np.testing.assert_array_equal(read(study, labels={"disc": (1,)}).labels, stored == 1)


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (-1, 1)])
def test_labels_follow_their_image_onto_the_networks_grid(save_cohort, read, tmp_path, signs):
    affine = np.diag([2.0 * signs[0], 2.0 * signs[1], 5.0, 1.0])
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1, affine=affine)).studies[0]
    for grid in (OWN, GridConfig(spacing_mm=(1.0, 1.0, None)), GridConfig(spacing_mm=(3.0, 2.5, None))):
        found = read(study, grid)
        assert found.labels.shape == found.image.voxels.shape
        assert np.median(found.image.voxels[found.labels == 2]) > 150, "the disc is bright"
        assert np.median(found.image.voxels[found.labels == 1]) < -50, "the square is dark"
        volume = np.count_nonzero(found.labels) * abs(np.linalg.det(found.image.affine))
        true = np.count_nonzero(np.asarray(nib.load(study.mask).dataobj)) * 20
        assert volume == pytest.approx(true, rel=0.12)


def test_a_mask_on_another_grid_is_refused(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1)).studies[0]
    nib.Nifti1Image(np.zeros((24, 24, 4), np.uint8), np.diag([2.0, 2.0, 4.0, 1.0])).to_filename(study.mask)
    with pytest.raises(GeometryError, match=r"s0_mask.nii.gz and .*s0.nii.gz are on different voxel grids"):
        read(study)


def test_a_study_without_a_mask_or_with_an_image_for_one_is_refused(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1)).studies[0]
    nib.Nifti1Image(np.full((24, 24, 4), 0.5), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(study.mask)
    with pytest.raises(DataError, match="holds values that are no labels"):
        read(study)
    with pytest.raises(DataError, match=r"has no mask to learn from; name one in the cohort's `mask` column"):
        read(replace(study, mask=None))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, False), ("", False), ("[]", False), ('{"labels": {}}', False), ('{"phantom": true, "labels": {}}', True)],
)
def test_a_phantom_is_told_by_what_lies_beside_it(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    assert is_phantom(Cohort((), tmp_path)) is expected


def test_held_out_subjects_keep_their_order(subjects):
    held_out = LabelledHeldOut.of(subjects(2))
    for image, labels, each in zip(held_out.source, held_out.labels, subjects(2), strict=True):
        np.testing.assert_array_equal(image.voxels, each.image.voxels)
        np.testing.assert_array_equal(labels, each.labels)
