import hashlib
import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dicom_files import save_stack
from medgan.data.hashes import file_hash
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.inference.convert import Conversion, ConvertOrder
from medgan.inference.jobs import Job, find_jobs, header_text, is_finished, model_origin, read_sidecar, write_outputs
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_description


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


@pytest.fixture
def job(tmp_path, save_study):
    source = save_study(tmp_path / "in" / "a" / "b.nii.gz", (6, 5, 3))
    return Job(source, "a/b.nii.gz", tmp_path / "out" / "a" / "b.nii.gz")


@pytest.fixture
def facts(model_folder, job):
    order = ConvertOrder(job.source, job.output, str(model_folder), device="cpu", change_map=True, uncertainty=4)
    return Conversion(order, Console(quiet=True)).facts | {
        "Sources": [job.name],
        "SourceSHA256": file_hash(job.source),
        "Warnings": ["beware"],
    }


@pytest.fixture
def write(job, facts):
    """``write({None: np.int16, "change": np.float32}, ChangeMap=None)``: the study itself as the output and as maps."""

    def make(kinds, facts=facts, **changed):
        volume = read_volume(job.source)
        images = {job.map(kind) if kind else job.output: volume.voxels.astype(type_) for kind, type_ in kinds.items()}
        write_outputs(job, images, volume.grid, facts | changed)

    return make


ALL = {None: np.int16, "change": np.float32, "uncertainty": np.float32}


@pytest.fixture
def written(write, job):
    write(ALL)
    return job


def test_a_sidecar_vouches_for_its_images_and_others_may_read_them(written, facts, tmp_path):
    content = json.loads(written.sidecar.read_text())
    assert content["Synthetic"] is True
    assert "Not for diagnosis" in content["NotForClinicalUse"]
    assert (content["Sources"], content["Warnings"]) == (["a/b.nii.gz"], ["beware"])
    assert content["Model"]["Name"] == "tiny"
    assert {"medgan", "torch"} <= set(content["Versions"])
    assert content["Outputs"] == {path.name: file_hash(path) for path in written.images()}
    assert is_finished(written, facts)
    (tmp_path / "any").touch()
    modes = {path.stat().st_mode for path in written.output.parent.iterdir()}
    assert modes == {(tmp_path / "any").stat().st_mode}


def test_a_sidecar_tells_neither_patients_nor_places(written, tmp_path):
    text = written.sidecar.read_text()
    assert "DOE" not in text
    assert str(tmp_path) not in text
    assert b"DOE" not in written.output.read_bytes()
    names = sorted(path.name for path in written.output.parent.iterdir())
    assert names == ["b.json", "b.nii.gz", "b_change.nii.gz", "b_uncertainty.nii.gz"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SourceSHA256", "another"),
        ("Direction", "to_source"),
        ("Model", {"Name": "tiny", "WeightsSHA256": "another"}),
        ("ChangeMap", "another"),
        ("Uncertainty", "HU, standard deviation of 8 translations"),
    ],
)
def test_outputs_of_anything_else_are_not_kept_and_not_replaced(written, facts, name, value):
    with pytest.raises(DataError, match=rf"b.nii.gz: exists, made with another {name}; add --overwrite"):
        is_finished(written, facts | {name: value})


@pytest.mark.parametrize("image", [0, 1, 2])
def test_an_image_that_was_changed_since_is_not_replaced_and_one_that_is_lost_is_made_anew(written, facts, image):
    path = written.images()[image]
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"{path.name}: exists, but was changed"):
        is_finished(written, facts)
    for lost in written.images()[: image + 1]:  # as a killed conversion leaves it
        lost.unlink()
    assert not is_finished(written, facts)


@pytest.mark.parametrize("foreign", ["b.nii.gz", "b.json", "b_change.nii.gz", "b_uncertainty.nii.gz"])
def test_files_of_others_are_not_replaced_and_their_maps_stay(job, write, facts, foreign):
    path = job.output.with_name(foreign)
    path.parent.mkdir(parents=True)
    path.write_text('{"SeriesDescription": "mine"}')
    with pytest.raises(DataError, match=rf"{path.name}: exists and is no output of medgan"):
        is_finished(job, facts)
    if path not in (job.output, job.sidecar):
        write({None: np.int16}, ChangeMap=None, Uncertainty=None)
        assert "mine" in path.read_text()


@pytest.mark.parametrize(("kind", "fact"), [("change", "ChangeMap"), ("uncertainty", "Uncertainty")])
def test_replacing_takes_the_old_map_away(written, write, facts, kind, fact):
    write({each: type_ for each, type_ in ALL.items() if each != kind}, **{fact: None})
    assert not written.map(kind).exists()
    assert is_finished(written, facts | {fact: None})


def test_a_place_that_cannot_be_written_is_named_and_left_clean(write, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match=r"b.nii.gz: cannot be written"):
        write(ALL)


def test_voxels_that_cannot_be_stored_leave_nothing(job, facts):
    volume = read_volume(job.source)
    with pytest.raises(DataError, match="NaN"):
        write_outputs(job, {job.output: volume.voxels * np.nan}, volume.grid, facts)
    assert list(job.output.parent.iterdir()) == []


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '{"Synthetic": false, "Outputs": {}}'])
def test_what_medgan_did_not_write_is_no_sidecar(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    assert read_sidecar(tmp_path / "a.json") is None
    assert read_sidecar(tmp_path / "missing.json") is None


@pytest.mark.parametrize(
    ("mark", "name", "says"),
    [
        ("Synthetic", None, "SYNTHETIC, medgan, not for diagnosis"),  # made without a model
        ("Segmentation", "one", "LABEL MAP, medgan one 01234567, not for diagnosis"),
        ("Synthetic", "tiny", "SYNTHETIC, medgan tiny 01234567, not for diagnosis"),
        ("Synthetic", "", "SYNTHETIC, medgan 01234567, not for diagnosis"),
        ("Synthetic", "x" * 200, "SYNTHETIC, medgan xxx"),
        ("Synthetic", "modèle à rayons \u4e16", "SYNTHETIC, medgan mod"),
    ],
)
def test_the_headers_say_what_the_images_are_and_by_which_model(job, write, mark, name, says):
    facts = {mark: True} | ({} if name is None else {"Model": {"Name": name, "WeightsSHA256": "0123456789"}})
    write({None: np.uint8, "change": np.float32, "uncertainty": np.float32}, facts)
    for kind in (None, "change", "uncertainty"):
        header = nib.load(job.map(kind) if kind else job.output).header
        text = header["descrip"].item().decode("ascii")
        assert len(text) <= 79
        assert text.startswith(says.replace("SYNTHETIC", f"SYNTHETIC {kind} map") if kind else says)
        assert text.endswith(", not for diagnosis" if name is None else " 01234567, not for diagnosis")
        assert header.get_intent()[0] == ("label" if mark == "Segmentation" else "none")


@pytest.mark.parametrize("kind", [None, "change", "uncertainty"])
def test_a_header_has_room_for_a_strength(kind):
    facts = {"Model": {"Name": "ct_contrast", "WeightsSHA256": "0123456789"}, "Strength": 1 / 3}
    text = header_text(facts, kind)
    assert len(text) <= 79
    assert text.startswith(
        f"SYNTHETIC {kind} map, strength 0.333, " if kind else "SYNTHETIC, strength 0.333, medgan ct_con"
    )
    assert text.endswith(" 01234567, not for diagnosis")


def test_a_model_that_an_earlier_medgan_wrote_has_the_hash_that_it_had(model_folder, tmp_path):
    """Else no output that an earlier medgan wrote would be kept."""
    content = json.loads((model_folder / "model.json").read_text())
    content |= {"schema_version": 1} | content.pop("origin")
    for added_since in ("task", "seed", "trained", "validated", "trained_on"):
        content.pop(added_since, None)
    old = shutil.copytree(model_folder, tmp_path / "model")
    (old / "model.json").write_text(json.dumps(content, indent=2))
    before = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    assert model_origin(read_description(old, TranslationDescription))["DescriptionSHA256"] == before
