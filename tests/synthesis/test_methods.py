import numpy as np
import pytest
from torch import nn

from medgan.config import load
from medgan.errors import ConfigError
from medgan.synthesis.generators import LEARNERS, SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import BASELINES, baseline
from medgan.synthesis.network_methods import Painted, Sampled, by_network
from medgan.synthesis.patches import LesionConfig


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_found_by_its_name(name, domain):
    assert baseline(name, InsertionConfig(), domain).name == name


def test_an_unknown_method_names_the_known_ones(domain):
    with pytest.raises(ConfigError, match="'mixup' is none of copy-paste, carve-mix, soft-poisson"):
        baseline("mixup", InsertionConfig(), domain)


def test_a_network_with_a_latent_vector_samples_and_any_other_paints(domain):
    sampler = nn.Identity()
    sampler.latent = 8
    assert isinstance(by_network(sampler, LesionConfig(domain=domain), InsertionConfig(placement="whole")), Sampled)
    assert isinstance(by_network(nn.Identity(), LesionConfig(domain=domain), InsertionConfig()), Painted)
    with pytest.raises(ConfigError, match="painted does not"):
        by_network(nn.Identity(), LesionConfig(domain=domain), InsertionConfig(placement="whole"))


@pytest.mark.parametrize("kind", [settings().kind for settings in LEARNERS])
def test_every_generator_there_is_makes_cases(kind, shape, domain, with_lesions):
    patch = {"size_voxels": 16} if shape[2] == 1 else {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}
    asked = {"generator": {"kind": kind}, "patch": patch, "condition": {"classes": True}}
    config = load(SynthesisConfig, asked, {"domain": domain.model_dump()})
    network = config.generator.build(config).eval()
    recipient, *donors = with_lesions(shape, 3, radii=(1.5,))
    insertion = InsertionConfig(placement="whole" if hasattr(network, "latent") else "add")
    method = by_network(network, config, insertion)
    first, again = (method.synthesise(recipient, donors, np.random.default_rng(1)).case for _ in range(2))
    np.testing.assert_array_equal(first.image.voxels, again.image.voxels)
    assert first.labels.any()
    assert np.isfinite(first.image.voxels).all()
