"""The parts of a batch that no model matters for; whole batches are tested with medgan convert and medgan segment."""

import io
import json
import os

import pytest
from rich.console import Console

from medgan.errors import DataError
from medgan.inference.batch import (
    ConvertSummary,
    Manifest,
    Outcome,
    StudyBatch,
    conversion_fabric,
    is_kept,
    local_model,
    show_end,
    shown,
    write_summary,
)
from medgan.inference.jobs import Job, Plan


class Named(StudyBatch):
    """A batch whose studies end as their names say."""

    def converted(self, job):
        if job.name == "bad":
            raise DataError(f"{job.source}: cannot be read.")
        if job.name == "odd":
            raise ZeroDivisionError("by 0")
        return "done", ()


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_study_ends_by_itself_and_is_in_the_manifest(tmp_path, jobs):
    names = ["good", "bad", "odd", "fine"]
    plan = Plan(
        tuple(Job(tmp_path / name, name, tmp_path / "out" / f"{name}.nii.gz") for name in names), tmp_path / "out"
    )
    found = {outcome.input: (outcome.status, outcome.message) for outcome in Named(jobs).run(plan)}
    assert found == {
        "good": ("done", ""),
        "bad": ("failed", "bad: cannot be read."),
        "odd": ("failed", "unexpected ZeroDivisionError: by 0"),
        "fine": ("done", ""),
    }
    assert (tmp_path / "out" / "manifest.jsonl").read_text().count("\n") == 4


def test_what_is_not_medgans_is_in_the_way_unless_it_may_be_overwritten(tmp_path):
    job = Job(tmp_path / "a", "a", tmp_path / "out.nii.gz")
    assert not is_kept(job, {}, overwrite=False)
    job.output.write_bytes(b"another's")
    with pytest.raises(DataError, match="exists and is no output of medgan"):
        is_kept(job, {}, overwrite=False)
    assert not is_kept(job, {}, overwrite=True)


def test_a_folder_is_its_own_model(tmp_path):
    assert local_model(str(tmp_path), None) == tmp_path


def test_a_cpu_converts_in_32_bits():
    assert conversion_fabric("cpu").strategy.precision.precision == "32-true"


DONE = Outcome("done", "a.nii", "a.nii.gz", 1.5)
FAILED = Outcome("failed", "b/[c].nii", "b/[c].nii.gz", 0.1, "b/[c].nii: an empty file; copy it again.")
FACTS = {"Model": {"Name": "tiny"}, "Direction": "to_target", "Versions": {"medgan": "0"}}


def test_the_manifest_has_a_line_for_each_study_as_soon_as_it_ended(tmp_path):
    path = tmp_path / "out" / "manifest.jsonl"
    manifest = Manifest(path)
    for number, outcome in enumerate((DONE, FAILED), start=1):
        manifest.add(outcome)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) == number
        assert lines[-1]["status"] == outcome.status
        assert lines[-1]["input"] == outcome.input


def test_a_later_batch_adds_to_the_manifest_even_after_a_torn_line(tmp_path):
    path = tmp_path / "manifest.jsonl"
    Manifest(path).add(DONE)
    with path.open("a") as file:
        file.write('{"status": "do')
    Manifest(path).add(FAILED)
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0])["input"] == "a.nii"
    assert json.loads(lines[2])["input"] == "b/[c].nii"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"manifest.jsonl: cannot be written"):
        Manifest(tmp_path / "out" / "manifest.jsonl")
    with pytest.raises(DataError, match=r"summary.json: cannot be written"):
        write_summary(tmp_path / "out" / "summary.json", ConvertSummary((), 0, "cpu"), FACTS)


def test_the_summary_counts_and_names_the_failures(tmp_path):
    summary = ConvertSummary((DONE, FAILED), 1.6, "cpu")
    assert (summary.failed, summary.exit_code) == (1, 1)
    assert ConvertSummary((DONE,), 1.6, "cpu").exit_code == 0
    write_summary(tmp_path / "summary.json", summary, FACTS)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert (content["done"], content["kept"], content["failed"]) == (1, 0, 1)
    assert content["failures"] == {"b/[c].nii": FAILED.message}
    assert content["device"] == "cpu"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_failures_are_shown_as_they_are_and_a_quiet_console_stays_quiet(tmp_path):
    summary = ConvertSummary((DONE, FAILED), 1.6, "cpu")
    for quiet in (False, True):
        console = Console(file=io.StringIO(), width=120, quiet=quiet)
        assert list(shown(iter(summary.outcomes), 2, console)) == [DONE, FAILED]
        show_end(summary, tmp_path, console)
        text = console.file.getvalue()
        assert ("b/[c].nii: an empty file" in text) is not quiet
        assert ("1 done, 1 failed" in text) is not quiet


def test_the_progress_bar_passes_everything_on():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    assert list(shown(iter([DONE, FAILED]), 2, console)) == [DONE, FAILED]
    assert "2/2" in console.file.getvalue()


def test_warnings_are_counted_by_kind_and_not_told_study_by_study(tmp_path):
    phantom, outside = "trained on the phantom", "intensities outside what the model saw: {} to 9000 HU here"
    summary = ConvertSummary(
        (
            *(
                Outcome("done", f"s{n}.nii", "", 1, warnings=(phantom, *([outside.format(n)] if n < 5 else [])))
                for n in range(40)
            ),
            Outcome("done", "[odd].nii", "", 1, warnings=(phantom, "7 exact copies were left out")),
            FAILED,
        ),
        1.6,
        "cpu",
    )
    console = Console(file=io.StringIO(), width=60)
    show_end(summary, tmp_path, console)
    said = [line for line in console.file.getvalue().splitlines() if line.startswith("warning")]
    assert said == [
        "warning: 41 of 41: trained on the phantom",
        "warning: 5 of 41: such as of s0.nii: intensities outside what the model saw: 0 to 9000 HU here "
        "(s0.nii, s1.nii, s2.nii, and 2 more)",
        "warning: 1 of 41: 7 exact copies were left out ([odd].nii)",
    ]


def test_a_pipe_in_the_manifests_place_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "manifest.jsonl")
    with pytest.raises(DataError, match=r"manifest\.jsonl: a named pipe, not a file"):
        Manifest(tmp_path / "manifest.jsonl")


def test_what_was_passed_over_is_listed_at_the_end_and_in_the_summary(tmp_path):
    passed_over = {f"{number}.npy": "no grid" for number in range(7)} | {"all.zip": "packed"}
    summary = ConvertSummary((DONE,), 1.0, "cpu", passed_over)
    stream = io.StringIO()
    show_end(summary, tmp_path, Console(file=stream, width=200))
    assert "passed over, no grid (7): 0.npy, 1.npy, 2.npy, 3.npy, 4.npy, and 2 more\n" in stream.getvalue()
    assert "passed over, packed (1): all.zip\n" in stream.getvalue()
    write_summary(tmp_path / "summary.json", summary, FACTS)
    assert json.loads((tmp_path / "summary.json").read_text())["passed_over"] == passed_over
