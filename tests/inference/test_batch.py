"""What all batches share, with studies that end as their names say; what commands make of one is tested with them."""

import io
import json
import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from medgan.data.splits import ThisImage
from medgan.errors import ConfigError, DataError
from medgan.inference.batch import BatchOrder, StudyBatch, conversion_fabric, local_model, why
from medgan.inference.jobs import Job, Plan

FACTS = {"Model": {"Name": "tiny"}, "Direction": "to_target", "Versions": {"medgan": "0"}}
PHANTOM, OUTSIDE = "trained on the phantom", "intensities outside what the model saw: {} to 9000 HU here"


class Named(StudyBatch):
    """Studies that are bad or odd, or say so: their names tell."""

    def __init__(self, order, console, names, passed_over=None, seen=None):
        super().__init__(order, console)
        self.names, self.passed_over, self.told = names, passed_over or {}, seen
        self.facts = FACTS
        self.at_once, self.devices = [], []
        self.compute_with(SimpleNamespace(number=0))

    def plan(self):
        folder = self.order.output
        jobs = (Job(folder.parent / name, name, folder / f"{name}.nii.gz") for name in self.names)
        return Plan(tuple(jobs), folder, ("a note",), self.passed_over)

    def sources(self, job):
        return {}

    def make(self, job, facts):
        with self.device() as (model, _):
            self.devices.append(id(model))
            time.sleep(0.02)
        if job.name == "b/[bad].nii":
            raise DataError(f"{job.source}: an empty file; copy it again.")
        if error := {"odd": ZeroDivisionError("by 0"), "large": MemoryError(), "stop": KeyboardInterrupt()}.get(
            job.name
        ):
            raise error
        if not job.name.startswith("s"):
            return [PHANTOM, "7 exact copies were left out"] if job.name == "[other].nii" else []
        number = int(job.name[1:-4])
        return [PHANTOM, *([OUTSIDE.format(number)] if number < 5 else [])]

    def training(self, job) -> ThisImage | None:
        return self.told and self.told[job.name]


@pytest.fixture
def batch(tmp_path):
    """``batch(names, jobs=3)`` and what it prints, in ``file.getvalue()``."""

    def make(names, *, quiet=False, terminal=False, passed_over=None, seen=None, **order):
        console = Console(file=io.StringIO(), width=200, quiet=quiet, force_terminal=terminal or None)
        asked = BatchOrder(tmp_path / "in", tmp_path / "out", "", device=order.pop("device", "cpu"), **order)
        return Named(asked, console, names, passed_over, seen), console.file

    return make


def manifest(folder):
    return [json.loads(line) for line in (folder / "out" / "manifest.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_study_ends_by_itself_and_is_in_manifest_and_summary(batch, tmp_path, jobs):
    made, _ = batch(["good", "b/[bad].nii", "odd", "large", "fine"], jobs=jobs, passed_over={"all.zip": "packed"})
    ends = {}
    for number, outcome in enumerate(made.run(made.plan()), start=1):
        ends[outcome.input] = (outcome.status, outcome.message.partition(";")[0])
        lines = manifest(tmp_path)
        assert len(lines) == number
        assert (lines[-1]["input"], lines[-1]["status"]) == (outcome.input, outcome.status)
    assert ends == {
        "good": ("done", ""),
        "b/[bad].nii": ("failed", "b/[bad].nii: an empty file"),
        "odd": ("failed", "unexpected ZeroDivisionError: by 0"),
        "large": ("failed", "out of memory"),
        "fine": ("done", ""),
    }
    summary = made.complete()
    assert (summary.failed, summary.exit_code) == (3, 1)
    content = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (content["done"], content["kept"], content["failed"], content["device"]) == (2, 0, 3, "cpu")
    assert content["failures"].keys() == {"b/[bad].nii", "odd", "large"}
    assert content["failures"]["b/[bad].nii"] == "b/[bad].nii: an empty file; copy it again."
    assert (content["passed_over"], content["model"]) == ({"all.zip": "packed"}, {"Name": "tiny"})
    assert "seen" not in content
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.jsonl", "summary.json"]
    assert batch(["good"])[0].complete().exit_code == 0


def test_what_is_told_at_the_end_is_there_but_on_a_quiet_console(batch):
    passed_over = {f"{number}.npy": "no grid" for number in range(7)} | {"all.zip": "packed"}
    for quiet in (False, True):
        made, said = batch(["good", "b/[bad].nii"], quiet=quiet, passed_over=passed_over)
        made.complete()
        listed = "passed over, no grid (7): 0.npy, 1.npy, 2.npy, 3.npy, 4.npy, and 2 more\n"
        ends = "b/[bad].nii: an empty file", "1 done, 1 failed in"
        for line in ("a note\n", *ends, listed, "passed over, packed (1): all.zip\n"):
            assert (line in said.getvalue()) is not quiet


def test_a_terminal_shows_how_far_it_is(batch):
    made, said = batch(["good", "fine"], terminal=True)
    made.complete()
    assert "2/2" in said.getvalue()


def test_warnings_are_counted_by_kind_and_not_told_study_by_study(batch):
    made, said = batch([*(f"s{number}.nii" for number in range(40)), "[other].nii", "odd"])
    made.complete()
    assert [line for line in said.getvalue().splitlines() if line.startswith("warning")] == [
        "warning: 41 of 41: trained on the phantom",
        "warning: 5 of 41: such as of s0.nii: intensities outside what the model saw: 0 to 9000 HU here "
        "(s0.nii, s1.nii, s2.nii, and 2 more)",
        "warning: 1 of 41: 7 exact copies were left out ([other].nii)",
    ]


def test_a_later_batch_adds_to_the_manifest_even_after_a_torn_line(batch, tmp_path):
    batch(["good"])[0].complete()
    with (tmp_path / "out" / "manifest.jsonl").open("a") as file:
        file.write('{"status": "do')
    batch(["fine"])[0].complete()
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert [json.loads(lines[number])["input"] for number in (0, 2)] == ["good", "fine"]


@pytest.mark.parametrize(
    ("name", "error"),
    [("manifest.jsonl", "a named pipe, not a file"), ("summary.json", "cannot be written"), ("", "cannot be written")],
)
def test_a_place_that_cannot_be_written_is_named_and_no_pipe_waited_for(batch, tmp_path, name, error):
    if not name:
        (tmp_path / "out").write_text("a file")
    elif name == "summary.json":
        (tmp_path / "out" / name).mkdir(parents=True)
    else:
        (tmp_path / "out").mkdir()
        os.mkfifo(tmp_path / "out" / name)
    with pytest.raises(DataError, match=f"{name}: {error}" if name else error):
        batch(["good"])[0].complete()


def test_a_stop_ends_the_batch_and_what_is_of_all_studies_is_saved(batch):
    made, _ = batch(["good", "stop", *("fine",) * 20])
    saved = threading.Event()
    made.save = saved.set
    with pytest.raises(KeyboardInterrupt):
        made.complete()
    assert saved.is_set()
    assert len(made.devices) < 22


def test_what_is_not_medgans_is_in_the_way_unless_it_may_be_overwritten(batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good.nii.gz").write_bytes(b"another's")
    (refused,) = batch(["good"])[0].complete().outcomes
    assert (refused.status, refused.message.partition(";")[0]) == (
        "failed", "good.nii.gz: exists and is no output of medgan",
    )  # fmt: skip
    assert batch(["good"], overwrite=True)[0].complete().failed == 0


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (["train", "train", "validation", "unseen"], "on 2 of these 4 inputs, and 1 chose its epoch"),
        (["unseen", "unknown"], "on none of these 2 inputs; of 1 it cannot be told"),
        (["validation"], "the model was not trained on this input, which chose its epoch"),
        (["train"], "the model was trained on this input"),
        (["unknown"], "whether the model was trained on these inputs cannot be told"),
    ],
)
def test_it_is_told_how_many_inputs_the_model_has_seen(batch, tmp_path, seen, line):
    parts = {f"x{number}": part for number, part in enumerate(seen)}
    made, said = batch(list(parts), seen=parts)
    made.complete()
    assert line in said.getvalue()
    counts = json.loads((tmp_path / "out" / "summary.json").read_text())["seen"]
    assert counts == {part: seen.count(part) for part in ("train", "validation", "unseen", "unknown")}


def test_each_worker_takes_a_device_and_a_copy_of_the_model(batch):
    names = [f"x{number}" for number in range(8)]
    made, said = batch(names, jobs=2, device="cpu,cpu,cpu")
    assert made.complete().device == "cpu, cpu"
    assert len(set(made.devices)) == 2
    assert "computing on cpu,cpu alone; for all of cpu,cpu,cpu add --jobs 3" in said.getvalue()
    alone, said = batch(names, jobs=3)
    alone.complete()
    assert len(set(alone.devices)) == 1
    assert "alone" not in said.getvalue()
    with pytest.raises(ConfigError, match="no device 'gpu'"):
        batch(names, device="cpu,gpu")


def test_a_folder_is_its_own_model_and_a_cpu_converts_in_32_bits(tmp_path):
    assert local_model(str(tmp_path), None) == tmp_path
    assert conversion_fabric("cpu").strategy.precision.precision == "32-true"


def test_a_gpu_whose_memory_is_too_small_is_said_to_be():
    assert why(torch.OutOfMemoryError("CUDA out of memory"), "a").startswith(
        "out of the GPU's memory; see that nothing"
    )
