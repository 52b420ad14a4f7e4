import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch

from medgan import threads
from medgan.errors import ConfigError
from medgan.processes import in_processes


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sixteen cores of a machine that consists of files; ``others`` is how many cores other processes keep busy."""
    self = SimpleNamespace(others=0.0, now_s=100.0, ticks=0.0)

    def passes(seconds):
        self.now_s += seconds
        self.ticks += self.others * seconds * os.sysconf("SC_CLK_TCK")
        cores = "".join(f"cpu{n} {int(self.ticks / 16)} 0 0 999 999 0 0 0 0 0\n" for n in range(16))
        write("proc/stat", f"cpu  5 0 0 0 0 0 0 0 0 0\n{cores}cpu99 {int(self.ticks * 9)} 0 0 0 0 0 0 0 0 0\nintr 1\n")

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")

    self.write, self.passes = write, passes
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "PROC", tmp_path / "proc")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_affinity", lambda: set(range(16)))
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=passes))
    monkeypatch.setattr(os, "times", lambda: (0.0,) * 5)
    passes(0)
    monkeypatch.setattr(threads, "_neighbours", threads.Neighbours())
    before = torch.get_num_threads()
    torch.set_num_threads(16)
    yield self
    torch.set_num_threads(before)


def test_a_process_that_is_held_to_one_core_has_one():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    program += "from medgan.threads import cores; print(cores())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"


@pytest.mark.parametrize(
    ("group", "limits", "cores"),
    [
        ("0::/", {}, 16),
        ("0::/", {"cpu.max": "max 100000"}, 16),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/slurm/job_7", {"slurm/cpu.max": "300000 100000", "slurm/job_7/cpu.max": "600000 100000"}, 3),
        ("4:memory:/m\n1:cpu,cpuacct:/docker/a", {"cpu/docker/a/cpu.cfs_quota_us": "400000"}, 4),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, 16),
    ],
    ids=["no-group", "no-limit", "two-and-a-half", "half", "the-tightest", "version-1", "version-1-no-limit"],
)
def test_control_groups_limit_the_cores(machine, group, limits, cores):
    machine.write("proc/self/cgroup", group + "\n")
    for name, text in limits.items():
        machine.write(f"cgroup/{name}", text + "\n")
        if name.endswith("quota_us"):
            machine.write(f"cgroup/{name.replace('quota', 'period')}", "100000\n")
    assert threads.cores() == cores


@pytest.mark.parametrize(("others", "number"), [(0, 16), (0.3, 16), (1, 15), (9.8, 6), (15.9, 1), (30, 1)])
def test_threads_are_taken_that_others_leave_free(machine, others, number):
    machine.others = others
    machine.passes(3)
    taken = threads.free()
    assert taken.number == number
    assert str(taken) == f"{number} thread{'s' * (number > 1)}: 16 cores, others use {others:.1f}"


def test_what_a_process_computes_itself_is_no_load(machine, monkeypatch):
    machine.others = 4
    monkeypatch.setattr(os, "times", lambda: (2.0, 1.0, 5.0, 4.0, 0.0))
    machine.passes(3)
    assert threads.free().number == 16


def test_what_its_processes_compute_is_no_load_either(machine, monkeypatch):
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [SimpleNamespace(pid=7)])
    machine.others = 4
    machine.passes(3)
    ticks = int(2.5 * os.sysconf("SC_CLK_TCK"))
    machine.write("proc/7/stat", f"7 (a (b) c) S 1 1 1 0 -1 0 0 0 0 0 {ticks} {ticks} {ticks} {ticks} 20 0 1 0 0\n")
    assert str(threads.free()) == "15 threads: 16 cores, others use 0.7"


def test_load_of_long_ago_does_not_count(machine):
    machine.others = 16
    machine.passes(100)
    machine.others = 0
    assert threads.free().number == 16


def test_omp_num_threads_wins_over_the_load(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    machine.others = 16
    with threads.taken() as taken:
        assert (taken.number, torch.get_num_threads()) == (3, 3)


@pytest.mark.parametrize(
    ("asked", "number"),
    [({}, 14), ({"threads": 3}, 3), ({"threads": 9, "jobs": 2}, 4), ({"begun": 5}, 5), ({"begun": 40}, 14)],
)
def test_torch_computes_with_what_was_taken_and_afterwards_as_before(machine, asked, number):
    machine.others = 2
    with threads.taken(**asked) as taken:
        assert (taken.number, torch.get_num_threads()) == (number, number)
        with threads.taken() as within:
            assert within == taken
        assert torch.get_num_threads() == number
    assert torch.get_num_threads() == 16


def test_another_number_than_that_of_before_is_said(machine):
    with threads.taken(2, begun=4) as taken:
        assert str(taken) == "2 threads: --threads; begun with 4, so it ends in other bits"


def test_who_set_torch_to_fewer_is_heeded(machine):
    torch.set_num_threads(2)
    with threads.taken() as taken:
        assert str(taken) == "2 threads: as torch was set"


@pytest.mark.parametrize("number", [0, 17])
def test_threads_without_a_core_are_refused(machine, number):
    with pytest.raises(ConfigError, match=rf"--threads {number}: this process may use 16 cores"):
        threads.check(number)


def test_a_neighbour_takes_threads_from_a_training_and_gives_them_back(machine):
    with threads.taken():
        machine.others = 4
        machine.passes(9)
        assert not threads.heed()
        machine.passes(2)
        assert threads.heed().startswith("from here on 12 threads: 16 cores, others use 4.0;")
        assert torch.get_num_threads() == 12
        machine.others = 0
        machine.passes(11)
        assert threads.heed().startswith("from here on 16 threads")


def test_a_number_that_was_given_stays(machine):
    with threads.taken(8):
        machine.others = 16
        machine.passes(20)
        assert not threads.heed()
        assert torch.get_num_threads() == 8


def test_started_processes_have_their_share_whatever_they_load():
    before = dict(os.environ)
    with closing(in_processes(threads.POOLS, os.getenv, 2, threads=3)) as ended:
        assert [future.result() for _, future in ended] == ["3", "3"]
    assert dict(os.environ) == before


def test_wrong_numbers_end_before_torch_is_loaded():
    program = "import sys, json; from medgan.cli import app; sys.argv = ['medgan', 'train', '-p', 'ct_contrast', "
    program += "'--threads', '9999']\ntry: app()\nexcept SystemExit as end: print(json.dumps([end.code, 'torch' in "
    program += "sys.modules]))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [2, False]
    assert "--threads 9999" in ended.stderr
