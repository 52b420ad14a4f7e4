"""Hidden regions: lesions with a margin or healthy holes, never a part of a lesion by chance."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage

from medgan.synthesis.painting import HidingConfig, ellipsoid, grown, hide, holes, moved, outline, some_of

SHAPES = [(24, 24), (24, 24, 8)]
BOTH = pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])
CONFIG = HidingConfig(margin_voxels=(1, 3), margin_slices=(0, 1))


def patches(shape, count=16, lesions=2):
    """Dark beside the body in the first columns, tissue elsewhere, two separate lesions; the last patch has none."""
    image, labels = torch.zeros(count, 1, *shape), torch.zeros(count, 1, *shape, dtype=torch.long)
    image[:, :, :4] = -1
    labels[:-1, :, 8:11, 8:12] = 1
    if lesions == 2:
        labels[:-1, :, 18:20, 17:20] = 2
    return image, labels


@BOTH
def test_a_margin_is_so_many_voxels_along_each_axis(shape):
    margins = [2, 3, 1][: len(shape)]
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(size // 2 for size in shape)] = True
    found = np.argwhere(grown(mask, margins)) - [size // 2 for size in shape]
    assert np.abs(found).max(axis=0).tolist() == margins
    assert len(found) == np.prod([2 * margin + 1 for margin in margins])


@BOTH
def test_a_lesion_is_hidden_whole_and_with_a_margin_or_not_at_all(shape):
    image, labels = patches(shape)
    hidden = hide(image, labels, CONFIG, np.random.default_rng(0))
    assert set(hidden.unique().tolist()) == {0.0, 1.0}
    kinds = set()
    for region, marked in zip(hidden[:, 0].numpy() > 0, labels[:, 0].numpy() > 0, strict=True):
        assert region.any()
        numbered, count = ndimage.label(marked)
        shares = [region[numbered == number].mean() for number in range(1, count + 1)]
        assert all(share in (0, 1) for share in shares)
        kinds.add(tuple(shares))
        if 1 in shares:
            seen = np.isin(numbered, [number for number, share in enumerate(shares, start=1) if share])
            assert (region & ~marked).any()
            assert not (region & ~grown(seen, [3, 3, 1][: len(shape)])).any()
    assert {(), (0, 0), (1, 1)} < kinds
    assert kinds & {(0, 1), (1, 0)}


@BOTH
def test_holes_touch_no_lesion_and_lie_on_tissue(shape):
    image, labels = patches(shape, lesions=1)
    still = CONFIG.model_copy(update={"margin_voxels": (0, 0), "margin_slices": (0, 0)})
    hidden = holes(image, labels, still, np.random.default_rng(0))
    touched = grown(labels.numpy() > 0, [0, 0, *[1] * len(shape)])
    assert not (hidden.numpy() * touched).any()
    centres = [np.argwhere(region.numpy() > 0).mean(axis=0) for region in hidden[:, 0]]
    assert all(centre[0] >= 2 for centre in centres if not np.isnan(centre).any())
    assert np.unique(np.round(centres), axis=0).shape[0] > 8


@BOTH
def test_shares_of_zero_and_one_hide_lesions_only_and_holes_only(shape):
    image, labels = patches(shape, lesions=1)
    image, labels = image[:-1], labels[:-1]
    only = CONFIG.model_copy(update={"healthy_share": 0.0})
    hidden = hide(image, labels, only, np.random.default_rng(0))
    assert bool((hidden[labels > 0] == 1).all())
    assert not (holes(image, labels, CONFIG, np.random.default_rng(0)) * (labels > 0)).any()


@BOTH
def test_all_chance_comes_from_the_generator(shape):
    image, labels = patches(shape)
    one, same, other = (hide(image, labels, CONFIG, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@BOTH
def test_a_moved_mask_keeps_its_voxels_where_there_is_room(shape):
    mask = np.zeros(shape, dtype=bool)
    mask[2:5, 2:4] = True
    tissue = np.zeros(shape, dtype=bool)
    tissue[(12, 13, 4)[: len(shape)]] = True
    result = moved(mask, tissue, np.random.default_rng(0))
    if len(shape) == 2:
        assert result.sum() == mask.sum()
    assert np.abs(np.argwhere(result).mean(axis=0)[:2] - (12, 13)).max() <= 1
    assert moved(mask, np.zeros_like(tissue), np.random.default_rng(0)).any()


@BOTH
def test_some_lesions_are_chosen_whole_and_always_one(shape):
    lesions = patches(shape)[1][0, 0].numpy() > 0
    numbered, _ = ndimage.label(lesions)
    counts = set()
    for seed in range(20):
        chosen = some_of(lesions, 0.9, np.random.default_rng(seed))
        whole = [chosen[numbered == number].mean() for number in (1, 2)]
        assert set(whole) <= {0, 1}
        counts.add(sum(whole))
    assert counts == {1, 2}


@BOTH
def test_an_ellipsoid_has_the_radii_it_says(shape):
    found = np.argwhere(ellipsoid(shape, np.random.default_rng(0)))
    extent = (found.max(axis=0) - found.min(axis=0) + 1) / 2
    assert (extent >= 1).all()
    assert (extent <= np.array(shape) / 4 + 1).all()


def test_margins_the_wrong_way_round_are_refused():
    with pytest.raises(ValidationError, match=r"margin_voxels is the smallest and the largest margin, not \[4, 1\]"):
        HidingConfig(margin_voxels=(4, 1))


@BOTH
def test_an_outline_lies_on_both_sides_of_every_edge(shape):
    labels = np.zeros(shape, dtype=np.int64)
    labels[:8], labels[8:16] = 1, 2
    rows = np.unique(np.argwhere(outline(labels))[:, 0])
    assert rows.tolist() == [7, 8, 15, 16]


@BOTH
def test_only_outlines_are_hidden_where_that_is_asked(shape):
    image, labels = patches(shape)
    ask = HidingConfig(outline_share=1, healthy_share=0, margin_voxels=(0, 0), margin_slices=(0, 0))
    hidden = hide(image, labels, ask, np.random.default_rng(0))[:-1, 0].numpy() > 0
    middle = hidden[:, 9, 10]
    assert not middle[..., 1:-1].any()
    assert hidden[:, 8, 10].all()
    assert hidden[:, 7, 10].all()
