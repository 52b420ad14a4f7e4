import pytest
import torch

from medgan.classification.classifier import Supervised
from medgan.classification.few_labels import FewLabelsConfig
from medgan.classification.sgan import SGAN, SGANConfig
from medgan.losses import feature_matching
from medgan.training.device import make_fabric

SIZES = {"2d": {"size_voxels": 8}, "3d": {"dimensions": 3, "size_voxels": 8, "depth_voxels": 8}}


@pytest.fixture(params=SIZES)
def learner(request):
    """A tiny SGAN of two names, attached: ``learner(game_weight=0)``."""

    def make(**game):
        torch.manual_seed(0)
        config = FewLabelsConfig(labels={"dim": 1, "bright": 2}, patch=SIZES[request.param], network={"channels": 4})
        made = SGAN(SGANConfig(channels=4, latent=3, **game), config.classifier, config)
        made.attach(make_fabric("cpu", "32"), made.networks(), made.optimizers())
        return made

    return make


def batch(learner):
    shape = learner.lesions.shape
    images = torch.rand(6, 1, *shape) * 2 - 1
    return {"image": images, "class": torch.tensor([0, 1, 2, 0, 1, 2]), "unlabelled": torch.rand(4, 1, *shape) * 2 - 1}


def written_out(scores):
    return torch.softmax(torch.cat([scores, torch.zeros(len(scores), 1)], dim=1), dim=1)


def test_the_discriminator_minimises_the_log_losses_of_its_c_plus_1_outputs(learner):
    made = learner(game_weight=0.6)
    given = batch(made)
    fake = made.drawn(given).detach()
    terms = made.discriminator_terms(given, fake)
    known, seen, drawn = (made.classifier(each) for each in (given["image"], given["unlabelled"], fake))
    right = torch.softmax(known, dim=1)[torch.arange(6), given["class"]]
    torch.testing.assert_close(terms["labelled"], -right.log().mean())
    torch.testing.assert_close(terms["unlabelled"], -0.3 * written_out(seen)[:, :-1].sum(1).log().mean())
    torch.testing.assert_close(terms["fake"], -0.3 * written_out(drawn)[:, -1].log().mean())


def test_the_generator_matches_features_or_wants_to_be_taken_for_real(learner):
    made = learner()
    given = batch(made)
    fake = made.drawn(given)
    assert fake.shape == given["unlabelled"].shape
    wanted = feature_matching(made.features(given["unlabelled"]), made.features(fake))
    torch.testing.assert_close(made.generator_terms(given, fake)["generator"], wanted)
    made = learner(generator_wants="real")
    taken = written_out(made.classifier(fake))[:, :-1].sum(1)
    torch.testing.assert_close(made.generator_terms(given, fake)["generator"], -taken.log().mean())


def test_the_scores_are_those_of_the_features(learner):
    made = learner()
    images = batch(made)["image"]
    last = made.classifier.last
    torch.testing.assert_close(
        made.classifier(images), made.features(images) @ last.weight.flatten(1).T + last.bias, rtol=1e-4, atol=1e-5
    )


def test_a_step_moves_each_network_by_its_own_terms(learner):
    made = learner(game_weight=0.0)
    given = batch(made)
    before = {name: [p.detach().clone() for p in net.parameters()] for name, net in made.networks().items()}
    terms = made.training_step(given)
    assert set(terms) == {"labelled", "unlabelled", "fake", "generator"}
    assert not any(term.requires_grad for term in terms.values())
    for name, network in made.networks().items():
        assert any(not torch.equal(p, q) for p, q in zip(network.parameters(), before[name], strict=True))
    assert all(p.requires_grad for p in made.classifier.parameters())


def test_without_a_game_the_classifier_learns_what_it_would_from_the_labels_alone(learner):
    game = learner(game_weight=0.0)
    alone = Supervised(game.lesions.classifier, game.lesions, 5e-4)
    alone.classifier.load_state_dict(game.classifier.state_dict())
    alone.attach(make_fabric("cpu", "32"), alone.networks(), alone.optimizers())
    given = batch(game)
    for _ in range(3):
        game.training_step(given)
        alone.training_step(given)
    for one, other in zip(game.classifier.parameters(), alone.classifier.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_steps_descend(learner):
    made = learner(rate=0.003)
    given = batch(made)
    labelled = [float(made.training_step(given)["labelled"]) for _ in range(40)]
    assert labelled[-1] < 0.5 * labelled[0]
