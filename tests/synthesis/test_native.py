from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.domains import Domain, Window
from medgan.data.preparation import GridConfig, Prepared, prepare
from medgan.data.volumes import read_volume
from medgan.segmentation.labelled import Labelled, carried, merged
from medgan.synthesis.augment import _as_stored, _native_image, _native_labels, _whole_case

NAMES = {"lesion": (3, 5)}
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0, upper=100, percentiles=True))
LPS = np.array([[-1.0, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, 2, -7], [0, 0, 0, 1]])
"""Stored right to left and front to back: the networks see it turned."""


def stored(folder: Path, name: str, voxels, dtype):
    nib.Nifti1Image(voxels.astype(dtype), LPS).to_filename(folder / name)
    return read_volume(folder / name)


@pytest.fixture(params=[(20, 24, 6), (20, 24, 1)], ids=["3d", "2d"])
def files(request, tmp_path):
    random = np.random.default_rng(0)
    mask = np.zeros(request.param)
    mask[4:7, 4:7, 0], mask[10, 10, 0] = 3, 9  # 9 has no name
    image = stored(tmp_path, "image.nii.gz", random.integers(50, 100, request.param), np.int16)
    return image, stored(tmp_path, "mask.nii.gz", mask, np.uint8)


def case_of(files, spacing=(None, None, None)):
    image, mask = files
    prepared = prepare(image, MR, GridConfig(spacing_mm=spacing))
    return Labelled("s", prepared, carried(merged(mask, NAMES), mask.grid.affine, prepared))


def changed(recipient, box, by=40.0, label=1):
    voxels, labels = recipient.image.voxels.copy(), recipient.labels.copy()
    voxels[box] += by
    labels[box] = label
    image = recipient.image
    return Labelled("s", Prepared(voxels, image.affine, image.body, image.bounds), labels)


@pytest.mark.parametrize("spacing", [(None, None, None), (2.0, 2.0, None)], ids=["own grid", "coarser grid"])
def test_what_did_not_change_is_the_file_to_the_bit_and_what_did_lies_where_it_was_put(files, spacing):
    recipient = case_of(files, spacing)
    box = np.s_[3:6, 5:8, 0:1]
    case = changed(recipient, box)
    image, labels = _native_image(files[0], recipient, case), _native_labels(files[1], recipient, case, NAMES)
    assert (image.dtype, labels.dtype) == (np.int16, np.uint8)
    new = labels != files[1].voxels
    assert set(labels[new]) == {3}  # the first of the name's values
    index = np.argwhere(new)
    world = index @ files[0].grid.affine[:3, :3].T + files[0].grid.affine[:3, 3]
    own = (world - case.image.affine[:3, 3]) @ np.linalg.inv(case.image.affine[:3, :3]).T
    assert (np.abs(own[:, :2] - [4, 6]) <= 1.5).all()
    touched = image != files[0].voxels
    if spacing[0] is None:
        np.testing.assert_array_equal(touched, new)
        np.testing.assert_array_equal(image[new], files[0].voxels[new] + 40)
    else:
        assert (image[new] - files[0].voxels[new]).max() == 40
        assert touched.mean() < 0.2


def test_values_without_a_name_stay_and_those_of_a_name_may_go(files):
    recipient = case_of(files)
    everywhere = np.s_[:, :, :]
    bare = _native_labels(files[1], recipient, changed(recipient, everywhere, label=0), NAMES)
    assert set(np.unique(bare)) == {0, 9}
    full = _native_labels(files[1], recipient, changed(recipient, everywhere, label=1), NAMES)
    outside = recipient.labels[::-1, ::-1] == 0  # the file is stored the other way round
    assert (full[outside & (files[1].voxels == 0)] == 3).all()


def test_whole_numbers_are_rounded_and_kept_in_their_type():
    voxels = np.array([-3.0, 1.4, 1.6, 300.0], np.float32)
    np.testing.assert_array_equal(_as_stored(voxels, np.dtype(np.uint8)), [0, 1, 2, 255])
    np.testing.assert_array_equal(_as_stored(voxels, np.dtype(np.float32)), voxels)


def test_a_whole_case_has_a_grid_of_its_own(files):
    case = case_of(files)
    image, labels, grid = _whole_case(case, NAMES, np.dtype(np.int16))
    np.testing.assert_array_equal(image, np.rint(case.image.voxels))
    np.testing.assert_array_equal(labels, 3 * case.labels)
    np.testing.assert_allclose(grid.affine, case.image.affine)
