from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from medgan.data.cache import Cache
from medgan.data.preparation import GridConfig
from medgan.data.studies import Cohort
from medgan.data.tables import read_table
from medgan.errors import DataError, GeometryError
from medgan.segmentation.labelled import LabelledHeldOut, LabelledPatches, is_phantom, read_labelled
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


def test_a_study_without_a_mask_of_labels_on_its_grid_is_refused(save_cohort, read, tmp_path):
    study = read_table(save_cohort(tmp_path / "cohort", subjects=1)).studies[0]
    for voxels, depth_mm, error, message in (
        (np.zeros((24, 24, 4), np.uint8), 4.0, GeometryError, r"s0_mask.nii.gz and .*s0.nii.gz are on different voxel"),
        (np.full((24, 24, 4), 0.5), 5.0, DataError, "holds values that are no labels"),
    ):
        nib.Nifti1Image(voxels, np.diag([2.0, 2.0, depth_mm, 1.0])).to_filename(study.mask)
        with pytest.raises(error, match=message):
            read(study)
    with pytest.raises(DataError, match=r"has no mask; name one in the cohort's `mask` column"):
        read(replace(study, mask=None))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, False), ("", False), ("[]", False), ('{"labels": {}}', False), ('{"phantom": true, "labels": {}}', True)],
)
def test_a_phantom_is_told_by_what_lies_beside_it(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "labels.json").write_text(content)
    assert is_phantom(Cohort((), tmp_path)) is expected


def test_held_out_subjects_are_given_back_in_their_order(subjects):
    given = subjects(2)
    for back, each in zip(LabelledHeldOut.of(given).subjects(), given, strict=True):
        assert (back.image, back.labels) == (each.image, each.labels)


DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
SHAPES = {"2": (1, 16, 16), "2.5": (3, 16, 16), "3": (1, 16, 16, 4)}


@pytest.fixture
def marked(subjects):
    """Subjects of one label, whose image is 50 HU where it is and else 0: each tells of the other."""

    def make(count):
        made = [(each, np.uint8(each.labels > 0)) for each in subjects(count)]
        images = [replace(each.image, voxels=50 * np.float32(labels)) for each, labels in made]
        return [replace(each, image=image, labels=labels) for image, (each, labels) in zip(images, made, strict=True)]

    return make


@DIMENSIONS
def test_a_patch_is_a_function_of_seed_and_number_whatever_was_drawn_before(config, subjects, dimensions):
    def patches(seed):
        return LabelledPatches(subjects(3), config(dimensions).training_patch, seed=seed)

    one, again = patches(5), patches(5)
    for number in (7, 2, 7):
        first, second = one.patch(number), again.patch(number)
        assert first["image"].shape == SHAPES[dimensions]
        assert first["labels"].shape == (1, *SHAPES[dimensions][1:])
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["labels"], second["labels"])
    assert not torch.equal(patches(6).patch(7)["image"], one.patch(7)["image"])


@DIMENSIONS
def test_labels_lie_where_the_image_shows_them(config, marked, dimensions):
    still = config(dimensions, patch={"intensity": NO_INTENSITY}).training_patch
    patches = LabelledPatches(marked(2), still, seed=0)
    seen = set()
    for number in range(12):
        patch = patches.patch(number)
        labels, image = patch["labels"][0], patch["image"][patch["image"].shape[0] // 2]
        assert patch["labels"].dtype == torch.int64
        shown = (image + 1) * 250 - 200 > 25  # halfway; beyond the volume there is air
        assert float((shown == labels).float().mean()) > 0.96
        seen |= set(labels.unique().tolist())
    assert seen == {0, 1}


NO_INTENSITY = {"gamma": 0.0, "contrast": 0.0, "brightness": 0.0, "noise": 0.0}


@DIMENSIONS
def test_without_augmentation_image_and_labels_are_cut_as_they_are(config, marked, dimensions):
    patches = LabelledPatches(marked(2), config(dimensions, augmentation="none").training_patch, seed=0)
    for number in range(8):
        patch = patches.patch(number)
        middle = patch["image"][[patch["image"].shape[0] // 2]]
        inside = middle > -1  # beyond the volume there is air
        torch.testing.assert_close(middle[inside], ((50.0 * patch["labels"] + 200) / 250 - 1)[inside])


def test_standard_augmentation_varies_intensities_of_the_image_alone(config, subjects):
    varied = config(patch={"rotation_degrees": 0, "scaling": 0})
    plain = LabelledPatches(subjects(2), config(augmentation="none").training_patch, seed=1)
    changed = LabelledPatches(subjects(2), varied.training_patch, seed=1)
    assert all(torch.equal(plain.patch(n)["labels"], changed.patch(n)["labels"]) for n in range(6))
    assert not all(torch.equal(plain.patch(n)["image"], changed.patch(n)["image"]) for n in range(6))


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.25, 7, 25), (1.0, 60, 60)])
def test_extra_subjects_are_drawn_as_often_as_asked(config, subjects, share, fewest, most):
    dark = [replace(each, labels=np.full_like(each.labels, 2)) for each in subjects(1)]
    bright = [replace(each, labels=np.full_like(each.labels, 1)) for each in subjects(3)]
    patches = LabelledPatches(bright, config(augmentation="none").training_patch, seed=0, extra=dark, extra_share=share)
    drawn = sum(int(patches.patch(number)["labels"].max() == 2) for number in range(60))
    assert fewest <= drawn <= most
