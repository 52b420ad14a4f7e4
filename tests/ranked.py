"""Trainings that ranks share, as functions of a module: the processes that are started find them here."""

import copy
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import torch

from medgan.data.patches import Patches
from medgan.errors import DataError
from medgan.training.device import Place, make_fabric
from medgan.training.fit import Fit, FitConfig, Interrupted
from medgan.training.learner import HeldOut
from medgan.training.ranks import Ranks, joined
from medgan.training.recorder import Recorder, Unrecorded

FIT = FitConfig(epochs=2, iterations_per_epoch=10, batch_size=4, precision="32", average_decay=0.9)
TWO = Place(0, 2, 0, 2)
STOP_AT = 27
"""The last patch of the seventh iteration, which the second of two ranks draws."""


class Made(Patches):
    """Patches of noise by number, as a learner wants them; ``stopping`` asks for a stop while ``STOP_AT`` is drawn."""

    stopping = False

    def __init__(self, keys, shape, channels=1):
        self.keys, self.shape = keys, (channels, *shape)

    def __getitem__(self, number):
        if self.stopping and number == STOP_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        random = np.random.default_rng(number)
        source = torch.from_numpy(random.uniform(-1, 1, self.shape).astype(np.float32))
        made = {"source": source, "target": source / 2 - 0.2, "image": source}
        made |= {"region": (source > -0.5).float(), "labels": (source > 0.3).long() + (source > 0.8)}
        return {key: made[key] for key in self.keys}


def trained(ranks, folder, learner, dataset, precision="64-true", resume=False, stop=False):
    """What a training leaves: weights by network, and history; in 64 bits, where the order of sums does not matter.

    With ``stop`` nothing, since it is stopped in its seventh iteration.
    """
    dataset.stopping = stop
    fit = Fit(
        copy.deepcopy(learner), dataset, HeldOut([], []), FIT, fabric=make_fabric("cpu", precision),
        folder=folder / "state", recorder=(Recorder if ranks.first else Unrecorded)(folder), ranks=ranks,
    )  # fmt: skip
    torch.manual_seed(ranks.rank)
    try:
        fit.run(resume=resume)
    except Interrupted:
        return None
    networks = fit.state.networks.items()
    weights = {name: torch.cat([each.detach().flatten() for each in net.parameters()]) for name, net in networks}
    return weights, fit.state.progress.history


def each_trained(ranks, pickled, folder):
    """What each rank has of each case, in the order of the ranks, and of runs that were stopped."""
    torch.set_num_threads(1)
    cases, folder = pickle.loads(pickled), Path(folder)
    results = {name: trained(ranks, folder / "two" / name, *case) for name, case in cases.items()}
    assert trained(ranks, folder / "stopped", *cases["wasserstein"], stop=True) is None
    results["resumed"] = trained(ranks, folder / "stopped", *cases["wasserstein"], resume=True)
    trained(ranks, folder / "fewer", *cases["cyclegan-2d"], stop=True)
    results["more"] = trained(ranks, folder / "more", *cases["cyclegan-2d"], resume=True)
    return ranks.all(results)


def judged(ranks, pickled):
    """The figures of learners, each on its validation subjects, by rank."""
    torch.set_num_threads(1)
    figures = []
    for learner, studies in pickle.loads(pickled):
        learner.ranks = ranks
        learner.attach(make_fabric("cpu", "32"), {}, {})
        figures.append(learner.validate(studies, learner.networks()).metrics)
    return ranks.all(figures)


def broken(ranks, how):
    """The second rank is lost, and the first one waits for it."""
    ranks.any(False)
    if not ranks.first and how == "refused":
        raise DataError("b.nii.gz: is not here")
    if not ranks.first:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        ranks.any(False)


def in_two_ranks(work, *arguments):
    """What ``work(ranks, *arguments)`` gives in the first of two ranks."""
    with joined(TWO, ("cpu", "cpu"), work, *arguments) as ranks:
        return work(ranks, *arguments)


ALONE = Ranks()
