"""How much memory conversions take, each measured in a process of its own."""

import json
import subprocess
import sys

import numpy as np

SHAPE = (224, 224, 112)
MOST = 4.5
"""Of the study's voxels in float32; a copy more is one more. Without slabs it was more than seven."""

CONVERT = """
import json, os, resource, sys
import torch
from medgan.cli import app
from medgan.data import grid
import medgan.inference.convert

torch.set_num_threads(1)
grid.SLAB_VOXELS //= 4  # as small beside this study as slabs are beside a whole scan
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
small, study, out, *cases = sys.argv[1:]
for number, case in enumerate(cases):
    if os.fork() == 0:
        command = ["--model", *case.split(), "--device", "cpu", "--quiet"]
        app(["convert", small, f"{out}/small{number}", *command], standalone_mode=False)  # what is loaded at first use
        before = peak()
        app(["convert", study, f"{out}/large{number}", *command], standalone_mode=False)
        print(json.dumps(peak() - before), flush=True)
        os._exit(0)
    os.wait()
"""


def test_converting_takes_a_few_times_the_studys_own_memory(save_model, save_study, tmp_path):
    kinds = (("ct", "one-sided"), ("mr", "signed"), ("mr to ct", "none"))
    models = [str(save_model(tmp_path / change, pair, change, directions=1)) for pair, change in kinds]
    plane = np.abs(np.random.default_rng(0).normal(100, 10, SHAPE[:2])).astype(np.int16)
    voxels = np.broadcast_to(plane[..., None], SHAPE) + np.arange(SHAPE[2], dtype=np.int16)
    studies = [
        str(save_study(tmp_path / f"{name}.nii.gz", part.shape, np.diag([0.8, 0.8, 1.0, 1.0]), voxels=part))
        for name, part in (("small", voxels[:, :, :4]), ("large", voxels))
    ]
    models[0] += " --change-map"
    command = [sys.executable, "-c", CONVERT, *studies, str(tmp_path / "out"), *models]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = [json.loads(line) / (voxels.size * 4) for line in ended.stdout.splitlines() if line[0].isdigit()]
    assert len(peaks) == len(kinds)
    assert max(peaks) < MOST, peaks
