import io
import logging
import time
from datetime import datetime

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from medgan.errors import DataError
from medgan.pictures.panels import Panel
from medgan.pictures.tiles import Row, Tile
from medgan.pictures.views import view
from medgan.pictures.windows import SOFT_TISSUE
from medgan.text import duration
from medgan.training.recorder import Recorder, TrainLog
from medgan.training.state import Progress


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def recorder(tmp_path, said):
    return Recorder(tmp_path, None, Console(file=said, width=200))


def panel(value=0.0):
    rng = np.random.default_rng(0)
    noise = (100 * rng.random((64, 64, 1)) + value).astype(np.float32)
    return Panel([Row([Tile(view(noise), SOFT_TISSUE, "source")])], "one case: source")


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
    with Image.open(tmp_path / "samples" / "epoch_0012.png") as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(panel(9).picture("epoch 12").image))
        assert shown.text["Description"] == "one case: source"


def test_curves_are_drawn_anew_with_all_epochs_also_of_a_run_that_goes_on(recorder, tmp_path, monkeypatch):
    drawn = []

    def draw(history, best_epoch, title):
        drawn.append(([row["epoch"] for row in history], best_epoch, title.partition(": ")[2]))
        return b"curves"

    monkeypatch.setattr("medgan.pictures.curves.progress", draw)
    monkeypatch.setattr("medgan.training.recorder.DRAWN_SHARE", 1e9)  # as if epochs were long
    history = [{"epoch": float(number), "train/l1": 1.0 / number} for number in range(1, 5)]
    recorder.begin(4, 10, Progress(iteration=20, history=history[:2], best_epoch=1))
    recorder.epoch(history[:3], None, 1)
    recorder.epoch(history, None, 4)
    recorder.begin(4, 10, Progress(iteration=40, history=history, best_epoch=4))  # nothing that is not drawn yet
    assert drawn == [([1, 2], 1, "epoch 2 of 4"), ([1, 2, 3], 1, "epoch 3 of 4"), ([1, 2, 3, 4], 4, "epoch 4 of 4")]
    assert (tmp_path / "progress.png").read_bytes() == b"curves"


def test_curves_do_not_hold_up_epochs_that_last_no_longer_than_they_take_to_draw(recorder, monkeypatch):
    drawn = []

    def slow(history, best_epoch, title):
        time.sleep(0.05)
        drawn.append(len(history))
        return b""

    monkeypatch.setattr("medgan.pictures.curves.progress", slow)
    recorder.begin(9, 10, Progress())
    history = [{"epoch": float(number)} for number in range(1, 10)]
    for number in range(1, 10):
        recorder.epoch(history[:number], None)
    assert drawn == [9]


def test_a_log_keeps_what_was_said_with_its_time_from_before_there_was_a_folder_and_goes_on_at_its_end(tmp_path, said):
    for round_ in ("first", "second"):
        log = TrainLog(Console(file=said, width=200))
        log.say(f"{round_}: before")
        log.begin(tmp_path / "run")
        log.keep("not said")
        log.say("two\nlines")
    assert said.getvalue().splitlines() == ["first: before", "two", "lines", "second: before", "two", "lines"]
    times, lines = zip(*(line.split("  ", 1) for line in (tmp_path / "run" / "train.log").open()), strict=True)
    assert [line.strip() for line in lines] == [
        "first: before", "not said", r"two\nlines", "second: before", "not said", r"two\nlines",
    ]  # fmt: skip
    assert all(datetime.fromisoformat(time).tzinfo for time in times)


def test_a_log_keeps_warnings_and_what_ended_the_run_but_nothing_of_one_that_never_began(tmp_path):
    log = TrainLog(Console(quiet=True))
    with pytest.raises(DataError), log.listening():
        raise DataError("refused")
    log = TrainLog(Console(quiet=True))

    def stopped():
        with log.listening():
            log.begin(tmp_path)
            logging.getLogger("medgan.tracking.run").warning("the server is lost")
            raise KeyboardInterrupt("stopped after iteration 7")

    with pytest.raises(KeyboardInterrupt, match="stopped after"):
        stopped()
    kept = [line.split("  ", 1)[1] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert kept == ["the server is lost", "stopped after iteration 7"]


def test_a_full_disk_is_named_and_the_table_before_is_kept(recorder, tmp_path, full_disk):
    history = [{"epoch": 1.0, "train/l1": 0.5}]
    recorder.epoch(history, None)
    full_disk(100)
    with pytest.raises(DataError, match=r"metrics.csv: cannot be written \(File too large\); make room"):
        recorder.epoch(history * 50, None)
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,train/l1", "1.0,0.5"]
    with pytest.raises(DataError, match=r"epoch_0001.png: cannot be written \(File too large\); make room"):
        recorder.epoch(history, panel())
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
    recorder.epoch([{"epoch": 1.0, "val/mae_hu": 41.0}], panel())
    assert said.getvalue() == ""
    assert (tmp_path / "samples" / "epoch_0001.png").exists()
    assert "mae_hu 41" in (tmp_path / "train.log").read_text()  # which is for later, and not for the quiet now


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
