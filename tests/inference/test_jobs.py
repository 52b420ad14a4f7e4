import os

import numpy as np
import pytest
from PIL import Image

from medgan.errors import ConfigError, DataError
from medgan.inference.jobs import find_jobs, fitting


def names(plan):
    return {job.name: job.output.relative_to(plan.folder).as_posix() for job in plan.jobs}


@pytest.fixture
def folder(tmp_path, save_study, save_series):
    root = tmp_path / "in"
    save_study(root / "a.nii.gz", (4, 4))
    save_study(root / "b" / "c.nii", (4, 4))
    save_series(root / "b" / "series.1")
    save_series(root / "one" / "slice").joinpath("9.dcm").rename(root / "b" / "d.dcm")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "b" / "e.png")
    (root / "notes.txt").write_text("not an image")
    return root


def test_names_are_mirrored(folder, tmp_path):
    plan = find_jobs(folder / "b", tmp_path / "out", "contrast")
    assert names(plan) == {
        "c.nii": "c.nii.gz",
        "d.dcm": "d.nii.gz",
        "e.png": "e.nii.gz",
        "series.1": "series.1.nii.gz",
    }
    deep = names(find_jobs(folder, tmp_path / "out", "contrast"))
    assert deep["a.nii.gz"] == "a.nii.gz"
    assert deep["b/series.1"] == "b/series.1.nii.gz"
    assert deep["one/slice"] == "one/slice.nii.gz"


@pytest.mark.parametrize("study", ["a.nii.gz", "b/d.dcm", "b/series.1"])
def test_one_study_goes_to_a_file_or_into_a_folder(folder, tmp_path, study):
    name = study.rpartition("/")[2]
    into = find_jobs(folder / study, tmp_path / "out", "contrast")
    assert [(job.name, job.output) for job in into.jobs] == [
        (name, tmp_path / "out" / f"{name.removesuffix('.dcm').removesuffix('.nii.gz')}.nii.gz")
    ]
    named = find_jobs(folder / study, tmp_path / "new" / "x.nii.gz", "contrast")
    assert [job.output for job in named.jobs] == [tmp_path / "new" / "x.nii.gz"]
    assert named.folder is None


def test_the_current_folder_can_be_the_series(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder / "b" / "series.1")
    here = type(tmp_path)()
    assert names(find_jobs(here, tmp_path / "out", "contrast")) == {"series.1": "series.1.nii.gz"}


def test_a_file_name_is_no_place_for_several_studies(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"one file, but .* holds 6 images; give a folder"):
        find_jobs(folder, tmp_path / "out.nii.gz", "contrast")


def test_a_file_is_no_folder(folder, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="is a file and no folder"):
        find_jobs(folder, tmp_path / "out", "contrast")


@pytest.mark.parametrize(
    ("first", "second"),
    [("x.nii", "x.nii.gz"), ("s/x.png", "s/x.nii.gz"), ("x_change.nii.gz", "x.nii.gz"), ("x_uncertainty.nii", "x.nii")],
)
def test_two_studies_for_one_name_are_named(save_study, tmp_path, first, second):
    for name in (first, second):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"any")
    with pytest.raises(ConfigError, match=rf"(?s)({first}|{second}) and .* would both write"):
        find_jobs(tmp_path / "in", tmp_path / "out", "contrast", maps=["change", "uncertainty"])


def test_of_studies_some_of_which_clash_the_others_go_on(save_study, tmp_path):
    for name in ("x.nii", "x.nii.gz", "y.nii.gz", "summary.nii.gz", "z.nii", "z.nii.gz/deep.nii.gz"):
        save_study(tmp_path / "in" / name, (4, 4))
    plan = find_jobs(tmp_path / "in", tmp_path / "out", "contrast")
    problems = {job.name: job.problem for job in plan.jobs}
    assert [name for name, problem in problems.items() if not problem] == ["y.nii.gz", "z.nii.gz/deep.nii.gz"]
    assert "x.nii and x.nii.gz would both write" in problems["x.nii"]
    assert "x.nii.gz and x.nii would both write" in problems["x.nii.gz"]
    assert "summary.nii.gz and the batch itself" in problems["summary.nii.gz"]
    assert "z.nii and what goes into a folder of that name" in problems["z.nii"]


def test_an_input_that_cannot_be_opened_takes_nobodys_name(save_study, tmp_path):
    save_study(tmp_path / "in" / "x.nii.gz", (4, 4))
    (tmp_path / "in" / "x.nii").symlink_to("gone")
    os.mkfifo(tmp_path / "in" / "x.dcm")
    assert not any(job.problem for job in find_jobs(tmp_path / "in", tmp_path / "out", "contrast").jobs)


def test_an_output_that_would_replace_an_input_fails_alone(folder, tmp_path, save_study):
    stored = save_study(tmp_path / "out" / "linked.nii.gz", (4, 4))
    (folder / "linked.nii.gz").symlink_to(stored)
    plan = find_jobs(folder, tmp_path / "out", "contrast")
    assert {job.name for job in plan.jobs if "would be overwritten" in job.problem} == {"linked.nii.gz"}


def test_names_that_differ_by_case_or_accent_form_are_said(save_study, tmp_path):
    for name in ("A.nii.gz", "a.nii.gz", "\u00fc.nii.gz", "u\u0308.nii.gz", "b.nii.gz"):
        save_study(tmp_path / "in" / name, (4, 4))
    notes = find_jobs(tmp_path / "in", tmp_path / "out", "contrast").notes
    assert [note.rpartition(": ")[2] for note in notes] == ["A.nii.gz, a.nii.gz", "u\u0308.nii.gz, \u00fc.nii.gz"]


@pytest.mark.parametrize(("letter", "count"), [("n", 248), ("\u00fc", 124), ("\U0001f9e0", 62)])
def test_a_name_too_long_for_its_outputs_is_cut_and_stays_unique(tmp_path, letter, count):
    (tmp_path / "in").mkdir()
    for end in "ab" if letter == "n" else ("",):
        name = letter * (count - len(end)) + end + ".nii.gz"
        (tmp_path / "in" / name).write_bytes(b"any")
    plan = find_jobs(tmp_path / "in", tmp_path / "out", "contrast")
    written = {path.name for job in plan.jobs for path in (*job.images(), job.sidecar)}
    assert max(len(os.fsencode(name)) for name in written) <= 255
    assert len({job.output for job in plan.jobs}) == len(plan.jobs)
    for job, note in zip(plan.jobs, plan.notes, strict=True):
        assert job.output.name in note
        assert job.name in note


def test_a_name_that_just_fits_is_kept():
    assert fitting("n" * 236) == "n" * 236
    assert len(fitting("n" * 237)) == 236


def test_records_name_what_is_no_utf_8_and_outputs_mirror_it(tmp_path):
    (tmp_path / "in").mkdir()
    name = b"lat\xedn\x1b.nii".decode(errors="surrogateescape")
    (tmp_path / "in" / name).write_bytes(b"any")
    (job,) = find_jobs(tmp_path / "in", tmp_path / "out", "contrast").jobs
    assert job.name == r"lat\xedn\x1b.nii"
    assert os.fsencode(job.output.name) == b"lat\xedn\x1b.nii.gz"


def test_what_is_passed_over_is_told_also_where_there_is_nothing_else(folder, tmp_path):
    (folder / "b" / "all.zip").write_bytes(b"any")
    plan = find_jobs(folder, tmp_path / "out", "contrast")
    assert plan.passed_over == {"b/all.zip": "packed; unpack it first"}
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "all.zip").write_bytes(b"any")
    with pytest.raises(DataError, match=r"holds no image .* passed over, packed; unpack it first \(1\): all\.zip"):
        find_jobs(tmp_path / "only", tmp_path / "out", "contrast")


def test_a_study_may_not_take_the_batchs_own_names(save_study, tmp_path):
    save_study(tmp_path / "in" / "summary.nii.gz", (4, 4))
    with pytest.raises(ConfigError, match="the batch itself would both write"):
        find_jobs(tmp_path / "in", tmp_path / "out", "contrast")


def test_an_output_never_takes_an_inputs_place(folder):
    with pytest.raises(ConfigError, match="OUTPUT is the input folder"):
        find_jobs(folder, folder / "b" / "..", "contrast")
    for output in (folder, folder / "a.nii.gz"):
        with pytest.raises(ConfigError, match="is an input, and would be overwritten"):
            find_jobs(folder / "a.nii.gz", output, "contrast")


def test_outputs_under_the_input_folder_are_not_converted_again(folder, save_study):
    save_study(folder / "b" / "out" / "a.nii.gz", (4, 4))
    plan = find_jobs(folder, folder / "b" / "out", "contrast")
    assert not [job for job in plan.jobs if "out" in job.name]
    assert len(plan.jobs) == 6
    assert len(plan.notes) == 1
    assert "under OUTPUT" in plan.notes[0]
    assert "1 of 7" in plan.notes[0]


def test_a_linked_image_counts_as_lying_where_its_link_does(folder, tmp_path, save_study):
    stored = save_study(tmp_path / "out" / "annex" / "content.nii.gz", (4, 4))
    (folder / "linked.nii.gz").symlink_to(stored)
    plan = find_jobs(folder, tmp_path / "out", "contrast")
    assert "linked.nii.gz" in names(plan)


def test_nothing_to_convert_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        find_jobs(tmp_path / "nowhere", tmp_path / "out", "contrast")
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        find_jobs(tmp_path / "in", tmp_path / "out", "contrast")


def test_of_a_cohort_the_domains_images_are_converted(folder, tmp_path):
    table = folder / "cohort.csv"
    rows = ["one,contrast,a.nii.gz", "two,contrast,b/c.nii", "two,plain,b/d.dcm", "three,contrast,b/series.1"]
    table.write_text("\n".join(["subject,domain,image", *rows]))
    assert set(names(find_jobs(table, tmp_path / "out", "contrast"))) == {"a.nii.gz", "b/c.nii", "b/series.1"}
    assert set(names(find_jobs(table, tmp_path / "out", "plain"))) == {"b/d.dcm"}
    assert set(names(find_jobs(table, tmp_path / "out", "contrast", subjects={"two"}))) == {"b/c.nii"}
    with pytest.raises(DataError, match=r"no image of domain t1, .* it has: contrast, plain"):
        find_jobs(table, tmp_path / "out", "t1")
    with pytest.raises(DataError, match="of no subject in the part"):
        find_jobs(table, tmp_path / "out", "plain", subjects={"one"})
    with pytest.raises(ConfigError, match="is an input"):
        find_jobs(table, folder, "contrast")


def test_a_suffix_is_in_the_names_of_all_that_is_written(folder, tmp_path):
    plan = find_jobs(folder, tmp_path / "out", "contrast", suffix="_desc-synthetic")
    assert all(job.output.name.endswith("_desc-synthetic.nii.gz") for job in plan.jobs)
    assert {job.name for job in plan.jobs} == set(names(find_jobs(folder, tmp_path / "out", "contrast")))
    job = next(job for job in plan.jobs if job.name == "a.nii.gz")
    assert job.output == tmp_path / "out" / "a_desc-synthetic.nii.gz"
    assert job.sidecar.name == "a_desc-synthetic.json"
    assert [path.name for path in job.images()] == [
        "a_desc-synthetic.nii.gz", "a_desc-synthetic_change.nii.gz", "a_desc-synthetic_uncertainty.nii.gz",
    ]  # fmt: skip
    assert [job.kind(path) for path in job.images()] == [None, "change", "uncertainty"]


@pytest.mark.parametrize("suffix", ["/x", "_a/../b", "syn", "_", ".", "_a b", "_\n", "_\x1b[2J", "_ä"])
def test_a_suffix_that_could_be_a_folder_or_no_name_is_refused(folder, tmp_path, suffix):
    with pytest.raises(ConfigError, match="--suffix"):
        find_jobs(folder, tmp_path / "out", "contrast", suffix=suffix)


def test_a_suffix_beside_a_files_name_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="names the file itself; give a folder, or leave --suffix out"):
        find_jobs(folder / "a.nii.gz", tmp_path / "x.nii.gz", "contrast", suffix="_syn")


def test_a_suffix_that_makes_two_names_one_is_refused(save_study, tmp_path):
    for name in ("a.nii.gz", "a_change.nii.gz"):
        save_study(tmp_path / "in" / name, (4, 4))
    find_jobs(tmp_path / "in", tmp_path / "out", "contrast", suffix="_syn", maps=["change"])
    (tmp_path / "in" / "a.nii.gz").unlink()
    (tmp_path / "in" / "a_change.nii.gz").unlink()
    save_study(tmp_path / "in" / "b.nii", (4, 4))
    save_study(tmp_path / "in" / "b.nii.gz", (4, 4))
    with pytest.raises(ConfigError, match="would both write"):
        find_jobs(tmp_path / "in", tmp_path / "out", "contrast", suffix="_syn")
