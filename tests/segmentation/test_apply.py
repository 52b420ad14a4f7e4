from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medgan.data.grid import Volume, made_up_grid
from medgan.data.volumes import read_volume
from medgan.errors import GeometryError, ModelError
from medgan.evaluation.segmentation import LesionCounts
from medgan.inference.translate import MARGIN_VOXELS
from medgan.segmentation.apply import LabelKeeper, _on_own_grid, _probabilities, segment_prepared, segment_study

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])


class ByIntensity(nn.Module):
    """Names what is brighter than .3 disc (1) and what is darker than -.3 square (2)."""

    def forward(self, image):
        centre = image[:, image.shape[1] // 2]
        return 50 * torch.stack([torch.full_like(centre, 0.3), centre, -centre], dim=1)


@DIMENSIONS
def test_each_voxel_of_the_body_gets_its_likeliest_class(config, subjects, fabric, dimensions):
    (subject,) = subjects(1)
    found = segment_prepared(ByIntensity(), subject.image, config(dimensions), fabric)
    assert found.dtype == np.uint8
    seen = subject.image.normalised()
    by_hand = np.select([seen > 0.3, seen < -0.3], [1, 2], 0)
    assert np.mean(found == by_hand) > (0.999 if dimensions != "3" else 0.99)


@DIMENSIONS
def test_probabilities_add_up_and_away_from_the_body_there_is_background(config, subjects, fabric, dimensions):
    (subject,) = subjects(1, shape=(48, 40, 6))
    study = replace(subject.image, body=((20, 30), (16, 24), (1, 5)))
    found = _probabilities(ByIntensity(), study, config(dimensions), fabric)
    assert found.shape == (3, 48, 40, 6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    outside = np.ones((48, 40, 6), dtype=bool)
    outside[20 - MARGIN_VOXELS : 30 + MARGIN_VOXELS, 16 - MARGIN_VOXELS : 24 + MARGIN_VOXELS, 1:5] = False
    assert (found[0][outside] == 1).all()
    assert (found[1:, ~outside].max(axis=0) > 0).any()


def volume(seed=0, shape=(41, 33, 5), affine=None):
    voxels = np.random.default_rng(seed).choice([-150.0, 40.0, 250.0], (7, 6, 5)).repeat(6, 0).repeat(6, 1)
    voxels = voxels[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    return Volume(voxels, made_up_grid(shape, np.diag([1.0, 1.0, 5.0, 1.0]) if affine is None else affine), Path("a"))


@pytest.fixture
def model(trained):
    return replace(trained[1], networks={"segmenter": ByIntensity()})


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("spacing", [None, 2.0])
def test_a_label_map_lies_where_its_study_lies(model, fabric, signs, spacing):
    given = volume(affine=np.diag([1.0 * signs[0], 1.0 * signs[1], 5.0 * signs[2], 1.0]))
    found = segment_study(with_grid(model, spacing), given, fabric)
    assert (found.shape, found.dtype) == (given.voxels.shape, np.uint8)
    expected = np.select([given.voxels > 200, given.voxels < -100], [1, 2], 0)
    assert np.mean(found == expected) == (1 if spacing is None else pytest.approx(1, abs=0.2))
    middles = (slice(2, None, 6), slice(2, None, 6))
    np.testing.assert_array_equal(found[middles], expected[middles])


def with_grid(model, spacing):
    """The model, as if it saw studies at this spacing in plane."""
    grid = model.description.config.grid.model_copy(update={"spacing_mm": (spacing, spacing, None)})
    config = model.description.config.model_copy(update={"grid": grid})
    return replace(model, description=model.description.model_copy(update={"config": config}))


def test_on_a_real_volume_stored_the_other_way_round_each_voxel_gets_its_own_label(model, fabric, medgan_data):
    given = read_volume(medgan_data / "torso_ct" / "angiogram" / "ct.nii.gz")
    given = replace(
        given, voxels=given.voxels[..., :20], grid=made_up_grid((*given.grid.size[:2], 20), given.grid.affine)
    )
    found = segment_study(with_grid(model, None), given, fabric)
    lower, upper = np.argwhere(found > 0).min(axis=0), np.argwhere(found > 0).max(axis=0) + 1
    looked_at = tuple(slice(*ends) for ends in zip(lower, upper, strict=True))
    expected = np.select([given.voxels > 125, given.voxels < -25], [1, 2], 0)
    assert np.mean(found[looked_at] == expected[looked_at]) > 0.999
    assert (found[expected == 1] == 1).mean() > 0.999


def test_probabilities_and_not_labels_are_carried_back():
    found = np.zeros((2, 2, 1, 1), dtype=np.float32)
    found[:, 0, 0, 0], found[:, 1, 0, 0] = (1.0, 0.0), (0.2, 0.8)
    fine = made_up_grid((11, 1, 1), np.diag([0.1, 1.0, 1.0, 1.0]))
    # Class 1 overtakes where .8 t > .5: at t = .7, and not halfway as the nearest label would.
    assert _on_own_grid(found, np.eye(4), fine)[:, 0, 0].tolist() == [0] * 7 + [1] * 4


def test_a_slice_that_is_not_axial_and_a_network_that_answers_with_no_numbers_are_refused(model, fabric):
    coronal = Volume(np.zeros((20, 1, 20), np.float32), made_up_grid((20, 1, 20), np.eye(4)), Path("coronal.nii.gz"))
    with pytest.raises(GeometryError, match=r"coronal.nii.gz: .* no axial image"):
        segment_study(model, coronal, fabric)
    for weight in model.networks.values():
        weight.forward = lambda image: torch.full((len(image), 3, *image.shape[2:]), float("nan"))
    with pytest.raises(ModelError, match="a: the segmenter answers with values that are no numbers"):
        segment_study(model, volume(), fabric)


# Two segmenters as judges of a translation; they threshold, so that what they find is known.

NAMES = {1: "liver", 2: "lesion"}
SPACING_MM = 5.0


def segmenter(shift_hu, names=NAMES):
    return SimpleNamespace(description=SimpleNamespace(names=names), shift_hu=shift_hu)


def thresholded(model, volume, fabric):
    hu = volume.voxels - model.shift_hu
    return np.select([np.abs(hu - 60) < 5, np.abs(hu - 20) < 5], [1, 2]).astype(np.uint8)


@pytest.fixture
def keeper(monkeypatch):
    monkeypatch.setattr("medgan.segmentation.apply.segment_study", thresholded)
    monkeypatch.setattr("medgan.segmentation.apply.read_volume", lambda volume: volume)
    return LabelKeeper(segmenter(100), segmenter(0), None, lesions=["lesion"])


def scan(*, lesion, shift_hu=0.0, origin_mm=0.0):
    hu = np.full((24, 24, 6), -100.0, np.float32)
    hu[4:20, 4:20] = 60
    if lesion:
        hu[8:12, 8:12] = 20
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[0, 3] = origin_mm
    return Volume(hu + np.float32(shift_hu), made_up_grid(hu.shape, affine), Path("image.nii.gz"))


def test_each_segmenter_looks_at_its_own_side_and_as_a_number_it_is_the_worst_organs_dice(keeper):
    image, whole, erased = scan(lesion=True, shift_hu=100), scan(lesion=True), scan(lesion=False)
    assert keeper.agreement(image, whole).dice == {"liver": 1.0}
    assert keeper.agreement(image, whole).lesions == {"lesion": LesionCounts(1, 0, 0, 0)}
    assert keeper.agreement(image, erased).lesions == {"lesion": LesionCounts(0, 1, 0, 0)}
    assert keeper.agreement(image, erased).dice["liver"] == pytest.approx(2 * 240 / (240 + 256))
    studies = [SimpleNamespace(image=each) for each in (image, erased, scan(lesion=False, shift_hu=1000))]
    assert keeper(*studies[:2]) == keeper.agreement(image, erased).dice["liver"]
    assert keeper(studies[2], studies[2]) == 0, "nothing found is nothing kept"
    with pytest.raises(GeometryError, match="does not lie on the voxel grid"):
        keeper.agreement(whole, scan(lesion=True, origin_mm=3.0))


def test_segmenters_of_other_labels_are_refused():
    with pytest.raises(ModelError, match=r"find liver, lesion and lesion, liver: only labels of the same names"):
        LabelKeeper(segmenter(0), segmenter(0, {1: "lesion", 2: "liver"}), None)
    with pytest.raises(ModelError, match="find no spleen; they find liver, lesion"):
        LabelKeeper(segmenter(0), segmenter(0), None, lesions=["spleen"])
