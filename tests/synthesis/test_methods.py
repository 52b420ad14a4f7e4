import pytest
from torch import nn

from medgan.errors import ConfigError
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import BASELINES, baseline, by_network
from medgan.synthesis.painted import Painted
from medgan.synthesis.sampled import Sampled
from medgan.synthesis.settings import LesionConfig


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
