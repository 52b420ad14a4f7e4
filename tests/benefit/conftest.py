"""A small cohort with labels on both scans, and orders of studies whose segmenters train in a second."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.benefit.plan import BenefitOrder

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
def asked(labelled, tiny) -> Callable[..., BenefitOrder]:
    """What a user asks: ``asked(tmp_path, overrides=["subsets=2"], seeds=(0, 1))``, else tiny networks and one seed."""
    small = [
        "segmenter.grid.spacing_mm=[null, null, null]",
        "segmenter.patch.size_voxels=16",
        "segmenter.network={channels: 4, downs: 1}",
        "segmenter.fit={epochs: 2, iterations_per_epoch: 3, batch_size: 2, validate_every: 1}",
        "ratios_percent=[100]",
    ]
    translator = [f"translator.{setting}" for setting in tiny if not setting.startswith("seed=")]

    def make(out, *, overrides=(), **changes):
        order = {"pipeline": "ct_contrast", "name": "study", "data": labelled, "seeds": (0,), "device": "cpu"} | changes
        return BenefitOrder(out=out, overrides=[*translator, "translator.fit.epochs=1", *small, *overrides], **order)

    return make
