"""The moving average against its closed form."""

import pytest
import torch
from torch import nn

from medgan.training.averages import Averages, load_all

BOTH = pytest.mark.parametrize("spatial", [2, 3], ids=["2d", "3d"])


def networks(spatial):
    torch.manual_seed(0)
    conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[spatial]
    return {name: nn.Sequential(conv(1, 2, 3), norm(2)) for name in ("to_target", "to_source")}


def moved(networks, iteration):
    """What an iteration of training does: every weight and buffer changes."""
    with torch.no_grad():
        for network in networks.values():
            for value in (*network.parameters(), *network.buffers()):
                value.copy_(torch.full_like(value, float(iteration + 1)))


@BOTH
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_is_the_sum_of_all_weights_with_their_shares(spatial, decay):
    trained = networks(spatial)
    averages = Averages(trained, decay)
    starts = {name: [value.clone() for value in network.parameters()] for name, network in trained.items()}
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(12)]
    for iteration in range(12):
        moved(trained, iteration)
        averages.update(trained, iteration)

    def remaining(first):
        return torch.tensor(decays[first:], dtype=torch.float64).prod()

    seen = sum(remaining(n + 1) * (1 - decays[n]) * (n + 1) for n in range(12))
    for name, average in averages.networks.items():
        for value, start in zip(average.parameters(), starts[name], strict=True):
            expected = remaining(0) * start.double() + seen
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)


@BOTH
def test_buffers_are_those_of_the_last_iteration(spatial):
    trained = networks(spatial)
    averages = Averages(trained, 0.9)
    moved(trained, 4)
    averages.update(trained, 4)
    for average in averages.networks.values():
        assert len(list(average.buffers())) == 3
        assert all((value == 5).all() for value in average.buffers())


@BOTH
def test_averages_are_copies_that_never_train(spatial):
    trained = networks(spatial)
    averages = Averages(trained, 0.9)
    for name, average in averages.networks.items():
        assert not average.training
        assert trained[name].training
        assert not any(parameter.requires_grad for parameter in average.parameters())
        assert all(parameter.requires_grad for parameter in trained[name].parameters())
    before = {name: network[0].weight.clone() for name, network in averages.networks.items()}
    moved(trained, 0)
    assert all(torch.equal(averages.networks[name][0].weight, before[name]) for name in before)


@BOTH
def test_restored_averages_go_on_as_if_nothing_had_happened(spatial):
    trained = networks(spatial)
    one = Averages(trained, 0.9)
    for iteration in range(3):
        moved(trained, iteration)
        one.update(trained, iteration)
    other = Averages(networks(spatial), 0.9)
    other.load_state_dict({name: {k: v.clone() for k, v in w.items()} for name, w in one.state_dict().items()})
    for averages in (one, other):
        averages.update(trained, 3)
    for name, weights in one.state_dict().items():
        for key, value in weights.items():
            assert torch.equal(value, other.state_dict()[name][key]), key


def test_weights_of_other_networks_are_refused():
    weights = {name: network.state_dict() for name, network in networks(2).items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_all(networks(3), weights)
    with pytest.raises(KeyError, match="to_source"):
        load_all(networks(2), {"to_target": weights["to_target"]})
