import copy

import numpy as np
import pytest
import torch

from medgan.errors import ConfigError
from medgan.networks.outputs import centre_channel
from medgan.training.learner import HeldOut

GENERATORS, DISCRIMINATORS = ("to_target", "to_source"), ("target_discriminator", "source_discriminator")
KINDS = ["vanilla", "least_squares", "hinge", "wasserstein"]


def weights(translator, names):
    return {
        f"{name}.{key}": value.clone()
        for name in names
        for key, value in translator.networks()[name].state_dict().items()
    }


def same(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


def gradients(translator, names):
    return [parameter.grad for name in names for parameter in translator.networks()[name].parameters()]


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("adversarial", KINDS)
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_every_game_trains_all_networks(attached, make_batch, adversarial, dimensions, precision):
    translator = attached(dimensions=dimensions, adversarial=adversarial, precision=precision)
    before = {name: weights(translator, [name]) for name in translator.networks()}
    terms = translator.training_step(make_batch(translator))
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert not any(same(before[name], weights(translator, [name])) for name in translator.networks())
    penalties = {f"{domain}_gradient_penalty" for domain in ("target", "source")}
    assert penalties & terms.keys() == (penalties if adversarial == "wasserstein" else set())


def test_the_terms_are_those_of_the_paper(attached, make_batch):
    translator = attached(cycle=10.0, identity=5.0, change=2.0)
    batch = make_batch(translator)
    source, target = batch["source"], batch["target"]
    nets = copy.deepcopy({name: network.module for name, network in translator.networks().items()})
    terms = translator.training_step(batch)
    with torch.no_grad():
        fake_target, fake_source = nets["to_target"](source), nets["to_source"](target)
        judge, judge_source = nets["target_discriminator"], nets["source_discriminator"]
        expected = {
            "to_target": ((judge(fake_target) - 1) ** 2).mean(),
            "to_source": ((judge_source(fake_source) - 1) ** 2).mean(),
            "cycle": 10
            * (
                (nets["to_source"](fake_target) - source).abs().mean()
                + (nets["to_target"](fake_source) - target).abs().mean()
            ),
            "identity": 5
            * ((nets["to_target"](target) - target).abs().mean() + (nets["to_source"](source) - source).abs().mean()),
            "change": 2 * ((fake_target - source).abs().mean() + (fake_source - target).abs().mean()),
            "target_discriminator": (((judge(target) - 1) ** 2).mean() + (judge(fake_target) ** 2).mean()) / 2,
            "source_discriminator": (((judge_source(source) - 1) ** 2).mean() + (judge_source(fake_source) ** 2).mean())
            / 2,
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name)


def test_the_generators_step_leaves_the_discriminators_as_they_were(attached, make_batch):
    translator = attached()
    translator.discriminator_optimizer.param_groups[0]["lr"] = 0.0
    before = weights(translator, DISCRIMINATORS)
    translator.training_step(make_batch(translator))
    assert same(before, weights(translator, DISCRIMINATORS))


def test_a_discriminators_gradient_is_that_of_its_own_loss(attached, make_batch):
    translator, batch = attached(pool=0), make_batch(attached())
    twin = copy.deepcopy({name: network.module for name, network in translator.networks().items()})
    translator.training_step(batch)
    fake = twin["to_target"](batch["source"]).detach()
    judge = twin["target_discriminator"]
    ((((judge(batch["target"]) - 1) ** 2).mean() + (judge(fake) ** 2).mean()) / 2).backward()
    for found, expected in zip(
        gradients(translator, ["target_discriminator"]), [each.grad for each in judge.parameters()], strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_the_discriminators_step_gives_the_generators_no_gradient(attached, make_batch):
    translator = attached()
    batch = make_batch(translator)
    fake = translator.to_target(batch["source"])
    terms = translator.discriminator_terms("target", translator.target_discriminator, batch["target"], fake.detach())
    translator.descend(translator.discriminator_optimizer, terms)
    assert all(gradient is None for gradient in gradients(translator, GENERATORS))
    before = weights(translator, GENERATORS)
    translator.generator_optimizer.param_groups[0]["lr"] = 0.0
    translator.training_step(batch)
    assert same(before, weights(translator, GENERATORS))


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


def test_a_training_may_start_on_simulated_pairs_alone(attached, make_batch):
    translator = attached(anchor=3.0, anchor_iterations=2, pool=3)
    batch = anchored(make_batch(translator))
    before = {names: weights(translator, names) for names in (GENERATORS, DISCRIMINATORS)}
    for _ in range(2):
        assert translator.training_step(batch).keys() == {"anchor"}
    assert same(before[DISCRIMINATORS], weights(translator, DISCRIMINATORS))
    assert not same(before[GENERATORS], weights(translator, GENERATORS))
    assert translator.target_pool.images == []
    assert {"anchor", "to_target", "target_discriminator"} <= translator.training_step(batch).keys()
    assert not same(before[DISCRIMINATORS], weights(translator, DISCRIMINATORS))


def test_pools_and_iteration_are_remembered(attached, make_batch):
    one, other = attached(pool=3), attached(pool=3, seed=8)
    for number in range(3):
        one.training_step(make_batch(one, number))
    other.remember(one.memory())
    assert other.iteration == 3
    for pool in ("target_pool", "source_pool"):
        kept, taken = getattr(one, pool), getattr(other, pool)
        assert len(kept.images) == 3
        assert all(map(torch.equal, kept.images, taken.images))
        fresh = torch.rand(8, 1, 16, 16)
        assert torch.equal(kept(fresh), taken(fresh))


@pytest.mark.parametrize("domain", ["target", "source"])
def test_a_discriminator_that_is_always_right_is_diagnosed(make_translator, domain):
    means = {"train/target_discriminator": 0.2, "train/source_discriminator": 0.2}
    assert make_translator().diagnose(means) is None
    advice = make_translator().diagnose(means | {f"train/{domain}_discriminator": 0.001})
    assert advice is not None
    assert advice.startswith(f"the {domain} discriminator tells every patch apart (mean loss 0.0010)")
    assert "cyclegan.discriminator_rate" in advice
    assert make_translator(adversarial="wasserstein").diagnose({}) is None
    assert make_translator().diagnose({"train/anchor": 0.0}) is None


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_validation_gives_the_score_that_chooses_the_model_and_a_panel(attached, held_out, dimensions):
    translator = attached(dimensions=dimensions)
    kept = {name: translator.build_generator(name).eval() for name in translator.kept}
    judgement = translator.validate(held_out(count=2), kept)
    assert judgement.metrics[translator.best] == pytest.approx(
        judgement.metrics["val/distribution_distance_hu"] + judgement.metrics["val/untouchable_change_hu"]
    )
    assert judgement.panel.shape == (2 * 32, 3 * 32)
    assert np.ptp(judgement.panel) > 100


def test_two_translators_of_one_seed_are_equal_and_of_two_are_not(make_translator):
    def first(seed):
        torch.manual_seed(seed)
        return weights(make_translator(seed=seed), GENERATORS + DISCRIMINATORS)

    assert same(first(0), first(0))
    assert not same(first(0), first(1))


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_mr_becomes_ct_without_pairs(attached, make_batch, held_out, mr, dimensions):
    translator = attached(dimensions=dimensions, source="mr", output="none")
    before = weights(translator, GENERATORS)
    terms = translator.training_step(make_batch(translator))
    assert all(torch.isfinite(term) for term in terms.values())
    assert not same(before, weights(translator, GENERATORS))
    studies = held_out(count=2)
    kept = {name: translator.build_generator(name).eval() for name in translator.kept}
    judgement = translator.validate(HeldOut([mr(study) for study in studies.source], studies.target), kept)
    assert judgement.metrics[translator.best] == judgement.metrics["val/distribution_distance_hu"] > 0
    # Two columns: between units there is no difference to show.
    assert judgement.panel.shape == (2 * 32, 2 * 32)
    assert np.ptp(judgement.panel[:, :32]) > 200


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
