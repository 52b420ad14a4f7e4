"""Phantom translations in which lesions were erased and invented on purpose, labelled as TotalSegmentator does."""

import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.data.masks import components
from medgan.data.volumes import read_volume, write_volume
from medgan.faithfulness.converted import ConvertedOrder, check_converted
from medgan.faithfulness.structures import Rule
from medgan.phantom.cohort import write_phantom

SUBJECTS = ("sub-001", "sub-002", "sub-003", "sub-004")


@pytest.fixture(scope="module")
def tampered(tmp_path_factory):
    """The phantom's plain scans as translations; one lesion is erased of sub-001, and one is invented in sub-002."""
    root = tmp_path_factory.mktemp("tampered")
    write_phantom(root / "phantom", subjects=len(SUBJECTS), seed=3, lesions=1.0, shape=(72, 72, 20))
    liver = next(int(v) for v, name in json.loads((root / "phantom/labels.json").read_text())["labels"].items()
                 if name == "liver")  # fmt: skip
    truth = {}
    for name in SUBJECTS:
        folder = root / "phantom" / name
        labels, lesions, plain = (read_volume(folder / f"{each}.nii.gz") for each in ("labels", "lesions", "plain"))
        grid, after, image = labels.grid, lesions.voxels.copy(), plain.voxels.copy()
        if name == "sub-001":
            parts, _ = components(lesions.voxels)
            largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
            truth["lost"] = np.argwhere(largest).mean(axis=0)
            after[largest], image[largest] = 0, np.median(image[labels.voxels == liver])
        if name == "sub-002":
            free = np.argwhere((labels.voxels == liver) & (lesions.voxels == 0))
            middle = free[np.argmin(np.linalg.norm((free - free.mean(axis=0)) * grid.spacing_mm, axis=1))]
            distance = np.linalg.norm(
                (np.moveaxis(np.indices(grid.size), 0, -1) - middle) * grid.spacing_mm, axis=-1
            )  # fmt: skip
            ball = (distance < 11) & (labels.voxels == liver)
            truth["invented"] = np.argwhere(ball).mean(axis=0)
            after[ball], image[ball] = 1, image[ball] - 60
        write_volume(image, grid, root / "converted" / name / "contrast.nii.gz", np.int16)
        for side, marked in {"in": lesions.voxels, "made": after}.items():
            masks = {"liver": (labels.voxels == liver) | (lesions.voxels > 0), "lesion": marked > 0}
            for structure, mask in masks.items():
                path = root / side / name / "segmentations" / f"{structure}.nii.gz"
                write_volume(mask, grid, path, np.uint8)
    truth = {kind: grid.affine[:3, :3] @ middle + grid.affine[:3, 3] for kind, middle in truth.items()}
    order = ConvertedOrder(
        str(root / "phantom/cohort.csv"), root / "out", str(root / "converted"), str(root / "in"),
        str(root / "made"), rule=Rule(("lesion",)),
    )  # fmt: skip
    return check_converted(order, Console(quiet=True)), truth, root


def test_each_is_found_in_its_place_and_untouched_subjects_have_no_false_alarm(tampered):
    found, truth, root = tampered
    assert not found.failures
    rows = found.rows.set_index("subject")
    assert rows["lesion_erased"].to_dict() == {"sub-001": 1, "sub-002": 0, "sub-003": 0, "sub-004": 0}
    assert rows["lesion_invented"].to_dict() == {"sub-001": 0, "sub-002": 1, "sub-003": 0, "sub-004": 0}
    assert (rows["lesion_kept"] >= 1).sum() >= 3
    assert rows["rejected"].ne("").tolist() == [True, True, False, False]
    for kind, position in truth.items():
        place = found.places[(found.places["kind"] == kind) & (found.places["structure"] == "lesion")]
        assert len(place) == 1
        assert place[["x_mm", "y_mm", "z_mm"]].to_numpy()[0] == pytest.approx(position, abs=6)  # a slice is 6 mm
        assert (root / "out" / place["picture"].item()).is_file()


def test_the_counts_a_study_and_the_shares_are_over_subjects(tampered):
    found, _, _ = tampered
    fates = {fate.kind: fate for fate in found.fates() if fate.structure == "lesion"}
    assert fates["invented"].per_study.mean == pytest.approx(0.25)
    assert fates["invented"].share.upper == pytest.approx(0.8059, abs=1e-3)  # Clopper-Pearson of 1 in 4
    assert found.verdict()[0].startswith("lesion: 1 erased in 1 of 4 subjects, 25 [1, 81] %: sub-001.")
    assert "Kept in every subject: liver." in found.verdict()


def test_the_invented_lesion_is_also_a_place_that_the_input_does_not_explain(tampered):
    found, truth, _ = tampered
    places = found.places[(found.places["kind"] == "unexplained") & (found.places["subject"] == "sub-002")]
    apart = np.linalg.norm(places[["x_mm", "y_mm", "z_mm"]].to_numpy(float) - truth["invented"], axis=1)
    assert apart.min() < 8
    assert pd.to_numeric(places["false_alarms_per_study"]).iloc[np.argmin(apart)] <= 1
