import csv
import io
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from torch import nn

from medgan.data.domains import domain_named
from medgan.data.hashes import file_hash
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, LeakageError, ModelError
from medgan.inference.sidecar import as_json
from medgan.synthesis.augment import AugmentOrder, augment
from medgan.synthesis.generators import SynthesisConfig
from medgan.synthesis.training import GeneratorDescription
from medgan.training import model_folder

QUIET = Console(quiet=True)


@pytest.fixture
def make_console():
    """Consoles whose text is in ``file.getvalue()``."""
    return lambda: Console(file=io.StringIO(), width=200)


AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1, 0, -30], [0, 0, 2, 4], [0, 0, 0, 1]])
SHAPE = (36, 36, 8)
PARTS = ("train", "train", "train", "validation", "test")


@pytest.fixture
def cohort(tmp_path, with_lesions):
    """Five subjects whose masks mark lesions by 4; s2 is bright as no other."""
    folder = tmp_path / "cohort"
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


@pytest.fixture
def order(cohort, tmp_path):
    return AugmentOrder(cohort, tmp_path / "out", method="copy-paste", domain="flair", device="cpu", seed=5)


PAINTER = {
    "kind": "mask_to_lesion",
    "network": {"kind": "spade", "channels": 4, "downs": 1, "hidden": 4},
    "adversarial": "none",
}


def write_model(cohort, folder, generator):
    """The model folder of a generator that nobody has trained, in a run with the cohort's split."""
    config = SynthesisConfig.model_validate(
        {
            "labels": {"lesion": 4},
            "domain": domain_named("flair").model_dump(),
            "patch": {"size_voxels": 24},
            "generator": generator,
        }
    )
    hashes = {f"s{n}": {f"s{n}.nii.gz": file_hash(cohort / f"s{n}.nii.gz")} for n in range(5)}
    split = Split(train=("s0", "s1", "s2"), validation=("s3",), test=("s4",), files=hashes)
    split.save(folder / "split.json")
    networks: dict[str, nn.Module] = {"generator": config.generator.build(config)}
    model_folder.write_model(
        folder / "model", networks, GeneratorDescription, config=config, seed=0, subjects=split.train, validated=1,
        origin=model_folder.Origin(split_hash=split.hash), metrics={}, epoch=1,
    )  # fmt: skip
    return folder / "model"


@pytest.fixture
def model(cohort, tmp_path):
    return write_model(cohort, tmp_path / "run", PAINTER)


def ends(summary):
    return sorted((outcome.input, outcome.status) for outcome in summary.outcomes)


def rows_of(folder):
    with (folder / "cohort.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder):
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NOTES]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


NOTES = ("manifest.jsonl", "summary.json")


def test_the_cohort_has_the_real_rows_and_the_synthetic_ones_for_training(order):
    summary = augment(replace(order, ratio_percent=200), QUIET)
    assert (len(summary.outcomes), summary.exit_code) == (6, 0)
    rows = rows_of(order.output)
    assert [(row["subject"], row["split"]) for row in rows[:5]] == [(f"s{n}", part) for n, part in enumerate(PARTS)]
    assert {row["split"] for row in rows[5:]} == {"train"}
    assert len({row["subject"] for row in rows}) == 11
    for row in rows:
        for column in ("image", "mask"):
            assert (order.output / row[column]).is_file()
    assert json.loads((order.output / "labels.json").read_text()) == {"labels": {"4": "lesion"}}
    recipients = [row["subject"].split("_")[0] for row in rows[5:]]
    assert all(recipients.count(f"s{n}") == 2 for n in range(3))


def test_a_case_lies_on_its_recipients_grid_and_differs_where_lesions_are_new(order, cohort):
    augment(order, QUIET)
    for row in rows_of(order.output)[5:]:
        source = row["subject"].split("_")[0]
        for column, name in (("image", f"{source}.nii.gz"), ("mask", f"{source}_mask.nii.gz")):
            made, real = nib.load(order.output / row[column]), nib.load(cohort / name)
            assert (made.shape, made.get_data_dtype()) == (real.shape, real.get_data_dtype())
            for field in ("qform_code", "sform_code", "pixdim", "srow_x", "srow_y", "srow_z", "xyzt_units"):
                np.testing.assert_array_equal(made.header[field], real.header[field])
                assert made.header["descrip"].item().startswith(b"SYNTHETIC, medgan")
        image, mask, old, old_mask = (
            np.asarray(nib.load(path).dataobj)
            for path in (order.output / row["image"], order.output / row["mask"], cohort / f"{source}.nii.gz",
                         cohort / f"{source}_mask.nii.gz")
        )  # fmt: skip
        new = mask != old_mask
        assert set(np.unique(mask)) == {0, 4}
        assert 0 < new.sum() < np.count_nonzero(image != old) < 0.2 * image.size
        assert image[new].mean() > 150
        assert old[new].mean() < 110


def test_cases_of_an_earlier_augmentation_are_neither_donors_nor_recipients(order, cohort, tmp_path, make_console):
    """Also where the real ones are a phantom's, whose sidecars say that they are synthetic."""
    for number in range(5):
        (cohort / f"s{number}.json").write_text(json.dumps({"phantom": True, "Synthetic": True}))
    augment(order, QUIET)
    console = make_console()
    summary = augment(replace(order, input=order.output, output=tmp_path / "again", seed=6), console)
    assert (len(summary.outcomes), summary.exit_code) == (3, 0)
    assert "3 synthetic cases of `medgan augment` are left out" in console.file.getvalue()
    rows = rows_of(tmp_path / "again")
    assert [row["subject"] for row in rows[:5]] == [f"s{number}" for number in range(5)]
    parents = [json.loads(path.read_text())["Parents"] for path in (tmp_path / "again" / "synthetic").glob("*.json")]
    assert len(parents) == len(rows[5:]) == 3
    assert {parent for each in parents for parent in each} <= {"s0", "s1", "s2"}


def test_every_case_says_what_it_was_made_of(order, cohort):
    augment(order, QUIET)
    for row in rows_of(order.output)[5:]:
        image = order.output / row["image"]
        told = json.loads(image.with_name(row["subject"] + ".json").read_text())
        source = row["subject"].split("_")[0]
        assert told["Synthetic"] is True
        assert told["Parents"][0] == source
        assert set(told["Parents"]) <= {"s0", "s1", "s2"}
        assert told["Sources"] == [f"{source}.nii.gz"]
        assert told["SourceSHA256"] == file_hash(cohort / f"{source}.nii.gz")
        assert told["Augmentation"]["Seed"] == 5
        assert told["Augmentation"]["Method"] == "copy-paste"
        assert told["MaskOrigin"] == "a donor's mask, varied"
        assert {"medgan", "torch"} <= set(told["Versions"])
        assert told["Outputs"][image.name] == file_hash(image)
        assert str(cohort.parent) not in as_json(told)


def test_killed_and_run_again_it_writes_the_same_cohort(order, monkeypatch, tmp_path):
    whole = replace(order, output=tmp_path / "whole")
    augment(whole, QUIET)
    from medgan.synthesis import augment as module

    written = module.write_outputs

    def killed(job, *rest):
        if job.number == 1:
            raise KeyboardInterrupt
        written(job, *rest)

    monkeypatch.setattr(module, "write_outputs", killed)
    with pytest.raises(KeyboardInterrupt):
        augment(order, QUIET)
    assert not (order.output / "cohort.csv").exists()
    monkeypatch.setattr(module, "write_outputs", written)
    statuses = [status for _, status in ends(augment(order, QUIET))]
    assert "kept" in statuses
    assert contents(order.output) == contents(tmp_path / "whole")
    assert {status for _, status in ends(augment(order, QUIET))} == {"kept"}


def test_a_larger_ratio_adds_to_the_cases_of_a_smaller_one(order):
    augment(replace(order, ratio_percent=67), QUIET)
    before = contents(order.output / "synthetic")
    summary = augment(replace(order, ratio_percent=134), QUIET)
    assert [status for _, status in ends(summary)].count("kept") == 2
    assert before.items() <= contents(order.output / "synthetic").items()


def test_cases_made_otherwise_are_not_overwritten_unasked(order):
    augment(order, QUIET)
    other = replace(order, overrides=("feather_mm=2",))
    summary = augment(other, QUIET)
    failures = json.loads((order.output / "summary.json").read_text())["failures"]
    assert summary.failed
    assert all("made with another Augmentation" in reason for reason in failures.values())
    assert augment(replace(other, overwrite=True), QUIET).exit_code == 0


def test_a_corrupt_study_never_stops_the_rest(order, cohort):
    (cohort / "s1.nii.gz").write_bytes(b"broken")
    summary = augment(replace(order, jobs=2), QUIET)
    assert summary.exit_code == 1
    assert sorted(status for _, status in ends(summary)) == ["done", "done", "failed"]
    rows = rows_of(order.output)
    assert {row["subject"].split("_")[0] for row in rows[5:]} == {"s0", "s2"}
    failed = json.loads((order.output / "summary.json").read_text())["failures"]
    assert [name.split("_")[0] for name in failed] == ["s1"]


def test_a_recipient_without_room_fails_alone(order, cohort):
    image = nib.load(cohort / "s2.nii.gz")
    nib.Nifti1Image(np.asarray(image.dataobj) // 100, AFFINE).to_filename(cohort / "s2.nii.gz")  # other tissue
    flat = nib.Nifti1Image(np.zeros(SHAPE, dtype=np.uint8), AFFINE)
    flat.to_filename(cohort / "s2_mask.nii.gz")
    summary = augment(order, QUIET)
    failed = [outcome for outcome in summary.outcomes if outcome.status == "failed"]
    assert [outcome.input.split("_")[0] for outcome in failed] == ["s2"]


@pytest.mark.parametrize("method", ["carve-mix", "soft-poisson"])
def test_every_baseline_makes_cases(order, method):
    assert augment(replace(order, method=method), QUIET).exit_code == 0


def test_only_training_subjects_receive(order):
    chosen = augment(replace(order, subjects=("s1",), ratio_percent=200), QUIET)
    assert [name.split("_")[0] for name, _ in ends(chosen)] == ["s1", "s1"]
    for subject, where in (("s3", "validation"), ("s4", "test")):
        with pytest.raises(LeakageError, match=f"'{subject}' .in its {where} part"):
            augment(replace(order, subjects=(subject,)), QUIET)
    with pytest.raises(LeakageError, match="none of its parts"):
        augment(replace(order, subjects=("nobody",)), QUIET)


def test_a_trained_painter_inserts_and_is_named(order, model):
    made = replace(order, method=None, domain=None, model=str(model))
    assert augment(made, QUIET).exit_code == 0
    row = rows_of(order.output)[5]
    told = json.loads((order.output / "synthetic" / f"{row['subject']}.json").read_text())
    assert told["Model"]["Name"] == "mask_to_lesion"
    assert len(told["Model"]["WeightsSHA256"]) == 64
    assert told["How"]["method"] == "painted"
    generated = replace(made, output=order.output.parent / "drawn", overrides=("masks=generated",))
    assert augment(generated, QUIET).exit_code == 0


def test_a_whole_sample_lies_where_its_recipients_lesions_are(order, cohort, tmp_path):
    sampler = write_model(cohort, tmp_path / "sampler", {"kind": "dcgan"})
    made = replace(order, method=None, domain=None, model=str(sampler), overrides=("placement=whole",))
    assert augment(made, QUIET).exit_code == 0
    assert {status for _, status in ends(augment(made, QUIET))} == {"kept"}
    for row in rows_of(order.output)[5:]:
        image, mask = (nib.load(order.output / row[column]) for column in ("image", "mask"))
        assert image.shape[:2] == mask.shape[:2] == (24, 24)
        assert image.get_data_dtype() == np.int16
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 4}
        real = nib.load(cohort / (row["subject"].split("_")[0] + "_mask.nii.gz"))
        lesions = nib.affines.apply_affine(real.affine, np.argwhere(np.asarray(real.dataobj)).mean(axis=0))
        middle = nib.affines.apply_affine(image.affine, (11.5, 11.5, 0))
        assert np.abs(middle - lesions)[:2].max() < 8


def test_a_painter_of_healthy_tissue_makes_no_lesions(order, cohort, tmp_path):
    healthy = write_model(cohort, tmp_path / "healthy", PAINTER | {"kind": "inpainting"})
    with pytest.raises(ModelError, match="paints healthy tissue"):
        augment(replace(order, method=None, domain=None, model=str(healthy)), QUIET)


def test_a_model_binds_its_split_and_its_settings(order, model, cohort):
    made = replace(order, method=None, domain=None, model=str(model))
    with pytest.raises(LeakageError, match=r"'s4' .in its test part"):
        augment(replace(made, subjects=("s4",)), QUIET)
    with pytest.raises(ConfigError, match="brings its own domain"):
        augment(replace(made, domain="flair"), QUIET)
    table = cohort / "cohort.csv"
    table.write_text(table.read_text().replace("s4_mask.nii.gz,test", "s4_mask.nii.gz,train"))
    with pytest.raises(LeakageError, match="'s4' is in the cohort's train part and in the split's test part"):
        augment(made, QUIET)
    (model.parent / "split.json").rename(model.parent / "elsewhere.json")
    with pytest.raises(ModelError, match="nobody can say whom the model has seen"):
        augment(made, QUIET)


def test_wrong_orders_are_refused_before_anything_is_written(order, cohort, model):
    with pytest.raises(ConfigError, match="either --model"):
        augment(replace(order, model=str(model)), QUIET)
    with pytest.raises(ConfigError, match="needs --domain"):
        augment(replace(order, domain=None), QUIET)
    with pytest.raises(ConfigError, match="none of copy-paste"):
        augment(replace(order, method="mixup"), QUIET)
    with pytest.raises(ConfigError, match="is the cohort's folder"):
        augment(replace(order, output=cohort), QUIET)
    with pytest.raises(DataError, match="ask for more"):
        augment(replace(order, ratio_percent=1), QUIET)
    assert not order.output.exists()
    order.output.mkdir()
    (order.output / "cohort.csv").write_text("mine")
    with pytest.raises(ConfigError, match="no output of `medgan augment`"):
        augment(order, QUIET)
