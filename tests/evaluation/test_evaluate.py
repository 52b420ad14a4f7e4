"""Evaluation of whole folders: the arms, the files, and what happens when an image is bad."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import nibabel
import numpy as np
import pandas as pd
import pytest

from medgan.data.splits import Split
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.evaluate import _Setup, evaluate
from medgan.evaluation.judging import Modalities
from medgan.evaluation.matching import Case, Matching
from medgan.evaluation.seen import SeenSubjects
from medgan.phantom.cohort import write_phantom

SHAPES = {"2d": (48, 48), "3d": (32, 32, 9)}
FLAT = SHAPES["2d"]
SUBJECTS = ("s0", "s1", "s2")
CT_CT, MR_CT, MR_MR = Modalities(), Modalities("MR", "CT"), Modalities("MR", "MR")


def ring(shape, bounds, values, outside):
    """A disc of rings that end at the bounds, as shares of the half width."""
    radius = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij"))
    flat = np.select([radius < bound for bound in bounds], values, outside)
    return np.broadcast_to(flat.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(np.rint(voxels).astype(np.int16), np.eye(4)).to_filename(path)


def body(shape, seed):
    """A disc of fat, muscle and a vessel of 200 HU in air, and the same without contrast medium in the vessel."""
    noise = np.random.default_rng(seed).normal(0, 5, shape)
    return [ring(shape, (0.3, 0.7, 0.9), (vessel, 40.0, -100.0), -1000.0) + noise for vessel in (200.0, 40.0)]


def lay_out(root, shape=FLAT, rest=0.1, subjects=SUBJECTS):
    """Sources, references and synthetic images that keep ``rest`` of the contrast."""
    for seed, subject in enumerate(subjects):
        contrast, plain = body(shape, seed)
        save(root / f"source/{subject}.nii.gz", contrast)
        save(root / f"reference/{subject}.nii.gz", plain)
        save(root / f"synthetic/{subject}.nii.gz", plain + rest * (contrast - plain))
        save(root / f"labels/{subject}.nii.gz", contrast > 130)
    (root / "labels/labels.json").write_text('{"vessel": 1}')
    return {name: root / name for name in ("synthetic", "reference", "source", "out")}


def limb(shape, seed):
    """CT and MR of a limb with a bone; the MR's scale differs by subject, and it holds air where it has no signal."""
    rng = np.random.default_rng(seed)
    bounds = np.array([0.2, 0.6, 0.8]) / rng.uniform(0.9, 1.1)
    ct = ring(shape, bounds, (600.0, 50.0, -100.0), -1000.0)
    mr = ring(shape, bounds, (150.0, 400.0, 900.0), 4.0) * rng.uniform(0.5, 2)
    return ct + rng.normal(0, 5, shape), mr + rng.normal(0, 1, shape)


def lay_out_limbs(root, shape=FLAT, subjects=SUBJECTS):
    """A cohort of limbs, and synthetic CTs that are off by 20 HU."""
    lines = ["subject,domain,image"]
    for seed, subject in enumerate(subjects):
        ct, mr = limb(shape, seed)
        save(root / f"{subject}/ct.nii.gz", ct)
        save(root / f"{subject}/mr.nii.gz", mr)
        save(root / f"synthetic/{subject}/mr.nii.gz", ct + 20)
        lines += [f"{subject},{domain},{subject}/{domain}.nii.gz" for domain in ("ct", "mr")]
    (root / "cohort.csv").write_text("\n".join(lines))
    places = {"reference": f"{root}/cohort.csv:ct", "source": f"{root}/cohort.csv:mr", "modalities": MR_CT}
    return places | {"synthetic": root / "synthetic", "out": root / "out"}


def means(found, metric):
    return found.summary[found.summary["metric"] == metric].set_index("arm")["mean"].to_dict()


def written(out):
    return json.loads((out / "summary.json").read_text())


def arms(found):
    return set(found.rows["arm"])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pairs_are_judged_by_label_and_tissue_beside_doing_nothing_and_a_look_up(tmp_path, shape):
    places = lay_out(tmp_path, shape)
    found = evaluate(**places, labels=tmp_path / "labels")
    assert found.paired
    assert found.exit_code == 0
    assert len(found.rows) == 3 * len(SUBJECTS)
    error = means(found, "mae_hu")
    assert 0 < error["synthetic"] < error["do_nothing"]
    assert 0 <= error["intensity_lookup"] < error["do_nothing"]
    row = found.summary.set_index(["arm", "metric"]).loc["synthetic", "mae_hu"]
    assert row["difference_upper"] < 0
    assert row["change_percent"] == pytest.approx(-90, abs=3)
    assert means(found, "mae_in_vessel_hu")["do_nothing"] == pytest.approx(160, abs=1)
    assert means(found, "mae_in_vessel_hu")["synthetic"] == pytest.approx(16, abs=1)
    for name in ("change_in_vessel_hu", "change_enhancing_hu"):
        assert means(found, name)["synthetic"] == pytest.approx(144, abs=1)
    assert means(found, "change_fat_hu")["synthetic"] == pytest.approx(0)
    rows = pd.read_csv(tmp_path / "out/evaluation.csv")
    pd.testing.assert_frame_equal(rows, found.rows, check_dtype=False, rtol=1e-4, atol=1e-4)
    assert written(tmp_path / "out")["arms"].keys() == {"synthetic", "do_nothing", "intensity_lookup"}
    assert written(tmp_path / "out")["arms"]["synthetic"]["change_bone_hu"]["mean"] is None


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_perfect_translation_has_no_error_and_infinite_psnr(tmp_path, shape):
    found = evaluate(**lay_out(tmp_path, shape, rest=0.0) | {"source": None})
    assert means(found, "mae_hu") == {"synthetic": 0}
    assert means(found, "ssim") == {"synthetic": 1}
    assert means(found, "psnr_db") == {"synthetic": np.inf}
    assert written(tmp_path / "out")["arms"]["synthetic"]["psnr_db"]["mean"] == "inf"


def test_the_look_up_of_a_subject_never_saw_that_subject(tmp_path):
    places = lay_out(tmp_path, rest=0.0, subjects=[*SUBJECTS, "s3"])
    save(tmp_path / "reference/s0.nii.gz", body(FLAT, 0)[0] + 100)  # only s0 becomes brighter
    rows = evaluate(**places).rows.set_index(["subject", "arm"])
    assert rows.loc[("s0", "intensity_lookup"), "bias_hu"] < -90
    assert rows.loc[("s1", "intensity_lookup"), "mae_hu"] < 3


def test_a_lone_subject_has_no_look_up_and_the_notes_say_so(tmp_path):
    found = evaluate(**lay_out(tmp_path, subjects=["s0"]))
    assert arms(found) == {"synthetic", "do_nothing"}
    assert any("there is none" in note for note in found.notes)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_unpaired_images_are_compared_by_tissue_with_other_subjects(tmp_path, shape):
    places = lay_out(tmp_path, shape)
    for subject in SUBJECTS:
        (tmp_path / f"reference/{subject}.nii.gz").rename(tmp_path / f"reference/other-{subject}.nii.gz")
    found = evaluate(**places)
    assert not found.paired
    assert arms(found) == {"synthetic", "do_nothing", "intensity_lookup", "real"}
    distance = means(found, "soft_tissue_distance_hu")
    assert distance["real"] < distance["synthetic"] < distance["do_nothing"]
    assert means(found, "enhancing_mean_hu")["do_nothing"] == pytest.approx(200, abs=1)
    assert means(found, "enhancing_mean_hu")["synthetic"] == pytest.approx(56, abs=1)
    assert means(found, "change_enhancing_hu")["synthetic"] == pytest.approx(144, abs=1)
    assert found.pooled_distance_hu["synthetic"] < found.pooled_distance_hu["do_nothing"]


def test_references_of_the_same_subjects_may_be_declared_unpaired(tmp_path):
    found = evaluate(**lay_out(tmp_path, subjects=SUBJECTS[:2]), paired=False)
    assert "soft_tissue_distance_hu" in found.rows
    assert "mae_hu" not in found.rows


def test_several_images_of_a_subject_count_as_one(tmp_path):
    found = evaluate(**lay_out(tmp_path, subjects=["a/1", "a/2", "b/1"]) | {"source": None})
    assert len(found.rows) == 3
    assert found.summary.set_index("metric").loc["mae_hu", "n"] == 2


SPOIL = {
    "on one grid": lambda root: save(root / "reference/s1.nii.gz", np.zeros((48, 47))),
    "s1": lambda root: (root / "synthetic/s1.nii.gz").write_bytes(b"not gzip"),
    "no source": lambda root: (root / "source/s1.nii.gz").unlink(),
    "mask is empty": lambda root: save(root / "reference/s1.nii.gz", np.full(FLAT, -1000)),
}


@pytest.mark.parametrize("reason", SPOIL)
def test_a_bad_case_is_named_and_stops_no_other(tmp_path, reason):
    places = lay_out(tmp_path)
    SPOIL[reason](tmp_path)
    found = evaluate(**places)
    assert found.exit_code == 1
    assert set(found.rows["subject"]) == {"s0", "s2"}
    assert [failure.image for failure in found.failures if failure.image == "s1"]
    assert reason in found.failures[0].reason
    assert written(tmp_path / "out")["failures"][0]["reason"] == found.failures[0].reason


def test_cases_are_the_judged_images_with_their_files_and_the_command_judges_them_again(tmp_path):
    places = lay_out(tmp_path)
    (tmp_path / "reference/s1.nii.gz").write_bytes(b"broken")
    found = evaluate(**places, labels=tmp_path / "labels", paired=True, label_names={"vessel": [1]})
    cases = pd.read_csv(tmp_path / "out/cases.csv", dtype=str, keep_default_na=False)
    assert list(cases) == ["subject", "image", "synthetic", "reference", "source", "mask", "labels"]
    assert list(cases["image"]) == list(found.rows.query("arm == 'synthetic'")["image"]) == ["s0", "s2"]
    assert set(cases["mask"]) == {""}
    for row in cases.to_dict("records"):
        for role in ("synthetic", "reference", "source", "labels"):
            assert not Path(row[role]).is_absolute()
            assert (tmp_path / "out" / row[role]).samefile(tmp_path / role / f"{row['subject']}.nii.gz")
    words = shlex.split(written(tmp_path / "out")["command"])
    assert words[:2] == ["medgan", "evaluate"]
    options = dict(zip(words[2:-1:2], words[3:-1:2], strict=True))
    given = ("synthetic", "reference", "source", "out", "labels")
    assert options == {f"--{name}": str(tmp_path / name) for name in given} | {"--organ": "vessel=1"}
    assert words[-1] == "--paired"


def test_if_nothing_can_be_judged_the_files_say_why(tmp_path):
    places = lay_out(tmp_path, subjects=["s1"])
    SPOIL["s1"](tmp_path)
    assert evaluate(**places).exit_code == 2
    assert written(tmp_path / "out")["failures"]


def test_what_cannot_work_is_refused_before_the_work(tmp_path):
    places = lay_out(tmp_path, subjects=SUBJECTS[:2])
    with pytest.raises(DataError, match="nowhere"):
        evaluate(**places | {"reference": tmp_path / "nowhere"})
    with pytest.raises(ConfigError, match="unpaired MR"):
        evaluate(**places, paired=False, modalities=MR_MR)
    assert not places["out"].exists()
    places["out"].write_text("taken")
    with pytest.raises(DataError, match="cannot be made a folder"):
        evaluate(**places)


def test_a_phantom_is_judged_against_its_hidden_truth_organ_by_organ(tmp_path):
    table = write_phantom(tmp_path / "phantom", subjects=2, seed=0, shape=(36, 36, 6))
    for subject in ("sub-001", "sub-002"):
        (tmp_path / "synthetic" / subject).mkdir(parents=True)
        copyfile(table.parent / subject / "plain.nii.gz", tmp_path / "synthetic" / subject / "contrast.nii.gz")
    places = {"source": f"{table}:contrast", "labels": table}
    found = evaluate(tmp_path / "synthetic", f"{table}:plain", tmp_path / "out", **places)
    assert not found.failures
    assert means(found, "mae_in_liver_hu")["synthetic"] == 0
    assert means(found, "mae_in_kidney_cortex_hu")["do_nothing"] > 30


def test_real_dicom_slices_lie_on_the_grid_of_the_nifti_written_from_them(medgan_data, tmp_path):
    header, *rows = (medgan_data / "tcga_luad/cohort.csv").read_text().splitlines()
    contrast, plain = ([row for row in rows if f",{domain}," in row][:4:2] for domain in ("contrast", "plain"))
    (tmp_path / "cohort.csv").write_text("\n".join([header, *contrast, *plain]))
    (tmp_path / "dicom").symlink_to(medgan_data / "tcga_luad/dicom")
    for image in (Path(row.split(",")[2]) for row in contrast):
        volume = read_volume(tmp_path / image)
        name = (tmp_path / "synthetic" / image).with_suffix(".nii.gz")
        name.parent.mkdir(parents=True, exist_ok=True)
        write_volume(volume.voxels, volume.grid, name, np.float32)
    source, reference = (f"{tmp_path}/cohort.csv:{domain}" for domain in ("contrast", "plain"))
    found = evaluate(tmp_path / "synthetic", reference, tmp_path / "out", source=source, paired=False)
    assert not found.failures
    assert means(found, "change_bone_hu")["synthetic"] == 0
    assert arms(found) == {"synthetic", "do_nothing", "intensity_lookup", "real"}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_ct_from_an_mr_is_judged_beside_constant_look_ups_and_a_shift_and_not_beside_the_mr(tmp_path, shape):
    found = evaluate(**lay_out_limbs(tmp_path, shape))
    assert found.exit_code == 0
    error = means(found, "core_mae_hu")
    assert error.keys() == {"synthetic", "constant", "intensity_lookup", "intensity_lookup_median", "true_shifted"}
    assert error["synthetic"] == pytest.approx(20, abs=0.1)
    assert error["intensity_lookup"] < error["constant"]
    dice = means(found, "core_bone_dice")
    assert dice["constant"] == 0 < dice["true_shifted"] < 1 == dice["synthetic"]
    assert any("do_nothing is left out" in note for note in found.notes)
    compared = written(tmp_path / "out")["synthetic_against"]
    assert compared.keys() == error.keys() - {"synthetic"}
    against = compared["constant"]["core_mae_hu"]
    assert (against["better_in"], against["n"]) == (3, 3)
    assert against["upper"] < 0
    assert compared["constant"]["clipped_percent"].keys() == against.keys()


def test_without_sources_the_constant_and_the_shift_remain(tmp_path):
    found = evaluate(**lay_out_limbs(tmp_path, subjects=SUBJECTS[:2]) | {"source": None})
    assert arms(found) == {"synthetic", "constant", "true_shifted"}
    assert "bone_dice" in found.rows
    assert "core_bone_dice" not in found.rows


def test_baselines_are_fitted_on_the_training_part_of_a_cohort(tmp_path):
    places = lay_out_limbs(tmp_path, subjects=["train1", "train2", "test1"])
    for subject in ("train1", "train2"):
        (tmp_path / f"synthetic/{subject}/mr.nii.gz").unlink()
    split = tmp_path / "split.json"
    Split(train=("train1", "train2"), validation=(), test=("test1",), files={}).save(split)
    found = evaluate(**places, training=tmp_path / "cohort.csv", split=split)
    assert set(found.rows["subject"]) == {"test1"}
    assert means(found, "core_mae_hu")["intensity_lookup"] < means(found, "core_mae_hu")["constant"]
    for said in ("2 training subjects", "does not know what its images show"):
        assert any(said in note for note in found.notes)


def test_a_training_cohort_serves_from_ct_to_ct_too(tmp_path):
    places = lay_out(tmp_path, subjects=["s0", "s1"])
    lines = [f"{s},{d},{d}/{s}.nii.gz" for s in ("s0", "s1") for d in ("source", "reference")]
    (tmp_path / "cohort.csv").write_text("\n".join(["subject,domain,image", *lines]))
    (places["synthetic"] / "s1.nii.gz").unlink()
    found = evaluate(**places, training=f"{tmp_path / 'cohort.csv'}:source,reference")
    assert means(found, "mae_hu")["intensity_lookup"] < means(found, "mae_hu")["do_nothing"]


def say(folder, **parts):
    """Write sidecars that say of which part of the model's split each input was."""
    for subject, part in parts.items():
        (folder / f"{subject}.json").write_text(json.dumps({"Training": {"SplitSHA256": "", "ThisImage": part}}))


@pytest.mark.parametrize("with_pairs", [True, False], ids=["paired", "unpaired"])
def test_whom_the_model_has_seen_is_in_no_figure_of_the_others_and_is_told_apart(tmp_path, with_pairs):
    places = lay_out(tmp_path, subjects=[*SUBJECTS, "s3"]) | {"paired": with_pairs}
    say(places["synthetic"], s2="unseen", s3="unseen")
    alone = evaluate(**places)
    assert alone.seen is None
    assert alone.who.unknown == ("s0", "s1")
    save(places["synthetic"] / "s0.nii.gz", body(FLAT, 0)[0] + 500)  # figures with s0 or s1 would be others
    say(places["synthetic"], s0="train", s1="validation", s2="unseen", s3="unseen")
    found = evaluate(**places)
    own = found.rows[found.rows["arm"] != "real"]
    assert set(own["subject"]) == {"s2", "s3"}
    assert found.exit_code == 0
    same = alone.rows[alone.rows["subject"].isin(["s2", "s3"]) & (alone.rows["arm"] == "synthetic")]
    pd.testing.assert_frame_equal(
        own[own["arm"] == "synthetic"].reset_index(drop=True), same[list(own.columns)].reset_index(drop=True)
    )
    apart = pd.read_csv(places["out"] / "seen.csv")
    assert apart.groupby("subject")["seen"].first().to_dict() == {"s0": "train", "s1": "validation"}
    summary = written(places["out"])
    assert (summary["seen"]["train"], summary["seen"]["validation"]) == (["s0"], ["s1"])
    assert summary["seen"]["arms"]["synthetic"] != summary["arms"]["synthetic"]


def test_where_all_are_seen_there_is_no_headline(tmp_path):
    places = lay_out(tmp_path, subjects=["s0", "s1"])
    say(places["synthetic"], s0="train", s1="train")
    found = evaluate(**places | {"source": None})
    assert found.rows.empty
    assert found.exit_code == 2
    assert any("There is no figure for unseen subjects" in note for note in found.notes)
    assert len(found.seen.rows) == 2
    say(places["synthetic"], s0="unseen", s1="unseen")
    assert evaluate(**places).exit_code == 0
    assert not (places["out"] / "seen.csv").exists()


def test_with_a_split_who_chose_the_epoch_is_told_apart_too(tmp_path):
    places = lay_out(tmp_path)
    Split(train=(), validation=("s0",), test=SUBJECTS[1:], files={}).save(tmp_path / "split.json")
    found = evaluate(**places | {"source": None}, split=tmp_path / "split.json")
    assert set(found.rows["subject"]) == set(SUBJECTS[1:])
    assert set(found.seen.rows["subject"]) == {"s0"}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_contrast_mr_is_judged_by_where_it_enhances_beside_doing_nothing(tmp_path, shape):
    places = lay_out_limbs(tmp_path, shape, SUBJECTS[:2])
    for subject in SUBJECTS[:2]:
        after = read_volume(tmp_path / f"{subject}/mr.nii.gz").voxels.reshape(shape).copy()
        after[tuple(slice(n // 2 + 4, n // 2 + 7) for n in shape[:2])] += 0.4 * after.max()
        save(tmp_path / f"{subject}/ct.nii.gz", after)
        save(tmp_path / f"synthetic/{subject}/mr.nii.gz", 3 * after)
    found = evaluate(**places | {"modalities": MR_MR})
    assert found.exit_code == 0
    assert arms(found) == {"synthetic", "do_nothing", "true_shifted"}
    assert means(found, "enhancing_mae_percent")["synthetic"] < 1
    assert means(found, "enhancing_mae_percent")["do_nothing"] > 20
    assert means(found, "enhancing_dice")["synthetic"] > 0.95


def test_unpaired_ct_from_mr_is_described_by_its_own_tissues(tmp_path):
    found = evaluate(**lay_out_limbs(tmp_path, subjects=SUBJECTS[:2]), paired=False)
    assert arms(found) == {"synthetic", "real"}
    assert means(found, "bone_mean_hu")["synthetic"] == pytest.approx(620, abs=20)
    assert not [name for name in found.rows if name.startswith("change_")]


def test_an_uncertainty_map_is_judged_by_the_error_of_the_synthetic_image_alone(tmp_path):
    places = lay_out(tmp_path, (32, 32, 9), rest=0.5, subjects=SUBJECTS[:2])
    for subject in SUBJECTS[:2]:
        synthetic, reference = (read_volume(places[role] / f"{subject}.nii.gz") for role in ("synthetic", "reference"))
        error = np.abs(synthetic.voxels - reference.voxels)
        write_volume(error, synthetic.grid, places["synthetic"] / f"{subject}_uncertainty.nii.gz", np.dtype("f4"))
    found = evaluate(**places)
    assert len(found.rows) == 3 * 2
    correlation = means(found, "uncertainty_spearman")
    assert correlation["synthetic"] == pytest.approx(1)
    assert np.isnan([correlation["do_nothing"], correlation["intensity_lookup"]]).all()


def facts(modalities, *, paired=True, trained=0, **others):
    training = tuple(Case(f"t{number}", "", Path("t"), {}) for number in range(trained))
    return _Setup(Matching((), paired, 3, ()), modalities, training=training, **{"has_source": True} | others)


@pytest.mark.parametrize(
    ("setting", "subjects", "expected"),
    [
        (facts(CT_CT), 2, True),
        (facts(CT_CT), 1, False),
        (facts(CT_CT, trained=5), 1, True),
        (facts(CT_CT, has_source=False), 9, False),
        (facts(MR_CT, has_source=False), 9, True),
        (facts(MR_CT, paired=False), 9, False),
        (facts(MR_MR), 9, False),
    ],
)
def test_look_ups_need_other_subjects_and_a_unit(setting, subjects, expected):
    assert setting.looked_up(subjects) == expected


FITTED = "constant and intensity_lookup are fitted for each subject on the pairs of 7 tr"


@pytest.mark.parametrize(
    ("setting", "said", "unsaid"),
    [
        (facts(CT_CT), "intensity_lookup is fitted for each subject on the pairs of the other", "true_shifted"),
        (facts(CT_CT, paired=False), "on the histograms of the other", "core:"),
        (facts(MR_CT, trained=7), FITTED, "none."),
        (facts(MR_CT), "do_nothing is left out: the intensities of MR are no CT", "training subjects"),
        (facts(MR_CT, paired=False), "have no baseline", "fitted"),
        (facts(MR_MR), "MR has no unit", "left out"),
        (facts(CT_CT, seen=SeenSubjects(validation=("a",))), "(these chose its epoch: a)", "trained on them"),
        (facts(CT_CT, has_source=False), "Without the source images", "core:"),
    ],
)
def test_notes_say_what_holds_and_nothing_else(setting, said, unsaid):
    text = " ".join(setting.notes(3))
    assert said in text
    assert unsaid not in text
    passed = replace(setting, matching=replace(setting.matching, passed_over={"all.zip": "packed; unpack it first"}))
    assert "Passed over, packed; unpack it first (1): all.zip." in passed.notes(3)
