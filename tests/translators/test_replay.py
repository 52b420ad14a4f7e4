"""The replay pool: what it hands out, what it keeps, and an exact resume."""

import pytest
import torch

from medgan.translators.replay import ReplayPool


def numbered(first, count, shape=(1, 4, 4, 2)):
    """Images that hold their own number."""
    return torch.stack([torch.full(shape, float(number)) for number in range(first, first + count)])


def numbers(images):
    assert all((image == image.flatten()[0]).all() for image in images)
    return [int(image.flatten()[0]) for image in images]


def test_until_it_is_full_it_keeps_and_hands_through():
    pool = ReplayPool(6, seed=0)
    for first in (0, 3):
        assert numbers(pool(numbered(first, 3))) == [first, first + 1, first + 2]
    assert numbers(pool.images) == list(range(6))


def test_half_of_the_images_are_swapped_for_old_ones_from_any_place():
    pool = ReplayPool(10, seed=0)
    pool(numbered(0, 10))
    old = []
    for number in range(10, 1010):
        kept = numbers(pool.images)
        (given,) = numbers(pool(numbered(number, 1)))
        if given == number:
            assert numbers(pool.images) == kept
        else:
            place = kept.index(given)
            assert numbers(pool.images) == [*kept[:place], number, *kept[place + 1 :]]
            old.append(place)
    assert len(old) / 1000 == pytest.approx(0.5, abs=0.05)
    assert min(old.count(place) for place in range(10)) > 25


def test_an_image_leaves_the_pool_at_most_once_and_a_pool_of_none_hands_everything_through():
    pool = ReplayPool(5, seed=1)
    pool(numbered(0, 5))
    given = [number for first in range(5, 305, 3) for number in numbers(pool(numbered(first, 3)))]
    assert len(set(given)) == len(given)
    images = numbered(0, 3)
    assert torch.equal(ReplayPool(0, seed=0)(images), images)


def test_what_is_kept_does_not_change_with_the_image_it_was():
    pool = ReplayPool(2, seed=0)
    for first in range(1, 21, 2):
        images = numbered(first, 2)
        pool(images)
        images.zero_()
    assert 0 not in numbers(pool.images)


@pytest.mark.parametrize("filled", [3, 20], ids=["half full", "full"])
def test_a_restored_pool_goes_on_as_if_nothing_had_happened(filled, tmp_path):
    pool = ReplayPool(8, seed=4)
    pool(numbered(0, filled))
    torch.save(pool.state_dict(), tmp_path / "state.pt")
    expected = numbers(pool(numbered(100, 40)))
    again = ReplayPool(8, seed=99)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), torch.device("cpu"))
    assert numbers(again(numbered(100, 40))) == expected
    assert numbers(again.images) == numbers(pool.images)


def test_the_pools_draws_are_its_own():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ReplayPool(2, seed=0)(numbered(0, 20))
    assert torch.equal(torch.get_rng_state(), before)
