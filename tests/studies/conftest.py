"""Small cohorts, with and without labels, and orders of studies whose networks train in a second."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.studies.base import Order


@pytest.fixture(scope="session")
def cohort(save_cohort, tmp_path_factory) -> Path:
    """The CSV of 6 subjects with both scans: 2 are trained on, 2 validated, 2 tested."""
    return save_cohort(tmp_path_factory.mktemp("study"), paired=True, subjects=6, split=True)


@pytest.fixture(scope="session")
def ordered(cohort, tiny) -> Callable[..., Order]:
    """What a user asks: ``ordered(tmp_path, "fit.epochs=1", seeds=(0, 1))``, else a sweep of a tiny pix2pix."""
    settings = [setting for setting in tiny if not setting.startswith("seed=")]

    def make(out, *overrides, **changes):
        own = {"kind": "sweep", "pipeline": "ct_contrast", "name": "study", "data": cohort, "devices": ("cpu",)}
        return Order(out=out, overrides=(*settings, "translator=pix2pix", *overrides), **own | changes)

    return make


PARTS = ("train", "train", "train", "validation", "validation", "test", "test")
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])
LABELS = {"1": "bone", "2": "vessel"}


def write_table(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["subject", "domain", "image", "mask", "split"], *rows])
    return path


@pytest.fixture(scope="session")
def save_labelled(ct) -> Callable[..., Path]:
    """Write subjects s0 to s6 with both scans and their masks: ``save_labelled(folder, parts=(...))`` gives the CSV."""

    def save(folder, parts=PARTS):
        folder.mkdir(parents=True, exist_ok=True)
        x, y = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
        rows = []
        for number, part in enumerate(parts):
            for domain in ("contrast", "plain"):
                # A plain scan has noise of its own: no two images are alike.
                voxels = ct(number, domain == "contrast") + (domain == "plain")
                image = nib.Nifti1Image(np.rint(voxels).astype(np.int16), AFFINE)
                image.to_filename(folder / f"s{number}_{domain}.nii.gz")
                rows.append([f"s{number}", domain, f"s{number}_{domain}.nii.gz", f"s{number}_mask.nii.gz", part])
            mask = np.zeros((32, 32), dtype=np.uint8)
            mask[np.hypot(x - 16, y - 7) < 3.2] = 1
            mask[np.hypot(x - 16, y - 18 - number % 2) < 4] = 2
            nib.Nifti1Image(np.repeat(mask[..., None], 3, axis=2), AFFINE).to_filename(
                folder / f"s{number}_mask.nii.gz"
            )
        (folder / "labels.json").write_text(json.dumps({"labels": LABELS}))
        return write_table(folder / "cohort.csv", rows)

    return save


@pytest.fixture(scope="session")
def labelled(save_labelled, tmp_path_factory) -> Path:
    """The CSV of a cohort that no test changes."""
    return save_labelled(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="session")
def arms_order(labelled, tiny) -> Callable[..., Order]:
    """What a user asks: ``arms_order(tmp_path, "subsets=2", seeds=(0, 1))``, else tiny networks and one seed."""
    small = [
        "segmenter.grid.spacing_mm=[null, null, null]",
        "segmenter.patch.size_voxels=16",
        "segmenter.network={channels: 4, downs: 1}",
        "segmenter.fit={epochs: 2, iterations_per_epoch: 3, batch_size: 2, validate_every: 1}",
        "ratios_percent=[100]",
    ]
    translator = [f"translator.{setting}" for setting in tiny if not setting.startswith("seed=")]

    def make(out, *overrides, **changes):
        own = {"kind": "arms", "pipeline": "ct_contrast", "name": "study", "data": labelled, "seeds": (0,)}
        settings = (*translator, "translator.fit.epochs=1", *small, *overrides)
        return Order(out=out, overrides=settings, **own | {"devices": ("cpu",)} | changes)

    return make


FEW_PARTS = ("train",) * 5 + ("validation",) + ("test",) * 2
UNLABELLED = 4
"""This training subject has a mask in which nothing is marked."""
CASE = (10, 12, 8)
FEW = (
    "sizes=[2, 3]",
    "ratios_percent=[100]",
    "cases=3",
    "arms=[real, standard, standard+copy-paste]",
    "insertion={placement: replace, feather_mm: 1.0}",
    "synthesis.patch={dimensions: 3, size_voxels: 16, depth_voxels: 16, flip: false}",
    "synthesis.generator={adversarial: none, network: {kind: unet, channels: 4, downs: 2}}",
    "synthesis.fit={epochs: 1, iterations_per_epoch: 1, batch_size: 2}",
    "segmenter.labels={front: 1, back: 2}",
    "segmenter.domain={name: mr, modality: MR, unit: arbitrary, air: 0.0}",
    "segmenter.domain.window={lower: 1.0, upper: 99.0, percentiles: true}",
    "segmenter.grid.spacing_mm=[null, null, null]",
    "segmenter.patch={dimensions: 3, size_voxels: 8, depth_voxels: 8}",
    "segmenter.network={channels: 4, downs: 1}",
    "segmenter.fit={epochs: 2, iterations_per_epoch: 2, batch_size: 2, keep: last}",
)


@pytest.fixture(scope="session")
def save_few() -> Callable[..., Path]:
    """Write subjects s0 to s7 with their masks: ``save_few(folder, parts=(...))`` gives the CSV."""

    def save(folder, parts=FEW_PARTS):
        folder.mkdir(parents=True, exist_ok=True)
        rows = [["subject", "domain", "image", "mask", "split"]]
        for number, part in enumerate(parts):
            random = np.random.default_rng(number)
            mask = np.zeros(CASE, dtype=np.uint8)
            if number != UNLABELLED:
                mask[3:6, 2 + number % 3 : 6, 2:6], mask[3:6, 6:9, 2:6] = 1, 2
            voxels = random.uniform(20, 60, CASE) + 100 * mask
            for name, array in (("image", voxels.astype(np.float32)), ("mask", mask)):
                nib.Nifti1Image(array, np.eye(4)).to_filename(folder / f"s{number}_{name}.nii.gz")
            rows.append([f"s{number}", "mr", f"s{number}_image.nii.gz", f"s{number}_mask.nii.gz", part])
        with (folder / "cohort.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        return folder / "cohort.csv"

    return save


@pytest.fixture(scope="session")
def few(save_few, tmp_path_factory) -> Path:
    """The CSV of a cohort that no test changes."""
    return save_few(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="session")
def few_order(few) -> Callable[..., Order]:
    """What a user asks: ``few_order(tmp_path, "cases=2", seeds=(0, 1))``, else tiny networks and one seed."""

    def make(out, *overrides, **changes):
        own = {"kind": "augmentation", "pipeline": "lesion_augmentation", "name": "study", "data": few, "seeds": (0,)}
        return Order(out=out, overrides=(*FEW, *overrides), **own | {"devices": ("cpu",)} | changes)

    return make
