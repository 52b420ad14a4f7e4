"""A made-up benefit study: realistic figures, small images, no training."""

from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest

from medgan.data.grid import made_up_grid
from medgan.data.volumes import write_volume
from medgan.evaluation.evaluate import evaluate
from medgan.evaluation.statistics import EFFECT, compare_arms
from medgan.report.benefit import Findings
from report_scans import write_scans

PAIRS = (
    ("real+standard", "real"), ("real+matched", "real"), ("real+synthetic", "real"),
    ("real+standard+synthetic", "real+standard"), ("synthetic-only", "real"), ("oracle", "real+standard"),
    ("real+shuffled", "real"), ("real+standard+synthetic", "real+matched"),
)  # fmt: skip
LEVEL_OUT = {
    "real": 0.42, "real+standard": 0.62, "real+matched": 0.58, "real+synthetic": 0.70,
    "real+standard+synthetic": 0.79, "synthetic-only": 0.66, "oracle": 0.90, "real+shuffled": 0.30,
}  # fmt: skip
"""Dice of the kidney out of distribution; the liver's is the same in every arm but the control."""
SUBJECTS = tuple(f"phantom-{number:03d}" for number in range(8))


def made_up_rows(seeds=(0, 1, 2), subjects=SUBJECTS):
    rng = np.random.default_rng(0)
    hard = {subject: rng.normal(0, 0.04) for subject in subjects}
    keys = list(product(LEVEL_OUT, seeds, (0,), subjects, ("in", "out"), ("kidney", "liver")))
    frame = pd.DataFrame(keys, columns=["arm", "seed", "subset", "subject", "test_set", "organ"])
    level = [
        (LEVEL_OUT[arm] if organ == "kidney" else 0.5 if arm == "real+shuffled" else 0.86) if where == "out" else 0.9
        for arm, where, organ in zip(frame["arm"], frame["test_set"], frame["organ"], strict=True)
    ]
    dice = level + frame["subject"].map(hard) + rng.normal(0, 0.02, len(frame))
    frame.insert(3, "ratio_percent", 100)
    return frame.assign(
        dice=dice.clip(0, 1), hd95_mm=40 * (1 - dice), surface_dice=(dice + 0.03).clip(0, 1),
        volume_error_percent=100 * (dice - 0.95), lesion_f1=np.nan, false_lesions=np.nan,
    )  # fmt: skip


@cache
def made_up_comparisons():
    """Worked out once for all tests."""
    return compare_arms(made_up_rows(), PAIRS, ["dice", "hd95_mm"])


def made_up_curves(rows, epochs=12):
    keys = list(product(dict.fromkeys(rows["arm"]), dict.fromkeys(rows["seed"]), (0,), range(1, epochs + 1)))
    frame = pd.DataFrame(keys, columns=["arm", "seed", "subset", "epoch"])
    level = 0.5 * frame["arm"].map(LEVEL_OUT) + 0.45
    return frame.assign(val_dice=level * (1 - np.exp(-(frame["epoch"] + frame["seed"]) / 3)))


def write_case(folder, subject="phantom-003", shape=(96, 80, 8), spacing=(1.5, 1.5, 12.0)):
    """A trunk with two round kidneys; the found label map misses one side of them."""
    affine = np.diag([*spacing, 1.0])
    x, y, z = np.indices(shape)
    rng = np.random.default_rng(0)
    trunk = ((x - shape[0] / 2) / 42) ** 2 + ((y - shape[1] / 2) / 32) ** 2 < 1
    kidneys = sum(((x - at) / 7) ** 2 + ((y - 28) / 10) ** 2 + ((z - 4) / 3) ** 2 < 1 for at in (28, 68)) > 0
    found = kidneys & (x > 26) | (((x - 76) / 5) ** 2 + ((y - 40) / 5) ** 2 + ((z - 4) / 2) ** 2 < 1)
    image = np.where(trunk, 50.0, -1000.0) + 35 * kidneys + trunk * rng.normal(0, 10, shape)
    grid = made_up_grid(shape, affine)
    paths = {name: f"{name}/{subject}.nii.gz" for name in ("image", "truth", "label_map")}
    for (name, path), voxels in zip(paths.items(), (image.round(), 2 * kidneys, 2 * found), strict=True):
        write_volume(voxels, grid, folder / path, np.int16 if name == "image" else np.uint8)
    return paths


@pytest.fixture
def make_study(tmp_path):
    """What a study has found: ``make_study(comparisons=[...], **fields of benefit.json)``."""

    def make(rows=None, comparisons=None, curves=None, **fields):
        paths = write_case(tmp_path)
        case = {"arm": "real+standard+synthetic", "subject": "phantom-003", "organ": "kidney", "test_set": "out"}
        record = {
            "pipeline": "ct_contrast", "phantom": True, "quick": False, "seeds": [0, 1, 2], "subsets": 1,
            "ratio_percent": 100, "budget": {"iterations": 1200, "batch_size": 4}, "split_hash": "5f0c2a7b9d",
            "rejected": {"real+synthetic": [3, 32], "real+standard+synthetic": [3, 32]}, "left_out": {}, "failures": [],
            "sweep": {"arm": None}, "command": "medgan benefit --pipeline ct_contrast",
            "worst": [case | paths | {"dice": 0.61, "value": 2}],
        } | fields  # fmt: skip
        rows = made_up_rows() if rows is None else rows
        compared = made_up_comparisons() if comparisons is None else pd.DataFrame(comparisons, columns=EFFECT)
        numbers = list(EFFECT[5:])
        compared = compared.assign(**compared[numbers].apply(pd.to_numeric))
        return Findings(tmp_path, record, rows, compared, made_up_curves(rows) if curves is None else curves)

    return make


@pytest.fixture(scope="session")
def judged(tmp_path_factory):
    """An evaluation of four phantoms, one of which has an odd name, and of a fifth whose truth is broken."""
    root = tmp_path_factory.mktemp("judged")
    places = write_scans(root, ["anna", "bert", "<b>x&y", "dora", "egon"], phantom=True)
    (root / "reference/egon.nii.gz").write_bytes(b"broken")
    evaluate(**places, paired=True)
    return places["out"]
