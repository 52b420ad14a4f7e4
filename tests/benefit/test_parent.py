import signal
import subprocess
import sys
import time

import psutil
import pytest

STUDY = """
import multiprocessing, os, pathlib, time
from medgan.benefit.parent import end_with_parent

def train():
    end_with_parent()
    pathlib.Path("training.txt").write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=train)
    process.start()
    process.join()
"""


def written(path):
    for _ in range(600):
        if path.exists() and path.read_text(encoding="utf-8"):
            return int(path.read_text(encoding="utf-8"))
        time.sleep(0.1)
    pytest.fail("the process did not start")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_study_leaves_no_training_behind(tmp_path, end):
    (tmp_path / "study.py").write_text(STUDY, encoding="utf-8")
    study = subprocess.Popen([sys.executable, "study.py"], cwd=tmp_path)
    training = psutil.Process(written(tmp_path / "training.txt"))
    study.send_signal(end)
    study.wait()
    training.wait(timeout=20)
    assert not training.is_running()
