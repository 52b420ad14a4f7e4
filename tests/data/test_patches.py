"""Patch n is the same whenever, wherever and by whomever it is drawn."""

import random

import numpy as np
import pytest
import torch

from medgan.data.intensity import IntensityConfig
from medgan.data.patches import From, PatchDataset, batches
from medgan.data.preparation import Prepared
from medgan.data.transforms import PatchConfig

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
PAIRED = pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])


def study(seed, depth=6, shape=(30, 34)):
    voxels = np.random.default_rng(seed).uniform(-1, 1, (*shape, depth)).astype(np.float32)
    return Prepared(voxels, np.eye(4), body=tuple((0, size) for size in voxels.shape), bounds=(-1.0, 1.0))


def dataset(*, paired=False, dimensions="2", seed=3, targets=3, **options):
    config = PatchConfig(dimensions=dimensions, size_voxels=12, flip=True, **options)
    source = [study(number) for number in range(3)]
    target = source if paired else [study(10 + number) for number in range(targets)]
    return PatchDataset(source, target, paired=paired, config=config, seed=seed)


def assert_same(one, other):
    assert one.keys() == other.keys() == {"source", "target"}
    assert all(torch.equal(one[key], other[key]) for key in one)


@DIMENSIONS
@PAIRED
def test_a_patch_depends_on_nothing_but_the_seed_and_its_number(paired, dimensions):
    one, other = (dataset(paired=paired, dimensions=dimensions) for _ in range(2))
    for number in (7, 0, 7, 123_456):
        assert_same(one[number], other[number])
    assert not torch.equal(one[0]["source"], one[1]["source"])
    assert not torch.equal(one[0]["source"], dataset(paired=paired, dimensions=dimensions, seed=4)[0]["source"])


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
@PAIRED
def test_patches_are_plain_tensors_of_the_configured_shape(paired, dimensions):
    patches = dataset(paired=paired, dimensions=dimensions)
    for value in patches[0].values():
        assert type(value) is torch.Tensor
        assert value.shape == (patches.config.channels, *patches.config.shape)
        assert value.dtype == torch.float32


def test_pairs_show_one_place_with_one_motion():
    patches = dataset(paired=True)
    for number in range(10):
        assert torch.equal(patches[number]["source"], patches[number]["target"])


@DIMENSIONS
def test_a_region_moves_with_its_pair(dimensions):
    inside = study(0).voxels > 0
    place = Prepared(inside.astype(np.float32), np.eye(4), study(0).body, bounds=(0.0, 1.0))
    config = PatchConfig(dimensions=dimensions, size_voxels=12, flip=True)
    image = Prepared(2 * place.voxels - 1, np.eye(4), place.body, bounds=(-1.0, 1.0))
    patches = PatchDataset([image], [image], paired=True, config=config, seed=0, regions=[place])
    for number in range(5):
        patch = patches[number]
        assert set(patch["region"].unique().tolist()) == {0.0, 1.0}
        assert torch.equal(patch["region"], (patch["target"] > 0).float())


def test_only_the_sources_intensities_are_varied():
    config = {"intensity": IntensityConfig(gamma=0.5, noise=0.1)}
    plain, changed = dataset(paired=True), dataset(paired=True, **config)
    drawn = [(plain[number], changed[number]) for number in range(6)]
    assert all(torch.equal(one["target"], other["target"]) for one, other in drawn)
    assert not all(torch.equal(one["source"], other["source"]) for one, other in drawn)
    assert_same(changed[3], dataset(paired=True, **config)[3])


def test_unpaired_draws_know_nothing_of_each_other():
    few, many = dataset(targets=1), dataset(targets=3)
    for number in range(10):
        assert torch.equal(few[number]["source"], many[number]["source"])
    columns = np.indices((40, 40, 20))[0].astype(np.float32)
    place = Prepared(columns, np.eye(4), body=((0, 40), (0, 40), (0, 20)), bounds=(0.0, 40.0))
    config = PatchConfig(size_voxels=8, rotation_degrees=0, scaling=0)
    same = PatchDataset([place], [place], paired=False, config=config, seed=0)
    drawn = [same[number] for number in range(80)]
    middles = np.array([[float(patch[key].mean()) for patch in drawn] for key in ("source", "target")])
    assert abs(np.corrcoef(middles)[0, 1]) < 0.3


def test_every_slice_of_the_cohort_is_as_likely_as_any_other():
    def flat(value, depth):
        voxels = np.full((16, 16, depth), value, dtype=np.float32)
        return Prepared(voxels, np.eye(4), body=((0, 16), (0, 16), (0, depth)), bounds=(-1.0, 1.0))

    sources = [flat(0.25, 30), flat(-0.25, 10)]
    config = PatchConfig(size_voxels=4, rotation_degrees=0, scaling=0)
    patches = PatchDataset(sources, sources, paired=False, config=config, seed=0)
    tall = np.mean([float(patches[number]["source"].mean()) > 0 for number in range(150)])
    assert tall == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_goes_on_sees_the_batches_of_one_that_never_stopped(workers):
    patches = dataset()
    whole = list(batches(patches, 0, 5, batch_size=2, workers=0))
    parts = [*batches(patches, 0, 2, batch_size=2, workers=workers), *batches(patches, 2, 5, 2, workers)]
    assert len(whole) == len(parts) == 5
    for one, other in zip(whole, parts, strict=True):
        assert_same(one, other)
    for place, batch in enumerate(whole):
        alone = [patches[number] for number in (2 * place, 2 * place + 1)]
        assert_same(batch, {key: torch.stack([patch[key] for patch in alone]) for key in batch})


@pytest.mark.parametrize(("first", "last"), [(0, 3), (4, 6), (2, 2)])
def test_iterations_are_numbered_on(first, last):
    numbers = From(first, last, batch_size=3)
    assert len(numbers) == len(list(numbers)) == last - first
    assert [number for batch in numbers for number in batch] == list(range(3 * first, 3 * last))
