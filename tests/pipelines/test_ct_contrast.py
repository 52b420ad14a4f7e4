import pytest

from medgan.errors import ConfigError
from medgan.translators.cyclegan import CycleGAN
from medgan.translators.pix2pix import Pix2Pix


def test_contrast_is_the_source_and_both_sides_are_ct_at_one_window(configured):
    pair = configured().pair
    assert pair.names == ("contrast", "plain")
    assert {side.modality for side in (pair.source, pair.target)} == {"CT"}
    assert pair.one_scale
    assert pair.source.window == pair.target.window


def test_the_translator_says_whether_pairs_are_needed_and_settings_reach_it(configured):
    pipeline = configured(cyclegan={"cycle": 3}, patch={"size_voxels": 64})
    learner = pipeline.learner()
    assert (type(learner), pipeline.pair.paired) == (CycleGAN, False)
    assert (learner.config.cycle, learner.patch.size_voxels) == (3, 64)
    pipeline = configured(translator="pix2pix", pix2pix={"l1": 7, "adversarial": "none"})
    learner = pipeline.learner()
    assert (type(learner), pipeline.pair.paired) == (Pix2Pix, True)
    assert (learner.config.l1, list(learner.networks())) == (7, ["to_target"])


def test_iodine_only_adds_attenuation_and_the_source_has_it(configured):
    learner = configured().learner()
    signs = {name: learner.networks()[name].sign for name in learner.kept}
    assert signs == {"to_target": -1, "to_source": 1}
    assert all(learner.networks()[name].one_sided for name in learner.kept)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("change", ["one-sided", "signed", "none"])
def test_every_form_of_patch_and_output_makes_a_learner(configured, dimensions, change):
    pipeline = configured(patch={"dimensions": dimensions, "size_voxels": 64}, generator={"change": change})
    assert pipeline.learner().patch.spatial == (3 if dimensions == "3" else 2)


def test_a_window_that_cuts_the_change_off_is_refused(configured):
    with pytest.raises(ConfigError, match="reaches beyond the window"):
        configured(window={"upper": 500.0})
