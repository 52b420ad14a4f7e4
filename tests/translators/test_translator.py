import numpy as np
import pytest
import torch
from torch import nn

from medgan.training.device import make_fabric
from medgan.translators.translator import (
    BONE_HU,
    SOFT_TISSUE_HU,
    bare,
    collapse_advice,
    shown_bounds,
    shown_source,
    target_bounds,
)


@pytest.fixture
def study(held_out):
    (study,) = held_out(count=1).source
    return study


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("change", ["one-sided", "signed", "none"])
def test_a_translation_lies_on_the_studys_grid_in_the_targets_unit(attached, study, dimensions, change):
    translator = attached(dimensions=dimensions, output=change)
    fake = translator.translate(translator.build_generator("to_target").eval(), study)
    assert fake.shape == study.voxels.shape
    assert fake.dtype == np.float32
    if change == "none":
        assert -300.0 <= fake.min() <= fake.max() <= 700.0


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("change", ["one-sided", "signed"])
def test_what_a_change_map_does_not_reach_keeps_its_value(attached, study, change, precision):
    translator = attached(output=change, precision=precision)
    generator = translator.build_generator("to_target").eval()
    fake = translator.translate(generator, study)
    beyond = (study.voxels < -60) | (study.voxels > 610)
    assert beyond.any()
    np.testing.assert_allclose(fake[beyond], study.voxels[beyond], atol=1e-3)
    moved = fake[~beyond] - study.voxels[~beyond]
    assert np.abs(moved).max() > 1
    if change == "one-sided":
        assert moved.max() < 1e-3


def test_the_two_ways_of_a_one_sided_change_have_opposite_signs(attached, study):
    translator = attached()
    inside = (study.voxels > 0) & (study.voxels < 500)
    to_target = translator.translate(translator.build_generator("to_target").eval(), study) - study.voxels
    to_source = translator.translate(translator.build_generator("to_source").eval(), study) - study.voxels
    assert (to_target[inside] < 0).all()
    assert (to_source[inside] > 0).all()


def test_the_target_is_in_its_window_or_where_units_are_arbitrary_in_the_studys_own(make_translator, study):
    translator = make_translator()
    assert target_bounds(translator.pair, study) == (-300.0, 700.0)
    window = translator.pair.target.window.model_copy(update={"lower": 0.0, "upper": 99.0, "percentiles": True})
    target = translator.pair.target.model_copy(update={"window": window})
    assert target_bounds(translator.pair.model_copy(update={"target": target}), study) == study.bounds


def test_a_wrapped_network_is_unwrapped_and_a_bare_one_is_itself():
    network = nn.Conv2d(1, 1, 1)
    assert bare(network) is network
    assert bare(make_fabric("cpu", "bf16-mixed").setup_module(network)) is network


def test_generators_are_named_by_direction(make_translator):
    translator = make_translator()
    assert set(translator.kept) <= translator.networks().keys()
    assert isinstance(translator.build_generator("to_source")(torch.zeros(1, 1, 16, 16)), torch.Tensor)


def test_panels_are_shown_in_the_window_in_which_a_ct_is_read(make_translator, study):
    translator = make_translator()
    assert shown_bounds(translator.pair, study) == SOFT_TISSUE_HU
    target = translator.pair.target.model_copy(update={"unit": "arbitrary"})
    pair = translator.pair.model_copy(update={"target": target})
    assert shown_bounds(pair, study) == target_bounds(pair, study)


def test_what_is_drawn_anew_is_shown_in_a_wider_window_and_its_source_in_the_whole_of_its_own(
    make_translator, study, mr
):
    pair = make_translator(source="mr", output="none").pair
    assert shown_bounds(pair, mr(study)) == BONE_HU
    shown = shown_source(pair, mr(study), (-450.0, 1050.0))
    np.testing.assert_allclose(shown, -450 + mr(study).voxels / 950 * 1500, atol=0.1)
    assert shown_source(make_translator().pair, study, (-450.0, 1050.0)) is study.voxels


def test_a_panel_without_pairs_shows_the_change_where_there_is_one(make_translator, study, mr):
    panel = make_translator().unpaired_panel([study] * 5, [study.voxels + 40] * 5)
    assert panel.shape == (4 * 32, 3 * 32)
    # 40 HU of change in a window of 400 is a tenth of white.
    assert (panel[:, 64:] == 26).all()
    assert make_translator(source="mr", output="none").unpaired_panel([mr(study)], [study.voxels]).shape == (32, 64)


def test_around_a_drawn_slice_neighbours_stay_only_where_both_sides_measure_the_same(make_translator):
    stack, centre = torch.arange(5.0).reshape(1, 5, 1, 1), torch.full((1, 1, 1, 1), 9.0)
    ct, mr = make_translator(), make_translator(source="mr", output="none")
    assert ct.around(stack, centre).flatten().tolist() == [0, 1, 9, 3, 4]
    assert mr.around(stack, centre).flatten().tolist() == [9] * 5
    for translator in (ct, mr):
        assert translator.around(stack[:, :1], centre) is centre


@pytest.mark.parametrize(("game", "found"), [("least_squares", True), ("vanilla", True), ("wasserstein", False)])
def test_a_discriminator_without_a_loss_is_advised_on_in_games_that_tell(game, found):
    advice = collapse_advice(game, {"train/target_discriminator": 0.001}, "target", "cut")
    assert (advice is not None) == found
    if advice:
        assert advice.startswith("the target discriminator tells every patch apart (mean loss 0.0010)")
        assert "cut.discriminator_rate" in advice
    assert collapse_advice(game, {"train/target_discriminator": 0.2}, "target", "cut") is None
    assert collapse_advice(game, {}, "target", "cut") is None
