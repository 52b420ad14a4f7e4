import copy

import numpy as np
import pytest
import torch
from scipy import ndimage

from medgan.networks.outputs import centre_channel

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
