"""New masks look like the real ones, are none of them, and keep what goes together."""

import numpy as np
import pytest
from scipy import ndimage

from medgan.errors import DataError
from medgan.synthesis.shapes import MaskGenerator, MaskGeneratorConfig, radius_mm

BOTH = pytest.mark.parametrize("flat", [True, False], ids=["2d", "3d"])
ONE = (1.0, 1.0, 1.0)


def blob(radii, flat, names=1):
    """An ellipsoid; with two names its lower half along y is the second."""
    x, y, z = (np.arange(-12, 13) for _ in range(3))
    z = z[12:13] if flat else z
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    inside = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2 <= 1
    return np.where(inside, 1 + (names == 2) * (y < 0), 0).astype(np.uint8)


def cohort(flat, names=1, count=8):
    """Ellipsoids that are the longer the larger they are."""
    rng = np.random.default_rng(0)
    sizes = np.linspace(3, 6, count)
    return [blob(size * np.array([(size / 4) ** 0.8, 1.0, rng.uniform(0.8, 1.1)]), flat, names) for size in sizes]


def fitted(flat, names=1, **settings):
    masks = cohort(flat, names)
    return masks, MaskGenerator.fit(masks, [ONE] * len(masks), names, MaskGeneratorConfig(**settings))


def dice(one, other):
    """Of two masks laid centre on centre in a box that holds both."""
    box = np.zeros((2, 41, 41, 41), dtype=bool)
    for canvas, mask in zip(box, (one, other), strict=True):
        voxels = np.argwhere(mask)
        canvas[tuple((voxels - np.rint(voxels.mean(axis=0)).astype(int) + 20).T)] = True
    return 2 * (box[0] & box[1]).sum() / box.sum()


@BOTH
def test_the_radius_is_that_of_an_equally_large_ball_or_disc(flat):
    mask = blob((6, 6, 6), flat)
    assert radius_mm(mask, ONE, flat) == pytest.approx(6, rel=0.03)
    assert radius_mm(mask, (2.0, 2.0, 2.0), flat) == pytest.approx(12, rel=0.03)


@BOTH
def test_without_novelty_the_real_masks_come_back(flat):
    masks, generator = fitted(flat, novelty=0.0, variance_kept=1.0)
    rng = np.random.default_rng(0)
    for _ in range(8):
        drawn = generator.draw(ONE, rng)
        assert max(dice(drawn, mask) for mask in masks) > 0.9


@BOTH
def test_new_masks_are_none_of_the_real_ones_and_as_large(flat):
    masks, generator = fitted(flat)
    rng = np.random.default_rng(0)
    drawn = [generator.draw(ONE, rng) for _ in range(40)]
    assert min(max(dice(mask, real) for real in masks) for mask in drawn) < 0.93
    sizes, real = (np.array([radius_mm(mask, ONE, flat) for mask in some]) for some in (drawn, masks))
    assert abs(np.log(sizes).mean() - np.log(real).mean()) < 0.15
    assert 0.5 * real.min() < sizes.min() < sizes.max() < 1.5 * real.max()
    assert sizes.std() > 0.4 * real.std()


@BOTH
def test_mixtures_of_long_shapes_that_point_different_ways_are_no_smaller(flat):
    masks = [blob(radii, flat) for radii in ((9, 3, 4), (3, 9, 4))] * 4
    generator = MaskGenerator.fit(masks, [ONE] * len(masks), 1, MaskGeneratorConfig(novelty=1.0))
    rng = np.random.default_rng(0)
    sizes = [radius_mm(generator.draw(ONE, rng), ONE, flat) for _ in range(30)]
    assert np.median(sizes) == pytest.approx(radius_mm(masks[0], ONE, flat), rel=0.06)


@BOTH
def test_what_goes_together_is_kept(flat):
    # Large ones are long in this cohort; independent draws of size and shape would lose it.
    _, generator = fitted(flat)
    rng = np.random.default_rng(0)
    radii, lengths = [], []
    for _ in range(60):
        voxels = np.argwhere(generator.draw(ONE, rng))
        radii.append(len(voxels))
        lengths.append(np.ptp(voxels[:, 0]) / np.ptp(voxels[:, 1]))
    assert np.corrcoef(radii, lengths)[0, 1] > 0.4


@BOTH
def test_every_mask_is_one_thing_in_an_odd_box_around_its_middle(flat):
    _, generator = fitted(flat, names=2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = generator.draw(ONE, rng)
        assert drawn.dtype == np.uint8
        assert all(size % 2 for size in drawn.shape)
        assert (drawn.shape[2] == 1) is flat
        assert ndimage.label(drawn, np.ones((3, 3, 3)))[1] == 1
        middle = np.argwhere(drawn).mean(axis=0)
        assert np.abs(middle - np.array(drawn.shape) // 2).max() < 1.5


@BOTH
def test_names_keep_their_sides(flat):
    masks, generator = fitted(flat, names=2)
    rng = np.random.default_rng(0)
    share = np.mean([np.mean(mask[mask > 0] == 2) for mask in masks])
    for _ in range(10):
        drawn = generator.draw(ONE, rng)
        assert np.argwhere(drawn == 2)[:, 1].mean() < np.argwhere(drawn == 1)[:, 1].mean()
        assert np.mean(drawn[drawn > 0] == 2) == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize(("flat", "spacing", "times"), [(True, (0.5, 0.5, 1.0), 4), (False, (0.5, 1.0, 0.5), 4)])
def test_a_mask_has_its_size_in_millimetres_whatever_the_grid(flat, spacing, times):
    _, generator = fitted(flat)
    coarse, fine = (generator.draw(step, np.random.default_rng(3)) for step in (ONE, spacing))
    assert np.count_nonzero(fine) == pytest.approx(times * np.count_nonzero(coarse), rel=0.1)


def test_masks_of_other_spacings_are_learnt_in_millimetres():
    masks = [mask[:, :, ::2] for mask in cohort(flat=False)]
    generator = MaskGenerator.fit(masks, [(1.0, 1.0, 2.0)] * len(masks), 1, MaskGeneratorConfig(novelty=0.0))
    drawn = generator.draw(ONE, np.random.default_rng(0))
    extent = np.ptp(np.argwhere(drawn), axis=0)
    assert extent[2] == pytest.approx(extent[1], abs=3)


@BOTH
def test_equal_chance_gives_equal_masks(flat):
    _, generator = fitted(flat)
    one, same, other = (generator.draw(ONE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_tiny_mask_is_one_voxel_at_least():
    _, generator = fitted(flat=False)
    assert np.count_nonzero(generator.draw((30.0, 30.0, 30.0), np.random.default_rng(0))) == 1


def test_too_few_masks_are_refused_with_what_to_do():
    mask = blob((4, 4, 4), flat=False)
    speck = np.ones((1, 1, 1), dtype=np.uint8)
    with pytest.raises(DataError, match=r"1 of 2 masks have 6 voxels or more; .*vary the real ones instead"):
        MaskGenerator.fit([mask, speck], [ONE, ONE], 1, MaskGeneratorConfig())
