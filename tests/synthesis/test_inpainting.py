"""What lay behind a lesion: painted by one who has seen nothing but healthy tissue, or searched in a sampler."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

SHAPES = {"2": (16, 16), "3": (16, 16, 4)}
BOTH = pytest.mark.parametrize("dimensions", ["2", "3"], ids=["2d", "3d"])


@pytest.fixture(scope="module")
def bench():
    """bench/inpainting.py, which is no part of the package and holds the search."""
    spec = importlib.util.spec_from_file_location("inpainting", Path(__file__).parents[2] / "bench" / "inpainting.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def holed_waves(count):
    """Stripes of one width and any phase, which region is hidden, no masks and no condition."""
    phases = torch.from_numpy(np.random.default_rng(3).uniform(0, 2 * np.pi, count).astype(np.float32))
    image = 0.7 * torch.sin(1.1 * torch.arange(16.0).view(1, 1, 16, 1) + phases.view(-1, 1, 1, 1)).repeat(1, 1, 1, 16)
    hidden = torch.zeros(count, 1, 16, 16)
    hidden[:, :, 5:11, 5:11] = 1
    return image, hidden, torch.zeros_like(hidden), torch.zeros(count, 0)


class Stripes(nn.Module):
    """A sampler that knows the world: z turns into the phase, and the label maps are empty or full."""

    def forward(self, z, condition):
        phase = torch.atan2(z[:, 0], z[:, 1])[:, None, None]
        x = torch.arange(16.0)[None, :, None]
        image = 0.7 * torch.sin(1.1 * x + phase).expand(-1, -1, 16)
        lesion = torch.tanh(z[:, 2])[:, None, None].expand(-1, 16, 16)
        return torch.stack([image + 0.2 * (lesion + 1), lesion], dim=1)


@BOTH
def test_a_known_voxel_counts_by_the_share_of_hidden_ones_around_it(bench, dimensions):
    hidden = torch.zeros(1, 1, *SHAPES[dimensions])
    hidden[(0, 0, 4, 4, 2)[: hidden.dim()]] = 1
    flat, share = dimensions == "2", 1 / 9 if dimensions == "2" else 1 / 27
    weight, hole = (each if flat else each[..., 2] for each in (bench.importance(hidden, 3), hidden))
    near = torch.nn.functional.max_pool2d(hole, 3, 1, 1)
    torch.testing.assert_close(weight, share * (near - hole))


def test_the_search_finds_the_sample_that_fits_around_the_hole(bench):
    truth, hidden, *empty = holed_waves(4)
    context = truth * (1 - hidden)
    painter = bench.SemanticInpainting(Stripes(), 3, bench.SemanticConfig(steps=300, rate=0.05))
    with torch.no_grad():
        painted = painter(context, hidden, *empty)
    assert torch.equal(painted[hidden == 0], context[hidden == 0])
    assert float((painted - truth)[hidden > 0].abs().mean()) < 0.08


def test_the_search_asks_for_the_masks_it_is_given(bench):
    truth, hidden, none, condition = holed_waves(2)
    painter = bench.SemanticInpainting(Stripes(), 3, bench.SemanticConfig(steps=200, rate=0.05))
    empty, full = (painter(truth * (1 - hidden), hidden, none + mask, condition) for mask in (0, 1))
    assert float((full - empty)[hidden > 0].mean()) > 0.1


def test_the_search_repeats_itself_and_leaves_the_sampler_alone(bench):
    sampler = nn.Sequential(nn.Linear(3, 2 * 256), nn.Unflatten(1, (2, 16, 16)))
    sampler.forward = lambda z, condition, forward=sampler.forward: forward(z)
    before = [parameter.clone() for parameter in sampler.parameters()]
    painter = bench.SemanticInpainting(sampler, 3, bench.SemanticConfig(steps=5))
    given = holed_waves(2)
    assert torch.equal(painter(*given), painter(*given))
    assert all(torch.equal(*pair) for pair in zip(before, sampler.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in sampler.parameters())


def test_a_strong_prior_draws_towards_what_the_discriminator_takes_for_real(bench):
    truth, hidden, *empty = holed_waves(2)
    given = truth * (1 - hidden), hidden, *empty
    config = bench.SemanticConfig(steps=200, rate=0.05, prior=20.0)
    bright, dark = (
        bench.SemanticInpainting(Stripes(), 3, config, lambda joint, sign=sign: sign * joint[:, :1])(*given)
        for sign in (1, -1)
    )
    assert float((bright - dark)[hidden > 0].mean()) > 0.1
