import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from rich.console import Console

from medgan.data.grid import GEOMETRY_FIELDS
from medgan.data.hashes import file_hash, image_hash
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, InUseError, ModelError
from medgan.inference.convert import Conversion, ConvertOrder, convert
from medgan.inference.jobs import find_jobs
from medgan.training.architecture import ResNetConfig
from medgan.training.folder_lock import alone_in

QUIET = Console(quiet=True)


def run(source, output, model, **options):
    return convert(ConvertOrder(source, output, str(model), **{"device": "cpu"} | options), QUIET)


def ends(summary):
    return {outcome.input: outcome.status for outcome in summary.outcomes}


def lines(output):
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


def raw_header(path):
    with gzip.open(path) as file:
        return nib.Nifti1Header(file.read(nib.Nifti1Header.sizeof_hdr), check=False)


def raw_geometry(path):
    header = raw_header(path)
    return {name: header[name].tobytes() for name in GEOMETRY_FIELDS}


@pytest.fixture
def batch(tmp_path, save_study):
    """Two good studies; a corrupt gzip between them, a truncated one, an empty file, and one that is not axial."""
    root = tmp_path / "in"
    save_study(root / "a.nii.gz", seed=1)
    save_study(root / "sub" / "c.nii", (33, 40), seed=2)
    good = (root / "a.nii.gz").read_bytes()
    (root / "b.nii.gz").write_bytes(good[:200] + bytes(50) + good[250:])
    (root / "d.nii.gz").write_bytes(good[: len(good) // 2])
    (root / "e.nii.gz").write_bytes(b"")
    save_study(root / "coronal.nii.gz", (40, 1, 40))
    return root


def test_a_bad_study_never_stops_the_rest(batch, model_folder, tmp_path):
    out = tmp_path / "out"
    summary = run(batch, out, model_folder)
    assert ends(summary) == {
        "a.nii.gz": "done",
        "sub/c.nii": "done",
        "b.nii.gz": "failed",
        "d.nii.gz": "failed",
        "e.nii.gz": "failed",
        "coronal.nii.gz": "failed",
    }
    assert summary.exit_code == 1
    assert {line["input"]: line["status"] for line in lines(out)} == ends(summary)
    content = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (content["done"], content["failed"]) == (2, 4)
    assert content["failures"]["e.nii.gz"] == "e.nii.gz: an empty file; copy or export it again."
    assert str(tmp_path) not in (out / "summary.json").read_text(encoding="utf-8") + (out / "manifest.jsonl").read_text(
        encoding="utf-8"
    )
    images = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert images == {
        *("a.nii.gz", "a.json", "sub/c.nii.gz", "sub/c.json"),
        *("manifest.jsonl", "summary.json"),
    }
    before = (out / "a.nii.gz").stat().st_mtime_ns
    again = run(batch, out, model_folder)
    assert [ends(again)[name] for name in ("a.nii.gz", "sub/c.nii")] == ["kept", "kept"]
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    assert len(lines(out)) == 12


def said(source, out, model, tmp_path, **options):
    """What a batch prints, on one line each."""
    with (tmp_path / "said.txt").open("w+") as stream:
        convert(ConvertOrder(source, out, str(model), device="cpu", **options), Console(file=stream, width=200))
        stream.seek(0)
        return stream.read().splitlines()


def test_it_is_said_of_every_input_whether_the_model_was_trained_on_it(save_model, save_study, tmp_path):
    for number, name in enumerate("abcd"):
        save_study(tmp_path / "in" / f"{name}.nii.gz", seed=number)
    image = nib.load(tmp_path / "in" / "b.nii.gz")
    digests = {name: image_hash(tmp_path / "in" / f"{name}.nii.gz") for name in "abcd"}
    nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine).to_filename(tmp_path / "in" / "b.nii.gz")
    seen = {"train": (digests["a"], digests["b"]), "validation": (digests["c"],)}
    model = save_model(tmp_path / "run" / "model", trained_on=seen, split_hash="abc")
    lines = said(tmp_path / "in", tmp_path / "out", model, tmp_path)
    assert "the model was trained on 2 of these 4 inputs, and 1 chose its epoch" in lines
    training = {path.stem: json.loads(path.read_text())["Training"] for path in (tmp_path / "out").glob("[abcd].json")}
    assert {name: each["ThisImage"] for name, each in training.items()} == {
        "a": "train", "b": "train", "c": "validation", "d": "unseen",
    }  # fmt: skip
    assert training["a"]["SplitSHA256"] == "abc"
    counted = {"train": 2, "validation": 1, "unseen": 1, "unknown": 0}
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["seen"] == counted
    again = said(tmp_path / "in", tmp_path / "out", model, tmp_path)
    assert "the model was trained on 2 of these 4 inputs, and 1 chose its epoch" in again  # kept ones are counted, too
    assert "the model was not trained on this input" in said(
        tmp_path / "in" / "d.nii.gz", tmp_path / "one", model, tmp_path
    )


def test_a_model_that_does_not_know_what_it_was_trained_on_says_so(save_study, model_folder, tmp_path):
    source = save_study(tmp_path / "in" / "a.nii.gz")
    (line,) = [each for each in said(source, tmp_path / "out", model_folder, tmp_path) if "trained" in each]
    assert line.startswith("whether the model was trained on these inputs cannot be told")
    sidecar = tmp_path / "out" / "a.json"
    content = json.loads(sidecar.read_text())
    assert content.pop("Training")["ThisImage"] == "unknown"
    sidecar.write_text(json.dumps(content))  # as a medgan of before wrote it: kept, though it says nothing of training
    assert ends(run(source, tmp_path / "out", model_folder)) == {"a.nii.gz": "kept"}


@pytest.mark.parametrize("direction", ["to_target", "to_source"])
def test_shape_affine_codes_and_units_are_the_inputs_to_the_bit(save_study, model_folder, tmp_path, direction):
    turned = np.array([[-0.7, 0.1, 0, 31.4], [0.1, 0.7, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])
    for number, (shape, codes, unit) in enumerate(
        [((40, 33), (0, 2), "mm"), ((40, 33, 1), (1, 1), "unknown"), ((33, 40, 5), (4, 0), "mm")]
    ):
        save_study(tmp_path / "in" / f"{number}.nii.gz", shape, turned, codes=codes, unit=unit, seed=number)
    summary = run(tmp_path / "in", tmp_path / "out", model_folder, direction=direction, change_map=True)
    assert summary.exit_code == 0
    for source in (tmp_path / "in").iterdir():
        made, change = (tmp_path / "out" / source.name.replace(".nii", f"{end}.nii") for end in ("", "_change"))
        assert raw_geometry(source) == raw_geometry(made) == raw_geometry(change)
        header = raw_header(made)
        assert header.get_data_dtype() == np.int16
        assert (header["scl_slope"], header["scl_inter"]) == (1, 0)
        before, after = (np.asarray(nib.load(path).dataobj) for path in (source, made))
        amount = np.asarray(nib.load(change).dataobj)
        assert amount.dtype == np.float32
        assert amount.min() >= 0
        assert amount.max() > 20
        np.testing.assert_allclose(np.abs(after - before.astype(float)), amount, atol=0.51)
        np.testing.assert_array_equal(after[amount == 0], before[amount == 0])


@pytest.mark.parametrize(
    ("change", "direction", "meaning", "sign"),
    [
        ("one-sided", "to_target", "HU removed, input minus output", -1),
        ("one-sided", "to_source", "HU added, output minus input", 1),
        ("signed", "to_target", "HU, output minus input", 1),
    ],
)
def test_a_one_sided_map_is_an_amount_and_a_signed_one_a_difference(
    save_model, save_study, tmp_path, change, direction, meaning, sign
):
    model = save_model(tmp_path / "model", change=change, push=-0.5 if change == "signed" else 2.0)
    source, out = save_study(tmp_path / "a.nii.gz", (24, 20)), tmp_path / "out"
    run(source, out, model, direction=direction, change_map=True)
    assert json.loads((out / "a.json").read_text())["ChangeMap"] == meaning
    before, after, shown = (nib.load(path).get_fdata() for path in (source, out / "a.nii.gz", out / "a_change.nii.gz"))
    np.testing.assert_allclose(shown, sign * (after - before), atol=0.51)
    assert np.abs(shown).max() > 20
    assert bool(shown.min() < 0) is (change == "signed")


def test_a_changed_input_is_refused_and_with_overwrite_replaced(save_study, model_folder, tmp_path):
    source, out = save_study(tmp_path / "in" / "a.nii.gz"), tmp_path / "out"
    run(source, out, model_folder)
    before = file_hash(out / "a.nii.gz")
    save_study(source, seed=5)
    refused = run(source, out, model_folder)
    assert refused.exit_code == 1
    assert refused.outcomes[0].message.startswith("a.nii.gz: exists, made with another SourceSHA256")
    assert file_hash(out / "a.nii.gz") == before
    assert ends(run(source, out, model_folder, overwrite=True)) == {"a.nii.gz": "done"}
    assert file_hash(out / "a.nii.gz") != before


def test_a_file_of_someone_else_is_not_overwritten_unasked(save_study, model_folder, tmp_path):
    source, out = save_study(tmp_path / "in" / "a.nii.gz"), tmp_path / "out"
    out.mkdir()
    (out / "a.nii.gz").write_text("precious")
    assert run(source, out, model_folder).failed == 1
    assert (out / "a.nii.gz").read_text() == "precious"
    assert run(source, out, model_folder, overwrite=True).failed == 0


def test_an_uncertainty_map_lies_on_the_grid_beside_an_output_that_stays_as_it_is(save_study, model_folder, tmp_path):
    turned = np.array([[-0.7, 0.1, 0, 31.4], [0.1, 0.7, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])
    for number, (shape, codes) in enumerate([((40, 33), (0, 2)), ((33, 40, 5), (4, 0))]):
        save_study(tmp_path / "in" / f"{number}.nii.gz", shape, turned, codes=codes, seed=number)
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
        sidecar = json.loads((tmp_path / "out" / f"{number}.json").read_text())
        assert sidecar["Uncertainty"].startswith("HU, standard deviation of 3 translations of the study")
        assert sidecar["Outputs"][spread.name] == file_hash(spread)
    # Seeded by the study and the model, not by what else is converted or where.
    assert file_hash(tmp_path / "alone" / spread.name) == file_hash(spread)
    assert (tmp_path / "alone" / "1_change.nii.gz").exists()


def test_outputs_with_another_number_of_translations_are_refused_unless_asked_for(save_study, model_folder, tmp_path):
    source, out = save_study(tmp_path / "a.nii.gz"), tmp_path / "out"
    run(source, out, model_folder, uncertainty=2)
    assert ends(run(source, out, model_folder, uncertainty=2)) == {"a.nii.gz": "kept"}
    assert ends(run(source, out, model_folder, uncertainty=3)) == {"a.nii.gz": "failed"}
    assert ends(run(source, out, model_folder, overwrite=True)) == {"a.nii.gz": "done"}
    assert not (out / "a_uncertainty.nii.gz").exists()


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
    failures = json.loads((tmp_path / "out" / "summary.json").read_text())["failures"]
    assert "cannot be written" in failures["large.nii.gz"]
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["manifest.jsonl", "small.json", "small.nii.gz", "summary.json"]


def test_how_studies_ended_is_told_before_a_summary_that_does_not_fit(save_study, model_folder, tmp_path, full_disk):
    save_study(tmp_path / "in" / "a.nii.gz", (8, 8))
    said = io.StringIO()
    full_disk(400)
    with pytest.raises(DataError, match=r"summary\.json: cannot be written \(File too large\); make room"):
        convert(
            ConvertOrder(tmp_path / "in", tmp_path / "out", str(model_folder), device="cpu"),
            Console(file=said, width=200),
        )
    assert "cannot be written (File too large)" in said.getvalue()
    assert "1 failed" in said.getvalue()


@pytest.mark.parametrize(
    ("error", "message"),
    [(MemoryError(), "out of memory"), (ZeroDivisionError("by 0"), "unexpected ZeroDivisionError: by 0")],
)
def test_what_nobody_foresaw_is_recorded_too(save_study, model_folder, tmp_path, error, message):
    class Unlucky(Conversion):
        def make(self, job, facts):
            if job.name == "b.nii.gz":
                raise error
            return super().make(job, facts)

    for name in ("a", "b", "c"):
        save_study(tmp_path / "in" / f"{name}.nii.gz")
    order = ConvertOrder(tmp_path / "in", tmp_path / "out", str(model_folder), jobs=2)
    plan = find_jobs(order.input, order.output, "contrast")
    outcomes = {outcome.input: outcome for outcome in Unlucky(order, QUIET).run(plan)}
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "a.nii.gz": "done",
        "b.nii.gz": "failed",
        "c.nii.gz": "done",
    }
    assert outcomes["b.nii.gz"].message.startswith(message)


def test_a_dicom_series_is_one_study(save_series, model_folder, tmp_path):
    series = save_series(tmp_path / "CT.1.2")
    assert ends(run(series, tmp_path / "out", model_folder)) == {"CT.1.2": "done"}
    assert nib.load(tmp_path / "out" / "CT.1.2.nii.gz").shape == (24, 20, 3)
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
def test_of_a_cohort_the_test_subjects_of_the_models_split_are_converted(cohort, tmp_path, direction, domain):
    table, model = cohort
    everyone = run(table, tmp_path / "all", model, direction=direction)
    assert set(ends(everyone)) == {f"one/{domain}.nii.gz", f"two/{domain}.nii.gz"}
    unseen = run(table, tmp_path / "test", model, direction=direction, part="test")
    assert set(ends(unseen)) == {f"two/{domain}.nii.gz"}
    assert (tmp_path / "test" / "two" / f"{domain}.nii.gz").exists()


def test_a_split_that_does_not_know_what_images_show_says_so_once(cohort, tmp_path):
    table, model = cohort
    said = io.StringIO()
    order = ConvertOrder(table, tmp_path / "out", str(model), part="test", device="cpu")
    assert convert(order, Console(file=said, width=400)).exit_code == 0
    assert said.getvalue().count("an image that was stored anew under another subject's name is not found") == 1


def test_a_part_needs_a_cohort_and_the_models_own_split(cohort, tmp_path):
    table, model = cohort
    elsewhere = tmp_path / "elsewhere.json"
    (tmp_path / "run" / "split.json").rename(elsewhere)
    with pytest.raises(ConfigError, match="there is no split at"):
        run(table, tmp_path / "out", model, part="test")
    assert set(ends(run(table, tmp_path / "out", model, part="train", split=elsewhere))) == {"one/contrast.nii.gz"}
    Split(train=("two",), validation=(), test=("one",), files={}).save(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="not the split that the model was trained on"):
        run(table, tmp_path / "out", model, part="test", split=tmp_path / "other.json")
    assert set(ends(run(table.parent, tmp_path / "folder", model, part="train", split=elsewhere))) == {
        "one/contrast.nii.gz"
    }
    with pytest.raises(ConfigError, match="--part test needs to know subjects; give a cohort"):
        run(table.parent / "two", tmp_path / "out", model, part="test", split=elsewhere)
    with pytest.raises(ConfigError, match="without --part"):
        run(table, tmp_path / "out", model, split=elsewhere)


def test_wrong_use_writes_nothing(save_study, save_model, model_folder, tmp_path):
    source, out = save_study(tmp_path / "in" / "a.nii.gz"), tmp_path / "out"
    with pytest.raises(DataError, match="does not exist"):
        run(tmp_path / "nowhere", out, model_folder)
    with pytest.raises(ModelError, match="is not a model folder"):
        run(source, out, tmp_path)
    drawing = save_model(tmp_path / "drawing", change="none", directions=1)
    with pytest.raises(ConfigError, match="has no map; drop --change-map"):
        run(source, out, drawing, change_map=True)
    with pytest.raises(ConfigError, match="--uncertainty 1: a standard deviation needs 2"):
        run(source, out, model_folder, uncertainty=1)
    with pytest.raises(ModelError, match="cannot translate to_source"):
        run(source, out, drawing, direction="to_source")
    weights = drawing / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelError, match="was changed or damaged"):
        run(source, out, drawing)
    assert not out.exists()


KILLED = """
import sys
from pathlib import Path
from rich.console import Console
from medgan.inference.convert import ConvertOrder, convert
convert(ConvertOrder(*map(Path, sys.argv[1:3]), sys.argv[3], change_map=True, device="cpu"), Console(quiet=True))
"""


def test_a_killed_conversion_leaves_no_half_file_and_is_finished_by_the_next(save_study, model_folder, tmp_path):
    for number in range(6):
        save_study(tmp_path / "in" / f"{number:02}.nii.gz", (100, 90, 6), seed=number)
    source, out = tmp_path / "in", tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, source, out, model_folder])
    patience = time.monotonic() + 120
    while not list(out.glob("0[2-5].nii.gz")):
        assert process.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
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


def test_a_suffix_is_told_by_the_sidecar_and_outputs_without_it_stay_apart(model_folder, save_study, tmp_path):
    save_study(tmp_path / "in" / "a.nii.gz")
    out = tmp_path / "out"
    run(tmp_path / "in", out, model_folder)
    options = {"suffix": "_desc-synthetic", "change_map": True}
    assert ends(run(tmp_path / "in", out, model_folder, **options)) == {"a.nii.gz": "done"}
    assert {path.name for path in out.glob("a*")} == {
        *("a.json", "a.nii.gz", "a_desc-synthetic.json", "a_desc-synthetic.nii.gz"),
        "a_desc-synthetic_change.nii.gz",
    }
    assert "Suffix" not in json.loads((out / "a.json").read_text())
    assert json.loads((out / "a_desc-synthetic.json").read_text())["Suffix"] == "_desc-synthetic"
    assert ends(run(tmp_path / "in", out, model_folder, **options)) == {"a.nii.gz": "kept"}


def test_a_second_conversion_into_one_folder_or_file_is_told_who_is_there(save_study, model_folder, tmp_path):
    study, out = save_study(tmp_path / "a.nii.gz", (4, 4)), tmp_path / "out"
    with alone_in(out, QUIET), pytest.raises(InUseError, match=rf"out is in use by process {os.getpid()} on"):
        run(study, out, model_folder)
    with (
        alone_in(out, QUIET, "x.nii.gz"),
        pytest.raises(InUseError, match=rf"out/x\.nii\.gz is in use by process {os.getpid()} on"),
    ):
        run(study, out / "x.nii.gz", model_folder)
    assert not out.exists()
    assert run(study, out / "x.nii.gz", model_folder).exit_code == 0
    assert {path.name for path in out.iterdir()} == {"x.nii.gz", "x.json"}
    run(study, out, model_folder)
    assert {path.name for path in out.iterdir()} == {
        *("x.nii.gz", "x.json", "a.nii.gz", "a.json", "manifest.jsonl", "summary.json")
    }


def test_what_is_forced_says_so_and_is_kept_as_what_the_call_would_write(model_folder, save_study, tmp_path):
    source = save_study(tmp_path / "in" / "a.nii.gz")
    voxels = np.asarray(nib.load(source).dataobj) / 1000
    save_study(tmp_path / "in" / "b.nii.gz", voxels=voxels, dtype=np.float32)
    out = tmp_path / "out"
    refused = run(tmp_path / "in", out, model_folder)
    assert ends(refused) == {"a.nii.gz": "done", "b.nii.gz": "failed"}
    assert not (out / "b.nii.gz").exists()
    forced = run(tmp_path / "in", out, model_folder, force=True)
    assert ends(forced) == {"a.nii.gz": "kept", "b.nii.gz": "done"}
    (warnings,) = (outcome.warnings for outcome in forced.outcomes if outcome.status == "done")
    assert warnings[0].startswith("forced, although it cannot be a CT of domain 'contrast': its values span")
    sidecar = json.loads((out / "b.json").read_text())
    assert sidecar["Forced"] == [warnings[0].partition(": ")[2]]
    assert sidecar["Warnings"] == list(warnings)
    assert "Forced" not in json.loads((out / "a.json").read_text())
    assert ends(run(tmp_path / "in", out, model_folder)) == {"a.nii.gz": "kept", "b.nii.gz": "kept"}


def test_a_study_that_is_gone_or_something_else_by_its_turn_fails_alone(save_study, model_folder, tmp_path):
    names = ("a", "gone", "folder", "pipe", "text")
    studies = {name: save_study(tmp_path / "in" / f"{name}.nii.gz", (8, 8)) for name in names}
    plan = find_jobs(tmp_path / "in", tmp_path / "out", "contrast")
    for name in names[1:]:
        studies[name].unlink()
    studies["folder"].mkdir()
    os.mkfifo(studies["pipe"])
    studies["text"].write_text("<html>")
    order = ConvertOrder(tmp_path / "in", tmp_path / "out", str(model_folder))
    ended = {outcome.input: outcome for outcome in Conversion(order, QUIET).run(plan)}
    assert ended.pop("a.nii.gz").status == "done"
    says = {"gone": "cannot be read", "folder": "a folder without", "pipe": "a named pipe", "text": "not a NIfTI file"}
    for name, message in says.items():
        assert ended[f"{name}.nii.gz"].status == "failed"
        assert ended[f"{name}.nii.gz"].message.startswith(f"{name}.nii.gz: {message}")
