"""What the condition reaches, and what the background is kept from."""

import itertools

import pytest
import torch

from medgan.errors import ConfigError
from medgan.networks.latent import LatentGenerator, LayeredGenerator
from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN
from medgan.synthesis.patches import LesionConfig

SMALL = {"generator": {"latent": 8, "channels": 4}, "discriminator": {"channels": 4}}
WHOLE = {"classes": True, "size_edges_voxels": (10,), "location": True, "scanners": {"first": ("s1",)}}
WAYS = list(itertools.product(("concatenation", "normalisation"), ("concatenation", "projection"), (True, False)))


def lesions(patch=None, condition=WHOLE):
    return LesionConfig(patch=patch or {"size_voxels": 16}, condition=condition)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("entry", "judged", "layers"), WAYS)
def test_every_value_of_the_condition_reaches_samples_and_scores(patch, entry, judged, layers):
    config = lesions(patch)
    learner = ConditionalGAN(ConditionalConfig(entry=entry, judged=judged, layers=layers, **SMALL), config)
    condition = torch.randn(4, config.condition_size, requires_grad=True)
    joint = torch.randn(4, 2, *config.shape)
    for network, shown in ((learner.generator, torch.randn(4, 8)), (learner.discriminator, joint)):
        (gradient,) = torch.autograd.grad(network(shown, condition).square().sum(), condition)
        assert (gradient != 0).all()


@pytest.mark.parametrize(
    ("condition", "own"), [(WHOLE, 2 + 2), ({"size_edges_voxels": (5, 9), "location": True}, 3)], ids=["all", "size"]
)
def test_class_and_size_are_the_lesions_own(condition, own):
    network = ConditionalConfig(**SMALL).build(lesions(condition=condition))
    assert isinstance(network, LayeredGenerator)
    assert network.own == own


def test_the_background_follows_the_place_and_not_the_class():
    network = ConditionalConfig(**SMALL).build(lesions()).eval()
    z, condition = torch.randn(1, 8), torch.zeros(1, 8)
    other_class, elsewhere = condition.clone(), condition.clone()
    other_class[:, :4] = 1
    elsewhere[:, 4:] = 1
    behind = network.background(z, condition[:, network.own :])
    assert torch.equal(network.background(z, other_class[:, network.own :]), behind)
    assert not torch.equal(network.background(z, elsewhere[:, network.own :]), behind)
    assert not torch.equal(network(z, other_class), network(z, condition))


def test_nothing_to_follow_is_refused():
    with pytest.raises(ConfigError, match=r"set condition\.classes=true.*or choose dcgan"):
        ConditionalConfig().build(lesions(condition={}))
    with pytest.raises(ConfigError, match=r"or generator\.layers=false"):
        ConditionalConfig().build(lesions(condition={"location": True}))
    plain = ConditionalConfig(layers=False, **SMALL).build(lesions(condition={"location": True}))
    assert isinstance(plain, LatentGenerator)
