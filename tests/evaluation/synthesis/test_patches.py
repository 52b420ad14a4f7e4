import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.errors import DataError
from medgan.evaluation.synthesis.patches import Patches, blurred, coarse, collapsed, copied, lesion_patches

SPATIAL = pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)], ids=["2d", "3d"])


def study(shape=(40, 40, 20)):
    """A study whose voxels say where they are: 100 x + y."""
    x, y, _ = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    body = tuple((0, size) for size in shape)
    return Prepared((100.0 * x + y).astype(np.float32), np.eye(4), body, (0.0, 4000.0))


def box(labels, corner, size, value=1):
    labels[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = value


@SPATIAL
def test_each_lesion_lies_in_the_middle_of_its_patches(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 2, 12))
    box(labels, (30, 30, 10), (2, 2, 1), value=2)
    found = lesion_patches(study(), labels, shape, "image", "s1")
    assert found.lesions.tolist() == (["image#1"] * 3 + ["image#2"] if len(shape) == 2 else ["image#1", "image#2"])
    assert found.images.shape[1:] == found.labels.shape[1:] == shape
    middle = (0, 3, 3, *([3] if len(shape) == 3 else []))
    assert (found.images[middle] + 1) * 2000 == pytest.approx(100 * 11 + 20, abs=0.1)
    assert found.labels[0].sum() == (8 if len(shape) == 2 else 64)
    assert found.classes.tolist() == ([1, 1, 1, 2] if len(shape) == 2 else [1, 2])
    assert found.origins[-1].centre == (30.5, 30.5, 10.0)


def test_slices_are_spread_over_the_lesion_each_once():
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 4, 8))
    heights = [origin.centre[2] for origin in lesion_patches(study(), labels, (8, 8), "i", "s").origins]
    assert heights == [6, 8, 10]
    thin = np.zeros((40, 40, 20), np.uint8)
    box(thin, (10, 20, 4), (4, 4, 1))
    assert len(lesion_patches(study(), thin, (8, 8), "i", "s")) == 1


@SPATIAL
def test_only_changed_lesions_of_a_synthetic_image_are_cut(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (10, 20, 4), (4, 4, 3))
    box(labels, (30, 30, 10), (2, 2, 2))
    changed = np.zeros(labels.shape, dtype=bool)
    changed[31, 31, 10] = True
    found = lesion_patches(study(), labels, shape, "image", "made", recipient="s1", changed=changed)
    assert set(found.lesions) == {"image#2"}
    assert set(found.groups) == {"s1"}
    assert len(lesion_patches(study(), labels, shape, "image", "made", changed=~(changed | True))) == 0


@SPATIAL
def test_beyond_the_image_there_is_air_without_labels(shape):
    labels = np.zeros((40, 40, 20), np.uint8)
    box(labels, (38, 10, 4), (2, 2, 12))
    found = lesion_patches(study(), labels, shape, "i", "s")
    assert (found.images[0, 6:] == -1).all()
    assert not found.labels[0, 6:].any()


@SPATIAL
def test_coarse_patches_keep_means_and_lose_noise(shape):
    ramp = np.broadcast_to(np.linspace(-1, 1, 8, dtype=np.float32), (1, *shape))
    noise = np.random.default_rng(0).normal(0, 0.1, (50, *shape)).astype(np.float32)
    assert coarse(ramp).shape == (1, *(4 for _ in shape))
    assert coarse(ramp).mean() == pytest.approx(0, abs=1e-6)
    assert coarse(noise).std() < 0.35 * noise.std()


def test_patches_of_two_shapes_or_none_do_not_compare(make_lesions):
    with pytest.raises(DataError, match=r"shapes \(16, 16\) and \(18, 18\) do not compare"):
        Patches.joined([make_lesions(2, (16, 16)), make_lesions(2, (18, 18))])
    with pytest.raises(DataError, match="there are no patches"):
        Patches.joined([])


def test_patches_are_drawn_each_once_and_equal_for_equal_seeds(make_lesions):
    patches: Patches = make_lesions(9, (16, 16))
    drawn = patches.drawn(4, seed=3)
    assert len(set(drawn.lesions)) == 4
    assert drawn.origins == patches.drawn(4, seed=3).origins
    assert patches.drawn(12, seed=0) is patches


def test_blurred_patches_keep_their_means_and_labels_and_lose_detail(shape, make_lesions):
    real = make_lesions(4, shape)
    found = blurred(real)
    assert found.images.mean() == pytest.approx(real.images.mean(), abs=0.02)
    assert np.abs(np.diff(found.images, axis=1)).mean() < 0.7 * np.abs(np.diff(real.images, axis=1)).mean()
    np.testing.assert_array_equal(found.labels, real.labels)


def test_collapsed_patches_are_the_first_with_little_noise(shape, make_lesions):
    real = make_lesions(4, shape)
    found = collapsed(real, seed=0)
    assert np.abs(found.images - real.images[0]).max() < 0.2
    assert len(set(found.groups)) == 4
    np.testing.assert_array_equal(collapsed(real, seed=0).images, found.images)


def test_copies_are_of_training_patches_whose_labels_move_along(shape, make_lesions):
    training = make_lesions(5, shape)
    found = copied(training, 7, seed=0)
    assert len(found) == len(set(found.groups)) == 7
    inside = [image[labels == 1].mean() for image, labels in zip(training.images, training.labels, strict=True)]
    for image, labels in zip(found.images, found.labels, strict=True):
        assert np.abs(image[labels == 1].mean() - inside).min() < 0.04, "the label still lies on a lesion"
