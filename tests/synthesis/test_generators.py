import pytest

from medgan.config import load
from medgan.synthesis.generators import LEARNERS, SynthesisConfig, learner_of
from medgan.synthesis.patches import LesionConfig

KINDS = [settings().kind for settings in LEARNERS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_settings_name_a_generator_and_its_learner_keeps_what_they_build(kind, dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 32}
    asked = {"generator": {"kind": kind}, "patch": patch, "condition": {"classes": True}}
    config = load(SynthesisConfig, asked)
    learner = learner_of(config)
    assert config.generator.kind == kind
    assert learner.kept == ("generator",)
    ours = {name: weights.shape for name, weights in learner.networks()["generator"].state_dict().items()}
    theirs = {name: weights.shape for name, weights in config.generator.build(config).state_dict().items()}
    assert ours == theirs


def test_a_generators_settings_hold_what_it_learns_from():
    assert isinstance(SynthesisConfig(), LesionConfig)
