"""A small cohort with two labels, a way to make cases that needs no network, and orders that train in a second."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.benefit.augmentation.plan import AugmentationOrder, AugmentationPlan, make_plan
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Synthetic

PARTS = ("train",) * 5 + ("validation",) + ("test",) * 2
UNLABELLED = 4
"""This training subject has a mask in which nothing is marked."""
SHAPE = (10, 12, 8)
SMALL = (
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


class Brightened:
    """Makes a case of a recipient by adding a number to its image; the first donor is said to have given it."""

    name = "copy-paste"

    def synthesise(self, recipient, donors, rng):
        voxels = np.asarray(recipient.image.voxels) + np.float32(rng.uniform(1, 9))
        case = Labelled(recipient.subject, replace(recipient.image, voxels=voxels), recipient.labels)
        return Synthetic(case, (recipient.subject, donors[0].subject), {"method": self.name})


@pytest.fixture(scope="session")
def save_cohort() -> Callable[..., Path]:
    """Write subjects s0 to s7 with their masks: ``save_cohort(folder, parts=(...))`` gives the CSV."""

    def save(folder, parts=PARTS):
        folder.mkdir(parents=True, exist_ok=True)
        rows = [["subject", "domain", "image", "mask", "split"]]
        for number, part in enumerate(parts):
            random = np.random.default_rng(number)
            mask = np.zeros(SHAPE, dtype=np.uint8)
            if number != UNLABELLED:
                mask[3:6, 2 + number % 3 : 6, 2:6], mask[3:6, 6:9, 2:6] = 1, 2
            voxels = random.uniform(20, 60, SHAPE) + 100 * mask
            for name, array in (("image", voxels.astype(np.float32)), ("mask", mask)):
                nib.Nifti1Image(array, np.eye(4)).to_filename(folder / f"s{number}_{name}.nii.gz")
            rows.append([f"s{number}", "mr", f"s{number}_image.nii.gz", f"s{number}_mask.nii.gz", part])
        with (folder / "cohort.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)
        return folder / "cohort.csv"

    return save


@pytest.fixture(scope="session")
def labelled(save_cohort, tmp_path_factory) -> Path:
    """The CSV of a cohort that no test changes."""
    return save_cohort(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="session")
def asked(labelled) -> Callable[..., AugmentationOrder]:
    """What a user asks: ``asked(tmp_path, overrides=["cases=2"], seeds=(0, 1))``, else tiny networks and one seed."""

    def make(out, *, overrides=(), **changes):
        order = {"pipeline": "lesion_augmentation", "data": labelled, "seeds": (0,), "device": "cpu"} | changes
        return AugmentationOrder(out=out, overrides=[*SMALL, *overrides], **order)

    return make


@pytest.fixture
def plan(asked, tmp_path) -> AugmentationPlan:
    """A study with one seed, not begun."""
    return make_plan(asked(tmp_path))


@pytest.fixture
def brightened(monkeypatch) -> type[Brightened]:
    """Cases are made by ``Brightened``, whatever the method."""
    monkeypatch.setattr("medgan.benefit.augmentation.material.synthesiser_of", lambda *_: Brightened())
    return Brightened
