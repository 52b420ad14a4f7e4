import math

import pytest
import torch
from pydantic import ValidationError

from medgan import losses
from medgan.errors import ConfigError
from medgan.synthesis.acgan import ACGAN, ACGANConfig
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

PATCHES = {"2d": {"size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}
NAMES = {"dim": 1, "bright": 2}


def learner(patch="2d", game="vanilla", **changes):
    """A tiny AC-GAN of healthy and two names, which is asked for class and place."""
    torch.manual_seed(0)
    lesions = LesionConfig(labels=NAMES, patch=PATCHES[patch], condition={"classes": True, "location": True})
    small = {
        "adversarial": game,
        "generator": {"latent": 8, "channels": 8},
        "discriminator": {"channels": 8, "norm": "none" if game == "wasserstein" else "batch"},
    }
    made = ACGAN(ACGANConfig(**small | changes), lesions)
    made.attach(make_fabric("cpu", "32"), made.networks(), made.optimizers())
    return made


def batch(made, number=6):
    shape = (number, 1, *made.lesions.shape)
    classes = torch.arange(number) % 3
    labels = classes.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
    condition = torch.cat([torch.eye(3)[classes], torch.rand(number, 3)], dim=1)
    return {"image": torch.rand(shape) * 2 - 1, "labels": labels, "condition": condition}


def named(scores, classes):
    """Mean of -log p(class), written out."""
    return -torch.log(torch.softmax(scores, dim=1)[torch.arange(len(classes)), classes]).mean()


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("game", ["vanilla", "hinge", "wasserstein"])
def test_a_turn_moves_both_networks_and_tells_their_terms(patch, game):
    made = learner(patch, game)
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in made.networks().items()}
    terms = made.training_step(batch(made))
    for name, network in made.networks().items():
        assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True))
    penalised = {"gradient_penalty"} if game == "wasserstein" else set()
    assert set(terms) == {"generator", "generator_class", "discriminator", "class"} | penalised
    assert all(math.isfinite(term) and not term.requires_grad for term in terms.values())


@pytest.mark.parametrize("patch", PATCHES)
def test_the_first_answer_is_of_the_source_and_the_others_name_the_class(patch):
    made = learner(patch, class_weight=0.5, discriminator={"channels": 8, "norm": "none"})
    given = batch(made)
    real, classes = made.joint(given), given["condition"][:, :3].argmax(1)
    fake = made.generator(made.noise(real), given["condition"]).detach()
    seen, drawn = made.discriminator(real), made.discriminator(fake)
    assert seen.shape == (6, 1 + 3)
    terms = made.discriminator_terms(real, fake, given["condition"])
    torch.testing.assert_close(terms["discriminator"], losses.discriminator_loss("vanilla", seen[:, :1], drawn[:, :1]))
    wanted = 0.5 * (named(seen[:, 1:], classes) + named(drawn[:, 1:], classes)) / 2
    torch.testing.assert_close(terms["class"], wanted)
    terms = made.generator_terms(fake, given["condition"])
    torch.testing.assert_close(terms["generator"], losses.generator_loss("vanilla", drawn[:, :1]))
    torch.testing.assert_close(terms["generator_class"], 0.5 * named(drawn[:, 1:], classes))


def test_steps_teach_the_discriminator_the_classes_and_the_generator_to_draw_them():
    made = learner(generator_rate=0.003, discriminator_rate=0.003, discriminator={"channels": 8, "norm": "none"})
    given = batch(made, 12)
    terms = [made.training_step(given) for _ in range(35)]
    for name in ("class", "generator_class"):
        assert float(terms[0][name]) == pytest.approx(math.log(3), abs=0.2)
        assert float(terms[-1][name]) < 0.2


@pytest.mark.parametrize("entry", ["concatenation", "normalisation"])
def test_what_is_asked_reaches_the_sample(entry):
    made = learner(entry=entry)
    z = torch.randn(3, 8)
    asked = torch.zeros(3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(made.generator(z, asked).square().sum(), asked)
    assert (gradient != 0).all()


def test_without_classes_there_is_nothing_to_name():
    with pytest.raises(ConfigError, match=r"set condition\.classes=true, or choose dcgan"):
        ACGANConfig().build(LesionConfig(condition={"location": True}))


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"discriminator": {"receptive_field": 16}}, "discriminator.receptive_field=whole"),
        ({"generator": {"norm": "group"}, "entry": "normalisation"}, "entry=concatenation"),
        ({"adversarial": "wasserstein"}, "discriminator.norm=instance"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, advice):
    with pytest.raises(ValidationError, match=advice):
        ACGANConfig(**wrong)
