"""Two segmenters as judges of a translation; they threshold, so that what they find is known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medgan.data.grid import Volume, made_up_grid
from medgan.errors import GeometryError, ModelError
from medgan.evaluation.segmentation import LesionCounts
from medgan.segmentation.keeping import LabelKeeper

NAMES = {1: "liver", 2: "lesion"}
SPACING_MM = 5.0
SHAPES = pytest.mark.parametrize("shape", [(24, 24, 1), (24, 24, 6)], ids=["2d", "3d"])


def segmenter(shift_hu, names=NAMES):
    return SimpleNamespace(description=SimpleNamespace(names=names), shift_hu=shift_hu)


def thresholded(model, volume, fabric):
    hu = volume.voxels - model.shift_hu
    return np.select([np.abs(hu - 60) < 5, np.abs(hu - 20) < 5], [1, 2]).astype(np.uint8)


@pytest.fixture
def keeper(monkeypatch):
    monkeypatch.setattr("medgan.segmentation.keeping.segment_study", thresholded)
    return LabelKeeper(segmenter(100), segmenter(0), None, lesions=["lesion"])


def volume(shape, *, lesion, shift_hu=0.0, origin_mm=0.0):
    hu = np.full(shape, -100.0, np.float32)
    hu[4:20, 4:20] = 60
    if lesion:
        hu[8:12, 8:12] = 20
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[0, 3] = origin_mm
    return Volume(hu + np.float32(shift_hu), made_up_grid(shape, affine), Path("image.nii.gz"))


@SHAPES
def test_each_segmenter_looks_at_its_own_side(keeper, shape):
    image = volume(shape, lesion=True, shift_hu=100)
    kept = keeper.keeping(image, volume(shape, lesion=True))
    assert kept.dice == {"liver": 1.0}
    assert kept.lesions == {"lesion": LesionCounts(1, 0, 0, 0)}
    erased = keeper.keeping(image, volume(shape, lesion=False))
    assert erased.lesions == {"lesion": LesionCounts(0, 1, 0, 0)}
    assert 0.9 < erased.dice["liver"] < 1


@SHAPES
def test_as_a_number_it_is_the_worst_organs_dice_and_nothing_found_is_nothing_kept(keeper, shape):
    image = volume(shape, lesion=True, shift_hu=100)
    assert keeper(image, volume(shape, lesion=False)) == pytest.approx(2 * 240 / (240 + 256))
    empty = volume(shape, lesion=False, shift_hu=1000)
    assert keeper(empty, empty) == 0


def test_a_translation_on_another_grid_is_refused(keeper):
    with pytest.raises(GeometryError, match="does not lie on the voxel grid"):
        keeper.keeping(volume((24, 24, 6), lesion=True), volume((24, 24, 6), lesion=True, origin_mm=3.0))


def test_segmenters_of_other_labels_are_refused():
    with pytest.raises(ModelError, match=r"find liver, lesion and lesion, liver: only labels of the same names"):
        LabelKeeper(segmenter(0), segmenter(0, {1: "lesion", 2: "liver"}), None)
    with pytest.raises(ModelError, match="find no spleen; they find liver, lesion"):
        LabelKeeper(segmenter(0), segmenter(0), None, lesions=["spleen"])
