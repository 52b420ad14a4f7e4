import copy

import pytest
import torch

from medgan.errors import ConfigError
from medgan.networks.outputs import centre_channel

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


def test_each_step_moves_its_own_networks_only(attached, make_batch, weights):
    translator = attached()
    batch = make_batch(translator)
    fake = translator.to_target(batch["source"])
    terms = translator.discriminator_terms(
        "target_discriminator", batch["target"], fake.detach(), game="least_squares", penalty=0.0
    )
    translator.descend(translator.discriminator_optimizer, terms)
    assert all(weight.grad is None for name in GENERATORS for weight in translator.networks()[name].parameters())
    for names, optimizer in ((GENERATORS, "generator_optimizer"), (DISCRIMINATORS, "discriminator_optimizer")):
        translator = attached()
        getattr(translator, optimizer).param_groups[0]["lr"] = 0.0
        before = weights(translator, *names)
        translator.training_step(batch)
        assert same(before, weights(translator, *names))


@pytest.mark.parametrize("name", ["cycle", "identity", "change"])
def test_a_term_without_weight_is_not_computed(attached, make_batch, name):
    assert name in attached(**{name: 1.0}).training_step(make_batch(attached()))
    assert name not in attached(**{name: 0.0}).training_step(make_batch(attached()))


def test_identity_and_change_grow_with_the_square_of_the_ramp(attached, make_batch):
    def at(iteration):
        translator = attached(ramp_iterations=10, change=2.0)
        translator.iteration = iteration
        return translator.training_step(make_batch(translator))

    full = at(10)
    for name in ("identity", "change"):
        assert at(0)[name] == 0
        torch.testing.assert_close(at(5)[name], full[name] / 4)
        torch.testing.assert_close(at(25)[name], full[name])
    torch.testing.assert_close(at(0)["cycle"], full["cycle"])


def anchored(batch, like=None):
    source, target = batch["source"], batch["target"] if like is None else like
    return batch | {"anchor_source": source, "anchor_target": target}


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_anchor_is_the_error_on_simulated_pairs(attached, make_batch, dimensions):
    translator = attached(dimensions=dimensions, anchor=3.0)
    batch = make_batch(translator)
    image = batch["source"]  # the contrast is varied at random; where there is none the result is known
    expected = sum(
        (net(image) - centre_channel(image)).abs().mean() for net in (translator.to_target, translator.to_source)
    )
    terms = translator.training_step(anchored(batch, like=image))
    torch.testing.assert_close(terms["anchor"], 3 * expected.detach())
    assert "anchor" not in attached(dimensions=dimensions).training_step(batch)


def test_a_training_may_start_on_simulated_pairs_alone(attached, make_batch, weights):
    translator = attached(anchor=3.0, anchor_iterations=2, pool=3)
    batch = anchored(make_batch(translator))
    generators, judges = weights(translator, *GENERATORS), weights(translator, *DISCRIMINATORS)
    for _ in range(2):
        assert translator.training_step(batch).keys() == {"anchor"}
    assert same(judges, weights(translator, *DISCRIMINATORS))
    assert not same(generators, weights(translator, *GENERATORS))
    assert translator.target_pool.images == []
    assert {"anchor", "to_target", "target_discriminator"} <= translator.training_step(batch).keys()
    assert not same(judges, weights(translator, *DISCRIMINATORS))


def test_pools_and_iteration_are_remembered(attached, make_batch):
    one, other = attached(pool=3), attached(pool=3, seed=8)
    for number in range(3):
        one.training_step(make_batch(one, number))
    other.load_state_dict(one.state_dict())
    assert other.iteration == 3
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


def test_simulated_pairs_of_two_units_are_not_mixed(attached, make_batch):
    translator = attached(source="mr", output="none", anchor=3.0)
    batch = make_batch(translator)
    expected = (translator.to_target(batch["source"]) - batch["target"]).abs().mean() + (
        translator.to_source(batch["target"]) - batch["source"]
    ).abs().mean()
    torch.testing.assert_close(translator.training_step(anchored(batch))["anchor"], 3 * expected.detach())


def test_a_change_between_units_is_refused(make_translator):
    with pytest.raises(ConfigError, match=r"cyclegan.change=2: t1 and plain do not measure the same.*change=0"):
        make_translator(source="mr", output="none", change=2.0)
