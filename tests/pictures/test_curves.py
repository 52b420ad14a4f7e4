import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from medgan.pictures import curves
from medgan.pictures.curves import progress

HISTORY = [
    {"epoch": 1.0, "train/l1": 40.0, "train/to_target": 0.5, "train/learning_rate_share": 1.0},
    {"epoch": 2.0, "train/l1": 20.0, "train/to_target": 0.4, "train/learning_rate_share": 1.0, "val/mae_hu": 30.0},
    {"epoch": 3.0, "train/l1": 15.0, "train/to_target": 0.6, "train/learning_rate_share": 0.5, "val/mae_hu": 35.0},
]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, to look into."""
    made = []

    class Kept(Figure):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr(curves, "Figure", Kept)
    return made


def test_terms_metrics_and_the_learning_rate_are_drawn_by_epoch_and_the_best_epoch_is_marked(figures):
    with Image.open(io.BytesIO(progress(HISTORY, best_epoch=2))) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5
    terms, metric, rate = figures[0].axes
    assert [text.get_text() for text in terms.get_legend().get_texts()] == ["l1", "to_target"]
    assert terms.get_yscale() == "log"
    assert metric.lines[0].get_xydata().tolist() == [[2, 30], [3, 35]]
    assert rate.lines[0].get_ydata().tolist() == [1.0, 1.0, 0.5]
    for axes in (terms, metric, rate):
        assert list(axes.lines[-1].get_xdata()) == [2, 2]
        assert [note.get_text() for note in axes.texts] == ["best: 2"]


def test_one_epoch_without_validation_is_seen_as_points_and_nothing_is_marked(figures):
    progress(HISTORY[:1])
    terms, rate = figures[0].axes
    assert [line.get_marker() for line in terms.lines] == ["o", "o"]
    assert len(rate.lines) == 1


def test_a_training_that_measured_nothing_has_an_empty_picture():
    assert Image.open(io.BytesIO(progress([{"epoch": 1.0}]))).format == "PNG"
