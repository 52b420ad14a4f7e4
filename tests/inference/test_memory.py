"""How much memory a conversion takes, measured in processes of their own."""

import json
import subprocess
import sys

import numpy as np

SHAPE = (288, 288, 128)
MOST = 4.5
"""Of the study's voxels in float32; a copy more is one more. Without slabs it was more than seven."""

CONVERT = """
import json, os, resource, sys
import torch
from medgan.cli import app

torch.set_num_threads(1)
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
small, study, out, *cases = sys.argv[1:]
def convert(source, folder, case):
    name, model, *options = json.loads(case)
    asked = ["convert", source, f"{folder}/{name}", "--model", model, "--device", "cpu", "--quiet", *options]
    app(asked, standalone_mode=False)
for case in cases:
    convert(small, out + "/small", case)  # what torch loads at its first use
sys.stdout.flush()
for case in cases:
    if not os.fork():
        before = peak()
        convert(study, out + "/large", case)
        print(json.dumps([json.loads(case)[0], peak() - before]), flush=True)
        os._exit(0)
    os.wait()
"""


def test_converting_takes_a_few_times_the_studys_own_memory(save_model, save_study, tmp_path):
    affine = np.diag([0.8, 0.8, 1.0, 1.0])
    plane = np.abs(np.random.default_rng(0).normal(100, 10, SHAPE[:2])).astype(np.int16)
    voxels = np.broadcast_to(plane[..., None], SHAPE) + np.arange(SHAPE[2], dtype=np.int16)
    studies = [
        save_study(tmp_path / f"{name}.nii.gz", part.shape, affine, voxels=part)
        for name, part in (("small", voxels[:, :, :4]), ("large", voxels))
    ]
    cases = [
        json.dumps([pair, str(save_model(tmp_path / pair, pair, change, directions=1)), *options])
        for pair, change, options in (
            ("ct", "one-sided", ["--change-map"]),
            ("mr", "signed", []),
            ("mr to ct", "none", []),
        )
    ]
    command = [sys.executable, "-c", CONVERT, *map(str, studies), str(tmp_path / "out"), *cases]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = dict(map(json.loads, ended.stdout.splitlines()))
    assert peaks.keys() == {"ct", "mr", "mr to ct"}
    assert all(peak < MOST * voxels.size * 4 for peak in peaks.values()), {
        name: peak / voxels.size / 4 for name, peak in peaks.items()
    }
