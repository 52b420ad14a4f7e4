"""The parts of a batch that no model matters for; whole batches are tested with medgan convert and medgan segment."""

import pytest

from medgan.errors import DataError
from medgan.inference.batch import StudyBatch, conversion_fabric, is_kept, local_model
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
