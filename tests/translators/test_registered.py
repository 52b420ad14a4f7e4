import copy

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.networks.outputs import centre_channel
from medgan.translators.registered import RegistrationNetwork, warp

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])


@DIMENSIONS
def test_before_it_has_learnt_anything_its_terms_are_those_of_pix2pix(attached, make_batch, dimensions):
    one, other = (attached(kind, dimensions, adversarial="none") for kind in ("registered", "pix2pix"))
    other.to_target.load_state_dict(one.to_target.state_dict())
    batch = make_batch(one)
    terms = one.training_step(batch)
    torch.testing.assert_close(terms["l1"], other.training_step(batch)["l1"])
    assert terms["smoothness"] == 0
    assert one.kept == ("to_target",)


@DIMENSIONS
def test_what_is_compared_is_the_translation_where_the_field_points(attached, make_batch, dimensions):
    translator = attached("registered", dimensions, adversarial="none", l1=10.0, smoothness=4.0)
    batch = make_batch(translator)
    with torch.no_grad():  # one voxel along the first axis, rising by .5 a voxel along the second
        fake = translator.to_target(batch["source"])
        displacement = torch.zeros(2, fake.dim() - 2, *fake.shape[2:])
        displacement[:, 0] = 1.0
    translator.registration = lambda moving, fixed: displacement
    moved = torch.cat([fake[:, :, 1:], fake[:, :, -1:]], dim=2)
    terms = translator.l1_terms(batch, fake)
    torch.testing.assert_close(terms["l1"], 10 * (moved - centre_channel(batch["target"])).abs().mean())
    assert terms["smoothness"] == 0
    displacement[:, 0] += 0.5 * torch.arange(fake.shape[3]).view(-1, *[1] * (fake.dim() - 4))
    torch.testing.assert_close(
        translator.l1_terms(batch, fake)["smoothness"], torch.tensor(4 * 0.5**2 / (fake.dim() - 2))
    )


def test_the_discriminator_does_not_see_the_source(attached, make_batch):
    translator = attached("registered", adversarial="least_squares")
    judge = copy.deepcopy(translator.discriminator.module)
    batch = make_batch(translator)
    with torch.no_grad():
        fake = translator.to_target(batch["source"])
        expected = (((judge.network(batch["target"]) - 1) ** 2).mean() + (judge.network(fake) ** 2).mean()) / 2
    torch.testing.assert_close(translator.training_step(batch)["discriminator"], expected)


def test_generator_and_registration_learn_in_one_step_at_their_own_rates(attached, make_batch, weights):
    for moving, rates in (("to_target", (1e-3, 0.0)), ("registration", (0.0, 1e-3))):
        translator = attached("registered")
        for group, rate in zip(translator.generator_optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        before = weights(translator, "to_target", "registration")
        translator.training_step(make_batch(translator))
        after = weights(translator)
        assert {name for name, value in before.items() if not torch.equal(value, after[name])} == {moving}


def blobs(seed, count, size=24):
    """Smooth random images in [-1, 1] without borders, (count, 1, size, size)."""
    noise = np.random.default_rng(seed).standard_normal((count, size, size))
    smooth = ndimage.gaussian_filter(noise, (0, 2.5, 2.5), mode="wrap")
    return torch.from_numpy(np.tanh(2 * smooth / smooth.std())).float()[:, None]


def test_pairs_shifted_by_two_voxels_shift_the_translation_less_than_they_shift_pix2pixs(attached):
    errors = {}
    for kind, settings in (("pix2pix", {}), ("registered", {"registration_rate": 2e-3, "registration_channels": 4})):
        translator = attached(kind, adversarial="none", output="none", norm="none", generator_rate=4e-3, **settings)
        for number in range(70):
            source = blobs(number, 2)
            translator.training_step({"source": source, "target": torch.roll(-0.8 * source, 2, dims=2)})
        unseen = blobs(10**6, 8)
        with torch.no_grad():
            errors[kind] = float((translator.to_target(unseen) + 0.8 * unseen).abs().mean())
    assert errors["registered"] < 0.85 * errors["pix2pix"]


SHAPES = pytest.mark.parametrize("shape", [(9, 12), (9, 6, 7), (9, 12, 1)], ids=["2d", "3d", "one-slice"])


@SHAPES
def test_a_warp_is_scipys_linear_interpolation_at_the_displaced_places(shape):
    image, displacement = torch.randn(2, 3, *shape), 3 * torch.randn(2, len(shape), *shape)
    found = warp(image, displacement)
    places = np.indices(shape) + displacement.numpy()
    for item in range(2):
        for channel in range(3):
            expected = ndimage.map_coordinates(image[item, channel].numpy(), places[item], order=1, mode="nearest")
            np.testing.assert_allclose(found[item, channel], expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(16, 24), (17, 9), (16, 12, 8), (16, 16, 1)], ids=str)
def test_an_untrained_network_moves_nothing_and_can_learn(shape):
    network = RegistrationNetwork(len(shape), channels=4)
    moving, fixed = torch.randn(2, 1, *shape), torch.randn(2, 1, *shape)
    displacement = network(moving, fixed)
    assert displacement.shape == (2, len(shape), *shape)
    assert not displacement.any()
    (warp(moving, displacement) - fixed).square().mean().backward()
    assert network.last.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 8)], ids=["2d", "3d"])
def test_descending_on_the_difference_finds_a_shift(shape):
    torch.manual_seed(0)
    noise = np.random.default_rng(0).standard_normal((4, 1, *shape))
    fixed = torch.from_numpy(ndimage.gaussian_filter(noise, 1)).float()
    moving = torch.roll(fixed, 1, dims=2)
    network = RegistrationNetwork(len(shape), channels=4)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        displacement = network(moving, fixed)
        (warp(moving, displacement) - fixed).abs().mean().backward()
        optimizer.step()
    inside = warp(moving, displacement)[:, :, 2:-2]
    assert (inside - fixed[:, :, 2:-2]).abs().mean() < 0.5 * (moving - fixed)[:, :, 2:-2].abs().mean()
    assert displacement[:, 0].median() > 0.3  # the fixed image's content lies one voxel further in the moving one
