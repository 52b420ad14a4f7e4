"""What commands import: nobody waits for a library that is not used. Wrong use and help are in test_cli.py."""

import json
import os
import shutil
import subprocess
import sys

import pytest

SLOW = {"monai", "mlflow", "matplotlib", "SimpleITK", "scipy.stats"}
"""What takes a quarter of a second to several seconds to import."""
PROGRAM = f"""
import json, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from medgan.cli import app

def told(when):
    print("imported", json.dumps([when, sorted({SLOW} & sys.modules.keys())]), flush=True)

hook = register_optimizer_step_post_hook(lambda *_: (hook.remove(), told("step")))
try:
    app()
finally:
    told("end")
"""


@pytest.fixture(scope="module")
def imported(empty_database, tmp_path_factory):
    """What a command of this line has imported at its first step and at its end; the user's store knows no model."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_database, home / "mlflow.db")
    environment = os.environ | {"MEDGAN_HOME": str(home), "MEDGAN_CACHE": str(home / "cache")}

    def run(*line):
        command = [sys.executable, "-c", PROGRAM, *map(str, line)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines = (line.partition("imported ")[2] for line in done.stdout.splitlines())
        return {when: set(modules) for when, modules in map(json.loads, filter(None, lines))}

    return run


@pytest.fixture(scope="module")
def run_folder(work, imported, unpaired, tiny, database):
    """A run in another store than the user's, and what its training had imported."""
    asked = ["--data", unpaired, "--out", work, "--name", "one", "--device", "cpu", "--tracking", database]
    return work / "ct_contrast" / "one", imported("train", "-p", "ct_contrast", *asked, *tiny)


def test_the_first_step_waits_for_no_monai_and_for_nothing_that_draws_or_judges(run_folder):
    assert run_folder[1]["step"] == {"mlflow"}
    assert "monai" not in run_folder[1]["end"]


def test_a_conversion_whose_model_the_store_does_not_know_needs_no_mlflow_and_no_monai(
    run_folder, imported, unpaired, tmp_path
):
    study = unpaired.parent / "s0_contrast.nii.gz"
    asked = ["--model", run_folder[0] / "model", "--device", "cpu"]
    assert imported("convert", study, tmp_path / "out.nii.gz", *asked) == {"end": set()}
    assert (tmp_path / "out.nii.gz").exists()
