import numpy as np
import pytest

from medgan.evaluation.synthesis.controls import blurred, collapsed, copied


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
