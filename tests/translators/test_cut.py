import copy

import numpy as np
import pytest
import torch

from medgan.errors import ConfigError
from medgan.losses import patch_nce
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, UNetConfig
from medgan.training.learner import HeldOut
from medgan.translators.cut import CUT

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])


def weights(network):
    return torch.cat([value.flatten().clone() for value in network.parameters()])


@DIMENSIONS
@pytest.mark.parametrize(
    ("adversarial", "precision"),
    [("vanilla", "32"), ("least_squares", "bf16-mixed"), ("hinge", "32"), ("wasserstein", "32")],
)
@pytest.mark.parametrize(("source", "output"), [("ct", "one-sided"), ("mr", "none")], ids=["change", "image"])
def test_every_game_trains_all_networks(attached, make_batch, adversarial, dimensions, precision, source, output):
    translator = attached(
        "cut",
        dimensions,
        source=source,
        output=output,
        skips=source == "ct",
        adversarial=adversarial,
        precision=precision,
    )
    before = {name: weights(network) for name, network in translator.networks().items()}
    terms = translator.training_step(make_batch(translator))
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert not any(torch.equal(before[name], weights(network)) for name, network in translator.networks().items())
    assert ("target_gradient_penalty" in terms) == (adversarial == "wasserstein")


@DIMENSIONS
def test_the_terms_are_those_of_the_paper(attached, make_batch, dimensions):
    translator = attached("cut", dimensions, nce=2.0, nce_identity=3.0, temperature=0.2, patches=20)
    batch = make_batch(translator)
    source, target = batch["source"], batch["target"]
    generator, judge, projections = (
        copy.deepcopy(translator.networks()[name].module)
        for name in ("to_target", "target_discriminator", "projections")
    )
    torch.manual_seed(5)
    terms = translator.training_step(batch)
    torch.manual_seed(5)
    with torch.no_grad():
        fake, same = generator(source), generator(target)
        real_scores, fake_scores = judge(centre_channel(target)), judge(fake)
        learnt = translator.target_discriminator(fake)  # the generator is judged by what has just learnt

        def contrast(image, translated):
            theirs, ours = (generator.encode(each) for each in (image, translator.around(image, translated)))
            places = [torch.randperm(each[0, 0].numel())[:20] for each in theirs]
            pairs = zip(projections(ours, places), projections(theirs, places), strict=True)
            return torch.stack([patch_nce(query, key, 0.2) for query, key in pairs]).mean()

        expected = {
            "to_target": ((learnt - 1) ** 2).mean(),
            "nce": 2 * contrast(source, fake),
            "nce_identity": 3 * contrast(target, same),
            "target_discriminator": (((real_scores - 1) ** 2).mean() + (fake_scores**2).mean()) / 2,
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["nce", "nce_identity"])
def test_a_term_without_weight_is_not_computed(attached, make_batch, name):
    assert name in attached("cut").training_step(make_batch(attached("cut")))
    assert name not in attached("cut", **{name: 0.0}).training_step(make_batch(attached("cut")))


def test_the_projections_exist_before_the_first_batch_and_are_not_shipped(make_translator):
    translator = make_translator("cut")
    # Input, stem, one down-sampling, one residual block.
    assert [layer[0].in_features for layer in translator.projections.layers] == [1, 4, 8, 8]
    held = {id(parameter) for group in translator.generator_optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in translator.projections.parameters()} <= held
    assert translator.kept == ("to_target",)


def test_a_generator_that_keeps_every_place_contrasts_better_than_one_that_moves_them(attached, make_batch):
    translator = attached("cut")
    image = make_batch(translator)["source"]
    with torch.no_grad():
        kept, moved = (float(translator.contrast(image, each)) for each in (image, image.roll(5, dims=2)))
    assert kept < moved


def test_the_places_follow_the_global_random_state(attached, make_batch):
    translator = attached("cut", patches=4)
    image = make_batch(translator)["source"]
    values = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        values.append(float(translator.contrast(image, image.roll(1, dims=2)).detach()))
    assert values[0] == values[2] != values[1]


def test_the_input_does_not_learn_to_resemble_its_translation(attached, make_batch):
    translator = attached("cut")
    image = make_batch(translator)["source"].requires_grad_()
    fake = torch.randn_like(image).requires_grad_()
    translator.contrast(image, fake).backward()
    assert image.grad is None
    assert fake.grad.abs().sum() > 0


def test_a_generator_whose_encoder_is_not_shown_is_refused(make_translator):
    translator = make_translator("cut")
    parts = {"pair": translator.pair, "patch": translator.patch, "discriminator": DiscriminatorConfig(channels=4)}
    with pytest.raises(ConfigError, match=r"set generator.network.kind=resnet"):
        CUT(translator.config, generator=GeneratorConfig(network=UNetConfig(channels=4, downs=3)), **parts)


def test_a_discriminator_that_is_always_right_is_diagnosed(make_translator):
    translator = make_translator("cut")
    assert translator.diagnose({"train/target_discriminator": 0.2}) is None
    assert "cut.discriminator_rate" in translator.diagnose({"train/target_discriminator": 0.001})


@DIMENSIONS
def test_validation_gives_the_score_that_chooses_the_model_and_a_panel(attached, held_out, mr, dimensions):
    studies = held_out(count=2)
    drawn = HeldOut([mr(study) for study in studies.source], studies.target)
    for source, output, subjects, columns in (("ct", "one-sided", studies, 3), ("mr", "none", drawn, 2)):
        translator = attached("cut", dimensions, source=source, output=output)
        judgement = translator.validate(subjects, {"to_target": translator.build_generator("to_target").eval()})
        assert judgement.metrics[translator.best] > 0
        assert ("val/untouchable_change_hu" in judgement.metrics) == (source == "ct")
        assert judgement.panel.shape == (2 * 32, columns * 32)
        assert np.ptp(judgement.panel) > 100
