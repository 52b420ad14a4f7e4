import copy

import pytest
import torch
from rich.console import Console

from medgan.data.patches import PatchDataset
from medgan.networks.outputs import centre_channel
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig
from medgan.training.recorder import Recorder

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])


@DIMENSIONS
def test_the_terms_are_those_of_the_paper_and_the_discriminators_gradient_that_of_its_own(
    attached, make_batch, dimensions
):
    translator = attached("pix2pix", dimensions, l1=100.0, adversarial="least_squares")
    batch = make_batch(translator)
    source, target = batch["source"], centre_channel(batch["target"])
    generator, judge = (copy.deepcopy(translator.networks()[name].module) for name in ("to_target", "discriminator"))
    terms = translator.training_step(batch)
    fake = generator(source).detach()
    real_scores, fake_scores = (judge(torch.cat([source, side], 1)) for side in (target, fake))
    discriminator = (((real_scores - 1) ** 2).mean() + (fake_scores**2).mean()) / 2
    torch.testing.assert_close(terms["l1"], 100 * (fake - target).abs().mean())
    torch.testing.assert_close(terms["discriminator"], discriminator.detach())
    # The generator is judged by the discriminator that has just learnt.
    learnt = translator.discriminator(torch.cat([source, fake], 1)).detach()
    torch.testing.assert_close(terms["to_target"], ((learnt - 1) ** 2).mean())
    discriminator.backward()
    for taught, expected in zip(translator.discriminator.parameters(), judge.parameters(), strict=True):
        torch.testing.assert_close(taught.grad, expected.grad)


@DIMENSIONS
@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        (
            {"bone_weight": 3.0, "bone_hu": 200.0, "rim_weight": 0.25},
            lambda source, target, region: torch.where(target > 0, 3.0, 1.0) * torch.where(region > 0, 1.0, 0.25),
        ),
        (
            {"change_weight": 4.0, "change_percent": 10.0},
            lambda source, target, region: torch.where((target - source).abs() >= 0.2, 4.0, 1.0),
        ),
    ],
    ids=["bone counts more and what moved less", "what changes counts more"],
)
def test_voxels_count_by_what_they_hold(attached, make_batch, dimensions, settings, weight):
    translator = attached("pix2pix", dimensions, l1=1.0, adversarial="none", **settings)
    batch = make_batch(translator)
    batch["target"] = torch.where(torch.rand_like(batch["target"]) < 0.5, -0.9, 0.9)  # -250 and 650 HU
    batch["source"] = batch["target"] + 0.4 * torch.rand_like(batch["target"])
    batch["region"] = (torch.rand_like(batch["target"]) < 0.5).float()
    source, target, region = (centre_channel(batch[name]) for name in ("source", "target", "region"))
    generator, counts = copy.deepcopy(translator.to_target.module), weight(source, target, region)
    assert counts.unique().numel() > 1
    distance = (generator(batch["source"]).detach() - target).abs()
    torch.testing.assert_close(translator.training_step(batch)["l1"], (counts * distance).sum() / counts.sum())


def test_the_game_begins_after_the_warm_up(attached, make_batch, weights):
    translator = attached("pix2pix", warm_up_iterations=2)
    before, batch = weights(translator)["discriminator"], make_batch(translator)
    assert [set(translator.iterate(batch)) for _ in range(2)] == [{"l1"}, {"l1"}]
    assert torch.equal(before, weights(translator)["discriminator"])
    assert set(translator.iterate(batch)) == {"l1", "to_target", "discriminator"}


def test_validation_compares_with_doing_nothing_and_without_an_adversary_there_is_no_discriminator(
    attached, make_batch, held_out
):
    translator = attached("pix2pix", adversarial="none")
    assert translator.networks().keys() == {"to_target"}
    assert translator.optimizers().keys() == {"generator"}
    assert translator.training_step(make_batch(translator)).keys() == {"l1"}
    judgement = translator.validate(held_out(), {"to_target": translator.build_generator("to_target").eval()})
    assert judgement.metrics.keys() == {"val/mae_hu", "val/mae_do_nothing_hu"}
    assert translator.best in judgement.metrics
    titles = [tile.title.partition(":")[0] for tile in judgement.panel.rows[0].tiles]
    assert titles == ["source", "translation", "change", "target", "error"]


def test_a_short_training_takes_contrast_out_of_a_vessel(make_translator, held_out, tmp_path):
    torch.manual_seed(0)
    game = {"adversarial": "least_squares", "generator_rate": 4e-3}
    learner = make_translator("pix2pix", **game, output="signed", norm="batch")
    train = held_out(0, 4)
    dataset = PatchDataset(train.source, train.target, paired=True, config=learner.patch, seed=0)
    config = FitConfig(epochs=1, iterations_per_epoch=120, batch_size=2, average_decay=0.9)
    recorder = Recorder(tmp_path, None, Console(quiet=True))
    fit = Fit(
        learner, dataset, held_out(8, 2), config, fabric=make_fabric("cpu", "32"), folder=tmp_path, recorder=recorder
    )
    metrics = fit.run().metrics
    assert metrics["val/mae_hu"] < 0.6 * metrics["val/mae_do_nothing_hu"]
