import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from medgan.classification import classify as module
from medgan.classification.classifier import CLASSIFIER, ClassifierDescription
from medgan.classification.classify import _patch_starts, _probabilities, classify, classify_volume
from medgan.data.domains import Domain, Window
from medgan.data.grid import Volume, made_up_grid
from medgan.data.hashes import image_hash
from medgan.data.preparation import Prepared
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError, GeometryError, InUseError, ModelError
from medgan.inference import batch
from medgan.inference.batch import BatchOrder
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import read_model

QUIET = Console(quiet=True)
SPOTS = {"a": (5, 5, 1), "b": None, "c": (12, 9, 2)}
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1, upper=99, percentiles=True))
BOTH = pytest.mark.parametrize("dimensions", ["2", "3"])


# One image: its patches, one by one, and the one that decides.


def volume(voxels, affine=AFFINE):
    return Volume(voxels.astype(np.float32), made_up_grid(voxels.shape, affine), Path("scan.nii.gz"))


def drawn(shape=(20, 20, 3), spot=None, hu=0.0):
    """Soft tissue with a rim of air, and perhaps one voxel that is bright."""
    voxels = np.full(shape, -1000.0)
    voxels[1:-1, 1:-1] = hu
    if spot:
        voxels[spot] = 1000.0
    return voxels


def prepared(shape, body=None):
    box = body or tuple((0, size) for size in shape)
    return Prepared(np.random.default_rng(0).uniform(-0.8, 1, shape).astype(np.float32), np.eye(4), box, (-1.0, 1.0))


@BOTH
def test_an_image_is_what_its_least_healthy_patch_is_and_the_place_is_that_patchs_middle(ruled, fabric, dimensions):
    affine = AFFINE.copy()
    affine[:3, 3] = [-7.0, 11.0, 30.0]
    healthy, ill = (
        classify_volume(ruled(dimensions), volume(drawn((24, 24, 12), spot, hu=-400), affine), fabric)
        for spot in (None, (12, 13, 6))
    )
    assert (healthy.probabilities.argmax(), ill.probabilities.argmax()) == (0, 1)
    assert ill.probabilities.sum() == pytest.approx(1)
    assert ill.patches == healthy.patches > 1
    away = np.abs(np.linalg.inv(affine) @ [*ill.centre_mm, 1.0] - [12, 13, 6, 1])[:3]
    assert (away <= [4, 4, 4 if dimensions == "3" else 0]).all()


def test_a_turned_image_is_seen_the_same_way(ruled, fabric):
    voxels = drawn((20, 20, 3), (4, 12, 1), hu=-400)
    turned = np.diag([-1.0, 1.0, 1.0, 1.0]) @ AFFINE
    one, other = (
        classify_volume(ruled(), volume(each, affine), fabric)
        for each, affine in ((voxels, turned), (voxels[::-1].copy(), AFFINE))
    )
    np.testing.assert_allclose(one.probabilities, other.probabilities)


def test_a_patch_image_is_one_patch_whatever_its_middle_shows(ruled, fabric):
    voxels = np.full((8, 8, 1), -1000.0)
    voxels[0, 0] = 1000.0
    found = classify_volume(ruled(), volume(voxels), fabric)
    assert (found.patches, found.centre_mm) == (1, (7.0, 7.0, 0.0))


@pytest.mark.parametrize(
    ("voxels", "error", "message"),
    [
        (np.full((20, 20, 3), -1000.0), DataError, r"scan.nii.gz: nothing in it is brighter than air"),
        (np.zeros((1, 20, 20)), GeometryError, r"scan.nii.gz.* no axial image"),
        (np.zeros((20, 20, 3)), ModelError, "no numbers"),
    ],
    ids=["air alone", "sagittal slice", "network that broke down"],
)
def test_what_cannot_be_classified_is_refused(ruled, fabric, voxels, error, message):
    model = ruled()
    model.network.forward = lambda image: torch.full((len(image), 3), float("nan"))
    with pytest.raises(error, match=message):
        classify_volume(model, volume(voxels), fabric)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(5, 30)] * 3), st.sampled_from([(8, 8, 1), (8, 8, 8), (4, 4, 6)]), st.data())
def test_patches_cover_the_body_and_overlap_by_half(shape, extent, data):
    body = []
    for size in shape:
        first = data.draw(st.integers(0, size - 1))
        body.append((first, data.draw(st.integers(first + 1, size))))
    starts = list(_patch_starts(prepared(shape, tuple(body)), extent))
    assert len(set(starts)) == len(starts)
    seen = np.zeros(shape, dtype=bool)
    for start in starts:
        seen[tuple(slice(max(s, 0), s + e) for s, e in zip(start, extent, strict=True))] = True
    assert seen[tuple(slice(*each) for each in body)].all()
    for axis, length in enumerate(extent):
        places = sorted({start[axis] for start in starts})
        assert max(np.diff(places), default=0) <= max(length // 2, 1)


@BOTH
def test_many_patches_are_judged_as_each_alone(config, fabric, dimensions):
    torch.manual_seed(0)
    made, study = config(dimensions), prepared((20, 20, 16))
    starts, network = [(0, 3, 2), (11, 5, 8), (-2, 0, 0)], made.build().eval()
    together = _probabilities(network, study, starts, made.shape, fabric)
    alone = [_probabilities(network, study, [start], made.shape, fabric)[0] for start in starts]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1)


# Many images, and the one table of them.


def save_images(folder, spots):
    folder.mkdir(parents=True, exist_ok=True)
    for name, spot in spots.items():
        nib.Nifti1Image(drawn(spot=spot).astype(np.int16), AFFINE).to_filename(folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def order(saved, tmp_path):
    return BatchOrder(save_images(tmp_path / "in", SPOTS), tmp_path / "out", str(saved()), device="cpu")


def ends(summary):
    """How each image ended, by its name without .nii.gz."""
    return {outcome.input.removesuffix(".nii.gz"): outcome.status for outcome in summary.outcomes}


def rows(order):
    with (order.output / "classes.csv").open(newline="") as stream:
        return {row["image"]: row for row in csv.DictReader(stream)}


def note(order):
    return json.loads((order.output / "classes.json").read_text())


@BOTH
def test_every_image_has_a_row_with_what_the_network_says_and_the_sidecar_vouches_for_it(
    order, saved, fabric, dimensions
):
    order = replace(order, model=str(saved(dimensions)))
    (order.input / "b.nii.gz").rename(order.input / "b, odd.nii.gz")
    assert ends(classify(order, QUIET)) == {"a": "done", "b, odd": "done", "c": "done"}
    model = read_model(saved(dimensions), ClassifierDescription)
    classes = model.description.config.classes
    assert list(rows(order)) == ["a.nii.gz", "b, odd.nii.gz", "c.nii.gz"]
    for name, row in rows(order).items():
        found = classify_volume(model, read_volume(order.input / name), fabric)
        probabilities = {f"p_{each}": f"{share:.6f}" for each, share in zip(classes, found.probabilities, strict=True)}
        place = {f"{axis}_mm": f"{each:.2f}" for axis, each in zip("xyz", found.centre_mm, strict=True)}
        likeliest = classes[int(found.probabilities.argmax())]
        whole = {"image": name, "class": likeliest, **probabilities, "patches": str(found.patches), **place}
        assert list(row.items()) == list(whole.items())
    assert note(order)["Model"]["WeightsSHA256"] == model.description.weights_sha256
    assert list(note(order)["SourceSHA256"]) == list(rows(order))
    assert list(note(order)["Outputs"]) == ["classes.csv"]


def test_the_rule_decides_the_class(order, ruled, monkeypatch):
    networks = {CLASSIFIER: ruled().network}
    monkeypatch.setattr(module, "read_model", lambda *asked: replace(read_model(*asked), networks=networks))
    classify(order, QUIET)
    assert [row["class"] for row in rows(order).values()] == ["spot", "healthy", "spot"]


def test_a_broken_image_never_stops_the_rest_and_images_of_one_name_and_two_kinds_both_have_a_row(order):
    Image.fromarray(np.random.default_rng(0).integers(20, 160, (20, 20), dtype=np.uint8)).save(order.input / "a.png")
    (order.input / "b.nii.gz").write_bytes(b"broken")
    summary = classify(replace(order, jobs=2), QUIET)
    assert ends(summary) == {"a": "done", "a.png": "done", "b": "failed", "c": "done"}
    assert summary.exit_code == 1
    assert set(rows(order)) == {"a.nii.gz", "a.png", "c.nii.gz"}
    assert list(json.loads((order.output / "summary.json").read_text())["failures"]) == ["b.nii.gz"]


def test_what_is_there_is_kept_or_added_to_and_changed_images_are_not_passed_over(order):
    classify(order, QUIET)
    before = (order.output / "classes.csv").read_bytes()
    assert set(ends(classify(order, QUIET)).values()) == {"kept"}
    assert (order.output / "classes.csv").read_bytes() == before
    save_images(order.input, {"b": (9, 9, 0), "d": None})
    summary = classify(order, QUIET)
    assert ends(summary) == {"a": "kept", "b": "failed", "c": "kept", "d": "done"}
    (message,) = [outcome.message for outcome in summary.outcomes if outcome.status == "failed"]
    assert "b.nii.gz: classes.csv has another image of this name" in message
    assert (order.output / "classes.csv").read_bytes().startswith(before)
    assert set(ends(classify(replace(order, overwrite=True), QUIET)).values()) == {"done"}


def test_another_models_table_and_one_that_was_changed_or_is_anothers_are_refused(order, saved):
    classify(order, QUIET)
    with pytest.raises(DataError, match="made with another model"):
        classify(replace(order, model=str(saved(seed=1))), QUIET)
    with (order.output / "classes.csv").open("a") as stream:
        stream.write("c.nii.gz,spot\n")
    with pytest.raises(DataError, match="was changed since it was written"):
        classify(order, QUIET)
    (order.output / "classes.json").unlink()
    with pytest.raises(DataError, match="is no output of medgan"):
        classify(order, QUIET)
    assert set(ends(classify(replace(order, overwrite=True), QUIET)).values()) == {"done"}


def test_it_is_said_of_every_image_whether_the_model_was_trained_on_it(order):
    model = order.output.parent / "seen"
    shutil.copytree(order.model, model)
    description = json.loads((model / "model.json").read_text())
    description["origin"]["trained_on"] = {"train": [image_hash(order.input / "b.nii.gz")], "validation": []}
    (model / "model.json").write_text(json.dumps(description))
    for status in ("done", "kept"):
        summary = classify(replace(order, model=str(model)), QUIET)
        assert set(ends(summary).values()) == {status}
        assert dict(summary.seen) == {"a.nii.gz": "unseen", "b.nii.gz": "train", "c.nii.gz": "unseen"}
    assert note(order)["Training"]["b.nii.gz"] == "train"


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
    had = {name.removesuffix(".nii.gz") for name in rows(order)}
    assert had
    assert {name for name, how in ends(classify(order, QUIET)).items() if how == "kept"} == had


def test_a_patch_image_of_mr_and_a_phantoms_model_are_warned_of(order, saved):
    image = np.random.default_rng(0).integers(1, 255, (8, 8), dtype=np.uint8)
    folder = order.output.parent / "patches"
    folder.mkdir()
    Image.fromarray(image).save(folder / "patch.png")
    (outcome,) = classify(replace(order, input=folder, model=str(saved(domain=MR, phantom=True))), QUIET).outcomes
    assert outcome.message.startswith("the model was trained on the built-in phantom, not on patients; a single patch:")


def test_an_output_that_cannot_be_is_refused_before_anything_is_done(order):
    for changes, error, message in (
        ({"output": order.input}, ConfigError, "is the input folder"),
        ({"output": order.input / "a.nii.gz"}, ConfigError, "is a file and no folder"),
        ({"input": order.input / "nowhere"}, DataError, "does not exist"),
    ):
        with pytest.raises(error, match=message):
            classify(replace(order, **changes), QUIET)
    with alone_in(order.output, QUIET), pytest.raises(InUseError, match="out is in use by process"):
        classify(order, QUIET)
    assert not order.output.exists()


def test_what_cannot_be_of_the_classifiers_domain_is_refused_unless_forced_and_nothing_alone_makes_no_table(order):
    for name in SPOTS:
        (order.input / f"{name}.json").write_text('{"Modality": "PT"}')
    assert set(ends(classify(order, QUIET)).values()) == {"failed"}
    assert not (order.output / "classes.csv").exists()
    (order.input / "a.json").unlink(), (order.input / "c.json").unlink()
    assert ends(classify(order, QUIET)) == {"a": "done", "b": "failed", "c": "done"}
    summary = classify(replace(order, force=True), QUIET)
    assert ends(summary) == {"a": "kept", "b": "done", "c": "kept"}
    (forced,) = [outcome.message for outcome in summary.outcomes if outcome.status == "done"]
    assert "forced, although it cannot be a" in forced
