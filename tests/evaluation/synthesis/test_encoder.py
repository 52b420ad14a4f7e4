import numpy as np
import pytest
import torch

from medgan.evaluation.synthesis.distances import frechet_distance
from medgan.evaluation.synthesis.encoder import Encoder, _Autoencoder, _joint
from medgan.evaluation.synthesis.patches import Patches, collapsed


@pytest.fixture(scope="module")
def trained(shape, make_lesions):
    real = make_lesions(40, shape)
    return real, Encoder.train(real, 1, seed=0)


def test_features_are_in_deviations_of_the_real_ones(trained):
    real, encoder = trained
    found = encoder.features(real)
    assert found.shape == (40, 20)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    assert (found.std(axis=0) < 1 + 1e-6).all()


def test_what_it_saw_is_in_its_name(trained):
    assert trained[1].name == "autoencoder-20 trained on 40 real patches, seed 0"


def test_it_has_learnt_more_than_the_mean_patch(trained, shape, make_lesions):
    _, encoder = trained
    with torch.no_grad():
        unseen = _joint(make_lesions(30, shape, seed=5), 1)
        constant = (unseen - unseen.mean(dim=0)).pow(2).mean()
        assert encoder.network.loss(unseen) < 0.8 * constant


def test_equal_seeds_give_equal_features_and_leave_the_random_state_alone(shape, make_lesions):
    real = make_lesions(12, shape)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one = Encoder.train(real, 1, seed=4).features(real)
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(8)
    np.testing.assert_array_equal(Encoder.train(real, 1, seed=4).features(real), one)


def test_broken_patches_are_further_from_the_real_ones_than_other_real_ones_are(trained, shape, make_lesions):
    real, encoder = trained
    others = make_lesions(40, shape, seed=1)
    wrong_labels = Patches(others.images, np.ones_like(others.labels), others.origins)
    reference = encoder.features(real)
    floor = frechet_distance(encoder.features(others), reference)
    for broken in (collapsed(others, 0), wrong_labels):
        assert frechet_distance(encoder.features(broken), reference) > 1.5 * floor


def test_label_maps_are_channels_of_their_own():
    labels = np.array([[[0, 1], [2, 1]]], dtype=np.uint8)
    found = _joint(Patches(np.zeros((1, 2, 2), np.float32), labels, ()), 2)
    assert found.tolist() == [[[[0, 0], [0, 0]], [[-1, 1], [-1, 1]], [[-1, -1], [1, -1]]]]


@pytest.mark.parametrize("size", [(17, 18), (17, 18, 19)], ids=["2d", "3d"])
def test_it_takes_patches_of_any_size(size):
    assert _Autoencoder(2, size)(torch.zeros(1, 2, *size)).shape == (1, 2, *((side + 1) // 2 for side in size))
