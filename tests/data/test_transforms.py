"""Patches of volumes whose voxels tell where they lie: place, motion and what is beyond the volume."""

import numpy as np
import pytest

from medgan.config import load
from medgan.data.preparation import Prepared
from medgan.data.transforms import PatchConfig, cut, cut_labels, patch_chain
from medgan.errors import ConfigError

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
STILL = {"rotation_degrees": 0, "scaling": 0}
SPAN = 1000.0
AXES = ("x", "y", "z")


def study(voxels, body=None):
    body = body or tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), np.eye(4), body=body, bounds=(-SPAN, SPAN))


def places(shape, body=None):
    """One study for each axis, whose voxels hold their index along it."""
    return {axis: study(index, body) for axis, index in zip(AXES, np.indices(shape), strict=True)}


def drawn(config, studies, seed):
    """Patches by key, back in the studies' unit."""
    return {key: patch.numpy() * SPAN for key, patch in patch_chain(config, list(studies), seed)(studies).items()}


def centre(patch, config):
    """The value in the middle of a patch (channels, *shape), between voxels where a side is even."""
    middle = patch[config.channels // 2]
    window = tuple(slice((size - 1) // 2, size // 2 + 1) for size in middle.shape)
    return float(middle[window].mean())


@DIMENSIONS
@pytest.mark.parametrize("shape", [(90, 80, 40), (90, 20, 7), (9, 12, 3), (30, 30, 1), (1, 1, 1)])
def test_any_volume_gives_a_patch_of_the_wanted_shape_in_the_networks_units(dimensions, shape):
    config = PatchConfig(dimensions=dimensions, size_voxels=24, neighbours=2, flip=True)
    noise = study(np.random.default_rng(0).uniform(-3 * SPAN, 3 * SPAN, shape))
    expected = {"2": (1, 24, 24), "2.5": (5, 24, 24), "3": (1, 24, 24, 24)}[dimensions]
    assert (config.channels, *config.shape) == expected
    for seed in range(3):
        patch = patch_chain(config, ["source"], seed)({"source": noise})["source"].numpy()
        assert patch.shape == expected
        assert patch.dtype == np.float32
        assert -1 <= patch.min() <= patch.max() <= 1


@DIMENSIONS
def test_a_patch_is_a_function_of_its_seed(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True)
    noise = {"source": study(np.random.default_rng(0).uniform(-SPAN, SPAN, (60, 50, 30)))}
    first, again, other = (drawn(config, noise, seed)["source"] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@DIMENSIONS
def test_all_keys_are_cut_at_one_place_with_one_motion(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True)
    noise = study(np.random.default_rng(0).uniform(-SPAN, SPAN, (60, 50, 30)))
    for seed in range(5):
        pair = drawn(config, {"source": noise, "target": noise}, seed)
        assert np.array_equal(pair["source"], pair["target"])


@DIMENSIONS
def test_a_pair_whose_bodies_differ_is_cut_at_one_place(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=16, **STILL)
    noise = np.random.default_rng(0).uniform(-SPAN, SPAN, (60, 50, 30))
    wide, narrow = study(noise, ((5, 55), (5, 45), (2, 28))), study(noise, ((15, 50), (9, 41), (6, 20)))
    for seed in range(5):
        pair = drawn(config, {"source": wide, "target": narrow}, seed)
        assert np.array_equal(pair["source"], pair["target"])


@DIMENSIONS
@pytest.mark.parametrize(("size", "length"), [(16, 16), (17, 17), (16, 30)])
def test_patches_are_centred_all_over_the_body_and_nowhere_else(dimensions, size, length):
    config = PatchConfig(dimensions=dimensions, size_voxels=size, length_voxels=length, **STILL)
    body = ((30, 80), (20, 70), (10, 50))
    studies = places((120, 110, 60), body)
    centres = []
    for seed in range(60):
        patches = drawn(config, studies, seed)
        centres.append([centre(patches[axis], config) for axis in AXES])
    reach = [size / 3, length / 3, size / 3 if dimensions == "3" else 0]
    for axis, values in enumerate(np.array(centres).T):
        lower, upper = body[axis][0] + reach[axis], body[axis][1] - reach[axis]
        assert lower - 1 <= values.min() < lower + 0.15 * (upper - lower), AXES[axis]
        assert upper - 0.15 * (upper - lower) < values.max() <= upper + 1, AXES[axis]


@DIMENSIONS
def test_a_body_smaller_than_the_patch_lies_in_its_middle(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=32, **STILL)
    patches = drawn(config, places((100, 100, 40), ((40, 46), (60, 70), (20, 21))), 0)
    assert [centre(patches[axis], config) for axis in AXES] == pytest.approx([42.5, 64.5, 20], abs=0.6)


def test_neighbours_are_the_slices_beside_and_the_last_one_repeats():
    config = PatchConfig(dimensions="2.5", size_voxels=8, neighbours=2, **STILL)
    seen = set()
    for seed in range(30):
        slices = drawn(config, places((30, 30, 6), ((10, 20), (10, 20), (0, 6))), seed)["z"].mean(axis=(1, 2))
        middle = round(float(slices[2]))
        np.testing.assert_allclose(slices, np.clip(np.arange(middle - 2, middle + 3), 0, 5), atol=1e-3)
        seen.add(middle)
    assert seen == set(range(6))


def jacobian(patches, dimensions):
    """d(place)/d(voxel of the patch) in its middle: (3, 2) in 2D, (3, 3) in 3D."""
    channel = 1 if dimensions == "2.5" else 0
    stack = np.stack([patches[axis][channel] for axis in AXES])
    middle = tuple(size // 2 for size in stack.shape[1:])
    steps = np.eye(len(middle), dtype=int)
    return np.stack([stack[(slice(None), *(middle + step))] - stack[(slice(None), *middle)] for step in steps], axis=1)


@DIMENSIONS
def test_patches_turn_and_stretch_in_plane_only_and_within_their_limits(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=24, rotation_degrees=15, scaling=0.2)
    studies = places((120, 120, 90))
    turns, stretches = [], []
    for seed in range(40):
        slopes = jacobian(drawn(config, studies, seed), dimensions)
        np.testing.assert_allclose(slopes[2], [0, 0, 1][: slopes.shape[1]], atol=2e-3)
        if dimensions == "3":
            np.testing.assert_allclose(slopes[:2, 2], 0, atol=2e-3)
        plane = slopes[:2, :2]
        stretches.append(np.linalg.svd(plane)[1])
        turns.append(np.degrees(np.arctan2(plane[1, 0] - plane[0, 1], plane[0, 0] + plane[1, 1])))
    assert np.abs(turns).max() <= 15.5
    assert min(turns) < -9
    assert max(turns) > 9
    assert 0.79 < np.min(stretches) < 0.87
    assert 1.13 < np.max(stretches) < 1.21


def test_both_axes_in_plane_are_stretched():
    config = PatchConfig(dimensions="2", size_voxels=24, rotation_degrees=0, scaling=0.2)
    plane = np.array([jacobian(drawn(config, places((90, 90, 3)), seed), "2")[:2] for seed in range(20)])
    assert plane[:, 0, 0].std() > 0.05
    assert plane[:, 1, 1].std() > 0.05


@DIMENSIONS
@pytest.mark.parametrize("flip", [True, False])
def test_only_left_and_right_are_mirrored_and_only_in_half_of_the_patches(dimensions, flip):
    config = PatchConfig(dimensions=dimensions, size_voxels=12, flip=flip, **STILL)
    studies = places((60, 60, 40))
    directions = np.array([np.diag(jacobian(drawn(config, studies, seed), dimensions)) for seed in range(40)])
    mirrored = (directions[:, 0] < 0).mean()
    assert 0.25 < mirrored < 0.75 if flip else mirrored == 0
    np.testing.assert_allclose(np.abs(directions[:, 0]), 1, atol=1e-3)
    np.testing.assert_allclose(directions[:, 1:], np.tile([1, 1][: directions.shape[1] - 1], (40, 1)), atol=1e-3)


@pytest.mark.parametrize(
    ("start", "extent"),
    [
        ((2, 3, 1), (4, 5, 2)),
        ((-4, 3, -2), (6, 5, 3)),
        ((7, 8, 3), (30, 5, 9)),
        ((-3, -3, -3), (20, 30, 12)),
        ((9, 11, 4), (2, 2, 1)),
        ((-5, -6, 2), (6, 7, 1)),
    ],
)
def test_beyond_the_volume_there_is_air_in_plane_and_the_last_slice_along_z(start, extent):
    voxels = np.random.default_rng(0).uniform(-SPAN, SPAN, (10, 12, 5))
    expected = np.full(extent, -1.0)
    for place in np.ndindex(*extent):
        x, y, z = np.add(start, place)
        if 0 <= x < 10 and 0 <= y < 12:
            expected[place] = voxels[x, y, np.clip(z, 0, 4)] / SPAN
    np.testing.assert_allclose(cut(study(voxels), start, extent), expected, atol=1e-6)


@DIMENSIONS
def test_a_patch_may_be_longer_along_anterior(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=8, length_voxels=12)
    assert config.shape == ((8, 12, 8) if dimensions == "3" else (8, 12))
    studies = places((40, 50, 30))
    patch = drawn(config.still(), studies, 0)["y"]
    assert patch.shape[1:] == config.shape
    along = patch[0].reshape(8, 12, -1)[4, :, 0]
    np.testing.assert_allclose(np.diff(along), 1, atol=1e-3)


def test_depth_is_for_blocks_only():
    assert PatchConfig(dimensions="3", size_voxels=32, depth_voxels=8).shape == (32, 32, 8)
    with pytest.raises(ConfigError, match="depth_voxels is for 3D patches"):
        load(PatchConfig, {"dimensions": "2", "depth_voxels": 8})


@pytest.mark.parametrize(("written", "dimensions"), [(2, "2"), (2.5, "2.5"), (3.0, "3"), ("2.5", "2.5")])
def test_dimensions_may_be_written_as_numbers(written, dimensions):
    assert load(PatchConfig, {"dimensions": written}).dimensions == dimensions


@DIMENSIONS
def test_labels_are_cut_with_their_image_and_keep_their_values(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=24, flip=True)
    labels = (np.random.default_rng(0).random((40, 20, 12)) > 0.5).astype(np.uint8) * 200
    image = study(labels * 5.0 - SPAN)
    for seed in range(5):
        patch = patch_chain(config, ["source", "labels"], seed, labels=["labels"])({"source": image, "labels": labels})
        found = patch["labels"].numpy()
        assert set(np.unique(found)) <= {0, 200}, "beyond the volume there is background"
        shown = (patch["source"].numpy() + 1) / 2 > 0.25
        assert np.mean(shown == (found > 0)) > 0.85


def test_labels_beyond_the_volume_are_background_in_plane_and_the_last_slice_along_z():
    labels = np.full((2, 3, 2), 7, dtype=np.uint8)
    labels[..., 1] = 9
    found = cut_labels(labels, (-1, 0, -1), (4, 4, 5))
    assert found.shape == (4, 4, 5)
    assert found[:, :, 0].tolist() == [[0] * 4, [7, 7, 7, 0], [7, 7, 7, 0], [0] * 4]
    assert found[1, 0].tolist() == [7, 7, 9, 9, 9]
