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
