import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from medgan.report.figures import common_limits, embedded, forest, learning_curves


@pytest.fixture
def found(make_study):
    return make_study()


def decoded(src):
    head, _, data = src.partition(",")
    return head, base64.b64decode(data)


def test_a_forest_plot_has_every_interval_where_it_belongs(found):
    effects = found.effects(organ="kidney", test_set="out")
    (axes,) = forest(effects, "kidney").axes
    intervals = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2][: len(effects)]
    spans = [line for line in axes.lines if list(line.get_ydata()) == [line.get_ydata()[0]] * 2]
    np.testing.assert_allclose([line.get_xdata() for line in spans], effects[["lower", "upper"]])
    assert len(intervals) == len(effects)
    assert axes.yaxis_inverted()  # the first comparison is on top
    assert axes.get_yticklabels()[0].get_text() == "real+standard\nagainst real"


def test_all_plots_share_limits_that_hold_every_interval_and_zero_and_where_nothing_differs_there_are_none(found):
    effects = found.effects()
    low, high = common_limits(effects)
    assert low < min(0, effects["lower"].min())
    assert high > max(0, effects["upper"].max())
    for mean in (np.nan, 0.0):
        assert common_limits(effects.head(1).assign(mean=mean, lower=np.nan, upper=np.nan)) is None


def test_curves_are_the_trainings_and_their_mean_and_an_arm_that_was_validated_once_is_still_seen(found):
    (axes,) = learning_curves(found.curves, ["real"]).axes
    *thin, thick = axes.lines
    assert len(thin) == 3
    np.testing.assert_allclose(thick.get_ydata(), np.mean([line.get_ydata() for line in thin], axis=0))
    once = found.curves[found.curves["epoch"] == found.curves["epoch"].max()]
    (axes,) = learning_curves(once, ["real"]).axes
    (seen,) = (line for line in axes.lines if line.get_label() == "real")
    assert len(seen.get_xdata()) == 1
    assert seen.get_marker() == "o"
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_an_embedded_plot_is_the_same_every_time_and_asks_for_nothing(found):
    effects = found.effects(organ="liver", test_set="in")
    first, second = (embedded(forest(effects, "liver")) for _ in range(2))
    assert first == second
    head, data = decoded(first)
    assert head == "data:image/svg+xml;base64"
    assert ET.fromstring(data).tag.endswith("svg")
    links = [value for node in ET.fromstring(data).iter() for name, value in node.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)
    head, data = decoded(embedded(learning_curves(found.curves, ["real"]), kind="png"))
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(data)).format == "PNG"
