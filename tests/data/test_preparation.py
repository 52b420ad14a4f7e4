"""Orientation against nibabel, and world coordinates by a linear ramp that must survive every step."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import compute_shape_offset, zoom_affine
from monai.transforms import Spacing
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.data import grid as grid_module
from medgan.data import preparation
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.grid import made_up_grid, upright
from medgan.data.preparation import GridConfig, Prepared, denormalise, normalise, prepare
from medgan.data.volumes import Volume
from medgan.errors import GeometryError

CT = Domain(name="ct", modality="CT", unit="HU", air=-1024, window=Window(lower=-300, upper=700))
MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0, window=Window(lower=0, upper=100))
AS_STORED = GridConfig(spacing_mm=(None, None, None))

ORIENTATIONS = pytest.mark.parametrize("axes", ["RAS", "LPS", "RSA", "PIR", "SLP"])
TILTS = pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -8, 20)], ids=["straight", "oblique"])
SHAPES = pytest.mark.parametrize("shape", [(30, 34, 1), (30, 34, 24)], ids=["slice", "3d"])
SLOPE = np.array([0.7, -1.3, 0.9])
"""A ramp's change in each direction of the world, per mm."""


def affine(axes="RAS", tilt=(0, 0, 0), spacing=(0.8, 1.1, 3.0)):
    turn = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (1, 1, 1))[:3, :3]
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ turn @ np.diag(spacing)
    result[:3, 3] = (-31.0, 12.5, 440.0)
    return result


def volume(voxels, affine):
    return Volume(voxels.astype(np.float32), made_up_grid(voxels.shape, affine), Path("study.nii.gz"))


def ramp(shape, affine):
    """The intensity at each voxel: linear in its place in the world, centred in the volume."""
    places = nib.affines.apply_affine(affine, np.stack(np.indices(shape), axis=-1))
    return (places - (-31.0, 12.5, 440.0)) @ SLOPE


@ORIENTATIONS
@TILTS
@SHAPES
def test_orientation_is_nibabels_closest_canonical_to_the_bit(axes, tilt, shape):
    voxels = np.random.default_rng(0).uniform(-1000, 1000, shape).astype(np.float32)
    stored = affine(axes, tilt)
    expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, stored))
    prepared = prepare(volume(voxels, stored), CT, AS_STORED)
    assert np.array_equal(prepared.voxels, np.asarray(expected.dataobj))
    np.testing.assert_allclose(prepared.affine, expected.affine, atol=1e-9)


@ORIENTATIONS
@TILTS
@SHAPES
@pytest.mark.parametrize("spacing", [(1.5, None, 2.0), (0.5, 0.6, None), (2.0, 1.0, 3.7)])
def test_every_intensity_stays_where_it_was_in_the_world_and_null_keeps_the_studys_own_spacing(
    axes, tilt, shape, spacing
):
    stored = affine(axes, tilt)
    given = volume(ramp(shape, stored), stored)
    prepared = prepare(given, MR, GridConfig(spacing_mm=spacing))
    # The Gaussian that removes what the new grid cannot hold reaches two of its voxels far.
    inside = tuple(slice(2, -2) if size > 1 else slice(None) for size in prepared.voxels.shape)
    expected = ramp(prepared.voxels.shape, prepared.affine)[inside]
    assert expected.size
    np.testing.assert_allclose(prepared.voxels[inside], expected, atol=2e-3)
    own, after = upright(given).grid, nib.affines.voxel_sizes(prepared.affine)
    wanted = [asked or kept for asked, kept in zip(spacing, own.spacing_mm, strict=True)]
    np.testing.assert_allclose(after, wanted, rtol=1e-6)
    extents = (
        (np.array(size) - 1) * step for size, step in ((own.size, own.spacing_mm), (prepared.voxels.shape, after))
    )
    np.testing.assert_allclose(*extents, atol=max(after))


@SHAPES
@pytest.mark.parametrize("spacing", [(2.4, 3.3, None), (2.4, 3.3, 9.0), (0.5, 0.5, 1.0)])
def test_a_flat_volume_stays_flat_up_to_its_edges(shape, spacing):
    prepared = prepare(volume(np.full(shape, 55.0), affine()), CT, GridConfig(spacing_mm=spacing))
    np.testing.assert_allclose(prepared.voxels, 55, atol=1e-3)


def test_noise_is_averaged_where_voxels_grow_and_kept_where_they_do_not():
    noise = volume(np.random.default_rng(0).normal(0, 100, (96, 96, 4)), affine(spacing=(1, 1, 3)))
    coarse = prepare(noise, MR, GridConfig(spacing_mm=(3, 3, None))).voxels
    fine = prepare(noise, MR, GridConfig(spacing_mm=(0.5, 0.5, None))).voxels
    assert coarse.std() < 40
    np.testing.assert_allclose(fine[::2, ::2], noise.voxels, atol=0.01)


@pytest.mark.parametrize("padding", [-1025, -3024])
@pytest.mark.parametrize("spacing", [(None, None, None), (1.5, 1.5, None)])
def test_what_a_ct_scanner_did_not_see_is_air(padding, spacing):
    hu = np.full((24, 24, 3), 40.0)
    hu[:8] = padding
    given = volume(hu, affine())
    prepared = prepare(given, CT, GridConfig(spacing_mm=spacing))
    assert prepared.voxels.min() == -1024
    assert prepared.voxels.max() == pytest.approx(40)
    assert given.voxels.min() == padding


@pytest.mark.parametrize("spacing", [(1.5, 1.5, None), (0.5, 2.5, 7.0), (2.0, 1.0, 1.3)])
@pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -8, 20)], ids=["straight", "oblique"])
def test_slabs_leave_no_seam(spacing, tilt, monkeypatch):
    given = volume(np.random.default_rng(0).normal(0, 100, (20, 22, 40)), affine("PIR", tilt))
    whole = prepare(given, MR, GridConfig(spacing_mm=spacing))
    monkeypatch.setattr(grid_module, "SLAB_VOXELS", 500)
    np.testing.assert_allclose(prepare(given, MR, GridConfig(spacing_mm=spacing)).voxels, whole.voxels, atol=1e-4)


@pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -8, 20)], ids=["straight", "oblique"])
def test_resampling_is_monais(tilt):
    stored = affine(tilt=tilt)
    given = volume(np.random.default_rng(0).normal(0, 100, (20, 22, 9)), stored)
    finer = prepare(given, MR, GridConfig(spacing_mm=(0.5, 0.7, 2.0)))  # nothing is blurred
    tensor = MetaTensor(torch.from_numpy(given.voxels)[None], affine=torch.from_numpy(stored))
    expected = Spacing((0.5, 0.7, 2.0), padding_mode="border")(tensor)
    np.testing.assert_allclose(finer.voxels, expected.numpy()[0], atol=1e-4)
    np.testing.assert_allclose(finer.affine, expected.affine.numpy(), atol=1e-9)


@pytest.mark.parametrize("decimals", [16, 6], ids=["exact", "sheared by rounding"])
@pytest.mark.parametrize("tilt", [(0, 0, 0), (12, -8, 20), (-5, 31, 3)], ids=["straight", "oblique", "more oblique"])
def test_the_grid_is_monais_to_the_bit(tilt, decimals):
    stored = affine(tilt=tilt).round(decimals)
    given, wanted = volume(np.zeros((20, 22, 9)), stored), np.array((0.7, 2.2, 1.5))
    prepared = prepare(given, MR, GridConfig(spacing_mm=tuple(wanted)))
    expected = zoom_affine(stored, wanted, diagonal=False)
    size, expected[:3, 3] = compute_shape_offset((20, 22, 9), stored, expected)
    np.testing.assert_array_equal(prepared.affine, expected)
    assert prepared.voxels.shape == tuple(size)


def test_zeros_stay_zeros_whatever_rounding_makes_of_them():
    mr = np.zeros((40, 33, 9))
    mr[10:20] = 1000
    prepared = prepare(volume(mr, affine(spacing=(1, 1, 3))), MR, GridConfig(spacing_mm=(0.7, 0.9, 1.1)))
    assert np.abs(prepared.voxels[prepared.voxels != 0]).min() > 1e-6


def test_a_grid_out_of_all_proportion_is_refused_before_it_is_allocated():
    coarse = volume(np.zeros((100, 100, 100)), affine(spacing=(8, 8, 8)))
    with pytest.raises(GeometryError, match=r"study\.nii\.gz: .* field of view of 800 × 800 × 800 mm .* its spacing"):
        prepare(coarse, MR, GridConfig(spacing_mm=(1.0, 1.0, 1.0)))


def test_what_is_not_resampled_is_not_copied_nor_are_negative_mr_intensities_raised():
    given = volume(np.zeros((24, 24, 3)), affine("LPS"))
    assert np.shares_memory(prepare(given, CT, AS_STORED).voxels, given.voxels)
    voxels = np.linspace(-5, 100, 24 * 24).reshape(24, 24, 1)
    assert prepare(volume(voxels, affine()), MR, AS_STORED).voxels.min() == -5


def test_the_body_and_the_bounds_are_those_of_the_new_grid():
    hu = np.full((40, 40, 5), -1000.0)
    hu[10:30, 16:24] = 40
    prepared = prepare(volume(hu, affine("LPS", spacing=(1, 1, 3))), CT, GridConfig(spacing_mm=(2, 2, None)))
    found = [stop - start for start, stop in prepared.body]
    assert np.abs(np.array(found) - (10, 4, 5)).max() <= 1
    assert prepared.bounds == (-300, 700)
    inside = prepared.voxels[tuple(slice(start, stop) for start, stop in prepared.body)]
    assert inside.max() == pytest.approx(40, abs=1)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5)], ids=["2d", "3d"])
@pytest.mark.parametrize("bounds", [(-300.0, 700.0), (0.0, 1.0), (3.5, 4000.0)])
def test_denormalise_undoes_normalise_inside_the_window(shape, bounds):
    lower, upper = bounds
    inside = np.random.default_rng(0).uniform(lower, upper, shape).astype(np.float32)
    assert normalise(inside, bounds).dtype == np.float32
    np.testing.assert_allclose(denormalise(normalise(inside, bounds), bounds), inside, atol=1e-6 * (upper - lower))
    ends = np.array([lower - 999, lower, (lower + upper) / 2, upper, upper + 999], dtype=np.float32)
    np.testing.assert_allclose(normalise(ends, bounds), [-1, -1, 0, 1, 1], atol=1e-6)
    prepared = Prepared(inside, np.eye(4), (), bounds)
    np.testing.assert_array_equal(prepared.normalised(), normalise(inside, bounds))


PAIR = DomainPair(source=MR, target=CT, paired=True)


def square(first, last, inside, outside, depth):
    voxels = np.full((40, 40, depth), outside, dtype=np.float32)
    voxels[first:last, first:last] = inside
    return Prepared(voxels, np.diag([1.0, 1.0, 3.0, 1.0]), ((first, last), (first, last), (0, depth)), (0.0, 1.0))


@pytest.mark.parametrize("depth", [1, 5])
@pytest.mark.parametrize("margin", [0, 3])
def test_the_region_is_what_both_bodies_share_without_its_rim(depth, margin):
    mr, ct = square(5, 30, 100.0, 0.0, depth), square(8, 35, 40.0, -1000.0, depth)
    found = preparation.agreement(mr, ct, PAIR, margin_voxels=margin)
    expected = np.zeros((40, 40, depth), dtype=np.float32)
    expected[8 + margin : 30 - margin, 8 + margin : 30 - margin] = 1
    # The body's own opening rounds its corners, so the two middle lines are compared.
    np.testing.assert_array_equal(found.voxels[20], expected[20])
    np.testing.assert_array_equal(found.voxels[:, 20], expected[:, 20])
    assert np.all(found.voxels <= expected)
    assert set(np.unique(found.normalised())) == {-1.0, 1.0}
    assert (found.body, found.bounds) == (ct.body, (0.0, 1.0))


def test_the_edge_of_the_volume_is_no_rim():
    mask = np.arange(10)[:, None, None].repeat(12, 1).repeat(2, 2) < 6
    np.testing.assert_array_equal(preparation.eroded_in_plane(mask, 2)[:, 0, 0], np.arange(10) < 4)


def scaled(voxels):
    body = tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), np.eye(4), body, bounds=(5.0, 400.0))


@pytest.mark.parametrize("depth", [1, 6])
@pytest.mark.parametrize("gain", [0.3, 1.0, 7.0])
def test_a_gain_is_taken_out_and_enhancement_stays(depth, gain):
    before = np.random.default_rng(0).uniform(100, 300, (20, 24, depth))
    enhanced = before.copy()
    enhanced[:6] *= 1.8
    inside = replace(scaled(np.ones_like(before)), bounds=(0.0, 1.0))
    found = preparation.on_scale_of(scaled(before), scaled(gain * enhanced), inside)
    np.testing.assert_allclose(found.voxels, enhanced, rtol=1e-4)
    assert found.bounds == (5.0, 400.0)


def test_where_there_is_nothing_to_compare_only_the_bounds_are_shared():
    target = scaled(np.full((4, 4, 2), 50.0))
    nowhere = scaled(np.zeros((4, 4, 2)))
    found = preparation.on_scale_of(replace(target, bounds=(1.0, 2.0)), target, nowhere)
    assert found.bounds == (1.0, 2.0)
    assert found.voxels is target.voxels


@pytest.mark.parametrize("shape", [(9, 7, 3), (6, 6, 1)], ids=["3d", "2d"])
@pytest.mark.parametrize("voxels", [1, 3, 20])
def test_a_target_moves_as_by_scipys_shift_with_edges_repeated_and_keeps_all_else(shape, voxels):
    before = Prepared(
        np.random.default_rng(0).normal(size=shape).astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0]),
        body=((1, 8), (1, 6), (0, 3)), bounds=(-3.0, 3.0),
    )  # fmt: skip
    for subject in ("s1", "s2", "s3", "s4", "s5"):
        after = preparation.misaligned(before, voxels, subject=subject, seed=0)
        step = [voxels * each for each in preparation.direction(subject, 0)]
        assert np.array_equal(after.voxels, ndimage.shift(before.voxels, (*step, 0), order=0, mode="nearest"))
        assert replace(after, voxels=before.voxels) == before
    assert preparation.misaligned(before, 0, subject="s1", seed=0) is before


def test_the_direction_follows_the_subject_and_the_seed_and_takes_every_side():
    drawn = {seed: [preparation.direction(f"s{number}", seed) for number in range(40)] for seed in (0, 1)}
    assert drawn[0] == [preparation.direction(f"s{number}", 0) for number in range(40)]
    assert drawn[0] != drawn[1]
    assert set(drawn[0]) == set(preparation.DIRECTIONS)
    assert all(abs(right) + abs(anterior) == 1 for right, anterior in preparation.DIRECTIONS)
