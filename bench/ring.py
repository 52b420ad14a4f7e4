"""Eight modes in a ring: whether the Wasserstein game finds them, and whether its critic keeps a gradient of length 1.

The step is the one of `medgan.synthesis.progressive`; only the networks are small and the "images" points in the plane.
Rate and turns are the bench's own: at the learner's a game of this length finds one mode (docs/adr/0033).
Printed by seed: the mean length of the critic's gradient between real and generated points, lowest and highest after
the first quarter of the turns; how many modes the averaged generator draws at least 1 % of its points into, within 3
standard deviations; and the share of points that lie in any mode.

    python bench/ring.py [--seeds 5] [--turns 3000] [--critic-steps 3]
"""

import argparse
import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.networks.progressive import equalised
from medgan.synthesis.game import CRITIC, WassersteinConfig, WassersteinGame
from medgan.synthesis.generator import GENERATOR
from medgan.training.learner import Terms
from medgan.training.state import EMA

MODES, RADIUS, DEVIATION = 8, 2.0, 0.1
LATENT, WIDTH, BATCH, RATE = 4, 64, 128, 1e-2
EVERY, JUDGED = 50, 2000
"""Turns between two looks at the gradient, and points that are drawn in the end."""


@dataclass(frozen=True)
class Played:
    """What a game came to."""

    lengths: list[float]
    """Mean length of the critic's gradient, every ``EVERY`` turns."""
    modes: int
    """Found, of ``MODES``."""
    in_modes: float
    """The share of points that lie in a mode."""

    @property
    def settled(self) -> list[float]:
        """Lengths after the first quarter: a critic begins with any."""
        return self.lengths[len(self.lengths) // 4 :]


class Points(nn.Module):
    """Three equalised, leaky layers and a linear one; the condition is of length 0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths = [inputs, WIDTH, WIDTH, WIDTH]
        layers: list[nn.Module] = []
        for before, width in itertools.pairwise(widths):
            layers += [equalised(nn.Linear(before, width)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, equalised(nn.Linear(WIDTH, outputs), gain=1.0))

    def forward(self, points: Tensor, condition: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        del condition
        result: Tensor = self.layers(points)
        return result


def main() -> None:
    """Print a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3000, help="of the critic")
    parser.add_argument("--critic-steps", type=int, default=3, help="to one of the generator")
    given = parser.parse_args()
    rows = []
    for seed in range(given.seeds):
        played = play(seed, given.turns, WassersteinConfig(critic_steps=given.critic_steps))
        lowest, highest = min(played.settled), max(played.settled)
        rows.append({"seed": seed, "lowest": lowest, "mean": np.mean(played.settled), "highest": highest,
                     "modes": played.modes, "in modes": played.in_modes})  # fmt: skip
    Console(width=110).print(pd.DataFrame(rows).to_string(index=False, float_format="%.3f"), highlight=False)


def play(seed: int, turns: int, config: WassersteinConfig) -> Played:
    """One game from its start."""
    torch.manual_seed(seed)
    generator, critic = Points(LATENT, 2), Points(2, 1)
    optimizers = {
        name: Adam(network.parameters(), RATE, (0.0, 0.99))
        for name, network in {GENERATOR: generator, CRITIC: critic}.items()
    }
    game, averages = WassersteinGame(config, critic, optimizers, descend), EMA({GENERATOR: generator}, 0.995)
    nothing, lengths = torch.zeros(BATCH, 0), []
    for turn in range(turns):
        for optimizer in optimizers.values():  # the loop's schedule: constant, then along a line to zero
            optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - turn / turns))
        game.turn(turn, ring(BATCH), nothing, lambda: generator(torch.randn(BATCH, LATENT), nothing))
        averages.update({GENERATOR: generator}, turn)
        if (turn + 1) % EVERY == 0:
            lengths.append(gradient_length(critic, ring(JUDGED), drawn(generator)))
    return Played(lengths, *judged(drawn(averages.networks[GENERATOR])))


def descend(optimizer: Optimizer, terms: Terms) -> None:
    """One step down the sum of ``terms``, as a learner takes it."""
    optimizer.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()


def centres() -> Tensor:
    """The middles of the modes, (MODES, 2)."""
    angles = 2 * math.pi * torch.arange(MODES) / MODES
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def ring(points: int) -> Tensor:
    """Real points, (points, 2): each of a mode drawn at random, normally distributed about its middle."""
    return centres()[torch.randint(MODES, (points,))] + DEVIATION * torch.randn(points, 2)


@torch.no_grad()
def drawn(generator: nn.Module) -> Tensor:
    """Generated points, (JUDGED, 2)."""
    points: Tensor = generator(torch.randn(JUDGED, LATENT), torch.zeros(JUDGED, 0))
    return points


def gradient_length(critic: nn.Module, real: Tensor, fake: Tensor) -> float:
    """Mean length of the critic's gradient at random places between real and generated points."""
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between, torch.zeros(len(real), 0)).sum(), between)
    return float(gradient.norm(dim=1).mean())


def judged(points: Tensor) -> tuple[int, float]:
    """How many modes hold at least 1 % of the points, and the share of points that lie in any."""
    distance, mode = torch.cdist(points, centres()).min(dim=1)
    inside = distance < 3 * DEVIATION
    counts = torch.bincount(mode[inside], minlength=MODES)
    return int((counts >= 0.01 * len(points)).sum()), float(inside.float().mean())


if __name__ == "__main__":
    main()
