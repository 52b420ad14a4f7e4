"""The seven studies at their smallest setting: what they read, their command lines, and their golden files.

All of it goes through the command line and through files that users read, so that it holds whatever lies behind them.
``renew.py`` makes the golden files, ``test_golden.py`` holds the studies to them, and tests of a study look at its run:
the fixture ``golden`` of ``tests/conftest.py`` runs each study once, for all processes of pytest-xdist.
"""

import csv
import gc
import json
import multiprocessing
import os
import pkgutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch.optim.optimizer import register_optimizer_step_post_hook
from typer.testing import CliRunner

import medgan

GOLDEN = Path(__file__).parent
THREADS = 1
SLAB = (32, 32, 3)
LOOKS = {
    "contrast": (-1000, -100, 50, -750, 900, 300),
    "plain": (-1000, -100, 50, -750, 900, 45),
    "mr": (0, 300, 150, 30, 450, 200),
}
"""Air, fat, soft tissue, a lung, a bone and a vessel in each kind of scan of a trunk."""
CASE = (10, 12, 8)

TRANSLATOR = (
    "grid.spacing_mm=[null, null, null]",
    "patch={dimensions: 2, size_voxels: 16}",
    "generator.network={kind: resnet, channels: 4, downs: 1, blocks: 1}",
    "discriminator={receptive_field: 16, channels: 4}",
    "pix2pix={generator_rate: 0.02, discriminator_rate: 0.01}",
    "fit={epochs: 2, iterations_per_epoch: 4, batch_size: 2, average_decay: 0.5, precision: 32, workers: 0}",
)
"""Fast enough a learner that the cells of a study differ after eight iterations."""
CONTRAST = (
    *TRANSLATOR,
    "phantom_pairs={subjects: 2, shape_voxels: [24, 24, 4]}",
    "cyclegan={anchor: 1, anchor_iterations: 2, ramp_iterations: 4, pool: 3}",
    "cyclegan={generator_rate: 0.02, discriminator_rate: 0.01}",
)
SEGMENTER = (
    "segmenter.grid.spacing_mm=[null, null, null]",
    "segmenter.network={channels: 8, downs: 1, norm: instance}",
    "segmenter.rate=0.01",
    "segmenter.fit={epochs: 2, iterations_per_epoch: 12, batch_size: 2, average_decay: 0.5, precision: 32}",
)
AUGMENTATION = (
    *SEGMENTER,
    "segmenter.fit.keep=last",
    "segmenter.labels={front: 1, back: 2}",
    "segmenter.domain={name: mr, modality: MR, unit: arbitrary, air: 0.0}",
    "segmenter.domain.window={lower: 1.0, upper: 99.0, percentiles: true}",
    "segmenter.patch={dimensions: 3, size_voxels: 8, depth_voxels: 8}",
    "arms=[standard, standard+copy-paste, standard+generator, standard+shuffled]",
    "sizes=[2, 3]",
    "ratios_percent=[0, 100]",
    "cases=2",
    "insertion={placement: replace, feather_mm: 1.0}",
    "synthesis.patch={dimensions: 3, size_voxels: 16, depth_voxels: 16, flip: false}",
    "synthesis.generator={adversarial: none, network: {kind: unet, channels: 4, downs: 2}}",
    "synthesis.fit={epochs: 1, iterations_per_epoch: 2, batch_size: 2, precision: 32}",
)
PREVALENCE = {
    "design": {
        "prevalences_percent": [0, 100], "source_percent": 100, "test_percent": 100, "train": 1, "validation": 1,
        "test": 2, "labelled": 1, "labelled_validation": 1, "shape_voxels": [24, 24, 4],
    },
    "segmenter_fit": {
        "epochs": 1, "iterations_per_epoch": 32, "batch_size": 2, "average_decay": 0.9, "precision": "32",
    },
}  # fmt: skip


class Once:
    """What several processes ask for, made by the first of them; ``root`` is the folder of all that is made."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, as JSON."""
        path = self.root / f"{name}.once.json"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                path.write_text(json.dumps(make()))
            return json.loads(path.read_text())


class Inputs:
    """What the studies read, written when it is first asked for."""

    def __init__(self, once: Once) -> None:
        self.once, self.root = once, once.root / "inputs"

    @property
    def slabs(self) -> Path:
        """A folder with ``contrast_plain.csv`` and ``mr_ct.csv``: seven trunks in each kind of scan, with masks."""
        return Path(self.once("slabs", lambda: str(write_slabs(self.root / "slabs"))))

    @property
    def contrast(self) -> Path:
        """A cohort of CT after and before contrast, split 3, 2, 2."""
        return self.slabs / "contrast_plain.csv"

    @property
    def mr(self) -> Path:
        """A cohort of MR and CT, not split."""
        return self.slabs / "mr_ct.csv"

    @property
    def lesions(self) -> Path:
        """A cohort of MR with two lesions, split 5, 1, 2."""
        return Path(self.once("lesions", lambda: str(write_lesions(self.root / "lesions"))))

    @property
    def folds(self) -> tuple[Path, Path]:
        """Model folders of translators from MR to CT, of the first two folds of three."""
        self.once("folds", self._train_folds)
        return self.root / "mr_to_ct/0/model", self.root / "mr_to_ct/1/model"

    def _train_folds(self) -> None:
        for fold in ("0", "1"):
            split = f"split={{folds: 3, fold: {fold}}}"
            run("train", "-p", "mr_to_ct", "--data", self.mr, "--name", fold, "--out", self.root, split, *TRANSLATOR)

    @property
    def prevalence(self) -> Path:
        """Settings of the study of lesions' prevalence."""
        path = self.root / "prevalence.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(PREVALENCE))
        return path


def write_slabs(folder: Path) -> Path:
    folder.mkdir(parents=True)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    x, y = np.meshgrid(np.arange(SLAB[0]), np.arange(SLAB[1]), indexing="ij")
    rows = []
    for number, part in enumerate(("train",) * 3 + ("validation",) * 2 + ("test",) * 2):
        random = np.random.default_rng(number)
        grow = random.uniform(0.9, 1.1)
        bone = np.hypot(x - 16, y - 7) < 3.2 * grow
        vessel = np.hypot(x - 16, y - 18 - number % 2) < 4 * grow
        marked = np.repeat((bone + 2 * vessel)[..., None], SLAB[2], axis=2).astype(np.uint8)
        mask = save(marked, folder / f"s{number}_mask.nii.gz", affine)
        for domain, (air, fat, soft, lung, hard, bright) in LOOKS.items():
            image = np.full(SLAB[:2], air)
            image[np.hypot(x - 16, y - 16) < 15 * grow] = fat
            image[np.hypot(x - 16, y - 16) < 13 * grow] = soft
            image[np.hypot(x - 9, y - 16) < 4 * grow] = lung
            image[bone], image[vessel] = hard, bright
            voxels = np.rint(image[..., None] + random.normal(0, 8, SLAB)).astype(np.int16)
            rows.append([f"s{number}", domain, save(voxels, folder / f"s{number}_{domain}.nii.gz", affine), mask, part])
    (folder / "labels.json").write_text(json.dumps({"labels": {"1": "bone", "2": "vessel"}}))
    write_table(folder / "contrast_plain.csv", [row for row in rows if row[1] != "mr"])
    no_part = [[row[0], row[1].replace("plain", "ct"), *row[2:4], ""] for row in rows if row[1] != "contrast"]
    write_table(folder / "mr_ct.csv", no_part)
    return folder


def write_lesions(folder: Path) -> Path:
    """The fifth subject has no lesion."""
    folder.mkdir(parents=True)
    rows = []
    for number, part in enumerate(("train",) * 5 + ("validation",) + ("test",) * 2):
        random = np.random.default_rng(number)
        mask = np.zeros(CASE, dtype=np.uint8)
        if number != 4:
            mask[3:6, 2 + number % 3 : 6, 2:6], mask[3:6, 6:9, 2:6] = 1, 2
        image = (random.uniform(20, 60, CASE) + 100 * mask).astype(np.float32)
        arrays = (("mr", image), ("mask", mask))
        names = [save(array, folder / f"s{number}_{name}.nii.gz", np.eye(4)) for name, array in arrays]
        rows.append([f"s{number}", "mr", *names, part])
    return write_table(folder / "cohort.csv", rows)


def save(voxels: np.ndarray, path: Path, affine: np.ndarray) -> str:
    nib.Nifti1Image(voxels, affine).to_filename(path)
    return path.name


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["subject", "domain", "image", "mask", "split"], *rows])
    return path


@dataclass(frozen=True)
class GoldenStudy:
    """A study, and which of its files are golden."""

    pipeline: str
    command: Callable[[Inputs], Sequence[str | Path]]
    """What stands after ``medgan``, without the options that say where and how it runs."""
    files: Mapping[str, str]
    """By name, and of each the columns that are equal on every machine: keys and counts. All others are figures."""
    elsewhere: float = 0.05
    """How far a figure may be off on another processor; see ``compare.py``."""


COMPARED = {"study.csv": "cell seed subject image arm", "table.csv": "cell seeds metric n"}
STUDIES = {
    "sweep": GoldenStudy(
        "ct_contrast",
        lambda given: (
            *("sweep", "--data", given.contrast, "--seeds", "2"),
            *(*CONTRAST, "translator=pix2pix", "pix2pix.l1=10,100"),
        ),
        COMPARED,
    ),
    "ablation": GoldenStudy(
        "ct_contrast",
        lambda given: ("study", "ablation", "--data", given.contrast, "--only", "losses", *CONTRAST),
        COMPARED,
    ),
    "misalignment": GoldenStudy(
        "ct_contrast",
        lambda given: ("study", "misalignment", "--data", given.contrast, "--shifts", "0,2", *CONTRAST),
        COMPARED,
    ),
    "lesion-prevalence": GoldenStudy(
        "ct_contrast",
        lambda given: ("benefit", "--study", "lesion-prevalence", "--config", given.prevalence, *CONTRAST),
        {"detections.csv": "translator prevalence_percent seed subject lesions", "slopes.csv": "translator measure n"},
        # Its detectors have batch norm and count lesions: one more of four that are false is no news.
        elsewhere=1.0,
    ),
    "arms": GoldenStudy(
        "ct_contrast",
        lambda given: (
            *("benefit", "--data", given.contrast, "--seeds", "1", "ratios_percent=[0, 100]"),
            *(*(f"translator.{setting}" for setting in CONTRAST), *SEGMENTER, "segmenter.patch.size_voxels=16"),
        ),
        {
            "benefit.csv": "arm seed subset ratio_percent subject test_set organ",
            "comparisons.csv": "arm reference test_set organ metric n trainings",
            "curves.csv": "arm seed subset epoch",
        },
    ),
    "routes": GoldenStudy(
        "mr_to_ct",
        lambda given: (
            *("benefit", "--study", "routes", "--data", given.mr, "--model", given.folds[0], "--model", given.folds[1]),
            *("labelled=[1, 2]", *SEGMENTER, "segmenter.patch={dimensions: 2, size_voxels: 16}"),
        ),
        {"rows.csv": "route labelled fold seed subject", "table.csv": "labelled route metric n"},
    ),
    "augmentation": GoldenStudy(
        "lesion_augmentation",
        lambda given: ("benefit", "--study", "augmentation", "--data", given.lesions, "--seeds", "1", *AUGMENTATION),
        {
            "augmentation.csv": "arm size seed ratio_percent subject organ",
            "comparisons.csv": "size seed arm reference organ metric n trainings",
            "curves.csv": "arm size seed ratio_percent epoch",
        },
    ),
}


def golden_files(name: str) -> dict[str, Path]:
    """The golden file of each of a study's: ``sweep.csv`` of its rows, ``sweep_table.csv`` of the others."""
    rows, *others = STUDIES[name].files
    return {rows: GOLDEN / f"{name}.csv"} | {other: GOLDEN / f"{name}_{other}" for other in others}


@dataclass(frozen=True)
class Resumed:
    """A study that was interrupted in its second training and gone on with by the same command."""

    folder: Path
    finished: dict[str, int]
    """The files of the models that were finished when it was interrupted, and when each was written."""
    stopped: str
    """What the interrupted command said."""
    output: str
    """What the one that went on said."""


class GoldenStudies:
    """The studies, each run when it is first asked for.

    Args:
        root: Where inputs and studies go; processes that share it share the runs.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._once = root, Once(root)
        self.inputs = Inputs(self._once)

    def whole(self, name: str) -> Path:
        """The folder of a study that was run in one go."""
        self._once(f"{name}_whole", lambda: self._run(name, "whole", 0))
        return self._folder(name, "whole")

    def resumed(self, name: str) -> Resumed:
        """A study that was interrupted and gone on with in two processes."""
        return Resumed(self._folder(name, "parts"), **self._once(f"{name}_parts", lambda: self._in_parts(name)))

    def _in_parts(self, name: str) -> dict[str, Any]:
        folder = self._folder(name, "parts")
        with interrupted_in_the_second_training(folder):
            stopped = self._run(name, "parts", 130)
        finished = written(folder)
        return {"finished": finished, "stopped": stopped, "output": self._run(name, "parts", 0, jobs=2)}

    def _folder(self, name: str, out: str) -> Path:
        return self.root / out / STUDIES[name].pipeline / name

    def _run(self, name: str, out: str, code: int, jobs: int = 1) -> str:
        study = STUDIES[name]
        own = ("--pipeline", study.pipeline, "--name", name, "--out", self.root / out, "--device", "cpu")
        return run(*study.command(self.inputs), *own, *(("--jobs", jobs) if jobs > 1 else ()), code=code)


def run(*words: str | Path | int, code: int = 0) -> str:
    """What a command says that is run in this process with one thread and ends with an exit code."""
    from medgan.cli import app

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    # A study's tables ask for the garbage to be collected many times: what is there already is not looked through.
    gc.freeze()
    try:
        with forked_from_one_import():
            result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "160"})
    finally:
        gc.unfreeze()
        torch.set_num_threads(threads)
    assert result.exit_code == code, f"medgan {words[0]}: exit code {result.exit_code}\n{result.output}"
    return result.output


@contextmanager
def forked_from_one_import() -> Iterator[None]:
    """Processes start from one that has imported what they need: that takes longer than their trainings."""
    context = multiprocessing.get_context
    own = [module.name for module in pkgutil.walk_packages(medgan.__path__, "medgan.")]
    store = ["mlflow.store.tracking.sqlalchemy_store", "sqlalchemy.dialects.sqlite"]
    multiprocessing.set_forkserver_preload([*own, *store])
    with pytest.MonkeyPatch.context() as patch:
        if "forkserver" in multiprocessing.get_all_start_methods():
            patch.setattr(multiprocessing, "get_context", lambda *_: context("forkserver"))
        yield


def written(folder: Path) -> dict[str, int]:
    """The files of every finished model below a folder, and when each was written."""
    models = [path.parent for path in folder.rglob("model.json")]
    return {str(path): path.stat().st_mtime_ns for model in models for path in model.iterdir()}


@contextmanager
def interrupted_in_the_second_training(folder: Path, steps: int = 12) -> Iterator[None]:
    """Ctrl-C, as a user gives it, at the so-manieth step of an optimiser after the study's first model is there."""
    left = steps

    def step(*_) -> None:
        nonlocal left
        left -= bool(written(folder))
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)

    hook = register_optimizer_step_post_hook(step)
    try:
        yield
    finally:
        hook.remove()
