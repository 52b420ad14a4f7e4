import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from medgan.classification import classify as module
from medgan.classification.apply import classify_volume
from medgan.classification.classify import classify
from medgan.classification.settings import CLASSIFIER, ClassifierDescription
from medgan.data.domains import Domain, Window
from medgan.data.hashes import image_hash
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError, InUseError
from medgan.inference import batch
from medgan.inference.batch import BatchOrder
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import read_model

QUIET = Console(quiet=True)
SPOTS = {"a": (5, 5, 1), "b": None, "c": (12, 9, 2)}
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1, upper=99, percentiles=True))


@pytest.fixture
def order(save_images, saved, tmp_path):
    return BatchOrder(save_images(tmp_path / "in", SPOTS), tmp_path / "out", str(saved()), device="cpu")


def ends(summary):
    return {outcome.input: outcome.status for outcome in summary.outcomes}


def rows(order):
    with (order.output / "classes.csv").open(newline="") as stream:
        return {row["image"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_every_image_has_a_row_with_what_the_network_says(order, saved, fabric, dimensions):
    order = replace(order, model=str(saved(dimensions)))
    assert ends(classify(order, QUIET)) == {f"{name}.nii.gz": "done" for name in SPOTS}
    model = read_model(saved(dimensions), ClassifierDescription)
    for name, row in rows(order).items():
        found = classify_volume(model, read_volume(order.input / name), fabric).probabilities
        written = [float(row[f"p_{each}"]) for each in model.description.config.classes]
        np.testing.assert_allclose(written, found, atol=1e-6)
        assert row["class"] == model.description.config.classes[int(found.argmax())]


def test_the_rule_decides_the_class(order, ruled, saved, monkeypatch):
    network = ruled().network
    networks = {CLASSIFIER: network}
    monkeypatch.setattr(module, "read_model", lambda *asked: replace(read_model(*asked), networks=networks))
    classify(order, QUIET)
    assert {name: row["class"] for name, row in rows(order).items()} == {
        "a.nii.gz": "spot", "b.nii.gz": "healthy", "c.nii.gz": "spot",
    }  # fmt: skip


def test_a_broken_image_never_stops_the_rest(order):
    (order.input / "b.nii.gz").write_bytes(b"broken")
    summary = classify(replace(order, jobs=2), QUIET)
    assert ends(summary) == {"a.nii.gz": "done", "b.nii.gz": "failed", "c.nii.gz": "done"}
    assert summary.exit_code == 1
    assert set(rows(order)) == {"a.nii.gz", "c.nii.gz"}
    assert list(json.loads((order.output / "summary.json").read_text())["failures"]) == ["b.nii.gz"]


def test_what_is_there_is_kept_and_changed_images_are_not_passed_over(order, save_images):
    classify(order, QUIET)
    before = (order.output / "classes.csv").read_bytes()
    assert set(ends(classify(order, QUIET)).values()) == {"kept"}
    assert (order.output / "classes.csv").read_bytes() == before
    save_images(order.input, {"b": (9, 9, 0)})
    assert ends(classify(order, QUIET)) == {"a.nii.gz": "kept", "b.nii.gz": "failed", "c.nii.gz": "kept"}
    assert set(ends(classify(replace(order, overwrite=True), QUIET)).values()) == {"done"}


def test_it_is_said_of_every_image_whether_the_model_was_trained_on_it(order):
    model = order.output.parent / "seen"
    shutil.copytree(order.model, model)
    description = json.loads((model / "model.json").read_text())
    description["origin"]["trained_on"] = {"train": [image_hash(order.input / "b.nii.gz")], "validation": []}
    (model / "model.json").write_text(json.dumps(description))
    asked = replace(order, model=str(model))
    for status in ("done", "kept"):
        summary = classify(asked, QUIET)
        assert set(ends(summary).values()) == {status}
        assert dict(summary.seen) == {"a.nii.gz": "unseen", "b.nii.gz": "train", "c.nii.gz": "unseen"}
    assert json.loads((order.output / "classes.json").read_text())["Training"]["b.nii.gz"] == "train"


def test_a_stopped_batch_leaves_what_it_had(order, monkeypatch):
    read = batch.read_volume

    def stop_at_c(path):
        if path.name.startswith("c"):
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(batch, "read_volume", stop_at_c)
    with pytest.raises(KeyboardInterrupt):
        classify(order, QUIET)
    monkeypatch.undo()
    had = set(rows(order))
    assert had
    assert {name for name, how in ends(classify(order, QUIET)).items() if how == "kept"} == had


def test_images_of_one_name_and_two_kinds_both_have_a_row(order):
    Image.fromarray(np.random.default_rng(0).integers(20, 160, (20, 20), dtype=np.uint8)).save(order.input / "a.png")
    classify(order, QUIET)
    assert set(rows(order)) == {"a.nii.gz", "a.png", "b.nii.gz", "c.nii.gz"}


def test_a_patch_image_of_mr_and_a_phantoms_model_are_warned_of(order, saved):
    image = np.random.default_rng(0).integers(1, 255, (8, 8), dtype=np.uint8)
    folder = order.output.parent / "patches"
    folder.mkdir()
    Image.fromarray(image).save(folder / "patch.png")
    (outcome,) = classify(replace(order, input=folder, model=str(saved(domain=MR, phantom=True))), QUIET).outcomes
    assert outcome.message.startswith("the model was trained on the built-in phantom, not on patients; a single patch:")


def test_an_output_that_cannot_be_is_refused_before_anything_is_done(order):
    with pytest.raises(ConfigError, match="is the input folder"):
        classify(replace(order, output=order.input), QUIET)
    file = order.input / "a.nii.gz"
    with pytest.raises(ConfigError, match="is a file and no folder"):
        classify(replace(order, output=file), QUIET)
    with pytest.raises(DataError, match="does not exist"):
        classify(replace(order, input=order.input / "nowhere"), QUIET)
    assert not order.output.exists()


def test_a_table_that_another_process_will_write_is_not_begun(order):
    with alone_in(order.output, QUIET), pytest.raises(InUseError, match="out is in use by process"):
        classify(order, QUIET)
    assert not order.output.exists()


def test_what_cannot_be_of_the_classifiers_domain_is_refused_unless_forced(order):
    (order.input / "b.json").write_text('{"Modality": "PT"}')
    assert ends(classify(order, QUIET)) == {"a.nii.gz": "done", "b.nii.gz": "failed", "c.nii.gz": "done"}
    summary = classify(replace(order, force=True), QUIET)
    assert ends(summary) == {"a.nii.gz": "kept", "b.nii.gz": "done", "c.nii.gz": "kept"}
    (forced,) = [outcome.message for outcome in summary.outcomes if outcome.status == "done"]
    assert "forced, although it cannot be a" in forced
