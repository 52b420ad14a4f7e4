"""Arms: what may not be judged is noted, and subjects weigh the same in a pooled distribution."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan.errors import DataError
from medgan.evaluation.arms import DISTANCE, REAL, SYNTHETIC, Unpaired, judge_each
from medgan.evaluation.matching import Case, Image


def image(folder, subject, number, hu):
    path = folder / f"{subject}-{number}.nii"
    voxels = np.full((24, 24, 1), -1000.0)
    voxels[4:20, 4:20] = hu
    nibabel.Nifti1Image(voxels.astype(np.float32), np.eye(4)).to_filename(path)
    return Image(subject, f"{subject}/{number}", path)


def as_case(image):
    return Case(image.subject, image.name, image.path, {})


def test_what_cannot_be_judged_is_noted_and_stops_nothing():
    def judge(item):
        if item.name == "bad":
            raise DataError("it is bad")
        return [{"image": item.name}]

    failures = []
    items = [Image("s", name, Path(name)) for name in ("a", "bad", "c")]
    rows, judged = judge_each(items, judge, failures)
    assert [row["image"] for row in rows] == [item.name for item in judged] == ["a", "c"]
    assert [(failure.image, failure.reason) for failure in failures] == [("bad", "it is bad")]


def test_a_programming_error_is_not_taken_for_a_bad_image():
    with pytest.raises(ZeroDivisionError):
        judge_each([Image("s", "a", Path("a"))], lambda item: [{"x": 1 / 0}], [])


def test_a_subject_weighs_the_same_whether_it_has_one_image_or_many(tmp_path):
    judge = Unpaired(None)
    rows = judge.real(image(tmp_path, "few", 0, 20))
    for number in range(9):
        rows += judge.real(image(tmp_path, "many", number, 60))
    rows += judge.without_training(as_case(image(tmp_path, "fake", 0, 40)))
    pooled = judge.add_distances(rows)
    assert pooled == pytest.approx({SYNTHETIC: 20})
    assert rows[-1][DISTANCE] == pytest.approx(20)


def test_a_real_image_is_compared_with_other_subjects_only(tmp_path):
    judge = Unpaired(None)
    rows = [row for subject, hu in (("a", 20), ("b", 50)) for row in judge.real(image(tmp_path, subject, 0, hu))]
    judge.add_distances(rows)
    assert [row["arm"] for row in rows] == [REAL, REAL]
    assert [row[DISTANCE] for row in rows] == pytest.approx([30, 30])
