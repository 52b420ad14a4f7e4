import base64
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from medgan.data.grid import made_up_grid
from medgan.data.volumes import write_volume
from medgan.errors import DataError, GeometryError
from medgan.pictures.tiles import Picture
from medgan.report.figures import _worst_slice, common_limits, embedded, forest, learning_curves, overlay, worst_tile

CASE = {"image": "image.nii.gz", "truth": "truth.nii.gz", "label_map": "found.nii.gz"}
SHAPE = (40, 30, 6)


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
    picture = Picture(Image.new("RGB", (4, 4)), "a case")
    head, data = decoded(embedded(picture))
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(data)).format == "PNG"


def blob(x, y, z=(2, 4)):
    label = np.zeros(SHAPE, dtype=bool)
    label[x[0] : x[1], y[0] : y[1], z[0] : z[1]] = True
    return label


def write(folder, image, truth, found, affine=None, found_affine=None):
    affine = np.diag([-1.0, -1.0, 3.0, 1.0]) if affine is None else affine  # first axis to the left, second to the back
    for name, voxels in zip(CASE, (image, truth, found), strict=True):
        used = found_affine if name == "label_map" and found_affine is not None else affine
        write_volume(voxels, made_up_grid(SHAPE, used), folder / CASE[name], np.int16)
    return folder


def test_the_worst_slice_has_the_most_differing_voxels_and_where_nothing_differs_it_is_the_largest():
    truth, found = blob((5, 15), (5, 15), (0, 5)), blob((5, 15), (5, 15), (0, 5))
    found[5:9, 5:9, 3] = False
    found[5:7, 5:7, 1] = False
    assert _worst_slice(truth, found) == 3
    truth[5:20, 5:20, 2] = True
    assert _worst_slice(truth, truth) == 2


def gradient():
    """An image that is brighter towards the patient's right and dark behind."""
    x, y, _ = np.indices(SHAPE)
    return (100 - x) * 10 + (y < 15) * 1000


@pytest.mark.parametrize("turned", [False, True], ids=["LPS", "RAS"])
def test_the_patients_right_is_left_and_the_front_above_whatever_the_files_order(tmp_path, turned):
    arrays = [gradient(), 1 * blob((10, 20), (10, 20)), 1 * blob((12, 22), (10, 20))]
    affine = None
    if turned:
        arrays, affine = [array[::-1, ::-1].copy() for array in arrays], np.diag([1.0, 1.0, 3.0, 1.0])
    picture = worst_tile(CASE, write(tmp_path, *arrays, affine=affine), 1).view.pixels
    assert (np.diff(picture[0]) < 0).all()  # columns run from the bright right to the left
    assert picture[0].mean() > picture[-1].mean() + 500  # the first row, which is drawn on top, is in front


def test_only_the_organ_in_question_is_outlined_and_around_it_is_cut_out(tmp_path):
    truth = 1 * blob((2, 4), (2, 4)) + 2 * blob((30, 34), (20, 24))
    folder = write(tmp_path, gradient(), truth, truth)
    tile = worst_tile(CASE, folder, 2)
    assert tile.view.pixels.shape == (22, 22)  # 12 around 4 x 4, less what lies outside of 40 x 30
    assert [(outline.mask.sum(), outline.dashed) for outline in tile.outlines] == [(16, False), (16, True)]
    _, none = worst_tile(CASE, write(tmp_path, gradient(), truth, 0 * truth), 2).outlines
    assert not none.mask.any()
    assert min(overlay(CASE, folder, 2).image.size) >= 256


def test_voxels_that_are_not_square_are_not_stretched(tmp_path):
    label = 1 * blob((10, 20), (10, 20))
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    view = worst_tile(CASE, write(tmp_path, gradient(), label, label, affine=affine), 1).view
    assert view.spacing_mm == pytest.approx((2.0, 1.0))


def test_an_organ_that_is_nowhere_and_a_label_map_on_another_grid_are_refused(tmp_path):
    label = 1 * blob((10, 20), (10, 20))
    with pytest.raises(DataError, match=r"found\.nii\.gz: the organ is neither"):
        overlay(CASE, write(tmp_path, gradient(), label, label), 2)
    folder = write(tmp_path, gradient(), label, label, found_affine=np.eye(4))
    with pytest.raises(GeometryError, match=r"found\.nii\.gz is not on the grid of"):
        overlay(CASE, folder, 1)
