"""Stores with runs that were judged on test subjects, as `medgan evaluate` leaves them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from medgan.evaluation.statistics import t_interval
from medgan.tracking import KeptModel, RecordedRun, Tracker
from tracking.conftest import home  # noqa: F401 - a fixture

SUBJECTS = 9


def cases_of(errors: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row a case and arm: ``cases_of({"synthetic": mae, "do_nothing": mae})``; SSIM falls with the error."""
    rows = [
        {"case": f"case {number}", "arm": arm, "mae_hu": value, "ssim": 1 - value / 400, "bias_hu": value / 10 - 3}
        for arm, values in errors.items()
        for number, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def judged_run() -> Callable[..., str]:
    """Record a run that was judged: ``judged_run(store, "a", cases, experiment="ct")``; its id."""

    def record(
        uri, name, cases, *, experiment="ct_contrast", pipeline="ct_contrast", parameters=None, split="split one",
        test_set="set one", val_mae=40.0, phantom=False, model=None,
    ):  # fmt: skip
        tags = {"pipeline": pipeline, "split_hash": split, "data_fingerprint": "f" * 64, "git_revision": "abc"}
        facts = {"experiment": experiment, "run_name": name, "parameters": parameters or {}, "tags": tags}
        with Tracker.start(uri, **facts) as run:
            run.dataset("phantom" if phantom else "cohort", "f" * 64, {"contrast": 8})
            for step in (1, 2, 3):
                run.metrics({"train/cycle": 1 / step, "val/mae_hu": val_mae + 3 - step}, step=step)
            if model:
                run.model(KeptModel(model, "a" * 64))
        if cases is None:
            return run.id
        figures = {"test/subjects": float(cases["case"].nunique())}
        for arm, table in cases.groupby("arm"):
            for metric in table.columns.drop(["case", "arm"]):
                key, interval = f"test/{metric}", t_interval(table[metric])
                bounds = {f"{key}_lower": interval.lower, f"{key}_upper": interval.upper}
                figures |= (
                    {key: interval.mean, **bounds} if arm == "synthetic" else {f"test/{arm}/{metric}": interval.mean}
                )
        client = MlflowClient(uri)
        recorded = RecordedRun(client, client.get_run(run.id))
        recorded.metrics(figures, dataset=("test", "e" * 64))
        recorded.table(cases, "test/cases.json")
        recorded.tags({"test_set": test_set})
        return run.id

    return record


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A folder that stands for a model."""
    folder = tmp_path_factory.mktemp("models") / "model"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def errors() -> dict[str, np.ndarray]:
    """By arm, the errors of nine subjects in HU: of a look-up and of doing nothing; a model's lie around its own."""
    random = np.random.default_rng(7)
    subjects = random.normal(0, 8, SUBJECTS)
    return {"do_nothing": 60 + subjects, "intensity_lookup": 45 + subjects, "noise": random.normal(0, 1, (6, SUBJECTS))}
