"""Made lesions are judged beside real and broken ones: figures, verdicts, files and what the terminal shows."""

import io
import json
import math
from functools import cache

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import Failure
from medgan.evaluation.synthesis.evaluate import MEASURES, Judge, Question, Synthesis, evaluate_synthesis, render
from medgan.evaluation.synthesis.patches import blurred, collapsed, copied
from medgan.evaluation.terminal import MAX_FAILURES


def lesions_of_others(voxels, mask, random):
    """New lesions in the place of the recipient's own, drawn like them."""
    old = mask == 1
    voxels[old] -= 60
    mask[:] = 0
    for first in (9, 30):
        size = random.integers(4, 9, size=3)
        start = [int(c - s // 2) for c, s in zip((first, first, 9), size, strict=True)]
        place = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        voxels[place] += random.uniform(40, 90)
        mask[place] = 1


def as_text(found):
    text = io.StringIO()
    Console(width=80, file=text).print(render(found))
    return text.getvalue()


@pytest.fixture(scope="module")
def judged(save_lesions, tmp_path_factory):
    """``judged("2")``: the evaluation of an augmented cohort, its folder, and what the terminal shows."""
    folder = tmp_path_factory.mktemp("judged")
    table = save_lesions(folder / "cohort", subjects=10, synthetic=6, paint=lesions_of_others)

    def judge(dimensions):
        out = folder / dimensions
        found = evaluate_synthesis(table, None, out, Question(dimensions, 16))
        return found, out, as_text(found)

    return cache(judge)


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_every_figure_stands_beside_real_and_broken_patches(judged, dimensions):
    found, out, shown = judged(dimensions)
    assert found.exit_code == 0
    table = pd.read_csv(out / "synthesis.csv").set_index("measure")
    assert list(table.index) == list(MEASURES)
    assert list(table.columns) == ["name", "synthetic", "real", "blurred", "collapsed", "copied"]
    for measure in ("frechet", "sliced_wasserstein"):
        assert table.loc[measure, "collapsed"] > table.loc[measure, "real"]
    assert table.loc["copies_percent", "copied"] == 100
    assert table.loc["twins_percent", "collapsed"] == 100
    assert table.loc["frechet", "name"] == f"frechet[{found.features}]"
    assert table.loc["sliced_wasserstein", "name"] == "sliced_wasserstein"
    assert found.features in " ".join(shown.split())
    assert (out / "nearest.png").stat().st_size > 0
    assert (out / "samples.png").stat().st_size > 0
    content = json.loads((out / "synthesis.json").read_text())
    for verdict in (found.memorisation, found.collapse):
        assert verdict in " ".join(shown.split())
        assert verdict in content.values()
    assert "Memorisation: none found" in found.memorisation
    assert set(content["figures"]["sliced_wasserstein"]) == {"synthetic", "real", "blurred", "collapsed", "copied"}
    assert content["failures"] == []


def test_equal_seeds_give_equal_results(judged):
    found, out, _ = judged("2")
    again = evaluate_synthesis(out.parent / "cohort" / "cohort.csv", None, out.parent / "again", Question("2", 16))
    pd.testing.assert_frame_equal(again.figures, found.figures)
    pd.testing.assert_frame_equal(again.nearest, found.nearest)


def test_copies_given_as_samples_are_found_and_traced(judged, tmp_path):
    table = judged("2")[1].parent / "cohort" / "cohort.csv"
    rows = [line.rpartition(",")[0] for line in table.read_text().splitlines() if not line.startswith("made")]
    real = table.with_name("real.csv")
    real.write_text("\n".join(rows))
    found = evaluate_synthesis(real, real, tmp_path / "out", Question("2", 16))
    assert "Memorisation: COPIES" in found.memorisation
    rows = pd.read_csv(tmp_path / "out" / "nearest.csv")
    assert rows["suspect"].all()
    assert (rows["sample"] == rows["nearest"]).all()


def test_images_without_labels_are_patches_themselves(make_lesions, tmp_path):
    for name, seed in (("real", 0), ("made", 1)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(make_lesions(24, (16, 16), seed=seed).images):
            grey = np.rint((image + 1) * 127).astype(np.uint8)
            Image.fromarray(grey).save(tmp_path / name / f"{name}{number}.png")
    question = Question("2", 16, modality="MR")
    found = evaluate_synthesis(tmp_path / "made", tmp_path / "real", tmp_path / "out", question)
    figures = found.figures.set_index("measure")
    assert np.isnan(figures.loc["shape_diversity", "synthetic"])
    assert figures.loc["diversity", "synthetic"] == pytest.approx(1, abs=0.3)
    assert any("Without label maps" in note for note in found.notes)
    assert any("is not known" in note for note in found.notes)


def test_wrong_questions_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="patches of 8 voxels are too small to judge; ask for 16"):
        evaluate_synthesis(tmp_path, None, tmp_path / "out", Question("2", 8))
    with pytest.raises(ConfigError, match="--window-hu 300 -200 is empty"):
        evaluate_synthesis(tmp_path, None, tmp_path / "out", Question(window_hu=(300.0, -200.0)))
    with pytest.raises(DataError, match="nowhere"):
        evaluate_synthesis(tmp_path / "nowhere", None, tmp_path / "out", Question())


@pytest.fixture(scope="module")
def found(shape, make_lesions):
    """Figures by arm."""
    training, held_out = make_lesions(50, shape), make_lesions(40, shape, seed=1)
    judge = Judge(training, held_out, training, 1, seed=0)
    arms = {
        "real": held_out, "new": make_lesions(40, shape, seed=2), "blurred": blurred(held_out),
        "collapsed": collapsed(held_out, 0), "copied": copied(training, 40, 0),
    }  # fmt: skip
    return {name: judge.figures(arm, real=False) for name, arm in arms.items()}


def test_measures_tell_collapsed_and_blurred_from_real_patches(found):
    for figures in found.values():
        assert set(figures) == set(MEASURES)
        assert all(math.isfinite(value) for value in figures.values())

    def real(measure):
        return [found[arm][measure] for arm in ("real", "new")]

    for measure in ("frechet", "kernel", "sliced_wasserstein"):
        assert found["collapsed"][measure] > 3 * max(real(measure)), measure
    for measure in ("recall", "coverage", "modes", "diversity", "shape_diversity"):
        assert found["collapsed"][measure] < 0.5 * min(real(measure)), measure
    assert found["blurred"]["fine_wasserstein"] > 2 * max(real("fine_wasserstein"))


def test_only_copies_are_copies_and_only_repeated_patches_are_twins(found):
    copies = {name: figures["copies_percent"] for name, figures in found.items()}
    assert copies.pop("copied") == 100
    assert max(copies.values()) < 10
    twins = {name: figures["twins_percent"] for name, figures in found.items()}
    assert twins["collapsed"] == 100
    assert max(twins["real"], twins["new"], twins["blurred"]) == 0


ARMS = ["synthetic", "real", "blurred", "collapsed", "copied"]


def shown(failures=(), value=0.5):
    figures = pd.DataFrame([{"measure": name, "name": name} | dict.fromkeys(ARMS, value) for name in MEASURES])
    found = Synthesis(figures, pd.DataFrame(), "Memorisation: COPIES.", "Mode collapse: none.", "net-3", (), failures)
    assert found.exit_code == (1 if failures else 0)
    return as_text(found)


def test_all_measures_and_arms_fit_a_narrow_terminal_and_those_on_features_are_marked():
    lines = shown().splitlines()
    assert all(arm in lines[1] for arm in ARMS)
    for name in MEASURES:
        assert any(line.startswith(f"│{name}") for line in lines)
    for line in ("│frechet *", "│sliced_wasserstein │", "* on features of net-3."):
        assert line in shown()


def test_figures_that_are_not_known_stay_empty_and_failures_are_counted():
    assert "nan" not in shown(value=math.nan)
    text = shown(failures=tuple(Failure(f"image{n}", "broken") for n in range(MAX_FAILURES + 2)))
    assert text.count("not judged: image") == MAX_FAILURES
    assert "and 2 more, in synthesis.json" in text
