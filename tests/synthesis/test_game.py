"""One turn of the game, for every game and both kinds of sampler, and what an adversary is good for."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN
from medgan.synthesis.dcgan import DCGAN, DCGANConfig
from medgan.synthesis.game import Game
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

PATCHES = {"2d": {"size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}
GAMES = pytest.mark.parametrize("game", ["vanilla", "least_squares", "hinge", "wasserstein"])
KINDS = pytest.mark.parametrize("kind", ["dcgan", "conditional"])


def learner(patch="2d", kind="dcgan", game="vanilla", size=None, **changes):
    torch.manual_seed(0)
    vary = PATCHES[patch] if size is None else {"size_voxels": size}
    lesions = LesionConfig(patch=vary, condition={"classes": True, "location": True})
    small = {
        "adversarial": game,
        "generator": {"latent": 8, "channels": 8},
        "discriminator": {"channels": 8, "norm": "none" if game == "wasserstein" else "batch"},
    }
    config, made = {"dcgan": (DCGANConfig, DCGAN), "conditional": (ConditionalConfig, ConditionalGAN)}[kind]
    return attached(made(config(**(small | changes)), lesions))


def attached(game: Game):
    game.attach(make_fabric("cpu", "32"), game.networks(), game.optimizers())
    return game


def batch(game, number=8):
    shape = (number, 1, *game.lesions.shape)
    condition = torch.randn(number, game.lesions.condition_size)
    return {"image": torch.rand(shape) * 2 - 1, "labels": torch.randint(0, 2, shape), "condition": condition}


def weights(network: nn.Module):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()]).clone()


@pytest.mark.parametrize("patch", PATCHES)
@KINDS
@GAMES
def test_a_turn_moves_both_networks_and_tells_their_terms(patch, kind, game):
    made = learner(patch, kind, game)
    before = {name: weights(network) for name, network in made.networks().items()}
    terms = made.training_step(batch(made))
    for name, network in made.networks().items():
        assert not torch.equal(weights(network), before[name]), name
    penalised = {"gradient_penalty"} if game == "wasserstein" else set()
    assert set(terms) == {"generator", "discriminator"} | penalised
    assert all(math.isfinite(term) and not term.requires_grad for term in terms.values())


@KINDS
def test_an_untrained_vanilla_discriminator_is_undecided(kind):
    made = learner(kind=kind)
    terms = made.training_step(batch(made))
    assert float(terms["discriminator"]) == pytest.approx(math.log(2), abs=0.15)


@pytest.mark.parametrize("receptive_field", [16, "whole"])
@KINDS
def test_the_discriminator_may_judge_fields_or_the_whole(kind, receptive_field):
    judged = {"judged": "concatenation"} if kind == "conditional" else {}
    field = {"channels": 8, "receptive_field": receptive_field}
    made = learner(kind=kind, discriminator=field, **judged)
    given = batch(made)
    scores = made.discriminator(made.joint(given), given["condition"])
    assert scores.shape == ((8, 1) if receptive_field == "whole" else (8, 1, 6, 6))
    made.training_step(given)


def test_batch_norm_and_a_gradient_penalty_are_refused():
    with pytest.raises(ValidationError, match=r"set discriminator\.norm=instance or none"):
        DCGANConfig(adversarial="wasserstein")


def test_the_defaults_are_dcgans():
    config = DCGANConfig()
    made = DCGAN(config, LesionConfig())
    assert config.adversarial == "vanilla"
    for optimizer in made.optimizers().values():
        assert optimizer.defaults["lr"] == 2e-4
        assert optimizer.defaults["betas"] == (0.5, 0.999)
    assert (config.generator.norm, config.discriminator.norm, config.generator.upsampling) == (
        *("batch", "batch"),
        "transposed",
    )


RING = torch.stack([torch.cos(torch.arange(8) * torch.pi / 4), torch.sin(torch.arange(8) * torch.pi / 4)], dim=1)
SLOPES = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij"))


def on_ring(number):
    """Slopes of eight directions as images: the ring of eight modes, in a plane of the images' space."""
    points = RING[torch.randint(8, (number,))] + 0.15 * torch.randn(number, 2)
    return 0.6 * torch.einsum("bp,pxy->bxy", points, SLOPES)[:, None]


def modes_found(network, draws=400):
    """Modes with at least a quarter of their share of the samples within three deviations of them."""
    network.eval()
    with torch.no_grad():
        image = network(torch.randn(draws, network.latent))[:, 0]
    points = torch.einsum("bxy,pxy->bp", image, SLOPES) / (0.6 * SLOPES[0].square().sum())
    distance, nearest = torch.cdist(points, RING).min(dim=1)
    return int((torch.bincount(nearest[distance < 0.45], minlength=8) >= draws / 8 / 4).sum())


@pytest.mark.parametrize(("frozen", "least", "most"), [(False, 7, 8), (True, 0, 6)], ids=["adversary", "frozen"])
def test_the_modes_of_a_ring_are_found_against_an_adversary_and_missed_without(frozen, least, most):
    networks = {"generator": {"latent": 8, "channels": 16}, "discriminator": {"channels": 16, "norm": "none"}}
    made = learner(size=8, generator_rate=1e-3, discriminator_rate=1e-3, **networks)
    for iteration in range(300):
        if frozen and iteration == 20:
            made.discriminator_optimizer.param_groups[0]["lr"] = 0.0
        image = on_ring(64)
        made.training_step({"image": image, "labels": (image > 0).long(), "condition": torch.zeros(64, 0)})
    assert least <= modes_found(copy.deepcopy(made.generator)) <= most
