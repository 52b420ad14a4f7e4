import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from medgan.data.grid import UNPLACED
from medgan.data.preparation import GridConfig, prepare
from medgan.pictures.tiles import draw
from medgan.pictures.windows import BONE, SOFT_TISSUE
from medgan.training.device import make_fabric
from medgan.training.learner import HeldOut, bare
from tests.marked import ORDERS, bright_centre, marked

GAMES = {
    "vanilla": ["2"],
    "least_squares": ["2", "2.5", "3"],
    "hinge": ["2.5"],
    "wasserstein": ["2", "3"],
    "none": ["3"],
}
TRAINED = [
    (kind, game, dimensions)
    for kind in ("cyclegan", "cut", "pix2pix", "registered")
    for game, several in GAMES.items()
    for dimensions in several
    if game != "none" or kind in ("pix2pix", "registered")
]


@pytest.mark.parametrize(("kind", "game", "dimensions"), TRAINED, ids=["-".join(case) for case in TRAINED])
def test_every_game_trains_all_networks(attached, make_batch, weights, kind, game, dimensions):
    # Half precision, other units and generators without skips take the same steps.
    mixed = {"precision": "bf16-mixed", "source": "mr", "output": "none", "skips": False}
    translator = attached(kind, dimensions, adversarial=game, **(mixed if game == "least_squares" else {}))
    assert translator.networks().keys() == set(translator.trained) >= set(translator.kept)
    before = weights(translator)
    terms = translator.training_step(make_batch(translator))
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert not any(torch.equal(before[name], after) for name, after in weights(translator).items())
    judges = [name for name in before if "discriminator" in name]
    penalties = {name.replace("discriminator", "gradient_penalty") for name in judges}
    assert {name for name in terms if "penalty" in name} == (penalties if game == "wasserstein" else set())
    assert len(judges) == (0 if game == "none" else 2 if kind == "cyclegan" else 1)


@pytest.mark.parametrize("still", ["generator", "discriminator"])
@pytest.mark.parametrize("kind", ["cyclegan", "cut", "pix2pix", "registered"])
def test_each_step_moves_its_own_networks_only(attached, make_batch, weights, kind, still):
    translator = attached(kind)
    for group in translator.optimizers()[still].param_groups:
        group["lr"] = 0.0
    before = weights(translator)
    translator.training_step(make_batch(translator))
    moved = {name for name, value in weights(translator).items() if not torch.equal(value, before[name])}
    judges = {name for name in before if name.endswith("discriminator")}
    assert moved == (judges if still == "generator" else before.keys() - judges)


@pytest.mark.parametrize(
    ("kind", "term"),
    [("cut", "nce"), ("cut", "nce_identity"), *(("cyclegan", each) for each in ("cycle", "identity", "change"))],
)
def test_a_term_without_weight_is_not_computed(attached, make_batch, kind, term):
    for weight in (1.0, 0.0):
        translator = attached(kind, **{term: weight})
        assert (term in translator.training_step(make_batch(translator))) == bool(weight)


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
    to_target, to_source = (
        translator.translate(translator.build_generator(way).eval(), study) - study.voxels for way in translator.kept
    )
    assert (to_target[inside] < 0).all()
    assert (to_source[inside] > 0).all()


def test_a_wrapped_network_is_unwrapped_and_a_bare_one_is_itself():
    network = nn.Conv2d(1, 1, 1)
    assert bare(network) is network
    assert bare(make_fabric("cpu", "bf16-mixed").setup_module(network)) is network


def test_panels_are_shown_in_the_window_in_which_a_ct_is_read_and_with_the_change_where_there_is_one(
    make_translator, study, mr
):
    translator = make_translator()
    panel = translator.panel([study] * 5, [study.voxels + 40] * 5)
    assert {row.caption.partition(":")[0] for row in panel.rows} == {"case 1", "case 2", "case 3"}
    source, fake, changed = panel.rows[0].tiles
    assert source.window == fake.window == SOFT_TISSUE
    np.testing.assert_allclose(changed.view.pixels, 40, atol=1e-3)
    assert (changed.window.lower, changed.window.upper) == (-100, 100)
    assert (source.title, fake.title) == ("source: contrast", "translation")
    assert "change" in panel.caption
    # What is drawn anew is shown in a wider window, and its source in the whole of its own.
    drawing = make_translator(source="mr", output="none")
    source, fake = drawing.panel([mr(study)], [study.voxels]).rows[0].tiles
    assert (source.window.lower, source.window.upper, source.window.unit) == (0, 950, "arbitrary")
    assert fake.window == BONE
    # A target is in its window, or where units are arbitrary in the study's own.
    assert translator.target_bounds(study) == (-300.0, 700.0)
    window = translator.pair.target.window.model_copy(update={"lower": 0.0, "upper": 99.0, "percentiles": True})
    target = translator.pair.target.model_copy(update={"unit": "arbitrary", "window": window})
    translator.pair = translator.pair.model_copy(update={"target": target})
    _, fake, *_ = translator.panel([study], [study.voxels]).rows[0].tiles
    assert (fake.window.lower, fake.window.upper) == translator.target_bounds(study) == study.bounds


@pytest.mark.parametrize(("codes", "degrees"), ORDERS.values(), ids=ORDERS)
def test_a_training_panel_shows_the_patients_left_front_at_the_upper_right_however_a_volume_is_stored(
    make_translator, codes, degrees
):
    translator = make_translator()
    grid = GridConfig(spacing_mm=(None, None, None))
    case = prepare(marked(codes, degrees), translator.pair.source, grid)
    panel = translator.panel([case], [case.voxels], [case])
    planes = [row.caption.split()[2] for row in panel.rows]
    assert planes == ["axial,", "axial,", "coronal,"]
    for tile in panel.rows[0].tiles[::3]:  # source and target, above in the body
        row, column, *_ = bright_centre(np.asarray(draw(tile)))
        assert row < 0.4
        assert column > 0.6
    assert ("oblique" in panel.rows[0].caption) == bool(degrees)


def test_a_training_panel_doubts_the_sides_of_a_volume_whose_header_does_not_tell_them(make_translator):
    translator = make_translator()
    unplaced = dataclasses.replace(marked(), notes=(UNPLACED,))
    case = prepare(unplaced, translator.pair.source, GridConfig(spacing_mm=(None, None, None)))
    panel = translator.panel([case], [case.voxels])
    assert {tile.view.letters[:2] for row in panel.rows for tile in row.tiles} == {("R?", "L?")}


def test_around_a_drawn_slice_neighbours_stay_only_where_both_sides_measure_the_same(make_translator):
    stack, centre = torch.arange(5.0).reshape(1, 5, 1, 1), torch.full((1, 1, 1, 1), 9.0)
    ct, mr = make_translator(), make_translator(source="mr", output="none")
    assert ct.around(stack, centre).flatten().tolist() == [0, 1, 9, 3, 4]
    assert mr.around(stack, centre).flatten().tolist() == [9] * 5
    for translator in (ct, mr):
        assert translator.around(stack[:, :1], centre) is centre


@pytest.mark.parametrize(("kind", "domains"), [("cyclegan", ("target", "source")), ("cut", ("target",))])
def test_a_discriminator_that_is_always_right_is_diagnosed_in_games_that_tell(make_translator, kind, domains):
    fine = {f"train/{domain}_discriminator": 0.2 for domain in ("target", "source")}
    for domain in domains:
        right = fine | {f"train/{domain}_discriminator": 0.001}
        for game in ("vanilla", "least_squares"):
            translator = make_translator(kind, adversarial=game)
            advice = translator.diagnose(right)
            assert advice.startswith(f"the {domain} discriminator tells every patch apart (mean loss 0.0010)")
            assert f"{kind}.discriminator_rate" in advice
            assert (
                translator.diagnose(fine) is translator.diagnose({}) is translator.diagnose({"train/nce": 0.0}) is None
            )
        assert make_translator(kind, adversarial="wasserstein").diagnose(right) is None


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("kind", ["cyclegan", "cut"])
def test_validation_without_pairs_gives_the_score_that_chooses_the_model_and_a_panel(
    attached, held_out, mr, kind, dimensions
):
    studies = held_out(count=2)
    drawn = HeldOut([mr(study) for study in studies.source], studies.target)
    for source, output, subjects, columns in (("ct", "one-sided", studies, 3), ("mr", "none", drawn, 2)):
        translator = attached(kind, dimensions, source=source, output=output)
        kept = {name: translator.build_generator(name).eval() for name in translator.kept}
        judgement = translator.validate(subjects, kept)
        touched = judgement.metrics.get("val/untouchable_change_hu", 0.0)
        assert judgement.metrics[translator.best] == judgement.metrics["val/distribution_distance_hu"] + touched > 0
        assert ("val/untouchable_change_hu" in judgement.metrics) == (source == "ct")
        # Between units there is no difference to show.
        assert {len(row.tiles) for row in judgement.panel.rows} == {columns}
        assert np.ptp(judgement.panel.rows[0].tiles[0].view.pixels) > 100
