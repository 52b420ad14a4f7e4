"""The exponential moving average of a learner's networks: steadier than any single iteration of an adversarial game."""

import copy

import torch

from medgan.training.learner import Networks


class Averages:
    """Averaged copies of networks.

    The decay rises as (1 + n) / (10 + n) towards its limit, so that the first iterations do not hold the average back.

    Args:
        networks: The networks to follow.
        decay: Share of the average that an iteration keeps, in the long run.
    """

    def __init__(self, networks: Networks, decay: float) -> None:
        self.networks = {
            name: copy.deepcopy(network).eval().requires_grad_(False) for name, network in networks.items()
        }
        self.decay = decay

    @torch.no_grad()
    def update(self, networks: Networks, iteration: int) -> None:
        """Move every average towards its network; ``iteration`` counts from 0. Buffers are copied."""
        share = 1 - min(self.decay, (1 + iteration) / (10 + iteration))
        for name, average in self.networks.items():
            for mean, value in zip(average.parameters(), networks[name].parameters(), strict=True):
                mean.lerp_(value, share)
            for kept, buffer in zip(average.buffers(), networks[name].buffers(), strict=True):
                kept.copy_(buffer)

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        """Weights by network."""
        return {name: network.state_dict() for name, network in self.networks.items()}

    def load_state_dict(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Restore what :meth:`state_dict` gave."""
        load_all(self.networks, state)


def load_all(networks: Networks, weights: dict[str, dict[str, torch.Tensor]]) -> None:
    """Load every network's weights; names and shapes must agree."""
    for name, network in networks.items():
        network.load_state_dict(weights[name])
