import json
import logging
import os
import subprocess
import sys
import warnings

import mlflow.store.db.utils
import pytest

from medgan import habits
from medgan.data.transforms import PatchConfig, patch_chain
from medgan.training.fit import make_fabric

ADOPTED = "import json, os, sys, medgan; print(json.dumps([dict(os.environ), sorted(sys.modules)]))"


def test_mlflow_is_told_before_anything_can_import_it():
    environment = {name: value for name, value in os.environ.items() if name not in habits.MLFLOW}
    done = subprocess.run([sys.executable, "-c", ADOPTED], env=environment, capture_output=True, check=True)
    told, imported = json.loads(done.stdout)
    assert habits.MLFLOW.items() <= told.items()
    assert told["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert {"mlflow", "monai", "torch", "numpy"} & set(imported) == set()


def test_mlflow_and_its_migrations_do_not_report_their_progress():
    assert mlflow.store.db.utils._logger.getEffectiveLevel() >= logging.WARNING


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    habits.adopt()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == habits.MLFLOW["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]


def test_patches_of_one_slice_and_half_precision_are_no_news(held_out, capfd):
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        habits.adopt()
        make_fabric("cpu", "bf16-mixed")
        patch = PatchConfig(dimensions="3", size_voxels=16, depth_voxels=1)
        patch_chain(patch, ["source"], 0)({"source": held_out(count=1).source[0]})
    assert [str(warning.message) for warning in heard] == []
    assert capfd.readouterr().err == ""


def test_other_warnings_are_heard():
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", UserWarning, stacklevel=1)
