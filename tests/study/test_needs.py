import pytest

from medgan.errors import ConfigError
from medgan.study.needs import adversarial_game, check_translators


def test_a_pipeline_that_has_what_a_study_compares_is_taken():
    check_translators("ct_contrast", ["pix2pix", "cyclegan"])


@pytest.mark.parametrize(
    ("pipeline", "wanted", "message"),
    [
        ("ct_contrast", ["cut"], "'ct_contrast' has no cut, .*it has cyclegan, pix2pix.*medgan sweep"),
        ("ct_contrast", ["cut", "pix2pix", "diffusion"], "has no cut and no diffusion"),
        ("ct_contrats", ["pix2pix"], "did you mean 'ct_contrast'"),
    ],
)
def test_a_pipeline_that_lacks_it_is_refused_by_name(pipeline, wanted, message):
    with pytest.raises(ConfigError, match=message):
        check_translators(pipeline, wanted)


@pytest.mark.parametrize(("configured", "played"), [("none", "vanilla"), ("least_squares", "least_squares")])
def test_an_adversarial_arm_plays_some_game(configured, played):
    assert adversarial_game({"pix2pix": {"adversarial": configured}}) == played
