import hashlib
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.data.hashes import file_hash
from medgan.data.volumes import read_volume
from medgan.errors import DataError
from medgan.inference.convert import Conversion, ConvertOrder
from medgan.inference.jobs import Job
from medgan.inference.sidecar import is_finished, model_origin, read_sidecar, write_outputs
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_description


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
def written(job, facts):
    volume = read_volume(job.source)
    images = {
        job.output: volume.voxels.astype(np.int16),
        job.map("change"): volume.voxels,
        job.map("uncertainty"): volume.voxels,
    }
    write_outputs(job, images, volume.grid, facts)
    return job


def test_a_sidecar_vouches_for_its_images(written, facts):
    content = json.loads(written.sidecar.read_text())
    assert content["Synthetic"] is True
    assert "Not for diagnosis" in content["NotForClinicalUse"]
    assert content["Sources"] == ["a/b.nii.gz"]
    assert content["Warnings"] == ["beware"]
    assert content["Model"]["Name"] == "tiny"
    assert {"medgan", "torch"} <= set(content["Versions"])
    assert content["Outputs"] == {path.name: file_hash(path) for path in written.images()}
    assert is_finished(written, facts)


def test_others_may_read_what_is_written_as_any_file(written, tmp_path):
    (tmp_path / "any").touch()
    modes = {path.stat().st_mode for path in written.output.parent.iterdir()}
    assert modes == {(tmp_path / "any").stat().st_mode}


def test_a_sidecar_tells_neither_patients_nor_places(written, tmp_path):
    text = written.sidecar.read_text()
    assert "DOE" not in text
    assert str(tmp_path) not in text
    assert b"DOE" not in written.output.read_bytes()
    assert sorted(path.name for path in written.output.parent.iterdir()) == [
        "b.json",
        "b.nii.gz",
        "b_change.nii.gz",
        "b_uncertainty.nii.gz",
    ]


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


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_an_image_that_was_changed_since_is_not_replaced(written, facts, changed):
    path = written.images()[changed]
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=rf"{path.name}: exists, but was changed"):
        is_finished(written, facts)


@pytest.mark.parametrize("foreign", ["b.nii.gz", "b.json", "b_change.nii.gz", "b_uncertainty.nii.gz"])
def test_files_of_others_are_not_replaced(job, facts, foreign):
    path = job.output.with_name(foreign)
    path.parent.mkdir(parents=True)
    path.write_text('{"SeriesDescription": "mine"}')
    with pytest.raises(DataError, match=rf"{path.name}: exists and is no output of medgan"):
        is_finished(job, facts)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_what_a_killed_conversion_left_is_finished(written, facts, lost):
    for path in written.images()[:lost]:
        path.unlink()
    assert not is_finished(written, facts)


@pytest.mark.parametrize(("kind", "fact"), [("change", "ChangeMap"), ("uncertainty", "Uncertainty")])
def test_replacing_takes_the_old_map_away(written, facts, kind, fact):
    volume, path = read_volume(written.source), written.map(kind)
    images = {image: volume.voxels for image in written.images() if image != path}
    write_outputs(written, images, volume.grid, facts | {fact: None})
    assert not path.exists()
    assert is_finished(written, facts | {fact: None})


@pytest.mark.parametrize("kind", ["change", "uncertainty"])
def test_a_foreign_map_stays(job, facts, kind):
    job.output.parent.mkdir(parents=True)
    job.map(kind).write_text("mine")
    volume = read_volume(job.source)
    write_outputs(job, {job.output: volume.voxels}, volume.grid, facts | {"ChangeMap": None, "Uncertainty": None})
    assert job.map(kind).read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named_and_left_clean(job, facts, tmp_path):
    (tmp_path / "out").write_text("a file")
    volume = read_volume(job.source)
    with pytest.raises(DataError, match=r"b.nii.gz: cannot be written"):
        write_outputs(job, {job.output: volume.voxels}, volume.grid, facts)


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


def test_the_headers_say_that_the_images_are_synthetic_and_by_which_model(written, facts):
    weights = facts["Model"]["WeightsSHA256"][:8]
    said = {path: nib.load(path).header["descrip"].item().decode() for path in written.images()}
    assert said == {
        written.output: f"SYNTHETIC, medgan tiny {weights}, not for diagnosis",
        written.map("change"): f"SYNTHETIC change map, medgan tiny {weights}, not for diagnosis",
        written.map("uncertainty"): f"SYNTHETIC uncertainty map, medgan tiny {weights}, not for diagnosis",
    }
    assert nib.load(written.output).header.get_intent()[0] == "none"


@pytest.mark.parametrize("kind", [None, "change", "uncertainty"])
@pytest.mark.parametrize("name", ["x" * 200, "modèle à rayons \u4e16", ""])
def test_a_header_has_room_for_any_models_name(facts, job, name, kind):
    volume, path = read_volume(job.source), job.map(kind) if kind else job.output
    facts = facts | {"Model": {"Name": name, "WeightsSHA256": "0123456789abcdef"}}
    write_outputs(job, {job.output: volume.voxels, path: volume.voxels}, volume.grid, facts)
    text = nib.load(path).header["descrip"].item().decode("ascii")
    assert len(text) <= 79
    assert text.startswith(f"SYNTHETIC {kind} map, medgan" if kind else "SYNTHETIC, medgan")
    assert text.endswith(" 01234567, not for diagnosis")


def test_a_label_maps_header_says_that_its_values_are_labels(job):
    volume = read_volume(job.source)
    facts = {"Segmentation": True, "Model": {"Name": "segmenter", "WeightsSHA256": "0123456789"}}
    write_outputs(job, {job.output: (volume.voxels > 0).astype(np.uint8)}, volume.grid, facts)
    header = nib.load(job.output).header
    assert header["descrip"].item() == b"LABEL MAP, medgan segmenter 01234567, not for diagnosis"
    assert header.get_intent()[0] == "label"


def test_a_case_made_without_a_model_is_synthetic_by_its_header_too(job):
    volume = read_volume(job.source)
    write_outputs(job, {job.output: volume.voxels}, volume.grid, {"Synthetic": True})
    assert nib.load(job.output).header["descrip"].item() == b"SYNTHETIC, medgan, not for diagnosis"


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
