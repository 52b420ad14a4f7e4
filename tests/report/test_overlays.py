"""Cases whose worst slice and orientation are known."""

import numpy as np
import pytest

from medgan.data.grid import made_up_grid
from medgan.data.volumes import write_volume
from medgan.errors import DataError, GeometryError
from medgan.report.overlays import _worst_slice, overlay

CASE = {"image": "image.nii.gz", "truth": "truth.nii.gz", "label_map": "found.nii.gz"}
SHAPE = (40, 30, 6)


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


def shown(figure):
    (axes,) = figure.axes
    (picture,) = axes.images
    return np.asarray(picture.get_array())


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
    picture = shown(overlay(CASE, write(tmp_path, *arrays, affine=affine), 1))
    assert (np.diff(picture[0]) < 0).all()  # columns run from the bright right to the left
    assert picture[0].mean() > picture[-1].mean() + 500  # the first row, which is drawn on top, is in front


def test_only_the_organ_in_question_is_outlined_and_around_it_is_cut_out(tmp_path):
    truth = 1 * blob((2, 4), (2, 4)) + 2 * blob((30, 34), (20, 24))
    folder = write(tmp_path, gradient(), truth, truth)
    assert shown(overlay(CASE, folder, 2)).shape == (22, 22)  # 12 around 4 x 4, less what lies outside of 40 x 30
    (axes,) = overlay(CASE, folder, 2).axes
    assert len(axes.collections) == 2  # true and found outline
    (axes,) = overlay(CASE, write(tmp_path, gradient(), truth, 0 * truth), 2).axes
    assert len(axes.collections) == 1


def test_voxels_that_are_not_square_are_not_stretched(tmp_path):
    label = 1 * blob((10, 20), (10, 20))
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    (axes,) = overlay(CASE, write(tmp_path, gradient(), label, label, affine=affine), 1).axes
    assert axes.get_aspect() == pytest.approx(2.0)


def test_an_organ_that_is_nowhere_and_a_label_map_on_another_grid_are_refused(tmp_path):
    label = 1 * blob((10, 20), (10, 20))
    with pytest.raises(DataError, match=r"found\.nii\.gz: the organ is neither"):
        overlay(CASE, write(tmp_path, gradient(), label, label), 2)
    folder = write(tmp_path, gradient(), label, label, found_affine=np.eye(4))
    with pytest.raises(GeometryError, match=r"found\.nii\.gz is not on the grid of"):
        overlay(CASE, folder, 1)
