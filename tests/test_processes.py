import multiprocessing
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from medgan.processes import beside

COMMAND = """
import os, pathlib, signal, sys, time
from contextlib import closing
from medgan.processes import in_processes

def work(number):
    if number == 0:
        return number
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    pathlib.Path(f"{number}.txt").write_text(str(os.getpid()))
    time.sleep(600)

def save():
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

if __name__ == "__main__":
    tasks = [0, 3] if "killed" in sys.argv else [0, 1, 2, 4]
    with closing(in_processes(tasks, work, 2, save)) as ended:
        for task, future in ended:
            print(task, future.result(), flush=True)
            if "leaves" in sys.argv:
                while not pathlib.Path("1.txt").exists():
                    time.sleep(0.05)
                break
"""


def begun(folder, *how):
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    return subprocess.Popen([sys.executable, "command.py", *how], cwd=folder, stderr=subprocess.PIPE, text=True)


def workers(folder, *numbers):
    """The processes that work on tasks, once they do."""
    found = []
    for number in numbers:
        path = folder / f"{number}.txt"
        for _ in range(600):
            if path.exists() and path.read_text(encoding="utf-8"):
                break
            time.sleep(0.1)
        found.append(psutil.Process(int(path.read_text(encoding="utf-8"))))
    return found


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_stopped_or_killed_leaves_no_process_behind(tmp_path, end):
    command = begun(tmp_path)
    working = workers(tmp_path, 1, 2)
    command.send_signal(end)
    command.communicate(timeout=20)
    assert not psutil.wait_procs(working, timeout=20)[1]
    assert not (tmp_path / "4.txt").exists()


def test_a_process_that_does_not_end_when_asked_is_killed(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import medgan.processes as m; m.GRACE_S = 0.5", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = begun(tmp_path, "stubborn")
    working = workers(tmp_path, 1, 2)
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=20)
    assert not psutil.wait_procs(working, timeout=5)[1]


def test_leaving_early_ends_what_is_under_way(tmp_path):
    command = begun(tmp_path, "leaves")
    command.communicate(timeout=60)
    assert command.returncode == 0
    assert not psutil.pid_exists(int((tmp_path / "1.txt").read_text(encoding="utf-8")))


def test_a_script_is_not_run_again_by_processes_that_do_medgans_own_work(tmp_path):
    script = "import time\nfrom medgan.processes import do_all\nprint('once')\n"
    script += "do_all([0.0] * 6, time.sleep, most=2, each=3)\n"
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    run = [sys.executable, "script.py"]
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "once\n"


def test_what_is_done_beside_the_body_ends_with_it(tmp_path):
    with beside(Path.mkdir, tmp_path / "made"):
        for _ in range(600):
            if (tmp_path / "made").exists():
                break
            time.sleep(0.1)
        else:
            pytest.fail("nothing was done")
    with beside(time.sleep, 600.0):
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()


def test_a_killed_process_is_told_with_its_task(tmp_path):
    said = begun(tmp_path, "killed").communicate(timeout=60)[1]
    assert re.search(r"WorkerKilledError: .*3", said)
