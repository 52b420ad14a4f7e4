"""The replay pool: what it hands out, what it keeps, and an exact resume."""

import pytest
import torch

from medgan.translators.replay import ReplayPool

SHAPES = pytest.mark.parametrize("shape", [(1, 4, 4), (1, 4, 4, 2)], ids=["2d", "3d"])


def numbered(first, count, shape):
    """Images that hold their own number."""
    return torch.stack([torch.full(shape, float(number)) for number in range(first, first + count)])


def numbers(images):
    assert all((image == image.flatten()[0]).all() for image in images)
    return [int(image.flatten()[0]) for image in images]


@SHAPES
def test_until_it_is_full_it_keeps_and_hands_through(shape):
    pool = ReplayPool(6, seed=0)
    for first in (0, 3):
        assert numbers(pool(numbered(first, 3, shape))) == [first, first + 1, first + 2]
    assert numbers(pool.images) == list(range(6))


@SHAPES
def test_half_of_the_images_are_swapped_for_old_ones_from_any_place(shape):
    pool = ReplayPool(10, seed=0)
    pool(numbered(0, 10, shape))
    old = []
    for number in range(10, 1010):
        kept = numbers(pool.images)
        (given,) = numbers(pool(numbered(number, 1, shape)))
        if given == number:
            assert numbers(pool.images) == kept
        else:
            place = kept.index(given)
            assert numbers(pool.images) == [*kept[:place], number, *kept[place + 1 :]]
            old.append(place)
    assert len(old) / 1000 == pytest.approx(0.5, abs=0.05)
    assert min(old.count(place) for place in range(10)) > 25


@SHAPES
def test_an_image_leaves_the_pool_at_most_once(shape):
    pool = ReplayPool(5, seed=1)
    pool(numbered(0, 5, shape))
    given = [number for first in range(5, 305, 3) for number in numbers(pool(numbered(first, 3, shape)))]
    assert len(set(given)) == len(given)


@SHAPES
def test_a_pool_of_none_hands_everything_through(shape):
    images = numbered(0, 3, shape)
    assert torch.equal(ReplayPool(0, seed=0)(images), images)


@SHAPES
def test_what_is_kept_does_not_change_with_the_image_it_was(shape):
    pool = ReplayPool(2, seed=0)
    for first in range(1, 21, 2):
        images = numbered(first, 2, shape)
        pool(images)
        images.zero_()
    assert 0 not in numbers(pool.images)


@SHAPES
@pytest.mark.parametrize("filled", [3, 20], ids=["half full", "full"])
def test_a_restored_pool_goes_on_as_if_nothing_had_happened(shape, filled, tmp_path):
    pool = ReplayPool(8, seed=4)
    pool(numbered(0, filled, shape))
    torch.save(pool.state(), tmp_path / "state.pt")
    expected = numbers(pool(numbered(100, 40, shape)))
    again = ReplayPool(8, seed=99)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True), torch.device("cpu"))
    assert numbers(again(numbered(100, 40, shape))) == expected
    assert numbers(again.images) == numbers(pool.images)


def test_the_pools_draws_are_its_own():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ReplayPool(2, seed=0)(numbered(0, 20, (1, 2, 2)))
    assert torch.equal(torch.get_rng_state(), before)
