from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan.classification.apply import _patch_starts, _probabilities, classify_volume
from medgan.data.grid import Volume, made_up_grid
from medgan.data.preparation import Prepared
from medgan.errors import DataError, GeometryError, ModelError

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def volume(voxels, affine=AFFINE):
    return Volume(voxels.astype(np.float32), made_up_grid(voxels.shape, affine), Path("scan.nii.gz"))


def prepared(shape, body=None, value=0.0):
    box = body or tuple((0, size) for size in shape)
    return Prepared(np.full(shape, value, dtype=np.float32), np.eye(4), box, (-1.0, 1.0))


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_an_image_is_what_its_least_healthy_patch_is(ruled, drawn, fabric, dimensions):
    shape = (20, 20, 12)
    healthy, ill = (
        classify_volume(ruled(dimensions), volume(drawn(shape, spot)), fabric) for spot in (None, (6, 13, 7))
    )
    assert healthy.probabilities.argmax() == 0
    assert ill.probabilities.argmax() == 1
    assert ill.probabilities.sum() == pytest.approx(1)
    assert ill.patches == healthy.patches > 1


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_the_place_is_the_middle_of_a_patch_that_holds_the_finding(ruled, drawn, fabric, dimensions):
    affine = AFFINE.copy()
    affine[:3, 3] = [-7.0, 11.0, 30.0]
    found = classify_volume(ruled(dimensions), volume(drawn((24, 24, 12), (12, 12, 6), hu=-400), affine), fabric)
    away = np.abs(np.linalg.inv(affine) @ [*found.centre_mm, 1.0] - [12, 12, 6, 1])[:3]
    assert (away <= [4, 4, 4 if dimensions == "3" else 0]).all()


def test_a_turned_image_is_seen_the_same_way(ruled, drawn, fabric):
    voxels = drawn((20, 20, 3), (4, 12, 1), hu=-400)
    turned = np.diag([-1.0, 1.0, 1.0, 1.0]) @ AFFINE
    one, other = (
        classify_volume(ruled(), volume(each, affine), fabric)
        for each, affine in ((voxels, turned), (voxels[::-1].copy(), AFFINE))
    )
    np.testing.assert_allclose(one.probabilities, other.probabilities)


def test_a_patch_image_is_one_patch_whatever_its_middle_shows(ruled, fabric):
    voxels = np.full((8, 8, 1), -1000.0)
    voxels[0, 0] = 1000.0
    found = classify_volume(ruled(), volume(voxels), fabric)
    assert found.patches == 1
    assert found.centre_mm == (7.0, 7.0, 0.0)


def test_air_alone_is_nothing_to_classify(ruled, fabric):
    with pytest.raises(DataError, match=r"scan.nii.gz: nothing in it is brighter than air"):
        classify_volume(ruled(), volume(np.full((20, 20, 3), -1000.0)), fabric)


def test_a_sagittal_slice_is_refused(ruled, drawn, fabric):
    with pytest.raises(GeometryError, match=r"scan.nii.gz.* no axial image"):
        classify_volume(ruled(), volume(drawn((20, 20, 20))[:1]), fabric)


def test_a_network_that_broke_down_is_said(ruled, drawn, fabric):
    model = ruled()
    model.network.forward = lambda image: torch.full((len(image), 3), float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        classify_volume(model, volume(drawn()), fabric)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.integers(5, 30)] * 3), st.sampled_from([(8, 8, 1), (8, 8, 8), (4, 4, 6)]), st.data())
def test_patches_cover_the_body_and_overlap_by_half(shape, extent, data):
    body = []
    for size in shape:
        first = data.draw(st.integers(0, size - 1))
        body.append((first, data.draw(st.integers(first + 1, size))))
    starts = list(_patch_starts(prepared(shape, tuple(body)), extent))
    assert len(set(starts)) == len(starts)
    seen = np.zeros(shape, dtype=bool)
    for start in starts:
        seen[tuple(slice(max(s, 0), s + e) for s, e in zip(start, extent, strict=True))] = True
    assert seen[tuple(slice(*each) for each in body)].all()
    for axis, length in enumerate(extent):
        places = sorted({start[axis] for start in starts})
        assert max(np.diff(places), default=0) <= max(length // 2, 1)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 8)], ids=["2d", "3d"])
def test_many_patches_are_judged_as_each_alone(config, fabric, shape):
    torch.manual_seed(0)
    network = config("2" if len(shape) == 2 else "3").build().eval()
    study = prepared((20, 20, 16))
    study.voxels[:] = np.random.default_rng(0).uniform(-1, 1, study.voxels.shape)
    starts = [(0, 3, 2), (11, 5, 8), (-2, 0, 0)]
    together = _probabilities(network, study, starts, shape, fabric)
    alone = [_probabilities(network, study, [start], shape, fabric)[0] for start in starts]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1)
