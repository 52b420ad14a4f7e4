import numpy as np
import pytest

from medgan.phantom.tissues import Tissue

MIDDLE = 47.5
"""Halfway from left to right, in voxels."""


def test_organs_lie_where_those_of_a_patient_do(subject, centre):
    assert centre(Tissue.LIVER)[0] > MIDDLE + 8
    assert centre(Tissue.GALLBLADDER)[0] > MIDDLE
    assert centre(Tissue.STOMACH_WALL)[0] < MIDDLE
    assert centre(Tissue.SPLEEN)[0] < MIDDLE - 15
    assert centre(Tissue.SPLEEN)[1] < centre(Tissue.STOMACH_WALL)[1]
    assert centre(Tissue.KIDNEY_CORTEX)[1] < centre(Tissue.PANCREAS)[1]
    x = np.argwhere(subject["labels"] == Tissue.KIDNEY_CORTEX)[:, 0]  # one on each side of the spine
    right, left = (x > MIDDLE + 5).sum(), (x < MIDDLE - 5).sum()
    assert right + left > 0.95 * x.size
    assert 0.5 < right / left < 2


def test_the_medulla_lies_within_the_cortex(subject):
    labels = subject["labels"]
    x, y, z = np.argwhere(labels == Tissue.KIDNEY_MEDULLA).T
    beside = np.stack([labels[x + dx, y + dy, z] for dx, dy in [(1, 0), (-1, 0), (0, 1), (0, -1)]])
    kidney = (Tissue.KIDNEY_MEDULLA, Tissue.KIDNEY_CORTEX, Tissue.VISCERAL_FAT, Tissue.URINE, Tissue.RENAL_VEIN)
    assert np.isin(beside, (*kidney, Tissue.ARTERY)).mean() > 0.9


def test_gas_floats_in_front_of_what_the_bowel_holds(subject):
    labels = subject["labels"]
    gas, content = labels == Tissue.GAS, labels == Tissue.CONTENT
    in_front = gas[:, 1:] & content[:, :-1]
    behind = gas[:, :-1] & content[:, 1:]
    assert in_front.sum() > 5 * behind.sum()


@pytest.mark.parametrize(
    ("tissue", "least_ml", "most_ml"),
    [
        (Tissue.LIVER, 700, 1900),
        (Tissue.SPLEEN, 60, 320),
        (Tissue.KIDNEY_CORTEX, 80, 300),
        (Tissue.PANCREAS, 20, 80),
        (Tissue.AORTA, 20, 60),
    ],
)
def test_organs_have_the_volume_of_real_ones_in_view(subject, tissue, least_ml, most_ml):
    voxel_ml = (365 / 96) ** 2 * 5 / 1000
    assert least_ml < (subject["labels"] == tissue).sum() * voxel_ml < most_ml
