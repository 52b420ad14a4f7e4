"""Tiny labelled subjects: a bright disc and a dark square in soft tissue, and a segmenter trained on them."""

import nibabel as nib
import numpy as np
import pytest
from lightning_fabric import Fabric

from medgan.config import load
from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.segmentation.segmenter import segmenter_task
from medgan.segmentation.settings import SegmenterConfig
from medgan.training.device import make_fabric

LABELS = {"disc": 1, "square": [2, 3]}
AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def drawn(seed, shape=(24, 24, 4)):
    """Voxels in HU and their labels: 1 is a disc; 2 and 3 are the halves of a square; all else is body."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    left, low = random.integers(4, 7, size=2)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[np.hypot(x - 17, y - random.integers(6, 9)) < 4] = 1
    labels[left : left + 4, 11 + low : 16 + low] = 2
    labels[left + 4 : left + 7, 11 + low : 16 + low] = 3
    hu = np.select([labels == 1, labels > 1], [200.0, -80.0], 50.0)
    return np.rint(hu + random.normal(0, 15, shape)), labels


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    return make_fabric("cpu", "32")


@pytest.fixture(scope="session")
def config():
    """Settings: ``config("2.5", augmentation="none", fit={"epochs": 2})``; a training of them takes a second."""

    def make(dimensions="2", **changes):
        small = {
            "labels": LABELS,
            "grid": {"spacing_mm": [None, None, None]},
            "patch": {"dimensions": dimensions, "size_voxels": 16, "depth_voxels": 4 if dimensions == "3" else None},
            "network": {"channels": 4, "downs": 2},
            "fit": {"epochs": 3, "iterations_per_epoch": 4, "batch_size": 4, "average_decay": 0.8},
        }
        return load(SegmenterConfig, small, changes)

    return make


@pytest.fixture(scope="session")
def subjects():
    """Prepared subjects: ``subjects(4, first=10)``."""

    def make(count, first=0, shape=(24, 24, 4)):
        made = []
        for seed in range(first, first + count):
            voxels, labels = drawn(seed, shape)
            image = Prepared(voxels.astype(np.float32), AFFINE, tuple((0, n) for n in shape), (-200.0, 300.0))
            made.append(Labelled(f"s{seed}", image, np.minimum(labels, 2)))
        return made

    return make


@pytest.fixture(scope="session")
def save_cohort(tmp_path_factory):
    """Write a labelled cohort: ``save_cohort(folder, subjects=4)`` gives the path of its CSV."""

    def save(folder, subjects=4, parts=("train", "train", "validation", "test"), affine=AFFINE):
        folder.mkdir(parents=True, exist_ok=True)
        rows = ["subject,domain,image,mask,split"]
        for seed in range(subjects):
            voxels, labels = drawn(seed)
            nib.Nifti1Image(voxels.astype(np.int16), affine).to_filename(folder / f"s{seed}.nii.gz")
            nib.Nifti1Image(labels, affine).to_filename(folder / f"s{seed}_mask.nii.gz")
            rows.append(f"s{seed},ct,s{seed}.nii.gz,s{seed}_mask.nii.gz,{parts[seed % len(parts)]}")
        (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
        return folder / "cohort.csv"

    return save


@pytest.fixture(scope="session")
def trained(config, subjects, fabric, tmp_path_factory):
    """The folder of a training that has learnt what disc and square look like, and its model."""
    folder = tmp_path_factory.mktemp("trained")
    settings = config(rate=0.02, fit={"epochs": 4, "iterations_per_epoch": 20})
    return folder, segmenter_task(subjects(4), subjects(2, 10), settings, seed=3).train(folder, fabric)
