"""Leaks, by every way, given to every command that trains or judges and to every study: each is refused by name.

Of eight subjects s0 to s3 are trained on, s4 and s5 validate, s6 and s7 are tested. A leak makes s6 somebody who was
trained on: by name, or by what an image shows.
"""

import gzip
import json
import shlex
import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from medgan import catalog
from medgan.cli import app
from medgan.config import load
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.hashes import image_hash
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split, SplitConfig, split_subjects
from medgan.data.studies import find_cohort
from medgan.errors import DataError, LeakageError, MedganError
from medgan.segmentation.settings import SegmenterConfig
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription
from medgan.training.model_folder import Origin, write_model
from medgan.training.run_folder import RunFolder
from tables import rewrite

PARTS = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2


def ct(name):
    return Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window())


MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.5, upper=99.5, percentiles=True))
TWO = DomainPair(source=ct("contrast"), target=ct("plain"), paired=False)
MR_CT = DomainPair(source=MR, target=ct("ct"), paired=True)
ONE = DomainPair(source=ct("plain"), target=ct("plain"), paired=False)

LESIONS = "'domain={name: plain, modality: CT, unit: HU, air: -1024}' 'labels={bone: 1}'"
FEW = "'segmenter.domain={name: plain, modality: CT, unit: HU, air: -1024}' 'segmenter.labels={bone: 1}' sizes=[2]"
DIVIDING = {
    "train ct_contrast": "train -p ct_contrast --data CT",
    "train mr_to_ct": "train -p mr_to_ct --data MR",
    "train lesion_augmentation": f"train -p lesion_augmentation --data CT {LESIONS}",
    "train lesion_classification": f"train -p lesion_classification --data CT {LESIONS}",
    "segment-train": "segment-train --data CT --domain plain:CT",
    "sweep": "sweep -p ct_contrast --data CT cyclegan.cycle=5,10",
    "ablation": "study ablation -p ct_contrast --data CT --only losses",
    "misalignment": "study misalignment -p ct_contrast --data CT --shifts 0,1",
    "benefit": "benefit -p ct_contrast --data CT 'segmenter.labels={bone: 1}'",
    "augmentation": f"benefit -p lesion_augmentation --study augmentation --data CT {FEW}",
    "augment": "augment CT OUT/made --method copy-paste --domain plain:CT",
}
"""Commands that divide a cohort and train on it. Lesion prevalence renders its own subjects."""


@dataclass(frozen=True)
class Place:
    """A cohort of CT and one of MR and CT, and where commands write."""

    root: Path

    def table(self, name: str) -> Path:
        return self.root / name / "cohort.csv"

    def run(self, command: str) -> tuple[str, Exception | None]:
        """What a command prints, and what it raises; words in capitals are places."""
        words = shlex.split(command)
        for name in ("CT", "MR"):
            words = [str(self.table(name)) if word == name else word for word in words]
        words = [word.replace("OUT", str(self.root / "runs")).replace("ROOT", str(self.root)) for word in words]
        out = ["--out", str(self.root / "runs"), "--name", "one"] if words[0] not in HAS_NO_RUNS else []
        ended = CliRunner().invoke(app, [*words, *out, "--debug"], env={"COLUMNS": "400"})
        return ended.output, ended.exception

    def refuses(self, command: str, kind: type[MedganError] = LeakageError) -> str:
        """The error that a command ends with, and which leaves nothing behind."""
        before = set((self.root / "runs").rglob("*"))
        said, error = self.run(command)
        assert type(error) is kind, f"{said}\n{error!r}"
        assert set((self.root / "runs").rglob("*")) == before
        return str(error)


HAS_NO_RUNS = ("augment", "convert", "faithfulness", "evaluate", "data")


def write_cohort(folder, pair, scan):
    """Subjects with both scans and a mask each; ``scan(seed, bright)`` gives voxels (X, Y, Z)."""
    folder.mkdir(parents=True)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    rows = ["subject,domain,image,mask,split"]
    for number, part in enumerate(PARTS):
        mask = np.zeros((32, 32, 3), np.uint8)
        mask[14:19, 5:10] = 1
        nib.Nifti1Image(mask, affine).to_filename(folder / f"s{number}_mask.nii.gz")
        for place, domain in enumerate(pair.names):
            voxels = np.rint(scan(number, place == 0) + place).astype(np.int16)
            nib.Nifti1Image(voxels, affine).to_filename(folder / f"s{number}_{domain}.nii.gz")
            rows.append(f"s{number},{domain},s{number}_{domain}.nii.gz,s{number}_mask.nii.gz,{part}")
    (folder / "cohort.csv").write_text("\n".join(rows))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, ct) -> Path:
    """Both cohorts, whose images are all different, and for each a run with an untrained model."""
    root = tmp_path_factory.mktemp("cohorts")
    for name, pair in (("CT", TWO), ("MR", MR_CT)):
        write_cohort(root / name, pair, ct)
        write_run(root / f"{name.lower()}_run", find_cohort(root / name, pair), pair)
    return root


def write_run(folder, cohort, pair):
    """A run whose model says that it was trained on the cohort's training part."""
    split = split_subjects(cohort, pair, SplitConfig())
    split.save(folder / "split.json")
    patch = PatchConfig(dimensions="2", size_voxels=16)
    generator = GeneratorConfig(network=ResNetConfig(channels=4, downs=1, blocks=1, norm="group"), change="none")
    torch.manual_seed(0)
    networks = {way: generator.build(pair, patch, way) for way in ("to_target", "to_source")}
    description = {
        "name": "mr_to_ct" if pair is MR_CT else "ct_contrast", "pair": pair, "patch": patch, "generator": generator,
        "grid": GridConfig(spacing_mm=(None, None, None)), "intensities": {}, "metrics": {}, "epoch": 1,
        "origin": Origin.of(split, phantom=False),
    }  # fmt: skip
    write_model(folder / "model", networks, TranslationDescription, **description)


@pytest.fixture
def place(untouched, tmp_path, monkeypatch) -> Place:
    """Cohorts that a test may change. Whether patches fit the networks, which takes longest, is no claim of these."""
    monkeypatch.setattr("medgan.translators.pipeline._check_patch", lambda *_: None)
    shutil.copytree(untouched, tmp_path / "here")
    return Place(tmp_path / "here")


def each_image(folder, change, of="s0", to="s6"):
    for image in sorted(folder.glob(f"{of}_[!m]*.nii.gz")) + sorted(folder.glob(f"{of}_mr.nii.gz")):
        change(image, image.with_name(image.name.replace(of, to, 1)))


def recompressed(image, twin):
    twin.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), compresslevel=1, mtime=1))


def exported_anew(image, twin):
    """Of another type, its voxels in another order and at another place, with other words in the header."""
    stored = nib.load(image)
    voxels = np.asarray(stored.dataobj, np.float32)[::-1, ::-1]
    anew = nib.Nifti1Image(voxels, np.diag([-2.0, -2.0, 5.0, 1.0]) + np.eye(4, k=3) * 70)
    anew.header["descrip"] = b"another export"
    anew.to_filename(twin)


def renamed(table, names):
    """A cohort whose subjects are called otherwise."""
    rewrite(table, lambda row: row | {"subject": names.get(row["subject"], row["subject"])})


BY_CONTENT = {"byte copy": shutil.copy, "recompressed": recompressed, "exported anew": exported_anew}


@pytest.mark.parametrize("command", DIVIDING.values(), ids=DIVIDING)
def test_an_image_of_a_training_subject_under_a_test_subjects_name_and_a_subject_in_two_parts_are_refused(
    command, place
):
    for name in ("CT", "MR"):
        each_image(place.root / name, exported_anew)
    error = place.refuses(command)
    assert "'s0' (train)" in error
    assert "'s6' (test)" in error
    for name in ("CT", "MR"):
        renamed(place.table(name), {"s6": "s0"})
    assert "s0" in place.refuses(command, DataError)


@pytest.mark.parametrize(
    "command", ["train ct_contrast", "train mr_to_ct", "sweep", "ablation", "misalignment", "benefit"]
)
def test_names_that_may_be_of_one_patient_in_two_domains_are_refused(command, place):
    """Of folders alone: a table says itself who is who."""
    for name, pair in (("CT", TWO), ("MR", MR_CT)):
        for number, domain in product(range(8), pair.names):
            folder = place.root / f"folders_{name}" / domain
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place.root / name / f"s{number}_{domain}.nii.gz", folder / f"{domain}_PAT00{number}.nii.gz")
    assert "PAT000" in place.refuses(DIVIDING[command].replace("--data ", "--data ROOT/folders_"))


@pytest.mark.parametrize("like", ["S0", "s-0", "s00"])
def test_names_that_are_nearly_equal_are_a_finding(like, place):
    renamed(place.table("CT"), {"s6": like})
    said, error = place.run("data check CT")
    assert isinstance(error, SystemExit), said
    assert error.code == 1
    (finding,) = [line for line in said.splitlines() if line.startswith("leakage:")]
    assert "s0" in finding
    assert like in finding


JUDGED = (
    "--synthetic ROOT/made --source ROOT/CT/cohort.csv:contrast --reference ROOT/CT/cohort.csv:plain --out OUT/judged"
)
JUDGING = {
    "convert --part test": "convert CT OUT/made --model ROOT/ct_run/model --part test",
    "faithfulness --part test": "faithfulness CT OUT/made --model ROOT/ct_run/model --part test",
    "evaluate --split": f"evaluate {JUDGED} --split ROOT/ct_run/split.json",
    "benefit --model": DIVIDING["benefit"] + " --model ROOT/ct_run/model",
}
"""Commands that are given a model, or its split."""


def synthetic(place, subjects):
    """Images that some model made of these subjects, none of which says what that had seen."""
    (place.root / "made").mkdir()
    for subject in subjects:
        shutil.copy(place.root / "CT" / f"{subject}_plain.nii.gz", place.root / "made" / f"{subject}_contrast.nii.gz")


def to_strangers(place, twin):
    """Of the cohort that a model was trained on s6 and s7 are left, and s6 has the images of s0, who is gone."""
    folder = place.root / "CT"
    each_image(folder, twin)
    renamed(folder / "cohort.csv", {f"s{number}": f"news{number}" for number in range(6)})
    for image in folder.glob("s[0-5]_[cp]*.nii.gz"):
        stored = nib.load(image)
        nib.Nifti1Image(np.asarray(stored.dataobj) + np.int16(7), stored.affine).to_filename(image)


@pytest.mark.parametrize("command", JUDGING.values(), ids=JUDGING)
@pytest.mark.parametrize("twin", BY_CONTENT.values(), ids=BY_CONTENT)
def test_an_image_that_a_given_model_was_trained_on_is_not_judged_under_another_name(command, twin, place):
    to_strangers(place, twin)
    synthetic(place, ["s6", "s7"])
    error = place.refuses(command)
    assert "'s0'" in error
    assert "s6" in error


def test_a_subject_that_a_given_model_was_trained_on_is_not_evaluated_nor_tested_in_a_study(place):
    synthetic(place, ["s0", "s6"])
    assert "trained on (s0)" in place.refuses(JUDGING["evaluate --split"])
    swapped = {"s0": "test", "s6": "train"}
    rewrite(place.table("CT"), lambda row: row | {"split": swapped.get(row["subject"], row["split"])})
    assert "'s0' is in its train part" in place.refuses(JUDGING["benefit --model"])


def test_cases_are_made_of_nobody_whom_a_given_split_keeps(place):
    given = DIVIDING["augment"] + " --split ROOT/ct_run/split.json"
    assert "'s6' (in its test part)" in place.refuses(given + " --subject s6")
    each_image(place.root / "CT", exported_anew)
    assert "'s0' has the image s0_plain.nii.gz of 's6'" in place.refuses(given)


def test_without_a_split_whom_the_model_has_seen_is_judged_apart_by_name_and_by_content(place):
    said, error = place.run("faithfulness CT OUT/kept --model ROOT/ct_run/model --device cpu")
    assert error is None, said
    assert "trained on them: s0, s1, s2, s3; these chose its epoch: s4, s5" in said
    found = json.loads((place.root / "runs" / "kept" / "faithfulness.json").read_text())
    assert found["figures"]["cycle_percent"]["n"] == 2
    each_image(place.root / "CT", exported_anew)
    said, error = place.run("convert CT ROOT/made --model ROOT/ct_run/model --device cpu")
    assert error is None, said
    assert "the model was trained on 5 of these 8 inputs, and 2 chose its epoch" in said
    said, error = place.run(f"evaluate {JUDGED}")
    assert error is None, said
    assert "trained on them: s0, s1, s2, s3, s6; these chose its epoch: s4, s5" in said
    assert set(pd.read_csv(place.root / "runs" / "judged" / "evaluation.csv")["subject"]) == {"s7"}


STUDIES = ("sweep", "ablation", "misalignment", "benefit", "augmentation")


def begun(place, study, **changes):
    """A study that was begun on another split."""
    pipeline = "lesion_augmentation" if study == "augmentation" else "ct_contrast"
    split = split_subjects(find_cohort(place.table("CT"), TWO), TWO, SplitConfig())
    split.model_copy(update=changes).save(place.root / "runs" / pipeline / "one" / "split.json")


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_that_began_by_training_on_whom_or_an_image_that_it_would_test_now_does_not_go_on(study, place):
    begun(place, study, train=("s0", "s1", "s6"), test=("s2", "s3", "s7"))
    assert "'s6' is in its train part" in place.refuses(DIVIDING[study])
    each_image(place.root / "CT", exported_anew, of="s6", to="elsewhere")
    shown = {f"elsewhere_{name}": image_hash(place.root / "CT" / f"elsewhere_{name}.nii.gz") for name in TWO.names}
    begun(place, study, train=("s0", "elsewhere"), test=("s7",), images={"elsewhere": shown})
    error = place.refuses(DIVIDING[study])
    assert "'s6' has the image" in error
    assert "of its train subject 'elsewhere'" in error


def as_of_old(cohort):
    """The split of a cohort as an earlier medgan drew it: it does not know what images show."""
    parts = {each: tuple(f"s{number}" for number, part in enumerate(PARTS) if part == each) for each in set(PARTS)}
    return Split(files=cohort.file_hashes(), **parts)


@pytest.mark.parametrize("pipeline", ["ct_contrast", "segmenter"])
def test_a_run_that_an_earlier_medgan_began_with_one_image_in_two_parts_does_not_go_on(pipeline, place):
    each_image(place.root / "CT", recompressed)
    translating = pipeline == "ct_contrast"
    own = {"labels": {"bone": 1}, "domain": ct("plain")}
    config = catalog.load(pipeline).settings() if translating else load(SegmenterConfig, own)
    old = as_of_old(find_cohort(place.table("CT"), TWO if translating else ONE))
    run = RunFolder(place.root / "runs" / pipeline / "one")
    run.start(config, old, {"data": str(place.table("CT")), "seed": 0})
    command = "train -p ct_contrast --resume" if translating else "segment-train --resume"
    assert "'s0' (train), 's6' (test)" in place.refuses(command)


def test_routes_go_on_from_no_task_of_another_split_and_test_no_image_that_an_earlier_medgan_trained_on(place):
    routes = "benefit --study routes -p mr_to_ct --data MR --model ROOT/mr_run/model 'labelled=[1]'"
    task = place.root / "runs" / "mr_to_ct" / "one" / "fold=0" / "task.json"
    task.parent.mkdir(parents=True)
    task.write_text(json.dumps({"inputs": {"split_hash": "another"}}))
    assert "may have seen who is tested now" in place.refuses(routes)
    each_image(place.root / "MR", recompressed)
    split = as_of_old(find_cohort(place.table("MR"), MR_CT))
    split.save(place.root / "mr_run" / "split.json")
    described = place.root / "mr_run" / "model" / "model.json"
    content = json.loads(described.read_text())
    content["origin"] |= {"split_hash": split.hash, "trained_on": None}
    described.write_text(json.dumps(content))
    assert "s6" in place.refuses(routes)
