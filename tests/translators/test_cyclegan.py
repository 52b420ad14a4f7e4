import copy

import pytest
import torch

from medgan.errors import ConfigError
from medgan.networks.outputs import centre_channel
from medgan.translators.cyclegan import ReplayPool

GENERATORS, DISCRIMINATORS = ("to_target", "to_source"), ("target_discriminator", "source_discriminator")


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_terms_are_those_of_the_paper_and_a_discriminators_gradient_that_of_its_own(attached, make_batch):
    translator = attached(cycle=10.0, identity=5.0, change=2.0, pool=0)
    batch = make_batch(translator)
    nets = copy.deepcopy({name: network.module for name, network in translator.networks().items()})
    terms = translator.training_step(batch)
    ways = (
        ("source", nets["to_target"], nets["to_source"], nets["target_discriminator"]),
        ("target", nets["to_source"], nets["to_target"], nets["source_discriminator"]),
    )
    expected = dict.fromkeys(("cycle", "identity", "change"), 0.0)
    for (name, there, back, judge), other, way in zip(ways, ("target", "source"), GENERATORS, strict=True):
        image, real = batch[name], batch[other]
        fake = there(image).detach()
        expected[way] = ((judge(fake) - 1) ** 2).mean()
        expected["cycle"] += 10 * (back(fake) - image).abs().mean()
        expected["identity"] += 5 * (there(real) - real).abs().mean()
        expected["change"] += 2 * (fake - image).abs().mean()
        discriminator = (((judge(real) - 1) ** 2).mean() + (judge(fake) ** 2).mean()) / 2
        expected[f"{other}_discriminator"] = discriminator
        gradients = torch.autograd.grad(discriminator, list(judge.parameters()), retain_graph=True)
        learnt = translator.networks()[f"{other}_discriminator"].parameters()
        for taught, gradient in zip(learnt, gradients, strict=True):
            torch.testing.assert_close(taught.grad, gradient)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach(), msg=name)


def test_identity_and_change_grow_with_the_square_of_the_ramp(attached, make_batch):
    def at(iteration):
        translator = attached(ramp_iterations=10, change=2.0)
        translator.iteration = iteration
        return translator.training_step(make_batch(translator))

    start, halfway, full, later = (at(iteration) for iteration in (0, 5, 10, 25))
    for name in ("identity", "change"):
        assert start[name] == 0
        torch.testing.assert_close(halfway[name], full[name] / 4)
        torch.testing.assert_close(later[name], full[name])
    torch.testing.assert_close(start["cycle"], full["cycle"])


@pytest.mark.parametrize(
    ("dimensions", "source", "like"),
    [("2", "ct", "source"), ("2.5", "ct", "source"), ("3", "ct", "source"), ("2", "mr", "target")],
)
def test_the_anchor_is_the_error_on_simulated_pairs(attached, make_batch, dimensions, source, like):
    # Between scans of one unit the contrast is varied at random; where there is none the result is known.
    settings = {"dimensions": dimensions, "source": source, "output": "one-sided" if source == "ct" else "none"}
    translator = attached(**settings, anchor=3.0)
    batch = make_batch(translator)
    one, other = batch["source"], batch[like]
    there = (translator.to_target(one) - centre_channel(other)).abs().mean()
    back = (translator.to_source(other) - centre_channel(one)).abs().mean()
    terms = translator.training_step(batch | {"anchor_source": one, "anchor_target": other})
    torch.testing.assert_close(terms["anchor"], 3 * (there + back).detach())
    assert "anchor" not in attached(**settings).training_step(batch)


def test_a_training_may_start_on_simulated_pairs_alone(attached, make_batch, weights):
    translator = attached(anchor=3.0, anchor_iterations=2, pool=3)
    batch = make_batch(translator)
    batch |= {"anchor_source": batch["source"], "anchor_target": batch["target"]}
    generators, judges = weights(translator, *GENERATORS), weights(translator, *DISCRIMINATORS)
    for _ in range(2):
        assert translator.iterate(batch).keys() == {"anchor"}
    assert same(judges, weights(translator, *DISCRIMINATORS))
    assert not same(generators, weights(translator, *GENERATORS))
    assert translator.target_pool.images == []
    assert {"anchor", "to_target", "target_discriminator"} <= translator.iterate(batch).keys()
    assert not same(judges, weights(translator, *DISCRIMINATORS))


def test_pools_are_remembered(attached, make_batch):
    one, other = attached(pool=3), attached(pool=3, seed=8)
    for number in range(3):
        one.training_step(make_batch(one, number))
    other.load_state_dict(one.state_dict())
    for pool in ("target_pool", "source_pool"):
        kept, taken = getattr(one, pool), getattr(other, pool)
        assert len(kept.images) == 3
        assert all(map(torch.equal, kept.images, taken.images))
        fresh = torch.rand(8, 1, 16, 16)
        assert torch.equal(kept(fresh), taken(fresh))


def test_two_translators_of_one_seed_are_equal_and_of_two_are_not(make_translator, weights):
    def first(seed):
        torch.manual_seed(seed)
        return weights(make_translator(seed=seed))

    assert same(first(0), first(0))
    assert not same(first(0), first(1))


def test_a_change_between_units_is_refused(make_translator):
    with pytest.raises(ConfigError, match=r"cyclegan.change=2: t1 and plain do not measure the same.*change=0"):
        make_translator(source="mr", output="none", change=2.0)


def numbered(first, count, shape=(1, 4, 4, 2)):
    """Images that hold their own number."""
    return torch.stack([torch.full(shape, float(number)) for number in range(first, first + count)])


def numbers(images):
    assert all((image == image.flatten()[0]).all() for image in images)
    return [int(image.flatten()[0]) for image in images]


def test_a_full_pool_swaps_half_of_the_images_for_old_ones_from_any_place():
    pool = ReplayPool(10, seed=0)
    for first in (0, 5):  # until it is full it keeps and hands through
        assert numbers(pool(numbered(first, 5))) == list(range(first, first + 5))
    assert numbers(pool.images) == list(range(10))
    old = []
    for number in range(10, 610):
        kept = numbers(pool.images)
        (given,) = numbers(pool(numbered(number, 1)))
        if given == number:
            assert numbers(pool.images) == kept
        else:
            place = kept.index(given)
            assert numbers(pool.images) == [*kept[:place], number, *kept[place + 1 :]]
            old.append(place)
    assert len(old) / 600 == pytest.approx(0.5, abs=0.06)
    assert min(old.count(place) for place in range(10)) > 15


def test_an_image_leaves_a_pool_at_most_once_as_it_was_and_a_pool_of_none_hands_everything_through():
    torch.manual_seed(0)
    before, pool, given = torch.get_rng_state(), ReplayPool(5, seed=1), []
    pool(numbered(1, 5))
    for first in range(6, 306, 3):
        images = numbered(first, 3)
        given += numbers(pool(images))
        images.zero_()  # what is kept does not change with it
    assert len(set(given)) == len(given)
    assert 0 not in numbers(pool.images)
    images = numbered(0, 3)
    assert torch.equal(ReplayPool(0, seed=0)(images), images)
    assert torch.equal(torch.get_rng_state(), before)  # a pool's draws are its own


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
