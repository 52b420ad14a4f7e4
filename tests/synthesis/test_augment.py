import csv
import io
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from torch import nn

from medgan.data.domains import Domain, Window, domain_named
from medgan.data.hashes import file_hash
from medgan.data.layouts import Study
from medgan.data.masks import labels_on
from medgan.data.preparation import GridConfig, prepare
from medgan.data.splits import Split
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError, LeakageError, ModelError
from medgan.inference.jobs import as_json
from medgan.segmentation.labelled import Labelled
from medgan.synthesis import augment as module
from medgan.synthesis.augment import AugmentOrder, _as_stored, _stored_image, _stored_labels, augment
from medgan.synthesis.generators import GeneratorDescription, SynthesisConfig
from medgan.training import model_folder

QUIET = Console(quiet=True)
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1, 0, -30], [0, 0, 2, 4], [0, 0, 0, 1]])
SHAPE = (36, 36, 8)
PARTS = ("train", "train", "train", "validation", "test")


@pytest.fixture(scope="module")
def source(tmp_path_factory, with_lesions):
    """Five subjects whose masks mark lesions by 4; s2 is bright as no other."""
    folder = tmp_path_factory.mktemp("source") / "cohort"
    folder.mkdir()
    rows = ["subject,domain,image,mask,split"]
    for number, case in enumerate(with_lesions(SHAPE, 5)):
        image = nib.Nifti1Image(np.rint(case.image.voxels).astype(np.int16), AFFINE)
        image.header["descrip"] = b"secret"
        image.to_filename(folder / f"s{number}.nii.gz")
        nib.Nifti1Image(4 * case.labels, AFFINE).to_filename(folder / f"s{number}_mask.nii.gz")
        rows.append(f"s{number},flair,s{number}.nii.gz,s{number}_mask.nii.gz,{PARTS[number]}")
    (folder / "labels.json").write_text(json.dumps({"labels": {"4": "lesion"}}))
    (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
    return folder


def order_of(cohort, output):
    return AugmentOrder(cohort, output, method="copy-paste", domain="flair", device="cpu", seed=5)


@pytest.fixture(scope="module")
def augmented(source, tmp_path_factory):
    """The output of one augmentation, which stays as it is."""
    folder = tmp_path_factory.mktemp("augmented") / "out"
    assert augment(order_of(source, folder), QUIET).exit_code == 0
    return folder


@pytest.fixture
def cohort(source, tmp_path):
    return shutil.copytree(source, tmp_path / "cohort")


@pytest.fixture
def order(cohort, tmp_path):
    return order_of(cohort, tmp_path / "out")


@pytest.fixture
def begun(order, augmented):
    """An order whose output is there already."""
    shutil.copytree(augmented, order.output, symlinks=True)
    return order


PAINTER = {
    "kind": "mask_to_lesion",
    "network": {"kind": "spade", "channels": 4, "downs": 1, "hidden": 4},
    "adversarial": "none",
}


def by_model(order, generator=PAINTER, **changes):
    """The order with a generator that nobody has trained, in a run with the cohort's split."""
    cohort, folder = order.input, order.output.parent / generator["kind"]
    facts = {"labels": {"lesion": 4}, "domain": domain_named("flair").model_dump(), "patch": {"size_voxels": 24}}
    config = SynthesisConfig.model_validate(facts | {"generator": generator})
    hashes = {f"s{n}": {f"s{n}.nii.gz": file_hash(cohort / f"s{n}.nii.gz")} for n in range(5)}
    split = Split(train=("s0", "s1", "s2"), validation=("s3",), test=("s4",), files=hashes)
    split.save(folder / "split.json")
    networks: dict[str, nn.Module] = {"generator": config.generator.build(config)}
    model_folder.write_model(
        folder / "model", networks, GeneratorDescription, config=config, seed=0, subjects=split.train, validated=1,
        origin=model_folder.Origin(split_hash=split.hash), metrics={}, epoch=1,
    )  # fmt: skip
    return replace(order, **{"method": None, "domain": None, "model": str(folder / "model")} | changes)


def statuses(summary):
    return sorted(outcome.status for outcome in summary.outcomes)


def rows_of(folder):
    with (folder / "cohort.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def sidecars(folder):
    return [json.loads(path.read_text()) for path in sorted((folder / "synthetic").glob("*.json"))]


def contents(folder):
    notes = ("manifest.jsonl", "summary.json")
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in notes]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_the_cohort_has_the_real_rows_and_the_synthetic_ones_and_a_larger_ratio_adds_to_them(begun):
    before = contents(begun.output / "synthetic")
    summary = augment(replace(begun, ratio_percent=200), QUIET)
    assert (statuses(summary), summary.exit_code) == (["done"] * 3 + ["kept"] * 3, 0)
    assert before.items() <= contents(begun.output / "synthetic").items()
    rows = rows_of(begun.output)
    assert [(row["subject"], row["split"]) for row in rows[:5]] == [(f"s{n}", part) for n, part in enumerate(PARTS)]
    assert {row["split"] for row in rows[5:]} == {"train"}
    assert len({row["subject"] for row in rows}) == 11
    for row in rows:
        for column in ("image", "mask"):
            assert (begun.output / row[column]).is_file()
    assert json.loads((begun.output / "labels.json").read_text()) == {"labels": {"4": "lesion"}}
    recipients = [row["subject"].split("_")[0] for row in rows[5:]]
    assert all(recipients.count(f"s{n}") == 2 for n in range(3))


def test_a_case_lies_on_its_recipients_grid_and_differs_where_lesions_are_new(augmented, source):
    for row in rows_of(augmented)[5:]:
        subject = row["subject"].split("_")[0]
        files = (
            (augmented / row["image"], augmented / row["mask"]),
            [source / f"{subject}{e}.nii.gz" for e in ("", "_mask")],
        )
        (made, made_mask), (real, real_mask) = ([nib.load(path) for path in pair] for pair in files)
        for ours, theirs in ((made, real), (made_mask, real_mask)):
            assert (ours.shape, ours.get_data_dtype()) == (theirs.shape, theirs.get_data_dtype())
            for field in ("qform_code", "sform_code", "pixdim", "srow_x", "srow_y", "srow_z", "xyzt_units"):
                np.testing.assert_array_equal(ours.header[field], theirs.header[field])
                assert ours.header["descrip"].item().startswith(b"SYNTHETIC, medgan")
        image, mask, old, old_mask = (np.asarray(each.dataobj) for each in (made, made_mask, real, real_mask))
        new = mask != old_mask
        assert set(np.unique(mask)) == {0, 4}
        assert 0 < new.sum() < np.count_nonzero(image != old) < 0.2 * image.size
        assert image[new].mean() > 150
        assert old[new].mean() < 110


def test_every_case_says_what_it_was_made_of(augmented, source):
    for row in rows_of(augmented)[5:]:
        image, subject = augmented / row["image"], row["subject"].split("_")[0]
        told = json.loads(image.with_name(row["subject"] + ".json").read_text())
        assert told["Synthetic"] is True
        assert told["Parents"][0] == subject
        assert set(told["Parents"]) <= {"s0", "s1", "s2"}
        assert told["Sources"] == [f"{subject}.nii.gz"]
        assert told["SourceSHA256"] == file_hash(source / f"{subject}.nii.gz")
        assert (told["Augmentation"]["Seed"], told["Augmentation"]["Method"]) == (5, "copy-paste")
        assert told["MaskOrigin"] == "a donor's mask, varied"
        assert {"medgan", "torch"} <= set(told["Versions"])
        assert told["Outputs"][image.name] == file_hash(image)
        assert str(source.parent) not in as_json(told)


def test_cases_of_an_earlier_augmentation_are_neither_donors_nor_recipients(order, cohort, tmp_path):
    """Also where the real ones are a phantom's, whose sidecars say that they are synthetic."""
    for number in range(5):
        (cohort / f"s{number}.json").write_text(json.dumps({"phantom": True, "Synthetic": True}))
    augment(order, QUIET)
    console, again = Console(file=io.StringIO(), width=200), tmp_path / "again"
    summary = augment(replace(order, input=order.output, output=again, seed=6), console)
    assert (len(summary.outcomes), summary.exit_code) == (3, 0)
    assert "3 synthetic cases of `medgan augment` are left out" in console.file.getvalue()
    assert [row["subject"] for row in rows_of(again)[:5]] == [f"s{number}" for number in range(5)]
    parents = [told["Parents"] for told in sidecars(again)]
    assert len(parents) == len(rows_of(again)[5:]) == 3
    assert {parent for each in parents for parent in each} <= {"s0", "s1", "s2"}


def test_killed_and_run_again_it_writes_the_same_cohort(order, monkeypatch, augmented):
    written = module.write_outputs

    def killed(job, *rest):
        if job.number == 1:
            raise KeyboardInterrupt
        written(job, *rest)

    monkeypatch.setattr(module, "write_outputs", killed)
    with pytest.raises(KeyboardInterrupt):
        augment(order, QUIET)
    assert not (order.output / "cohort.csv").exists()
    monkeypatch.undo()
    assert "kept" in statuses(augment(order, QUIET))
    assert contents(order.output) == contents(augmented)
    assert set(statuses(augment(order, QUIET))) == {"kept"}


def test_cases_made_otherwise_are_not_overwritten_unasked(begun):
    other = replace(begun, overrides=("feather_mm=2",))
    assert augment(other, QUIET).failed
    failures = json.loads((begun.output / "summary.json").read_text())["failures"]
    assert all("made with another Augmentation" in reason for reason in failures.values())
    assert augment(replace(other, overwrite=True), QUIET).exit_code == 0


def test_a_corrupt_study_and_a_recipient_without_room_never_stop_the_rest(order, cohort):
    (cohort / "s1.nii.gz").write_bytes(b"broken")
    image = nib.load(cohort / "s2.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj) // 100, AFFINE).to_filename(cohort / "s2.nii.gz")  # other tissue
    nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), AFFINE).to_filename(cohort / "s2_mask.nii.gz")
    summary = augment(replace(order, jobs=2), QUIET)
    assert (statuses(summary), summary.exit_code) == (["done", "failed", "failed"], 1)
    assert {row["subject"].split("_")[0] for row in rows_of(order.output)[5:]} == {"s0"}
    failed = json.loads((order.output / "summary.json").read_text())["failures"]
    assert {name.split("_")[0] for name in failed} == {"s1", "s2"}


@pytest.mark.parametrize(("method", "origin"), [("carve-mix", "mask as it is"), ("soft-poisson", "mask, varied")])
def test_every_baseline_makes_cases(order, method, origin):
    assert augment(replace(order, method=method, ratio_percent=34), QUIET).exit_code == 0
    assert [told["MaskOrigin"] for told in sidecars(order.output)] == [f"a donor's {origin}"]


def test_only_training_subjects_receive(order):
    for subject, where in (
        ("s3", "in its validation part"),
        ("s4", "in its test part"),
        ("no", "in none of its parts"),
    ):
        with pytest.raises(LeakageError, match=f"'{subject}' .{where}"):
            augment(replace(order, subjects=(subject,)), QUIET)
    chosen = augment(replace(order, subjects=("s1",), ratio_percent=200), QUIET)
    assert [outcome.input.split("_")[0] for outcome in chosen.outcomes] == ["s1", "s1"]


def test_a_trained_painter_inserts_and_is_named(order):
    made = by_model(order, ratio_percent=34)
    assert augment(made, QUIET).exit_code == 0
    (told,) = sidecars(order.output)
    assert (told["Model"]["Name"], told["How"]["method"]) == ("mask_to_lesion", "painted")
    assert len(told["Model"]["WeightsSHA256"]) == 64
    generated = replace(made, output=order.output.parent / "drawn", overrides=("masks=generated",))
    assert augment(generated, QUIET).exit_code == 0
    assert [told["MaskOrigin"] for told in sidecars(generated.output)] == [
        "drawn by a shape model of the donors' masks"
    ]


def test_a_whole_sample_lies_where_its_recipients_lesions_are(order, cohort):
    made = by_model(order, {"kind": "dcgan"}, overrides=("placement=whole",))
    assert augment(made, QUIET).exit_code == 0
    assert set(statuses(augment(made, QUIET))) == {"kept"}
    for row in rows_of(order.output)[5:]:
        image, mask = (nib.load(order.output / row[column]) for column in ("image", "mask"))
        assert image.shape[:2] == mask.shape[:2] == (24, 24)
        assert image.get_data_dtype() == np.int16
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 4}
        real = nib.load(cohort / (row["subject"].split("_")[0] + "_mask.nii.gz"))
        lesions = nib.affines.apply_affine(real.affine, np.argwhere(np.asarray(real.dataobj)).mean(axis=0))
        middle = nib.affines.apply_affine(image.affine, (11.5, 11.5, 0))
        assert np.abs(middle - lesions)[:2].max() < 8


def test_a_model_binds_its_split_and_its_settings(order, cohort):
    with pytest.raises(ModelError, match="paints healthy tissue"):
        augment(by_model(order, PAINTER | {"kind": "inpainting"}), QUIET)
    made = by_model(order)
    with pytest.raises(LeakageError, match=r"'s4' .in its test part"):
        augment(replace(made, subjects=("s4",)), QUIET)
    with pytest.raises(ConfigError, match="brings its own domain"):
        augment(replace(made, domain="flair"), QUIET)
    table = cohort / "cohort.csv"
    table.write_text(table.read_text().replace("s4_mask.nii.gz,test", "s4_mask.nii.gz,train"))
    with pytest.raises(LeakageError, match="'s4' is in the cohort's train part and in the split's test part"):
        augment(made, QUIET)
    split = order.output.parent / "mask_to_lesion" / "split.json"
    split.rename(split.with_name("elsewhere.json"))
    with pytest.raises(ModelError, match="nobody can say whom the model has seen"):
        augment(made, QUIET)


def test_wrong_orders_are_refused_before_anything_is_written(order, cohort):
    for changes, error, message in (
        ({"model": "folder"}, ConfigError, "either --model"),
        ({"domain": None}, ConfigError, "needs --domain"),
        ({"method": "mixup"}, ConfigError, "none of copy-paste"),
        ({"output": cohort}, ConfigError, "is the cohort's folder"),
        ({"ratio_percent": 1}, DataError, "ask for more"),
    ):
        with pytest.raises(error, match=message):
            augment(replace(order, **changes), QUIET)
    assert not order.output.exists()
    order.output.mkdir()
    (order.output / "cohort.csv").write_text("mine")
    with pytest.raises(ConfigError, match="no output of `medgan augment`"):
        augment(order, QUIET)


# Back to the recipient's own files.

NAMES = {"lesion": (3, 5)}
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0, upper=100, percentiles=True))
LPS = np.array([[-1.0, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, 2, -7], [0, 0, 0, 1]])
"""Stored right to left and front to back: the networks see it turned."""


@pytest.fixture(params=[(20, 24, 6), (20, 24, 1)], ids=["3d", "2d"])
def files(request, tmp_path):
    """An image, and a mask in which 9 has no name."""
    mask = np.zeros(request.param, np.uint8)
    mask[4:7, 4:7, 0], mask[10, 10, 0] = 3, 9
    image = np.random.default_rng(0).integers(50, 100, request.param).astype(np.int16)
    for name, voxels in (("image", image), ("mask", mask)):
        nib.Nifti1Image(voxels, LPS).to_filename(tmp_path / f"{name}.nii.gz")
    return [read_volume(tmp_path / f"{name}.nii.gz") for name in ("image", "mask")]


def changed(files, box, spacing=(None, None, None), by=40.0, label=1):
    """A recipient on the networks' grid, and a case that differs from it in a box."""
    image, mask = files
    prepared = prepare(image, MR, GridConfig(spacing_mm=spacing))
    recipient = Labelled("s", prepared, labels_on(Study("s", "mr", image.path, mask.path), NAMES, prepared))
    voxels, labels = prepared.voxels.copy(), recipient.labels.copy()
    voxels[box] += by
    labels[box] = label
    return recipient, Labelled("s", replace(prepared, voxels=voxels), labels)


@pytest.mark.parametrize("spacing", [(None, None, None), (2.0, 2.0, None)], ids=["own grid", "coarser grid"])
def test_what_did_not_change_is_the_file_to_the_bit_and_what_did_lies_where_it_was_put(files, spacing):
    recipient, case = changed(files, np.s_[3:6, 5:8, 0:1], spacing)
    image, labels = _stored_image(files[0], recipient, case), _stored_labels(files[1], recipient, case, NAMES)
    assert (image.dtype, labels.dtype) == (np.int16, np.uint8)
    new = labels != files[1].voxels
    assert set(labels[new]) == {3}  # the first of the name's values
    world = nib.affines.apply_affine(files[0].grid.affine, np.argwhere(new))
    own = nib.affines.apply_affine(np.linalg.inv(case.image.affine), world)
    assert (np.abs(own[:, :2] - [4, 6]) <= 1.5).all()
    touched = image != files[0].voxels
    if spacing[0] is None:
        np.testing.assert_array_equal(touched, new)
        np.testing.assert_array_equal(image[new], files[0].voxels[new] + 40)
    else:
        assert (image[new] - files[0].voxels[new]).max() == 40
        assert touched.mean() < 0.2


def test_values_without_a_name_stay_and_those_of_a_name_may_go(files):
    bare, full = (_stored_labels(files[1], *changed(files, np.s_[:], label=label), NAMES) for label in (0, 1))
    assert set(np.unique(bare)) == {0, 9}
    outside = changed(files, np.s_[:])[0].labels[::-1, ::-1] == 0  # the file is stored the other way round
    assert (full[outside & (files[1].voxels == 0)] == 3).all()


def test_whole_numbers_are_rounded_and_kept_in_their_type():
    voxels = np.float32([-3.0, 1.4, 1.6, 300.0])
    for dtype, stored in ((np.uint8, [0, 1, 2, 255]), (np.float32, voxels)):
        np.testing.assert_array_equal(_as_stored(voxels, np.dtype(dtype)), stored)
