"""How much memory a conversion takes, measured in a process of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest

SHAPE = (320, 320, 160)
MOST = 4.5
"""Of the study's voxels in float32; a copy more is one more. Without slabs it was more than seven."""

CONVERT = """
import json, resource, sys
import torch
from medgan.cli import app
import medgan.inference.convert

torch.set_num_threads(1)
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
small, study, out, model, *options = sys.argv[1:]
command = ["--model", model, "--device", "cpu", "--quiet", *options]
app(["convert", small, out + "/small", *command], standalone_mode=False)  # what torch loads at its first use
before = peak()
app(["convert", study, out + "/large", *command], standalone_mode=False)
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize(
    ("pair", "change", "options"),
    [("ct", "one-sided", ["--change-map"]), ("mr", "signed", []), ("mr to ct", "none", [])],
    ids=["change map", "mr", "mr to ct"],
)
def test_converting_takes_a_few_times_the_studys_own_memory(save_model, save_study, tmp_path, pair, change, options):
    model = save_model(tmp_path / "model", pair, change, directions=1)
    affine = np.diag([0.8, 0.8, 1.0, 1.0])
    plane = np.abs(np.random.default_rng(0).normal(100, 10, SHAPE[:2])).astype(np.int16)
    voxels = np.broadcast_to(plane[..., None], SHAPE) + np.arange(SHAPE[2], dtype=np.int16)
    studies = [
        save_study(tmp_path / f"{name}.nii.gz", part.shape, affine, voxels=part)
        for name, part in (("small", voxels[:, :, :4]), ("large", voxels))
    ]
    ended = subprocess.run(
        [sys.executable, "-c", CONVERT, *map(str, studies), str(tmp_path / "out"), str(model), *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(ended.stdout.splitlines()[-1]) < MOST * voxels.size * 4
