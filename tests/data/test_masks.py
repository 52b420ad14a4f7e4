"""The body of drawn patients whose outline is known, and of real ones."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import label

from data.cohorts import ct, image, mr
from medgan.data.masks import body_box, body_mask, boxes, components, labels_of, labels_on, merged, voxels_of
from medgan.data.preparation import Prepared
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_volume
from medgan.errors import DataError

CT, MR = ct("ct"), mr("mr")
DEPTHS = pytest.mark.parametrize("depth", [1, 6], ids=["slice", "3d"])


def disk(shape, centre, radius):
    x, y = np.ogrid[: shape[0], : shape[1]]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    return np.repeat(inside[..., None], shape[2], axis=2)


def patient(depth):
    """A body with lungs, on a table, in noisy air; and where the body is."""
    shape = (64, 80, depth)
    body = disk(shape, (30, 42), 20)
    hu = np.where(body, 40.0, -1000.0)
    hu[disk(shape, (24, 42), 5) | disk(shape, (37, 42), 4)] = -850
    hu[4:60, 8:11] = 100
    hu += np.random.default_rng(0).normal(0, 20, shape)
    return hu.astype(np.float32), body


@DEPTHS
def test_a_ct_body_has_its_lungs_and_no_table_nor_a_thin_bridge_to_it_and_reaches_to_the_edge(depth):
    hu, body = patient(depth)
    assert np.array_equal(body_mask(hu, CT), body)
    assert body_box(hu, CT) == ((10, 51), (22, 63), (0, depth))
    hu[30, 10:23] = 100
    assert np.array_equal(body_mask(hu, CT), body)
    assert body_box(np.full((20, 30, depth), 40.0), CT) == ((0, 20), (0, 30), (0, depth))


@DEPTHS
@pytest.mark.parametrize(("domain", "air"), [(CT, -1024.0), (MR, 0.0)], ids=["ct", "mr"])
def test_where_everything_is_air_the_box_is_the_whole_volume(depth, domain, air):
    empty = np.full((8, 9, depth), air)
    assert not body_mask(empty, domain).any()
    assert body_box(empty, domain) == ((0, 8), (0, 9), (0, depth))


@DEPTHS
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("background", ["noise", "zeros"])
def test_an_mr_body_is_found_in_noise_and_around_a_stripped_skull(depth, scale, background):
    random = np.random.default_rng(0)
    shape = (64, 80, depth)
    body = disk(shape, (30, 42), 20)
    noise = np.hypot(*random.normal(0, 6, (2, *shape))) if background == "noise" else np.zeros(shape)
    tissue = np.where(disk(shape, (30, 50), 6), 900.0, 250.0) + random.normal(0, 10, shape)
    found = body_mask(scale * np.where(body, tissue, noise), MR)
    assert (found == body).mean() > 0.995


@DEPTHS
@pytest.mark.parametrize("flip", [False, True])
def test_dark_bone_at_the_edge_of_the_field_of_view_is_body_and_the_air_beside_it_is_not(depth, flip):
    shape = (40, 60, depth)
    body = np.zeros(shape, dtype=bool)
    body[:, :45] = True  # it reaches three edges; air lies at the fourth
    bone = disk(shape, (20, 2), 6)
    mr = np.where(body & ~bone, 400.0, 5.0) + np.random.default_rng(0).normal(0, 2, shape)
    mr, body = (each.swapaxes(0, 1) if flip else each for each in (mr.astype(np.float32), body))
    assert not body_mask(mr, MR)[bone.swapaxes(0, 1) if flip else bone].all()
    found = body_mask(mr, MR, to_the_edge=True)
    assert (found == body).mean() > 0.995  # corners are rounded


@DEPTHS
def test_an_mr_of_two_legs_has_both_and_no_speck(depth):
    shape = (64, 80, depth)
    legs = disk(shape, (30, 20), 12) | disk(shape, (30, 58), 14)
    speck = disk(shape, (8, 40), 3)
    mr = np.where(legs | speck, 400.0, 5.0) + np.random.default_rng(0).normal(0, 2, shape)
    assert np.array_equal(body_mask(mr.astype(np.float32), MR), legs)


@DEPTHS
def test_a_crop_with_hardly_any_air_keeps_its_muscle(depth):
    random = np.random.default_rng(0)
    shape = (64, 80, depth)
    body = np.ones(shape, dtype=bool)
    body[:3, :] = False
    fat = np.broadcast_to(np.arange(80)[None, :, None] > 30, shape)
    mr = np.where(body, np.where(fat, 900.0, 280.0), 10.0) + random.normal(0, 4, shape)
    assert (body_mask(mr.astype(np.float32), MR) == body).mean() > 0.995


@pytest.mark.parametrize(
    ("name", "domain", "share"),
    [
        ("open_ms/patient07/t2.nii.gz", MR, (0.14, 0.18)),
        ("sts/STS_041/mr_t1.nii.gz", MR, (0.8, 0.95)),
        ("breast_dce/UCSF-BR-06/pre.nii.gz", MR, (0.25, 0.5)),
        ("abdomen_ct/CRLM-CT-1004/ct.nii.gz", CT, (0.3, 0.6)),
    ],
)
def test_the_body_of_a_real_study_is_one_piece_and_neither_all_nor_nothing(medgan_data, name, domain, share):
    voxels = read_volume(medgan_data / name).voxels[::2, ::2, ::2]
    mask = body_mask(voxels, domain)
    assert share[0] < mask.mean() < share[1]
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1


SHAPES = {"2d": (7, 6), "3d": (6, 5, 4)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("corners", [True, False])
@given(data=st.data())
def test_components_are_those_of_scikit_image(shape, corners, data):
    mask = data.draw(arrays(bool, shape))
    numbers, count = components(mask, corners=corners)
    theirs, their_count = label(mask, connectivity=mask.ndim if corners else 1, return_num=True)
    assert count == their_count
    # The same parts, in whatever order they are numbered.
    assert len(set(zip(numbers.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count + (not mask.all())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_voxels_and_boxes_are_told_by_component(shape):
    mask = np.random.default_rng(0).random(shape) < 0.25
    numbers, count = components(mask)
    named = np.where(mask, 1 + np.arange(mask.size).reshape(shape) % 2, 0)
    np.testing.assert_array_equal(components(named)[0], numbers)  # names do not part a component
    assert voxels_of(np.zeros(shape)) == []
    told = voxels_of(mask)
    assert len(told) == len(boxes(numbers)) == count > 1
    for number, (voxels, box) in enumerate(zip(told, boxes(numbers), strict=True), start=1):
        np.testing.assert_array_equal(voxels, np.argwhere(numbers == number))
        assert [extent.start for extent in box] == voxels.min(axis=0).tolist()
        assert [extent.stop - 1 for extent in box] == voxels.max(axis=0).tolist()


VALUES = np.array([[[0, 1], [2, 3]]], dtype=np.float32)


@pytest.fixture
def mask(tmp_path):
    return lambda voxels, name="mask.nii.gz": image(tmp_path / name, voxels)


def test_values_of_one_name_are_merged_and_numbered_in_order(mask):
    found = merged(read_volume(mask(VALUES)), {"square": (2, 3), "disc": (1,)})
    np.testing.assert_array_equal(found, [[[0, 2], [1, 1]]])
    assert found.dtype == np.uint8


def test_labels_are_carried_onto_another_grid_by_the_nearest_voxel(mask):
    finer = np.diag([1.0, 0.5, 1.0, 1.0])
    finer[1, 3] = -0.25
    onto = Prepared(np.zeros((1, 4, 2), np.float32), finer, ((0, 1), (0, 4), (0, 2)), (0.0, 1.0))
    found = labels_on(Study("s0", "mr", mask(VALUES), mask(VALUES)), {str(n): (n,) for n in (1, 2, 3)}, onto)
    np.testing.assert_array_equal(found, np.repeat(VALUES, 2, axis=1))


@pytest.mark.parametrize("voxels", [VALUES / 2, VALUES - 1], ids=["fractions", "negative"])
def test_an_image_is_no_label_map(mask, voxels):
    with pytest.raises(DataError, match=r"mask.nii.gz: holds values that are no labels"):
        merged(read_volume(mask(voxels)), {})


def test_a_cohorts_labels_are_named_beside_it_in_a_file_that_says_what_they_mean_or_by_their_values(mask, tmp_path):
    cohort = Cohort((Study("s0", "mr", tmp_path / "image.nii.gz", mask(VALUES)),), tmp_path)
    assert labels_of(cohort) == {"label_1": (1,), "label_2": (2,), "label_3": (3,)}
    empty = Study("s0", "mr", tmp_path / "image.nii.gz", mask(np.zeros_like(VALUES), "empty.nii.gz"))
    with pytest.raises(DataError, match="no mask marks anything"):
        labels_of(Cohort((empty,), tmp_path))
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"0": "air", "5": "liver", "7": "kidney"}}))
    assert labels_of(cohort) == {"liver": (5,), "kidney": (7,)}
    for content in ("", "[]", "{}", '{"labels": ["liver"]}', '{"labels": {"liver": 5}}'):
        (tmp_path / "labels.json").write_text(content)
        with pytest.raises(DataError, match=r"labels.json: does not say what labels mean"):
            labels_of(cohort)
