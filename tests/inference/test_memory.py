"""How much memory a conversion takes, measured in a process of its own."""

import ctypes
import multiprocessing
import resource
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

from medgan.data import grid
from medgan.inference.convert import ConvertOrder, convert
from medgan.training.architecture import ResNetConfig

SHAPE = (224, 224, 112)
MOST = 4.0
"""Of the study's voxels in float32; a copy more is one more. Without slabs it was more than seven."""
MMAP_THRESHOLD = -3


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(results, small, large, out, model, change_map):
    """What a conversion adds to the memory of a forked process, in bytes."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # what the process has freed before hides nothing
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, 1 << 20)
    grid.SLAB_VOXELS //= 4  # as small beside this study as slabs are beside a whole scan
    peaks = []
    for study in (small, large):  # the first brings what torch loads at its first use
        order = ConvertOrder(study, out / study.name, str(model), device="cpu", change_map=change_map)
        assert convert(order, Console(quiet=True)).exit_code == 0
        peaks.append(peak())
    results.put(peaks[1] - peaks[0])


@pytest.mark.parametrize(
    ("pair", "change", "change_map"), [("ct", "one-sided", True), ("mr", "signed", False), ("mr to ct", "none", False)]
)
def test_converting_takes_a_few_times_the_studys_own_memory(save_model, save_study, tmp_path, pair, change, change_map):
    model = save_model(tmp_path / "model", pair, change, directions=1, net=ResNetConfig(channels=2, downs=1, blocks=0))
    plane = np.abs(np.random.default_rng(0).normal(100, 10, SHAPE[:2])).astype(np.int16)
    voxels = np.broadcast_to(plane[..., None], SHAPE) + np.arange(SHAPE[2], dtype=np.int16)
    small, large = (
        save_study(tmp_path / f"{name}.nii.gz", part.shape, np.diag([0.8, 0.8, 1.0, 1.0]), voxels=part)
        for name, part in (("small", voxels[:, :, :4]), ("large", voxels))
    )
    forking = multiprocessing.get_context("fork")
    results = forking.SimpleQueue()
    process = forking.Process(target=measure, args=(results, small, large, tmp_path / "out", model, change_map))
    process.start()
    process.join()
    assert process.exitcode == 0
    taken = results.get() / (voxels.size * 4)
    assert 1 < taken < MOST
