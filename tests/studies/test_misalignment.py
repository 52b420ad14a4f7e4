"""The crossover against lines that cross where they are drawn, and the cells of the study."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from medgan.errors import ConfigError
from medgan.studies.engine import read_json
from medgan.studies.misalignment import Misalignment, _described, _read_shifts, crossover, crossover_bounds, crossovers

SHIFTS = (0, 1, 2, 3, 4, 6)


@pytest.mark.parametrize(
    ("excess", "place"),
    [
        ([-1, 3, 3, 3, 3, 3], 0.25),
        ([-3, -2, -1, -1, -1, 1], 5.0),
        ([-1, -1, -1, -1, -1, -1], None),
        ([-1, -1, -1, -1, -1, 0], None),
        ([1, 2, 3, 4, 5, 6], 0.0),
        ([-1, 1, -1, 1, -1, 1], 0.5),
        ([0, 0, 1, 1, 1, 1], 1.0),
        *(([2 * (shift - place) for shift in SHIFTS], pytest.approx(place)) for place in (0.25, 1.0, 2.5, 5.0)),
    ],
)
def test_the_first_rise_above_zero_counts(excess, place):
    assert crossover(SHIFTS, excess) == place


def rows(metric="mae_hu", slope=2.0, place=2.5, subjects=5, sign=1):
    """Subjects at levels of their own; pix2pix worse than unpaired by ``slope`` a voxel beyond ``place``, l1 never."""
    made = []
    for number in range(subjects):
        level, own = 10.0 * number, {"cyclegan": 0.0}
        for shift in SHIFTS:
            own[f"pix2pix,shift={shift}"] = sign * slope * (shift - place)
            own[f"l1,shift={shift}"] = -sign * 1.0
        for cell, value in own.items():
            made += [(cell, seed, f"s{number}", f"s{number}", "synthetic", level + value + seed) for seed in (0, 1)]
            made.append((cell, 0, f"s{number}", f"s{number}", "do_nothing", 999.0))
    return pd.DataFrame(made, columns=["cell", "seed", "subject", "image", "arm", metric])


@pytest.mark.parametrize(("metric", "sign"), [("mae_hu", 1), ("core_bone_dice", -1)])
def test_the_crossover_is_found_in_the_figures_whichever_way_is_better(metric, sign):
    found = crossovers(rows(metric, sign=sign), SHIFTS)
    assert found == {
        "crossover of pix2pix": f"2.5 voxels [2.5 voxels, 2.5 voxels] ({metric}, cyclegan against pix2pix)",
        "crossover of l1": f"none up to 6 [none up to 6, none up to 6] ({metric}, cyclegan against l1)",
    }


def test_a_metric_is_chosen_or_refused_and_an_arm_without_figures_makes_it_unknown():
    table = rows().assign(bias_hu=lambda frame: frame["mae_hu"])
    assert "(bias_hu, " in crossovers(table, SHIFTS, "bias_hu")["crossover of l1"]
    with pytest.raises(ConfigError, match="no metric 'dice'; it has mae_hu, bias_hu"):
        crossovers(table, SHIFTS, "dice")
    assert crossovers(table[table["cell"] != "cyclegan"], SHIFTS)["crossover of l1"].startswith("unknown")
    without_last = crossovers(table[table["cell"] != "pix2pix,shift=6"], SHIFTS)
    assert without_last["crossover of pix2pix"].startswith("2.5 voxels")


def test_subjects_that_disagree_widen_the_interval():
    random = np.random.default_rng(0)
    lines = pd.DataFrame([[shift - place for shift in SHIFTS] for place in random.normal(2.5, 0.8, 12)], columns=SHIFTS)
    words = _described(lines)
    place, lower, upper = map(float, re.findall(r"[\d.]+", words))
    assert words.endswith("]")
    assert lower < place < upper


def excesses(random, subjects=6, place=2.5, shifts=SHIFTS):
    """Subjects, and each of their figures, vary by one around a line that crosses 0 at the place."""
    noise = random.normal(size=(subjects, 1)) + random.normal(size=(subjects, len(shifts)))
    return pd.DataFrame(np.array(shifts) - place + noise, columns=shifts)


@pytest.mark.parametrize("subjects", [4, 12])
def test_the_interval_holds_the_true_crossover_about_as_often_as_it_says(subjects):
    random = np.random.default_rng(subjects)
    bounds = [crossover_bounds(excesses(random, subjects, place=3.0)) for _ in range(150)]
    held = [lower <= 3 <= (np.inf if upper is None else upper) for lower, upper in bounds]
    assert np.mean(held) > 0.91  # .95 less two standard errors; at a measured shift it is nearly exact
    assert np.mean(held) < 1


def test_at_its_bounds_a_t_test_is_sure_who_is_better():
    excess = excesses(np.random.default_rng(0), subjects=12, shifts=(0, 6))
    for bound, sign in zip(crossover_bounds(excess), (-1, 1), strict=True):
        found = stats.ttest_1samp((1 - bound / 6) * excess[0] + bound / 6 * excess[6], 0)
        assert np.sign(found.statistic) == sign
        assert 0.001 < found.pvalue < 0.05  # below: bounds between shifts are a little too far out, never too near


def test_an_excess_that_is_never_sure_has_no_upper_bound_and_one_subject_gives_no_interval():
    lines = pd.DataFrame([[-1.0, 3.0], [-2.0, -1.5], [-1.5, 1.0]], columns=[0, 1])
    assert crossover_bounds(lines)[1] is None
    assert _described(lines).endswith(", none up to 1]")
    assert _described(pd.DataFrame([[-1.0, 1.0]], columns=[0, 1])) == "0.5 voxels"
    assert _described(pd.DataFrame([[1.0, 2.0]], columns=[0, 1])) == "at 0, the first shift"


def test_the_unpaired_arm_is_the_reference_and_is_trained_once(settled):
    own = settled(Misalignment, options={"shifts": "2,0"}).translators.pipelines
    assert list(own) == ["cyclegan", "pix2pix,shift=0", "l1,shift=0", "pix2pix,shift=2", "l1,shift=2"]
    configs = [each.config for each in own.values()]
    assert [config.translator for config in configs] == ["cyclegan", *["pix2pix"] * 4]
    assert [config.misalignment_voxels for config in configs] == [0, 0, 0, 2, 2]
    assert [config.pix2pix.adversarial for config in configs[1:]] == ["vanilla", "none"] * 2


def test_a_pipeline_that_cannot_be_trained_both_ways_is_refused(settled, monkeypatch):
    monkeypatch.setattr("medgan.studies.misalignment.UNPAIRED", "cut")
    with pytest.raises(ConfigError, match="'ct_contrast' has no cut, which this study compares; it has cyclegan, pix2"):
        settled(Misalignment)


def test_the_command_finds_the_crossover(golden):
    study = golden.resumed("misalignment")
    record = read_json(study.folder / "study.json")
    assert "crossover of pix2pix: " in study.output
    assert record["findings"].keys() == {"crossover of pix2pix", "crossover of l1"}
    assert list(record["cells"]) == ["cyclegan", *(f"{arm},shift={n}" for n in (0, 2) for arm in ("pix2pix", "l1"))]


def test_shifts_are_sorted_numbers():
    assert (_read_shifts("0,1,2"), _read_shifts("3, 0")) == ((0, 1, 2), (0, 3))
    for text in ("", "1", "0,a", "-1,2", "0.5,1", "2,2"):
        with pytest.raises(ConfigError, match="--shifts"):
            _read_shifts(text)
