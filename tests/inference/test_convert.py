import gzip
import io
import json
import multiprocessing
import os
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from rich.console import Console

from dicom_files import save_stack
from medgan.data.grid import GEOMETRY_FIELDS
from medgan.data.hashes import file_hash, image_hash
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, InUseError, ModelError
from medgan.inference.convert import Conversion, ConvertOrder, convert
from medgan.inference.jobs import find_jobs
from medgan.training.architecture import ResNetConfig
from medgan.training.folder_lock import alone_in

QUIET = Console(quiet=True)


def run(source, output, model, *, console=QUIET, **options):
    return convert(ConvertOrder(source, output, str(model), **{"device": "cpu"} | options), console)


def ends(summary):
    return {outcome.input: outcome.status for outcome in summary.outcomes}


def printed(*given, **options):
    """What a batch prints, line by line."""
    console = Console(file=io.StringIO(), width=400)
    run(*given, console=console, **options)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def raw_header(path):
    with gzip.open(path) as file:
        return nib.Nifti1Header(file.read(nib.Nifti1Header.sizeof_hdr), check=False)


def raw_geometry(path):
    header = raw_header(path)
    return {name: header[name].tobytes() for name in GEOMETRY_FIELDS}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def source(tmp_path, save_study):
    """A folder of one study, ``a.nii.gz``."""
    return save_study(tmp_path / "in" / "a.nii.gz").parent


def test_a_bad_study_never_stops_the_rest(source, save_study, model_folder, out, tmp_path):
    """Beside two good ones a corrupt gzip, a truncated one, an empty file, and one that is not axial."""
    save_study(source / "sub" / "c.nii", (33, 40), seed=2)
    good = (source / "a.nii.gz").read_bytes()
    (source / "b.nii.gz").write_bytes(good[:200] + bytes(50) + good[250:])
    (source / "d.nii.gz").write_bytes(good[: len(good) // 2])
    (source / "e.nii.gz").write_bytes(b"")
    save_study(source / "coronal.nii.gz", (40, 1, 40))
    summary = run(source, out, model_folder)
    done = {"a.nii.gz": "done", "sub/c.nii": "done"}
    assert ends(summary) == done | dict.fromkeys([f"{name}.nii.gz" for name in ("b", "d", "e", "coronal")], "failed")
    assert summary.exit_code == 1
    assert read(out / "summary.json")["failures"]["e.nii.gz"] == "e.nii.gz: an empty file; copy or export it again."
    records = [(out / name).read_text(encoding="utf-8") for name in ("summary.json", "manifest.jsonl")]
    assert not any(str(tmp_path) in record for record in records)
    images = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert images == {"a.nii.gz", "a.json", "sub/c.nii.gz", "sub/c.json", "manifest.jsonl", "summary.json"}
    before = (out / "a.nii.gz").stat().st_mtime_ns
    again = run(source, out, model_folder)
    assert [ends(again)[name] for name in done] == ["kept", "kept"]
    assert (out / "a.nii.gz").stat().st_mtime_ns == before


def test_it_is_said_of_every_input_whether_the_model_was_trained_on_it(save_model, save_study, out, tmp_path):
    paths = [save_study(tmp_path / "in" / f"{name}.nii.gz", seed=number) for number, name in enumerate("abcd")]
    a, b, c, _ = map(image_hash, paths)
    image = nib.load(paths[1])
    nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine).to_filename(paths[1])
    model = save_model(tmp_path / "model", trained_on={"train": (a, b), "validation": (c,)}, split_hash="abc")
    told = "the model was trained on 2 of these 4 inputs, and 1 chose its epoch"
    assert told in printed(tmp_path / "in", out, model)
    training = {path.stem: read(path)["Training"] for path in out.glob("[abcd].json")}
    assert {name: each["ThisImage"] for name, each in training.items()} == {
        "a": "train", "b": "train", "c": "validation", "d": "unseen",
    }  # fmt: skip
    assert training["a"]["SplitSHA256"] == "abc"
    assert read(out / "summary.json")["seen"] == {"train": 2, "validation": 1, "unseen": 1, "unknown": 0}
    assert told in printed(tmp_path / "in", out, model)  # kept ones are counted, too
    assert "the model was not trained on this input" in printed(paths[3], tmp_path / "one", model)


def test_a_model_that_does_not_know_what_it_was_trained_on_says_so(source, model_folder, out):
    (line,) = [each for each in printed(source, out, model_folder) if "trained" in each]
    assert line.startswith("whether the model was trained on these inputs cannot be told")
    content = read(out / "a.json")
    assert content.pop("Training")["ThisImage"] == "unknown"
    (out / "a.json").write_text(json.dumps(content))  # as a medgan of before wrote it, which says nothing of training
    assert ends(run(source, out, model_folder)) == {"a.nii.gz": "kept"}


TURNED = np.array([[-0.7, 0.1, 0, 31.4], [0.1, 0.7, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("change", "direction", "meaning", "sign"),
    [
        ("one-sided", "to_target", "HU removed, input minus output", -1),
        ("one-sided", "to_source", "HU added, output minus input", 1),
        ("signed", "to_target", "HU, output minus input", 1),
    ],
)
def test_shape_affine_codes_and_units_are_the_inputs_to_the_bit_and_a_map_is_what_it_says(
    save_model, save_study, tmp_path, out, change, direction, meaning, sign
):
    for number, (shape, codes, unit) in enumerate(
        [((40, 33), (0, 2), "mm"), ((40, 33, 1), (1, 1), "unknown"), ((33, 40, 5), (4, 0), "mm")]
    ):
        save_study(tmp_path / "in" / f"{number}.nii.gz", shape, TURNED, codes=codes, unit=unit, seed=number)
    model = save_model(tmp_path / "model", change=change, push=-0.5 if change == "signed" else 2.0)
    assert run(tmp_path / "in", out, model, direction=direction, change_map=True).exit_code == 0
    assert read(out / "0.json")["ChangeMap"] == meaning
    for study in (tmp_path / "in").iterdir():
        made, map_ = (out / study.name.replace(".nii", f"{end}.nii") for end in ("", "_change"))
        assert raw_geometry(study) == raw_geometry(made) == raw_geometry(map_)
        header = raw_header(made)
        assert header.get_data_dtype() == np.int16
        assert (header["scl_slope"], header["scl_inter"]) == (1, 0)
        before, after, amount = (np.asarray(nib.load(path).dataobj) for path in (study, made, map_))
        assert amount.dtype == np.float32
        np.testing.assert_allclose(amount, sign * (after - before.astype(float)), atol=0.51)
        np.testing.assert_array_equal(after[amount == 0], before[amount == 0])
        assert np.abs(amount).max() > 20
        assert bool(amount.min() < 0) is (change == "signed")


def test_a_strength_is_told_wherever_a_conversion_is_and_another_one_is_another_conversion(source, model_folder, out):
    assert ends(run(source, out, model_folder)) == {"a.nii.gz": "done"}
    whole = read(out / "a.json")
    assert "Strength" not in whole  # as an earlier medgan wrote it
    assert ends(run(source, out, model_folder, strength=1)) == {"a.nii.gz": "kept"}
    again = run(source, out, model_folder, strength=0.5)
    assert again.outcomes[0].message.startswith("a.nii.gz: exists, made with another Strength; add --overwrite")
    half = {"strength": 0.5, "change_map": True, "uncertainty": 2}
    assert ends(run(source, out, model_folder, overwrite=True, **half)) == {"a.nii.gz": "done"}
    assert ends(run(source, out, model_folder, **half)) == {"a.nii.gz": "kept"}
    assert read(out / "a.json") | {"Strength": 0.5} == read(out / "a.json")
    manifest = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line.get("strength") for line in manifest] == [None, None, 0.5, 0.5, 0.5]
    assert read(out / "summary.json")["strength"] == 0.5
    marks = [nib.load(out / f"a{end}.nii.gz").header["descrip"].item() for end in ("", "_change", "_uncertainty")]
    assert [mark.startswith(b"SYNTHETIC") and b", strength 0.5, medgan" in mark for mark in marks] == [True] * 3
    before, after, change = (
        np.asarray(nib.load(path).dataobj, np.float32)
        for path in (source / "a.nii.gz", out / "a.nii.gz", out / "a_change.nii.gz")
    )
    np.testing.assert_array_equal(after, np.rint(before - change))


@pytest.mark.parametrize(
    ("asked", "another"), [({}, "SourceSHA256"), ({"uncertainty": 2}, "Uncertainty"), ({"uncertainty": 3}, None)]
)
def test_what_is_not_made_of_the_same_is_refused_and_with_overwrite_replaced(
    source, save_study, model_folder, out, asked, another
):
    run(source, out, model_folder, uncertainty=3)
    if another == "SourceSHA256":
        save_study(source / "a.nii.gz", seed=5)
    before = file_hash(out / "a.nii.gz"), file_hash(out / "a_uncertainty.nii.gz")
    again = run(source, out, model_folder, **{"uncertainty": 3} | asked)
    assert ends(again) == {"a.nii.gz": "failed" if another else "kept"}
    message = f"a.nii.gz: exists, made with another {another}" if another else ""
    assert again.outcomes[0].message.startswith(message)
    assert (file_hash(out / "a.nii.gz"), file_hash(out / "a_uncertainty.nii.gz")) == before
    assert ends(run(source, out, model_folder, overwrite=True)) == {"a.nii.gz": "done"}
    assert (file_hash(out / "a.nii.gz") != before[0]) == (another == "SourceSHA256")
    assert not (out / "a_uncertainty.nii.gz").exists()


def test_an_uncertainty_map_lies_on_the_grid_beside_an_output_that_stays_as_it_is(save_study, model_folder, tmp_path):
    for number, (shape, codes) in enumerate([((40, 33), (0, 2)), ((33, 40, 5), (4, 0))]):
        save_study(tmp_path / "in" / f"{number}.nii.gz", shape, TURNED, codes=codes, seed=number)
    run(tmp_path / "in", tmp_path / "plain", model_folder)
    run(tmp_path / "in", tmp_path / "out", model_folder, uncertainty=3)
    run(tmp_path / "in" / "1.nii.gz", tmp_path / "alone", model_folder, uncertainty=3, change_map=True)
    for number in (0, 1):
        made, spread = (tmp_path / "out" / f"{number}{end}.nii.gz" for end in ("", "_uncertainty"))
        assert file_hash(made) == file_hash(tmp_path / "plain" / made.name)
        assert raw_geometry(spread) == raw_geometry(tmp_path / "in" / made.name)
        voxels = np.asarray(nib.load(spread).dataobj)
        assert voxels.dtype == np.float32
        assert voxels.min() == 0
        assert voxels.max() > 1
        sidecar = read(tmp_path / "out" / f"{number}.json")
        assert sidecar["Uncertainty"].startswith("HU, standard deviation of 3 translations of the study")
        assert sidecar["Outputs"][spread.name] == file_hash(spread)
    # Seeded by the study and the model, not by what else is converted or where.
    assert file_hash(tmp_path / "alone" / spread.name) == file_hash(spread)
    assert (tmp_path / "alone" / "1_change.nii.gz").exists()


@pytest.mark.parametrize(("jobs", "device"), [(3, "cpu"), (2, "cpu,cpu")])
def test_several_workers_and_devices_give_the_same_bytes(save_study, save_model, tmp_path, jobs, device):
    """Also where dropout is drawn, though all threads of a process share torch's random state."""
    for number in range(3):
        save_study(tmp_path / "in" / f"{number}.nii.gz", (24, 20, 2), seed=number)
    network = ResNetConfig(channels=8, downs=2, blocks=1, norm="group", dropout=0.5)
    model = save_model(tmp_path / "model", change="none", net=network, directions=1)
    run(tmp_path / "in", tmp_path / "one", model, uncertainty=2)
    several = run(tmp_path / "in", tmp_path / "several", model, uncertainty=2, jobs=jobs, device=device)
    assert (several.exit_code, several.device) == (0, device.replace(",", ", "))
    for path in (tmp_path / "one").glob("*.nii.gz"):
        assert file_hash(path) == file_hash(tmp_path / "several" / path.name)


def test_a_full_disk_fails_the_studies_that_do_not_fit(save_study, model_folder, tmp_path, full_disk):
    save_study(tmp_path / "in" / "large.nii.gz", (64, 64, 8))
    save_study(tmp_path / "in" / "small.nii.gz", (8, 8))
    full_disk(4096)
    summary = run(tmp_path / "in", tmp_path / "out", model_folder)
    assert ends(summary) == {"large.nii.gz": "failed", "small.nii.gz": "done"}
    assert "cannot be written" in read(tmp_path / "out" / "summary.json")["failures"]["large.nii.gz"]
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["manifest.jsonl", "small.json", "small.nii.gz", "summary.json"]


def test_how_studies_ended_is_told_before_a_summary_that_does_not_fit(save_study, model_folder, tmp_path, full_disk):
    save_study(tmp_path / "in" / "a.nii.gz", (8, 8))
    console = Console(file=io.StringIO(), width=200)
    full_disk(400)
    with pytest.raises(DataError, match=r"summary\.json: cannot be written \(File too large\); make room"):
        run(tmp_path / "in", tmp_path / "out", model_folder, console=console)
    assert "cannot be written (File too large)" in console.file.getvalue()
    assert "1 failed" in console.file.getvalue()


def test_a_dicom_series_is_one_study(model_folder, tmp_path):
    series = save_stack(tmp_path / "CT.1.2", PatientName="DOE^JANE")
    assert ends(run(series, tmp_path / "out", model_folder)) == {"CT.1.2": "done"}
    assert nib.load(tmp_path / "out" / "CT.1.2.nii.gz").shape == (32, 32, 4)
    assert "DOE" not in (tmp_path / "out" / "CT.1.2.json").read_text()


@pytest.fixture
def cohort(tmp_path, save_study, save_model):
    """Two subjects, and a model whose run was trained on the first."""
    rows = ["subject,domain,image"]
    for number, subject in enumerate(("one", "two")):
        for domain in ("contrast", "plain"):
            save_study(tmp_path / "data" / subject / f"{domain}.nii.gz", seed=number)
            rows.append(f"{subject},{domain},{subject}/{domain}.nii.gz")
    table = tmp_path / "data" / "cohort.csv"
    table.write_text("\n".join(rows))
    split = Split(train=("one",), validation=(), test=("two",), files={})
    split.save(tmp_path / "run" / "split.json")
    return table, save_model(tmp_path / "run" / "model", split_hash=split.hash)


@pytest.mark.parametrize(("direction", "domain"), [("to_target", "contrast"), ("to_source", "plain")])
def test_of_a_cohort_the_test_subjects_of_the_models_split_are_converted(cohort, out, direction, domain):
    """The split does not know what images show, which is said once."""
    table, model = cohort
    told = " ".join(printed(table, out, model, direction=direction, part="test"))
    assert told.count("an image that was stored anew under another subject's name is not found") == 1
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.nii.gz")] == [f"two/{domain}.nii.gz"]
    everyone = run(table, out, model, direction=direction)
    assert ends(everyone) == {f"one/{domain}.nii.gz": "done", f"two/{domain}.nii.gz": "kept"}


def test_a_part_needs_a_cohort_and_the_models_own_split(cohort, out, tmp_path):
    table, model = cohort
    elsewhere = tmp_path / "elsewhere.json"
    (tmp_path / "run" / "split.json").rename(elsewhere)
    Split(train=("two",), validation=(), test=("one",), files={}).save(tmp_path / "other.json")
    for source, options, message in (
        (table, {"part": "test"}, "there is no split at"),
        (table, {"part": "test", "split": tmp_path / "other.json"}, "not the split that the model was trained on"),
        (table.parent / "two", {"part": "test", "split": elsewhere}, "--part test needs to know subjects; give a coh"),
        (table, {"split": elsewhere}, "without --part"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(source, out, model, **options)
    assert not out.exists()
    for source in (table, table.parent):
        assert set(ends(run(source, out, model, part="train", split=elsewhere))) == {"one/contrast.nii.gz"}


def test_wrong_use_writes_nothing(source, save_model, model_folder, out, tmp_path):
    drawing, damaged = (save_model(tmp_path / name, change="none", directions=1) for name in ("drawing", "damaged"))
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    for given, model, options, error, message in (
        (tmp_path / "nowhere", model_folder, {}, DataError, "does not exist"),
        (source, tmp_path, {}, ModelError, "is not a model folder"),
        (source, drawing, {"change_map": True}, ConfigError, "has no map; drop --change-map"),
        (source, model_folder, {"uncertainty": 1}, ConfigError, "--uncertainty 1: a standard deviation needs 2"),
        (source, drawing, {"strength": 0.5}, ConfigError, "draws the image itself and has no change"),
        (source, model_folder, {"strength": 1.5}, ConfigError, r"strength 1\.5 is not between 0"),
        (source, drawing, {"direction": "to_source"}, ModelError, "cannot translate to_source"),
        (source, damaged, {}, ModelError, "was changed or damaged"),
    ):
        with pytest.raises(error, match=message):
            run(given, out, model, **options)
    assert not out.exists()


def run_on_one_thread(*given):
    torch.set_num_threads(1)  # a forked process has no others
    run(*given, change_map=True)


def test_a_killed_conversion_leaves_no_half_file_and_is_finished_by_the_next(save_study, model_folder, tmp_path):
    for number in range(6):
        save_study(tmp_path / "in" / f"{number:02}.nii.gz", (100, 90, 6), seed=number)
    source, out = tmp_path / "in", tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=run_on_one_thread, args=(source, out, model_folder))
    process.start()
    patience = time.monotonic() + 120
    while not list(out.glob("0[2-5].nii.gz")):
        assert process.is_alive()
        assert time.monotonic() < patience
        time.sleep(0.002)
    process.kill()
    process.join()
    there = sorted(out.glob("*.nii.gz"))
    assert 3 <= len([path for path in there if "change" not in path.name]) < 6
    for path in there:
        np.asarray(nib.load(path).dataobj)
    summary = run(source, out, model_folder, change_map=True)
    assert summary.exit_code == 0
    assert sum(outcome.status == "kept" for outcome in summary.outcomes) >= 3
    assert ends(run(source, out, model_folder, change_map=True)) == {f"{n:02}.nii.gz": "kept" for n in range(6)}


@pytest.fixture(scope="module")
def coarse_model(save_model, tmp_path_factory):
    """A one-sided model on a coarse grid, which is quick on whole scans."""
    return save_model(tmp_path_factory.mktemp("coarse") / "model", spacing=(4.0, 4.0, None))


@pytest.mark.parametrize("study", ["abdomen_ct/CRLM-CT-1004/ct.nii.gz", "torso_ct/angiogram/ct.nii.gz"])
def test_real_volumes_keep_their_grid_to_the_bit(medgan_data, coarse_model, tmp_path, study):
    source, made = medgan_data / study, tmp_path / "out" / "ct.nii.gz"
    assert run(source, tmp_path / "out", coarse_model).exit_code == 0
    assert raw_geometry(source) == raw_geometry(made)
    assert nib.load(made).get_data_dtype() == np.int16
    ours, theirs = (sitk.ReadImage(str(path)) for path in (made, source))
    for part in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(ours, part)() == getattr(theirs, part)()
    before, after = (np.asarray(nib.load(path).dataobj) for path in (source, made))
    untouched = (before < -50) | (before > 600)
    np.testing.assert_array_equal(after[untouched], before[untouched])
    assert (after <= before).all()
    assert (before - after).max() > 20


def test_a_real_series_lies_where_simpleitk_puts_it(medgan_data, coarse_model, tmp_path):
    series = medgan_data / "torso_ct" / "dicom_series"
    assert run(series, tmp_path / "out", coarse_model).exit_code == 0
    ours = sitk.ReadImage(str(tmp_path / "out" / "dicom_series.nii.gz"))
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    assert ours.GetSize() == theirs.GetSize()
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, part)(), getattr(theirs, part)(), atol=1e-4)
    before, after = (sitk.GetArrayFromImage(image) for image in (theirs, ours))
    np.testing.assert_array_equal(after[before < -50], before[before < -50])


def test_a_suffix_is_told_by_the_sidecar_and_outputs_without_it_stay_apart(model_folder, source, out):
    run(source, out, model_folder)
    options = {"suffix": "_desc-synthetic", "change_map": True}
    assert ends(run(source, out, model_folder, **options)) == {"a.nii.gz": "done"}
    ours = {f"a_desc-synthetic{end}" for end in (".json", ".nii.gz", "_change.nii.gz")}
    assert {path.name for path in out.glob("a*")} == {"a.json", "a.nii.gz"} | ours
    assert "Suffix" not in read(out / "a.json")
    assert read(out / "a_desc-synthetic.json")["Suffix"] == "_desc-synthetic"
    assert ends(run(source, out, model_folder, **options)) == {"a.nii.gz": "kept"}


def test_a_second_conversion_into_one_folder_or_file_is_told_who_is_there(save_study, model_folder, out, tmp_path):
    study = save_study(tmp_path / "a.nii.gz", (4, 4))
    for place, name, within in ((out, None, "out"), (out / "x.nii.gz", "x.nii.gz", r"out/x\.nii\.gz")):
        message = rf"{within} is in use by process {os.getpid()} on"
        with alone_in(out, QUIET, name), pytest.raises(InUseError, match=message):
            run(study, place, model_folder)
    assert not out.exists()
    assert run(study, out / "x.nii.gz", model_folder).exit_code == 0
    one = {path.name for path in out.iterdir()}
    assert one == {"x.nii.gz", "x.json"}
    run(study, out, model_folder)
    assert {path.name for path in out.iterdir()} == one | {"a.nii.gz", "a.json", "manifest.jsonl", "summary.json"}


def test_what_is_forced_says_so_and_is_kept_as_what_the_call_would_write(model_folder, save_study, source, out):
    voxels = np.asarray(nib.load(source / "a.nii.gz").dataobj) / 1000
    save_study(source / "b.nii.gz", voxels=voxels, dtype=np.float32)
    assert ends(run(source, out, model_folder)) == {"a.nii.gz": "done", "b.nii.gz": "failed"}
    assert not (out / "b.nii.gz").exists()
    forced = run(source, out, model_folder, force=True)
    assert ends(forced) == {"a.nii.gz": "kept", "b.nii.gz": "done"}
    (warnings,) = (outcome.warnings for outcome in forced.outcomes if outcome.status == "done")
    assert warnings[0].startswith("forced, although it cannot be a CT of domain 'contrast': its values span")
    sidecar = read(out / "b.json")
    assert sidecar["Forced"] == [warnings[0].partition(": ")[2]]
    assert sidecar["Warnings"] == list(warnings)
    assert "Forced" not in read(out / "a.json")
    assert ends(run(source, out, model_folder)) == {"a.nii.gz": "kept", "b.nii.gz": "kept"}


def test_a_study_that_is_gone_or_something_else_by_its_turn_fails_alone(save_study, model_folder, out, tmp_path):
    names = ("a", "gone", "folder", "pipe", "text")
    studies = {name: save_study(tmp_path / "in" / f"{name}.nii.gz", (8, 8)) for name in names}
    plan = find_jobs(tmp_path / "in", out, "contrast")
    for name in names[1:]:
        studies[name].unlink()
    studies["folder"].mkdir()
    os.mkfifo(studies["pipe"])
    studies["text"].write_text("<html>")
    order = ConvertOrder(tmp_path / "in", out, str(model_folder))
    ended = {outcome.input: outcome for outcome in Conversion(order, QUIET).run(plan)}
    assert ended.pop("a.nii.gz").status == "done"
    says = {"gone": "cannot be read", "folder": "a folder without", "pipe": "a named pipe", "text": "not a NIfTI file"}
    for name, message in says.items():
        assert ended[f"{name}.nii.gz"].status == "failed"
        assert ended[f"{name}.nii.gz"].message.startswith(f"{name}.nii.gz: {message}")
