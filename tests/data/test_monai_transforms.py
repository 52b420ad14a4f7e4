"""What MONAI loads and prepares by our transforms is what medgan reads and prepares, to the bit."""

import numpy as np
import pytest
from monai.transforms import Compose, LoadImage, ScaleIntensityRanged

from dicom_files import save_stack
from medgan.data.domains import Domain, Window
from medgan.data.grid import made_up_grid
from medgan.data.monai_transforms import LoadVolumed, PrepareStudyd, VolumeReader
from medgan.data.preparation import GridConfig, normalise, prepare
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import DataError

CT = Domain(name="ct", modality="CT", unit="HU", air=-1024, window=Window(lower=-300, upper=700))
COARSE = GridConfig(spacing_mm=(1.5, 1.5, None))
AFFINE = np.array([[0.0, 0.9, 0, -7], [-0.8, 0, 0, 30], [0, 0, 3.0, -2], [0, 0, 0, 1]])


@pytest.fixture(params=[1, 5], ids=["slice", "3d"])
def scan(request, tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, (20, 24, request.param))
    write_volume(hu, made_up_grid(hu.shape, AFFINE), tmp_path / "a.nii.gz", np.int16)
    return tmp_path / "a.nii.gz"


def test_an_image_is_loaded_as_medgan_reads_it(scan):
    image, volume = LoadImage(reader=VolumeReader)(scan), read_volume(scan)
    assert np.array_equal(image.numpy(), volume.voxels)
    assert np.array_equal(image.affine.numpy(), volume.grid.affine)
    assert LoadVolumed("ct", ensure_channel_first=True)({"ct": scan})["ct"].shape == (1, *volume.voxels.shape)


@pytest.mark.parametrize("first", [True, False], ids=["channel", "no channel"])
def test_a_study_is_prepared_as_medgan_prepares_it_and_normalised_by_its_bounds(scan, first):
    chain = Compose([LoadVolumed("ct", ensure_channel_first=first), PrepareStudyd("ct", CT, COARSE)])
    image, expected = chain({"ct": scan})["ct"], prepare(read_volume(scan), CT, COARSE)
    assert np.array_equal(image.numpy()[0], expected.voxels)
    assert np.array_equal(image.affine.numpy(), expected.affine)
    assert (image.meta["bounds"], image.meta["body"]) == (expected.bounds, expected.body)
    scaled = ScaleIntensityRanged("ct", *image.meta["bounds"], -1, 1, clip=True)({"ct": image})["ct"]
    np.testing.assert_allclose(scaled.numpy()[0], normalise(expected.voxels, expected.bounds), atol=1e-6)


def test_what_medgan_refuses_no_other_reader_takes(tmp_path):
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(DataError, match="an empty file"):
        LoadVolumed("ct")({"ct": tmp_path / "empty.nii.gz"})


def test_a_folder_of_slices_is_one_image(tmp_path):
    save_stack(tmp_path / "series")
    image = LoadVolumed("ct")({"ct": tmp_path / "series"})["ct"]
    assert np.array_equal(image.numpy(), read_volume(tmp_path / "series").voxels)
    assert image.meta["modality"] == "CT"
