import io
import math

import pandas as pd
from rich.console import Console

from medgan.evaluation.matching import Failure
from medgan.evaluation.synthesis.evaluate import Synthesis
from medgan.evaluation.synthesis.figures import MEASURES
from medgan.evaluation.synthesis.table import MAX_FAILURES, render

ARMS = ["synthetic", "real", "blurred", "collapsed", "copied"]


def shown(failures=(), value=0.5):
    figures = pd.DataFrame([{"measure": name, "name": name} | dict.fromkeys(ARMS, value) for name in MEASURES])
    found = Synthesis(figures, pd.DataFrame(), "Memorisation: COPIES.", "Mode collapse: none.", "net-3", (), failures)
    text = io.StringIO()
    Console(width=80, file=text).print(render(found))
    return text.getvalue()


def test_all_measures_and_arms_fit_a_narrow_terminal():
    lines = shown().splitlines()
    for arm in ARMS:
        assert arm in lines[1]
    for name in MEASURES:
        assert any(line.startswith(f"│{name}") for line in lines)


def test_measures_on_features_are_marked_and_the_features_named():
    text = shown()
    assert "│frechet *" in text
    assert "│sliced_wasserstein │" in text
    assert "* on features of net-3." in text


def test_figures_that_are_not_known_stay_empty_and_failures_are_counted():
    assert "nan" not in shown(value=math.nan)
    text = shown(failures=tuple(Failure(f"image{n}", "broken") for n in range(MAX_FAILURES + 2)))
    assert text.count("not judged: image") == MAX_FAILURES
    assert "and 2 more, in synthesis.json" in text
