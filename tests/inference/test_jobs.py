import os

import numpy as np
import pytest
from PIL import Image

from dicom_files import save_stack
from medgan.errors import ConfigError, DataError
from medgan.inference.jobs import find_jobs


def names(plan):
    return {job.name: job.output.relative_to(plan.folder).as_posix() for job in plan.jobs}


@pytest.fixture
def folder(tmp_path, save_study):
    root = tmp_path / "in"
    save_study(root / "a.nii.gz", (4, 4))
    save_study(root / "b" / "c.nii", (4, 4))
    save_stack(root / "b" / "series.1")
    save_stack(root / "one" / "slice").joinpath("IM000.dcm").rename(root / "b" / "d.dcm")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / "b" / "e.png")
    (root / "notes.txt").write_text("not an image")
    return root


@pytest.fixture
def files(tmp_path):
    """A folder of files that are named like images: ``files("x.nii", "s/x.png")``."""

    def make(*names):
        for name in names:
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).write_bytes(b"any")
        return tmp_path / "in"

    return make


def test_names_are_mirrored_or_all_studies_go_to_one_table(folder, tmp_path, monkeypatch):
    plan = find_jobs(folder, tmp_path / "out", "contrast")
    below = {"c.nii": "c.nii.gz", "d.dcm": "d.nii.gz", "e.png": "e.nii.gz", "series.1": "series.1.nii.gz"}
    assert names(plan) == {
        "a.nii.gz": "a.nii.gz", "one/slice": "one/slice.nii.gz",
        **{f"b/{name}": f"b/{output}" for name, output in below.items()},
    }  # fmt: skip
    in_one_table = names(find_jobs(folder, tmp_path / "out", "contrast", table="classes.csv"))
    assert in_one_table == dict.fromkeys(names(plan), "classes.csv")
    assert names(find_jobs(folder / "b", tmp_path / "out", "contrast")) == below
    monkeypatch.chdir(folder / "b" / "series.1")
    assert names(find_jobs(type(tmp_path)(), tmp_path / "out", "contrast")) == {"series.1": "series.1.nii.gz"}


@pytest.mark.parametrize("study", ["a.nii.gz", "b/d.dcm", "b/series.1"])
def test_one_study_goes_to_a_file_or_into_a_folder(folder, tmp_path, study):
    name = study.rpartition("/")[2]
    into = find_jobs(folder / study, tmp_path / "out", "contrast")
    assert [(job.name, job.output) for job in into.jobs] == [
        (name, tmp_path / "out" / f"{name.removesuffix('.dcm').removesuffix('.nii.gz')}.nii.gz")
    ]
    named = find_jobs(folder / study, tmp_path / "new" / "x.nii.gz", "contrast")
    assert ([job.output for job in named.jobs], named.folder) == ([tmp_path / "new" / "x.nii.gz"], None)


@pytest.mark.parametrize(
    "clashing",
    [
        ["x.nii", "x.nii.gz"],
        ["s/x.png", "s/x.nii.gz"],
        ["x_change.nii.gz", "x.nii.gz"],
        ["x_uncertainty.nii", "x.nii"],
        ["summary.nii.gz"],
    ],
)
def test_two_writers_of_one_name_are_named(files, tmp_path, clashing):
    with pytest.raises(ConfigError, match=rf"(?s)({'|'.join(clashing)}).* would both write"):
        find_jobs(files(*clashing), tmp_path / "out", "contrast", maps=["change", "uncertainty"])


def test_of_studies_some_of_which_clash_the_others_go_on(files, tmp_path):
    root = files("x.nii", "x.nii.gz", "y.nii.gz", "summary.nii.gz", "z.nii", "z.nii.gz/deep.nii.gz")
    problems = {job.name: job.problem for job in find_jobs(root, tmp_path / "out", "contrast").jobs}
    assert [name for name, problem in problems.items() if not problem] == ["y.nii.gz", "z.nii.gz/deep.nii.gz"]
    assert "x.nii and x.nii.gz would both write" in problems["x.nii"]
    assert "x.nii.gz and x.nii would both write" in problems["x.nii.gz"]
    assert "summary.nii.gz and the batch itself" in problems["summary.nii.gz"]
    assert "z.nii and what goes into a folder of that name" in problems["z.nii"]


def test_an_input_that_cannot_be_opened_takes_nobodys_name(files, tmp_path):
    root = files("x.nii.gz")
    (root / "x.nii").symlink_to("gone")
    os.mkfifo(root / "x.dcm")
    assert not any(job.problem for job in find_jobs(root, tmp_path / "out", "contrast").jobs)


def test_a_linked_image_lies_where_its_link_does_and_fails_where_it_would_be_replaced(folder, tmp_path, save_study):
    for name in ("linked.nii.gz", "annex/content.nii.gz"):
        stored = save_study(tmp_path / "out" / name, (4, 4))
        (folder / stored.name).symlink_to(stored)
    plan = find_jobs(folder, tmp_path / "out", "contrast")
    assert {"linked.nii.gz", "content.nii.gz"} <= names(plan).keys()
    assert {job.name for job in plan.jobs if "would be overwritten" in job.problem} == {"linked.nii.gz"}


def test_names_that_differ_by_case_or_accent_form_are_said(files, tmp_path):
    root = files("A.nii.gz", "a.nii.gz", "\u00fc.nii.gz", "u\u0308.nii.gz", "b.nii.gz")
    notes = find_jobs(root, tmp_path / "out", "contrast").notes
    assert [note.rpartition(": ")[2] for note in notes] == ["A.nii.gz, a.nii.gz", "u\u0308.nii.gz, \u00fc.nii.gz"]


@pytest.mark.parametrize(
    "stems",
    [["n" * 247 + "a", "n" * 247 + "b"], ["\u00fc" * 124], ["\U0001f9e0" * 62], ["n" * 237]],
    ids=["two", "u", "brain", "just"],
)
def test_a_name_too_long_for_its_outputs_is_cut_and_stays_unique(files, tmp_path, stems):
    plan = find_jobs(files(*(f"{stem}.nii.gz" for stem in stems)), tmp_path / "out", "contrast")
    written = {path.name for job in plan.jobs for path in (*job.images(), job.sidecar)}
    assert max(len(os.fsencode(name)) for name in written) <= 255
    assert len({job.output for job in plan.jobs}) == len(plan.jobs)
    for job, note in zip(plan.jobs, plan.notes, strict=True):
        assert job.output.name in note
        assert job.name in note


@pytest.mark.parametrize(("name", "recorded"), [(b"lat\xedn\x1b", r"lat\xedn\x1b"), (b"n" * 236, "n" * 236)])
def test_a_name_that_just_fits_or_is_no_utf_8_is_mirrored_and_recorded(files, tmp_path, name, recorded):
    plan = find_jobs(files(f"{os.fsdecode(name)}.nii"), tmp_path / "out", "contrast")
    assert [(job.name, os.fsencode(job.output.name)) for job in plan.jobs] == [(f"{recorded}.nii", name + b".nii.gz")]
    assert plan.notes == ()


def test_what_is_passed_over_is_told_also_where_there_is_nothing_else(folder, files, tmp_path):
    files("b/all.zip")
    assert find_jobs(folder, tmp_path / "out", "contrast").passed_over == {"b/all.zip": "packed; unpack it first"}
    files("only/all.zip")
    with pytest.raises(DataError, match=r"holds no image .* passed over, packed; unpack it first \(1\): all\.zip"):
        find_jobs(folder / "only", tmp_path / "out", "contrast")


def test_a_place_where_outputs_cannot_go_is_refused(folder, tmp_path):
    (tmp_path / "out").write_text("")
    (tmp_path / "empty").mkdir()
    for source, output, error, message in (
        (folder, tmp_path / "out.nii.gz", ConfigError, r"one file, but .* holds 6 images; give a folder"),
        (folder, tmp_path / "out", ConfigError, "is a file and no folder"),
        (folder, folder / "b" / "..", ConfigError, "OUTPUT is the input folder"),
        (folder / "a.nii.gz", folder, ConfigError, "is an input, and would be overwritten"),
        (folder / "a.nii.gz", folder / "a.nii.gz", ConfigError, "is an input, and would be overwritten"),
        (tmp_path / "nowhere", tmp_path / "new", DataError, "does not exist"),
        (tmp_path / "empty", tmp_path / "new", DataError, "holds no image"),
    ):
        with pytest.raises(error, match=message):
            find_jobs(source, output, "contrast")


def test_outputs_under_the_input_folder_are_not_converted_again(folder, save_study):
    save_study(folder / "b" / "out" / "a.nii.gz", (4, 4))
    plan = find_jobs(folder, folder / "b" / "out", "contrast")
    assert len(plan.jobs) == 6
    assert not [job for job in plan.jobs if "out" in job.name]
    (note,) = plan.notes
    assert "under OUTPUT" in note
    assert "1 of 7" in note


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


def test_a_suffix_is_in_the_names_of_all_that_is_written(files, tmp_path):
    root = files("a.nii.gz", "a_change.nii.gz")
    plan = find_jobs(root, tmp_path / "out", "contrast", suffix="_desc-synthetic", maps=["change"])
    assert names(plan) == {
        name: name.replace(".nii", "_desc-synthetic.nii") for name in ("a.nii.gz", "a_change.nii.gz")
    }
    job = plan.jobs[0]
    assert job.sidecar.name == "a_desc-synthetic.json"
    assert {path.name: job.kind(path) for path in job.images()} == {
        "a_desc-synthetic.nii.gz": None,
        "a_desc-synthetic_change.nii.gz": "change",
        "a_desc-synthetic_uncertainty.nii.gz": "uncertainty",
    }
    with pytest.raises(ConfigError, match="names the file itself; give a folder, or leave --suffix out"):
        find_jobs(root / "a.nii.gz", tmp_path / "x.nii.gz", "contrast", suffix="_syn")
    files("a.nii")
    (root / "a_change.nii.gz").unlink()
    with pytest.raises(ConfigError, match="would both write"):
        find_jobs(root, tmp_path / "out", "contrast", suffix="_syn")


@pytest.mark.parametrize("suffix", ["/x", "_a/../b", "syn", "_", ".", "_a b", "_\n", "_\x1b[2J", "_ä"])
def test_a_suffix_that_could_be_a_folder_or_no_name_is_refused(files, tmp_path, suffix):
    with pytest.raises(ConfigError, match="--suffix"):
        find_jobs(files("a.nii"), tmp_path / "out", "contrast", suffix=suffix)
