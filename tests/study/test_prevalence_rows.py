"""A detector that thresholds: what it finds in drawn images is known without it."""

import nibabel
import numpy as np
import pytest

from medgan.data.layouts import Study
from medgan.phantom.tissues import Tissue
from medgan.study.prevalence_rows import NAMES, Judge, detections, measures

SHAPE, SPACING = (40, 40, 6), (4.0, 4.0, 5.0)
LIVER_HU, LESION_HU = 60.0, 20.0


def segmented(model, study, fabric):
    """Liver where it is as bright as liver, lesion where it is as bright as a lesion; the model is a shift in HU."""
    from medgan.data.volumes import Volume, read_volume

    voxels = (study if isinstance(study, Volume) else read_volume(study.image)).voxels - model
    found = np.zeros(SHAPE, np.uint8)
    found[np.abs(voxels - LIVER_HU) < 10] = NAMES["liver"]
    found[np.abs(voxels - LESION_HU) < 10] = NAMES["lesion"]
    return found


def drawn(*lesions):
    """A liver with lesions (x, y, width) in HU, and its labels."""
    hu, labels = np.full(SHAPE, -100.0), np.zeros(SHAPE, np.uint8)
    hu[4:36, 4:36], labels[4:36, 4:36] = LIVER_HU, Tissue.LIVER
    for x, y, width in lesions:
        hu[x : x + width, y : y + width] = LESION_HU
        labels[x : x + width, y : y + width] = Tissue.HYPO_LESION
    return hu, labels


def save(path, voxels):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels.astype(np.float32), np.diag([*SPACING, 1])).to_filename(path)
    return path


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A row for a translation with some lesions of an input with others: ``judged([(8, 8, 5)], [])``."""
    monkeypatch.setattr("medgan.study.prevalence_rows.segment_study", segmented)

    def judge(true, translated):
        hu, labels = drawn(*true)
        image = save(tmp_path / "in/s1.nii.gz", hu + 100)  # contrast medium: the source's segmenter knows of it
        mask = save(tmp_path / "in/labels.nii.gz", labels)
        output = save(tmp_path / "out/s1.nii.gz", drawn(*translated)[0])
        return Judge(100.0, 0.0, {"s1": Study("s1", "contrast", image, mask)}, None).row("s1", output)

    return judge


@pytest.mark.parametrize(
    ("true", "translated", "expected"),
    [
        ([(8, 8, 5)], [(8, 8, 5)], {"found": 1, "missed": 0, "false": 0, "recall": 1.0, "lesion_kept": 1}),
        ([(8, 8, 5), (20, 20, 5)], [(8, 8, 5)], {"found": 1, "missed": 1, "recall": 0.5, "lesion_erased": 1}),
        ([(8, 8, 5)], [(8, 8, 5), (20, 20, 5)], {"found": 1, "false": 1, "lesion_invented": 1}),
        ([(8, 8, 5)], [], {"lesions": 1, "recall": 0.0, "lesion_erased": 1}),
    ],
    ids=["faithful", "erased", "invented", "blind"],
)
def test_lesions_are_found_missed_and_invented(judged, true, translated, expected):
    row = judged(true, translated)
    assert {key: row[key] for key in expected} == expected
    assert row["dice_liver"] > 0.9


def test_without_a_lesion_there_is_no_recall_but_there_are_false_findings(judged):
    row = judged([], [(20, 20, 5)])
    assert np.isnan(row["recall"])
    assert (row["lesions"], row["false"]) == (0, 1)


def test_what_is_too_small_is_neither_lesion_nor_finding(judged):
    row = judged([(8, 8, 1)], [(20, 20, 1)])
    assert (row["lesions"], row["false"]) == (0, 0)


def test_detections_are_made_once_and_read_ever_after(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "medgan.study.prevalence_rows.segment_study", lambda *given: calls.append(given) or segmented(*given)
    )
    hu, labels = drawn((8, 8, 5))
    image, mask = save(tmp_path / "root/a/contrast.nii.gz", hu + 100), save(tmp_path / "root/a/labels.nii.gz", labels)
    save(tmp_path / "child/test/a/contrast.nii.gz", hu)
    judge = Judge(100.0, 0.0, {"007": Study("007", "contrast", image, mask)}, None)
    places = (tmp_path / "child", tmp_path / "child/test", tmp_path / "root")
    first = detections(judge, *places)
    made = len(calls)
    again = detections(judge, *places)
    assert len(calls) == made == 2
    assert first.equals(again)
    assert again["subject"].tolist() == ["007"]
    assert list(measures(again)) == ["recall", "false", "dice_liver", "dice_kidney", "lesion_erased", "lesion_invented"]
