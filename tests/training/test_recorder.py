import io
import time

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from medgan.errors import DataError
from medgan.text import duration
from medgan.training.recorder import Recorder
from medgan.training.state import Progress


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def recorder(tmp_path, said):
    return Recorder(tmp_path, None, Console(file=said, width=200))


def panel(value):
    return np.full((4, 6), value, dtype=np.uint8)


def test_the_table_has_every_metric_that_any_epoch_has_and_what_validation_found_is_said(recorder, said, tmp_path):
    history = [{"epoch": 1.0, "train/l1": 0.5}, {"epoch": 2.0, "train/l1": 0.25, "val/mae_hu": 41.234}]
    recorder.epoch(history[:1], None)
    recorder.epoch(history, None)
    rows = ["epoch,train/l1,val/mae_hu", "1.0,0.5,", "2.0,0.25,41.234"]
    assert (tmp_path / "metrics.csv").read_text().split() == rows
    assert said.getvalue().splitlines() == ["epoch 1", "epoch 2: mae_hu 41.2"]


def test_a_resumed_run_writes_the_table_of_what_was_done(recorder, tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train/l1\n1.0,0.5\n2.0,torn")
    recorder.begin(3, 10, Progress(iteration=10, history=[{"epoch": 1.0, "train/l1": 0.5}]))
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,train/l1", "1.0,0.5"]


def test_panels_are_pictures_by_epoch(recorder, tmp_path):
    recorder.epoch([{"epoch": 1.0}], panel(7))
    recorder.epoch([{"epoch": 1.0}, {"epoch": 12.0}], panel(9))
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == ["epoch_0001.png", "epoch_0012.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "samples" / "epoch_0012.png")), panel(9))


def test_a_full_disk_is_named_and_the_table_before_is_kept(recorder, tmp_path, full_disk):
    history = [{"epoch": 1.0, "train/l1": 0.5}]
    recorder.epoch(history, None)
    full_disk(100)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    with pytest.raises(DataError, match=r"metrics.csv: cannot be written \(File too large\); make room"):
        recorder.epoch(history * 50, None)
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,train/l1", "1.0,0.5"]
    with pytest.raises(DataError, match=r"epoch_0001.png: cannot be written \(File too large\); make room"):
        recorder.epoch(history, noise)
    assert list((tmp_path / "samples").iterdir()) == []


@pytest.mark.parametrize("done", [0, 35])
def test_after_ten_iterations_of_a_session_the_time_left_is_said_once(recorder, said, done):
    recorder.begin(30, 10, Progress(iteration=done))
    time.sleep(0.5)  # the first iteration is slow and counts nothing
    for number in range(done + 1, done + 26):
        recorder.iteration(number)
        time.sleep(0.01)
    (line,) = said.getvalue().splitlines()
    left, each = line.removeprefix("about ").removesuffix(" s an iteration)").split(" s to go (")
    assert 0.01 <= float(each) < 0.05
    assert float(left) == pytest.approx(float(each) * (290 - done), abs=1, rel=0.1)


def test_a_quiet_console_hears_nothing(tmp_path, said):
    recorder = Recorder(tmp_path, None, Console(file=said, quiet=True))
    recorder.begin(2, 10, Progress())
    for number in range(1, 13):
        recorder.iteration(number)
    recorder.epoch([{"epoch": 1.0, "val/mae_hu": 41.0}], panel(0))
    assert said.getvalue() == ""
    assert (tmp_path / "samples" / "epoch_0001.png").exists()


def test_a_terminal_shows_a_bar_with_the_time_left(tmp_path, said):
    recorder = Recorder(tmp_path, None, Console(file=said, force_terminal=True, width=100))
    recorder.begin(2, 10, Progress(iteration=10))
    with recorder.bar:
        recorder.iteration(20)
    assert "20/20" in said.getvalue()
    assert "left:" in said.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (725, "12 min"), (5940, "99 min"), (6000, "1.7 h")]
)
def test_lengths_of_time_are_said_in_the_unit_that_people_use(seconds, text):
    assert duration(seconds) == text
