from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import get_track_meta

from medgan.data.patches import batches
from medgan.segmentation.patches import LabelledPatches

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
SHAPES = {"2": (1, 16, 16), "2.5": (3, 16, 16), "3": (1, 16, 16, 4)}


@pytest.fixture
def marked(subjects):
    """Subjects of one label, whose image is 50 HU where it is and else 0: each tells of the other."""

    def make(count):
        return [
            replace(
                each,
                image=replace(each.image, voxels=50 * np.float32(each.labels > 0)),
                labels=np.uint8(each.labels > 0),
            )
            for each in subjects(count)
        ]

    return make


@DIMENSIONS
def test_a_patch_is_a_function_of_seed_and_number_whatever_was_drawn_before(config, subjects, dimensions):
    def patches(seed):
        return LabelledPatches(subjects(3), config(dimensions).seen, seed=seed)

    one, again = patches(5), patches(5)
    for number in (7, 2, 7):
        first, second = one[number], again[number]
        assert first["image"].shape == SHAPES[dimensions]
        assert first["labels"].shape == (1, *SHAPES[dimensions][1:])
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["labels"], second["labels"])
    assert not torch.equal(patches(6)[7]["image"], one[7]["image"])


@DIMENSIONS
@pytest.mark.parametrize("augmentation", ["none", "standard"])
def test_labels_lie_where_the_image_shows_them(config, marked, dimensions, augmentation):
    settings = config(dimensions, augmentation=augmentation)
    still = settings.seen.model_copy(update={"intensity": settings.patch.intensity.model_copy(update=NO_INTENSITY)})
    patches = LabelledPatches(marked(2), still, seed=0)
    seen = set()
    for number in range(12):
        patch = patches[number]
        labels, image = patch["labels"][0], patch["image"][patch["image"].shape[0] // 2]
        assert patch["labels"].dtype == torch.int64
        shown = (image + 1) * 250 - 200 > 25  # halfway; beyond the volume there is air
        assert float((shown == labels).float().mean()) > 0.96
        seen |= set(labels.unique().tolist())
    assert seen == {0, 1}


NO_INTENSITY = {"gamma": 0.0, "contrast": 0.0, "brightness": 0.0, "noise": 0.0}


def test_without_augmentation_image_and_labels_are_cut_as_they_are(config, marked):
    patches = LabelledPatches(marked(2), config(augmentation="none").seen, seed=0)
    for number in range(8):
        patch = patches[number]
        inside = patch["image"] > -1  # beyond the volume there is air
        torch.testing.assert_close(patch["image"][inside], ((50.0 * patch["labels"] + 200) / 250 - 1)[inside])


@DIMENSIONS
def test_standard_augmentation_varies_intensities_of_the_image_alone(config, subjects, dimensions):
    varied = config(dimensions, patch={"rotation_degrees": 0, "scaling": 0})
    plain = LabelledPatches(subjects(2), config(dimensions, augmentation="none").seen, seed=1)
    changed = LabelledPatches(subjects(2), varied.seen, seed=1)
    assert all(torch.equal(plain[n]["labels"], changed[n]["labels"]) for n in range(6))
    assert not all(torch.equal(plain[n]["image"], changed[n]["image"]) for n in range(6))


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.25, 7, 25), (1.0, 60, 60)])
def test_extra_subjects_are_drawn_as_often_as_asked(config, subjects, share, fewest, most):
    dark = [replace(each, labels=np.full_like(each.labels, 2)) for each in subjects(1)]
    bright = [replace(each, labels=np.full_like(each.labels, 1)) for each in subjects(3)]
    patches = LabelledPatches(bright, config(augmentation="none").seen, seed=0, extra=dark, extra_share=share)
    drawn = sum(int(patches[number]["labels"].max() == 2) for number in range(60))
    assert fewest <= drawn <= most


def test_a_batch_is_plain_tensors_and_monai_keeps_its_metadata_elsewhere(config, subjects):
    patches = LabelledPatches(subjects(2), config().seen, seed=0)
    (batch,) = batches(patches, 0, 1, 4, 0)
    assert {key: (type(value), len(value)) for key, value in batch.items()} == {
        "image": (torch.Tensor, 4),
        "labels": (torch.Tensor, 4),
    }
    assert get_track_meta()
