"""A training killed, stopped and resumed: once whole, in this process, and once in three processes."""

import csv
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from medgan.errors import InUseError
from medgan.inference.convert import ConvertOrder, convert
from medgan.training.folder_lock import alone_in
from medgan.training.run import train

PATIENCE_S = 240
LONG = ["fit={epochs: 8, iterations_per_epoch: 12, batch_size: 2, workers: 0}"]


@dataclass
class Story:
    whole: Path
    parts: Path
    killed: str
    stopped: subprocess.CompletedProcess
    status: str
    resumed: subprocess.CompletedProcess


def medgan(*arguments, folder):
    program = Path(sys.executable).with_name("medgan")
    return subprocess.Popen(
        [program, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def after_another_epoch(process, state, *, most_s):
    """Wait for a new state, and then for a while that nobody knows."""
    before = state.stat().st_mtime_ns if state.exists() else 0
    deadline = time.monotonic() + PATIENCE_S
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while_s = random.SystemRandom().uniform(0, most_s)
    time.sleep(while_s)
    assert process.poll() is None, "the training ended before it could be stopped; make it longer"
    return f"after {while_s:.2f} s"


@pytest.fixture(scope="module")
def story(order, work, unpaired, tiny, mlflow_runs):
    whole = train(order(name="whole", overrides=LONG), Console(quiet=True))
    ends_s = sorted(panel.stat().st_mtime for panel in (whole.run.path / "samples").iterdir())
    epoch_s = (ends_s[-1] - ends_s[0]) / 7
    run = work / "story" / "ct_contrast" / "parts"
    asked = ["train", "--pipeline", "ct_contrast", "--out", work / "story", "--device", "cpu"]

    process = medgan(*asked, "--name", "parts", "--data", unpaired, *tiny, *LONG, folder=work)
    killed = after_another_epoch(process, run / "state" / "last.pt", most_s=epoch_s)
    os.kill(process.pid, signal.SIGKILL)
    ended(process)

    process = medgan(*asked, "--name", "parts", "--resume", folder=work)
    after_another_epoch(process, run / "state" / "last.pt", most_s=epoch_s / 2)
    os.kill(process.pid, signal.SIGINT)
    stopped = ended(process)
    _, (tracked,) = mlflow_runs("parts")

    resumed = ended(medgan(*asked, "--resume", folder=work))
    return Story(whole.run.path, run, killed, stopped, tracked.info.status, resumed)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(story):
    assert story.stopped.returncode == 130
    last = story.stopped.stderr.splitlines()[-1]
    where = r"(after iteration \d+|while epoch \d+ was validated)"
    assert re.fullmatch(rf"medgan: stopped {where}; add --resume to go on from there\.", last)
    assert "Traceback" not in story.stopped.stderr
    assert story.status == "KILLED"


def test_a_run_killed_and_stopped_anywhere_ends_with_the_same_bytes(story):
    assert story.resumed.returncode == 0, story.resumed.stderr
    for name in ("model/weights.safetensors", "model/model.json", "metrics.csv", "config.yaml", "split.json"):
        assert (story.whole / name).read_bytes() == (story.parts / name).read_bytes(), (name, story.killed)
    assert sorted(path.name for path in (story.whole / "samples").iterdir()) == sorted(
        path.name for path in (story.parts / "samples").iterdir()
    )


def test_a_run_killed_and_stopped_is_one_run_in_mlflow_with_every_step(story, mlflow_runs):
    client, (run,) = mlflow_runs("parts")
    assert run.info.status == "FINISHED"
    with (story.whole / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8
    for key in rows[0].keys() - {"epoch"}:
        history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, key)}
        assert history == {int(float(row["epoch"])): float(row[key]) for row in rows}, key
    assert len(client.list_artifacts(run.info.run_id, "samples")) == 8


def test_a_run_that_another_process_is_in_is_not_resumed_beside_it_and_can_still_be_read(
    story, order, tmp_path, unpaired
):
    with alone_in(story.whole, Console(quiet=True)):
        with pytest.raises(InUseError, match="whole is in use by process"):
            train(order(name="whole", resume=True), Console(quiet=True))
        asked = ConvertOrder(unpaired, tmp_path, str(story.whole / "model"), device="cpu")
        assert convert(asked, Console(quiet=True)).exit_code == 0
    assert train(order(name="whole", resume=True), Console(quiet=True)).run.path == story.whole


def test_libraries_say_nothing_of_their_own(story):
    lines = story.resumed.stderr.splitlines()
    assert [line for line in lines if not line.startswith(("epoch ", "about ", str(story.parts.parent.parent)))] == []
    model, tracked, following = story.resumed.stdout.splitlines()
    assert model.startswith(f"model: {story.parts / 'model'} (averages after epoch ")
    assert tracked.startswith("MLflow run ")
    assert following == f"next:  medgan convert INPUT OUTPUT --model {story.parts / 'model'}"
