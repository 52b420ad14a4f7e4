import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import mlflow.store.db.utils
import numpy as np

from medgan import habits
from medgan.data.domains import Domain, Window
from medgan.data.grid import Volume, made_up_grid
from medgan.data.preparation import GridConfig, prepare
from medgan.evaluation.segmentation import score_mask
from medgan.training.device import make_fabric

ADOPTED = "import json, os, sys, medgan; print(json.dumps([dict(os.environ), sorted(sys.modules)]))"


def test_mlflow_is_told_before_anything_can_import_it_not_to_report_its_progress():
    environment = {name: value for name, value in os.environ.items() if name not in habits.MLFLOW}
    done = subprocess.run([sys.executable, "-c", ADOPTED], env=environment, capture_output=True, check=True)
    told, imported = json.loads(done.stdout)
    assert habits.MLFLOW.items() <= told.items()
    assert told["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert {"mlflow", "monai", "torch", "numpy"} & set(imported) == set()
    assert mlflow.store.db.utils._logger.getEffectiveLevel() >= logging.WARNING


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    habits.adopt()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == habits.MLFLOW["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]


def test_the_resampling_of_a_single_slice_and_what_monai_says_of_its_own_code_are_no_news():
    volume = Volume(np.full((32, 32, 1), 40.0, dtype=np.float32), made_up_grid((32, 32, 1), np.eye(4)), Path("a.png"))
    domain = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window())
    mask = np.ones((3, 3, 3), dtype=bool)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        prepare(volume, domain, GridConfig(spacing_mm=(2.0, 2.0, None)))
        assert heard == []
        score_mask(mask, mask, (1.0, 1.0, 1.0))
        before = len(heard)
        habits.adopt()
        score_mask(mask, mask, (1.0, 1.0, 1.0))
    assert len(heard) == before > 0


def test_lightning_does_not_report_the_precision():
    heard, handler = [], logging.Handler()
    handler.emit = heard.append
    lightning = logging.getLogger("lightning_fabric")
    lightning.addHandler(handler)
    make_fabric("cpu", "bf16-mixed")
    lightning.removeHandler(handler)
    assert heard == []
