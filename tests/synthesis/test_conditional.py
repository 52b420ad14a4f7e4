"""What the condition reaches, and what the background is kept from."""

import itertools

import pytest
import torch
from pydantic import ValidationError

from medgan.errors import ConfigError
from medgan.networks.latent import LatentGenerator, LayeredGenerator
from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN, own_values
from medgan.synthesis.patches import LesionConfig

PATCHES = {"2d": {"size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}
SMALL = {"generator": {"latent": 8, "channels": 4}, "discriminator": {"channels": 4}}
WHOLE = {"classes": True, "size_edges_voxels": (10,), "location": True, "scanners": {"first": ("s1",)}}
WAYS = list(itertools.product(("concatenation", "normalisation"), ("concatenation", "projection"), (True, False)))


def lesions(patch="2d", condition=WHOLE, **changes):
    return LesionConfig(patch=PATCHES[patch], condition=condition, **changes)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize(("entry", "judged", "layers"), WAYS)
def test_every_value_of_the_condition_reaches_samples_and_scores(patch, entry, judged, layers):
    asked = lesions(patch)
    learner = ConditionalGAN(ConditionalConfig(entry=entry, judged=judged, layers=layers, **SMALL), asked)
    condition = torch.randn(4, asked.condition_size, requires_grad=True)
    for network, shown in (
        (learner.generator, torch.randn(4, 8)),
        (learner.discriminator, torch.randn(4, 2, *asked.shape)),
    ):
        (gradient,) = torch.autograd.grad(network(shown, condition).square().sum(), condition)
        assert (gradient != 0).all()


def test_class_and_size_are_the_lesions_own():
    assert own_values(lesions()) == 2 + 2
    assert own_values(lesions(condition={"location": True})) == 0
    assert own_values(lesions(condition={"size_edges_voxels": (5, 9), "location": True})) == 3


def test_the_background_follows_the_place_and_not_the_class():
    network = ConditionalConfig(**SMALL).build(lesions()).eval()
    assert isinstance(network, LayeredGenerator)
    z, condition = torch.randn(1, 8), torch.zeros(1, 8)
    other_class, elsewhere = condition.clone(), condition.clone()
    other_class[:, :4] = 1
    elsewhere[:, 4:] = 1
    behind = network.background(z, condition[:, network.own :])
    assert torch.equal(network.background(z, other_class[:, network.own :]), behind)
    assert not torch.equal(network.background(z, elsewhere[:, network.own :]), behind)
    assert not torch.equal(network(z, other_class), network(z, condition))


def test_without_layers_one_network_draws_everything():
    assert isinstance(ConditionalConfig(layers=False, **SMALL).build(lesions()), LatentGenerator)


def test_nothing_to_follow_is_refused():
    with pytest.raises(ConfigError, match=r"set condition\.classes=true.*or choose dcgan"):
        ConditionalConfig().build(lesions(condition={}))
    with pytest.raises(ConfigError, match=r"or generator\.layers=false"):
        ConditionalConfig().build(lesions(condition={"location": True}))
    ConditionalConfig(layers=False, **SMALL).build(lesions(condition={"location": True}))


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"discriminator": {"receptive_field": 16}}, "judged=concatenation"),
        ({"generator": {"norm": "group"}}, "entry=concatenation"),
        ({"adversarial": "wasserstein"}, "discriminator.norm=instance"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_with_advice(wrong, advice):
    with pytest.raises(ValidationError, match=advice):
        ConditionalConfig(**wrong)
