"""Patch n is the same whenever, wherever and by whomever it is drawn."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from medgan.config import load
from medgan.data.augmentation import augmented
from medgan.data.patches import IntensityConfig, PatchConfig, PatchDataset, batches, cut, item
from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, DataError

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
PAIRED = pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
STILL = {"rotation_degrees": 0, "scaling": 0}


def study_of(voxels, body=None, bounds=(-1.0, 1.0)):
    body = body or tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), np.eye(4), body, bounds)


def study(seed):
    return study_of(np.random.default_rng(seed).uniform(-1, 1, (30, 34, 6)))


def dataset(*, paired=False, dimensions="2", seed=3, targets=3, **options):
    config = PatchConfig(dimensions=dimensions, size_voxels=12, flip=True, **options)
    source = [study(number) for number in range(3)]
    target = source if paired else [study(10 + number) for number in range(targets)]
    return PatchDataset(source, target, paired=paired, config=config, seed=seed)


def assert_same(one, other):
    assert one.keys() == other.keys() >= {"source", "target"}
    assert all(torch.equal(one[key], other[key]) for key in one)


@DIMENSIONS
@PAIRED
def test_a_patch_is_plain_tensors_and_depends_on_nothing_but_the_seed_and_its_number(paired, dimensions):
    one, other = (dataset(paired=paired, dimensions=dimensions) for _ in range(2))
    for number in (7, 0, 123_456):
        assert_same(one[number], other[number])
    first = one.patch(0)
    assert first.keys() == {"source", "target"}
    assert not torch.equal(first["source"], one.patch(1)["source"])
    assert not torch.equal(first["source"], dataset(paired=paired, dimensions=dimensions, seed=4).patch(0)["source"])
    for value in first.values():
        assert (type(value), value.dtype) == (torch.Tensor, torch.float32)
        assert value.shape == (one.config.channels, *one.config.shape)
    seventh = one.patch(7)
    assert not paired or torch.equal(seventh["source"], seventh["target"])  # one place with one motion


@PAIRED
def test_drawing_leaves_every_random_state_as_it_was(paired):
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for _ in batches(dataset(paired=paired), 0, 2, batch_size=2, workers=0):
        pass
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


@DIMENSIONS
def test_a_region_moves_with_its_pair(dimensions):
    place = study_of(study(0).voxels > 0, bounds=(0.0, 1.0))
    config = PatchConfig(dimensions=dimensions, size_voxels=12, flip=True)
    image = study_of(2 * place.voxels - 1)
    patches = PatchDataset([image], [image], paired=True, config=config, seed=0, regions=[place])
    for number in range(5):
        patch = patches.patch(number)
        assert set(patch["region"].unique().tolist()) == {0.0, 1.0}
        shown = (patch["target"] > 0).float()
        assert float((patch["region"] == shown).float().mean()) > 0.7  # noise: nearest and linear differ at edges


def test_only_the_sources_intensities_are_varied():
    config = {"intensity": IntensityConfig(gamma=0.5, noise=0.1)}
    plain, changed = dataset(paired=True), dataset(paired=True, **config)
    drawn = [(plain.patch(number), changed.patch(number)) for number in range(4)]
    assert all(torch.equal(one["target"], other["target"]) for one, other in drawn)
    assert not all(torch.equal(one["source"], other["source"]) for one, other in drawn)
    assert_same(changed[3], dataset(paired=True, **config)[3])


def test_unpaired_draws_know_nothing_of_each_other():
    few, many = dataset(targets=1), dataset(targets=3)
    for number in range(10):
        assert torch.equal(few[number]["source"], many[number]["source"])
    place = study_of(np.indices((40, 40, 20))[0], bounds=(0.0, 40.0))
    config = PatchConfig(size_voxels=8, **STILL)
    same = PatchDataset([place], [place], paired=False, config=config, seed=0)
    drawn = [same.patch(number) for number in range(30)]
    middles = np.array([[float(patch[key].mean()) for patch in drawn] for key in ("source", "target")])
    assert abs(np.corrcoef(middles)[0, 1]) < 0.5


def test_every_slice_of_the_cohort_is_as_likely_as_any_other():
    sources = [study_of(np.full((16, 16, depth), value)) for value, depth in ((0.25, 30), (-0.25, 10))]
    config = PatchConfig(size_voxels=4, **STILL)
    patches = PatchDataset(sources, sources, paired=False, config=config, seed=0)
    tall = np.mean([float(patches.patch(number)["source"].mean()) > 0 for number in range(40)])
    assert tall == pytest.approx(0.75, abs=0.12)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_sees_the_batches_of_one_that_never_stopped(workers):
    patches = dataset()
    whole = list(batches(patches, 0, 3, batch_size=2, workers=0))
    assert not list(batches(patches, 2, 2, batch_size=2, workers=0))
    parts = [*batches(patches, 0, 1, batch_size=2, workers=workers), *batches(patches, 1, 3, 2, workers)]
    assert len(whole) == len(parts) == 3
    for one, other in zip(whole, parts, strict=True):
        assert_same(one, other)
    for place, batch in enumerate(whole):
        alone = [patches[number] for number in (2 * place, 2 * place + 1)]
        assert_same(batch, {key: torch.stack([patch[key] for patch in alone]) for key in batch})


def test_processes_share_each_batch_in_its_order():
    (whole,) = batches(dataset(), 1, 2, batch_size=3, workers=0)
    shares = [next(batches(dataset(), 1, 2, batch_size=3, workers=0, rank=rank, world=2)) for rank in (0, 1)]
    assert [len(share["source"]) for share in shares] == [2, 1]
    assert_same(whole, {key: torch.cat([share[key] for share in shares]) for key in whole})


class Broken(PatchDataset):
    def __getitem__(self, number):
        raise DataError(f"patch {number} of ct.nii.gz is broken.")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_in_a_worker_is_told_as_it_is_here(workers):
    broken = Broken([study(0)], [study(0)], paired=True, config=PatchConfig(size_voxels=8), seed=0)
    with pytest.raises(DataError, match=r"^patch 6 of ct\.nii\.gz is broken\.$"):
        list(batches(broken, 3, 4, batch_size=2, workers=workers))


SPAN = 1000.0
WIDE = (-SPAN, SPAN)
AXES = ("x", "y", "z")


def places(shape, body=None):
    """One study for each axis, whose voxels hold their index along it."""
    return {axis: study_of(index, body, WIDE) for axis, index in zip(AXES, np.indices(shape), strict=True)}


def patch_of(config, images, seed):
    """The patches of one item, by key."""
    one = item(images, config, np.random.default_rng(seed))
    return {key: patch[0] for key, patch in augmented(default_collate([one]), config.shape).items()}


def drawn(config, studies, seed):
    """Patches by key, back in the studies' unit."""
    return {key: patch.numpy() * SPAN for key, patch in patch_of(config, studies, seed).items()}


def centre(patch, config):
    """The value in the middle of a patch (channels, *shape), between voxels where a side is even."""
    middle = patch[config.channels // 2]
    window = tuple(slice((size - 1) // 2, size // 2 + 1) for size in middle.shape)
    return float(middle[window].mean())


@DIMENSIONS
@pytest.mark.parametrize("shape", [(90, 80, 40), (90, 20, 7), (9, 12, 3), (30, 30, 1), (1, 1, 1)])
def test_any_volume_gives_a_patch_of_the_wanted_shape_in_the_networks_units(dimensions, shape):
    config = PatchConfig(dimensions=dimensions, size_voxels=24, neighbours=2, flip=True)
    noise = study_of(np.random.default_rng(0).uniform(-3, 3, shape))
    expected = {"2": (1, 24, 24), "2.5": (5, 24, 24), "3": (1, 24, 24, 24)}[dimensions]
    assert (config.channels, *config.shape) == expected
    for seed in range(3):
        patch = patch_of(config, {"source": noise}, seed)["source"].numpy()
        assert patch.shape == expected
        assert patch.dtype == np.float32
        assert -1 <= patch.min() <= patch.max() <= 1


@DIMENSIONS
def test_a_pair_whose_bodies_differ_is_cut_at_one_place(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=16, **STILL)
    noise = np.random.default_rng(0).uniform(-1, 1, (60, 50, 30))
    wide, narrow = study_of(noise, ((5, 55), (5, 45), (2, 28))), study_of(noise, ((15, 50), (9, 41), (6, 20)))
    for seed in range(5):
        pair = drawn(config, {"source": wide, "target": narrow}, seed)
        assert np.array_equal(pair["source"], pair["target"])


@DIMENSIONS
@pytest.mark.parametrize(("size", "length"), [(17, 17), (16, 30)])
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
    turns, stretches, lengths = [], [], []
    for seed in range(40):
        slopes = jacobian(drawn(config, studies, seed), dimensions)
        np.testing.assert_allclose(slopes[2], [0, 0, 1][: slopes.shape[1]], atol=2e-3)
        if dimensions == "3":
            np.testing.assert_allclose(slopes[:2, 2], 0, atol=2e-3)
        plane = slopes[:2, :2]
        stretches.append(np.linalg.svd(plane)[1])
        lengths.append(np.linalg.norm(plane, axis=0))
        turns.append(np.degrees(np.arctan2(plane[1, 0] - plane[0, 1], plane[0, 0] + plane[1, 1])))
    assert np.abs(turns).max() <= 15.5
    assert min(turns) < -9
    assert max(turns) > 9
    assert 0.79 < np.min(stretches) < 0.87
    assert 1.13 < np.max(stretches) < 1.21
    assert np.std(lengths, axis=0).min() > 0.05, "both axes are stretched"


@pytest.mark.parametrize("size", [(64, 64), (31, 80)])
@pytest.mark.parametrize(("degrees", "scaling"), [(0, 0), (10, 0.1), (30, 0), (180, 0.2)])
def test_as_much_is_read_as_the_farthest_motion_needs(size, degrees, scaling):
    config = PatchConfig(
        size_voxels=size[0], length_voxels=size[1], rotation_degrees=degrees, scaling=scaling, dimensions="2.5"
    )
    angles, (x, y) = np.deg2rad(np.linspace(0, degrees, 2001)), ((length - 1) / 2 for length in size)
    far = [
        (1 + scaling) * np.max(np.abs(np.cos(angles)) * one + np.sin(angles) * other) for one, other in ((x, y), (y, x))
    ]
    assert config.margins == (*np.ceil(np.array(far) - (x, y) - 1e-6), 0)


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
    ("start", "extent"), [((2, 3, 1), (4, 5, 2)), ((-4, 3, -2), (6, 5, 3)), ((-3, -3, -3), (20, 30, 12))]
)
def test_beyond_the_volume_there_is_air_in_plane_and_the_last_slice_along_z(start, extent):
    voxels = np.random.default_rng(0).uniform(-1, 1, (10, 12, 5))
    expected = np.full(extent, -1.0)
    for place in np.ndindex(*extent):
        x, y, z = np.add(start, place)
        if 0 <= x < 10 and 0 <= y < 12:
            expected[place] = voxels[x, y, np.clip(z, 0, 4)]
    np.testing.assert_allclose(cut(study_of(voxels), start, extent), expected, atol=1e-6)


@DIMENSIONS
def test_a_patch_may_be_longer_along_anterior(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=8, length_voxels=12)
    assert config.shape == ((8, 12, 8) if dimensions == "3" else (8, 12))
    patch = drawn(config.still(), places((40, 50, 30)), 0)["y"]
    assert patch.shape[1:] == config.shape
    np.testing.assert_allclose(np.diff(patch[0].reshape(8, 12, -1)[4, :, 0]), 1, atol=1e-3)


def test_dimensions_may_be_written_as_numbers_and_depth_is_for_blocks_only():
    for written in (2, 2.5, 3, "2.5"):
        assert load(PatchConfig, {"dimensions": written}).dimensions == str(written)
    assert PatchConfig(dimensions="3", size_voxels=32, depth_voxels=8).shape == (32, 32, 8)
    with pytest.raises(ConfigError, match="depth_voxels is for 3D patches"):
        load(PatchConfig, {"dimensions": "2", "depth_voxels": 8})


@DIMENSIONS
def test_labels_are_cut_with_their_image_and_keep_their_values(dimensions):
    config = PatchConfig(dimensions=dimensions, size_voxels=24, flip=True)
    labels = (np.random.default_rng(0).random((40, 20, 12)) > 0.5).astype(np.uint8) * 200
    image = study_of(labels / 200 - 1)
    for seed in range(5):
        patch = patch_of(config, {"source": image, "labels": labels}, seed)
        found = patch["labels"].numpy()
        assert set(np.unique(found)) <= {0, 200}, "beyond the volume there is background"
        shown = (patch["source"].numpy() + 1) / 2 > 0.25
        assert np.mean(shown == (found > 0)) > 0.85


def test_labels_beyond_the_volume_are_background_in_plane_and_the_last_slice_along_z():
    labels = np.full((2, 3, 2), 7, dtype=np.uint8)
    labels[..., 1] = 9
    found = cut(labels, (-1, 0, -1), (4, 4, 5))
    assert found.shape == (4, 4, 5)
    assert found[:, :, 0].tolist() == [[0] * 4, [7, 7, 7, 0], [7, 7, 7, 0], [0] * 4]
    assert found[1, 0].tolist() == [7, 7, 9, 9, 9]
