import pytest
import torch
from pydantic import ValidationError

from medgan.classification.settings import ClassifierNetworkConfig


@pytest.mark.parametrize("dimensions", ["2", "3"])
@pytest.mark.parametrize("norm", ["group", "instance", "none"])
def test_the_network_scores_every_class_of_a_patch(config, dimensions, norm):
    made = config(dimensions, network=ClassifierNetworkConfig(channels=4, norm=norm))
    assert made.classes == ("healthy", "spot", "cyst")
    assert made.build()(torch.zeros(5, 1, *made.shape)).shape == (5, 3)


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_what_it_says_of_a_patch_does_not_depend_on_the_others(config, dimensions):
    torch.manual_seed(0)
    made = config(dimensions)
    network, patches = made.build().train(), torch.randn(4, 1, *made.shape)
    torch.testing.assert_close(network(patches)[:1], network(patches[:1]))


def test_healthy_is_no_name(config):
    with pytest.raises(ValidationError, match="'healthy' is what a patch is that holds none of the names"):
        config(names=("healthy", "spot"))


def test_a_shape_that_no_network_halves_is_refused(config):
    with pytest.raises(ValidationError, match="none can be halved"):
        config(shape=(7, 7))
