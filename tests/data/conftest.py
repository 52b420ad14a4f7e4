"""Small real files to read: NIfTI written byte by byte, DICOM written by SimpleITK."""

import contextlib
import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

if TYPE_CHECKING:
    from medgan.data.grid import Volume
    from medgan.data.registration_pair import PairConfig
    from medgan.data.registration_side import Side


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    """Write a NIfTI file from a raw header: ``write_nifti(path, voxels, affine, pixdim=[...], ...)``."""

    def write(path, voxels, affine=None, *, kind=nib.Nifti1Header, endianness="<", affine_codes=(1, 1), **raw):
        header = kind(endianness=endianness)
        header.set_data_dtype(voxels.dtype)
        header.set_data_shape(voxels.shape)
        header.set_qform(np.eye(4) if affine is None else affine, code=affine_codes[0])
        header.set_sform(np.eye(4) if affine is None else affine, code=affine_codes[1])
        header["vox_offset"] = header.single_vox_offset
        for name, value in raw.items():
            header[name] = value
        content = header.binaryblock + bytes(4) + voxels.astype(voxels.dtype.newbyteorder(endianness)).tobytes("F")
        path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """Write one DICOM image: pixels (rows, columns), its ImagePositionPatient, and any tag by its number."""

    def write(
        path, pixels, position=(0.0, 0.0, 0.0), *, series="1.2.3.4", spacing=(0.5, 0.75), vector=False, tags=None
    ):
        image = sitk.GetImageFromArray(pixels if pixels.ndim > 2 else pixels[np.newaxis], isVector=vector)
        image.SetSpacing((*spacing, 1.0))
        basic = {
            "0008|0060": "CT",
            "0008|0008": "DERIVED\\SECONDARY",
            "0018|0050": "3",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0032": "\\".join(f"{number:.8g}" for number in position),
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in (basic | (tags or {})).items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.Execute(image)
        return path

    return write


@pytest.fixture(scope="session")
def write_series(write_dicom) -> Callable[..., Path]:
    """Write an axial DICOM series with one slice for each z; names run against the order of the positions."""

    def write(folder, heights, *, prefix="", **options):
        for number, z in enumerate(heights):
            pixels = np.full((5, 4), 10 * number, np.int16) + np.arange(4, dtype=np.int16)
            write_dicom(folder / f"{prefix}{99 - number}.dcm", pixels, (-7.5, 3.25, z), **options)
        return folder

    return write


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def bound_by_permissions() -> Callable[[], AbstractContextManager[None]]:
    """A context in which permissions bind, also where the tests run as root."""

    @contextlib.contextmanager
    def context():
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)

    return context


@pytest.fixture(scope="session")
def scan() -> Callable[..., "Volume"]:
    """A made-up limb as CT or MR: ``scan("MR", moved=matrix)``; ``moved`` (4, 4) takes it elsewhere, RAS+ mm, exactly.

    The intensities are a function of the place, so a moved scan is no interpolated one.
    """
    from medgan.data.grid import Volume, made_up_grid

    parts = [
        ((0, 0, 0), (30, 24, 60)),
        ((8, 6, 0), (7, 7, 60)),
        ((-12, -6, 10), (9, 7, 12)),
        ((-6, 10, -14), (8, 6, 9)),
    ]
    intensities = {"CT": (-1000, 40, 500, -90, 110), "MR": (5, 300, 60, 700, 480)}

    def make(modality, moved=None, shape=(34, 30, 24), spacing=(2.5, 2.5, 3.5), seed=0):
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -(np.array(shape) - 1) * spacing / 2
        index = np.indices(shape).reshape(3, -1)
        at = np.linalg.inv(np.eye(4) if moved is None else moved) @ affine @ np.vstack([index, np.ones(index.shape[1])])
        values = np.full(index.shape[1], float(intensities[modality][0]))
        for (centre, radii), value in zip(parts, intensities[modality][1:], strict=True):
            depth = (1 - np.linalg.norm((at[:3].T - centre) / radii, axis=1)) * min(radii)
            values += (value - values) / (1 + np.exp(-2 * depth))
        values += np.random.default_rng(seed).normal(0, 5, len(values))
        voxels = np.maximum(values, 0) if modality == "MR" else values
        return Volume(voxels.reshape(shape).astype(np.float32), made_up_grid(shape, affine), Path(f"{modality}.nii.gz"))

    return make


@pytest.fixture(scope="session")
def rigid() -> Callable[..., np.ndarray]:
    """A rigid motion (4, 4) in RAS+ mm: ``rigid([0, 0, 8], [5, 0, -3])``, degrees and mm about the origin."""
    from scipy.spatial.transform import Rotation

    def make(degrees=(0, 0, 0), shift_mm=(0, 0, 0)):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        matrix[:3, 3] = shift_mm
        return matrix

    return make


@pytest.fixture(scope="session")
def flesh_apart(scan) -> Callable[..., "Volume"]:
    """A CT whose deep part and bone moved otherwise than the rest: ``flesh_apart(deep=matrix, flesh=matrix)``."""

    def make(deep=None, flesh=None):
        volume = scan("CT", deep)
        affine = volume.grid.affine
        x_mm, y_mm = (affine[a, a] * np.arange(volume.voxels.shape[a]) + affine[a, 3] for a in (0, 1))
        outside = (x_mm[:, None] / 22) ** 2 + (y_mm[None] / 16) ** 2 >= 1
        volume.voxels[outside] = scan("CT", flesh).voxels[outside]
        return volume

    return make


@pytest.fixture(scope="session")
def quick() -> "PairConfig":
    """Settings under which a registration of :func:`scan` takes a fraction of a second."""
    from medgan.data.registration_pair import PairConfig
    from medgan.data.registration_settings import RegistrationConfig

    levels = (8.0, 6.0, 4.0, 2.5)
    config = RegistrationConfig(
        level_spacings_mm=levels, samples=8000, start_rotation_degrees=0.0, kept_starts=1, iterations=60
    )
    return PairConfig(rigid=config)


@pytest.fixture(scope="session")
def sides(quick) -> Callable[..., list["Side"]]:
    """Volumes with their modalities, ready to register: ``sides((fixed, "MR"), (moving, "CT"))``."""
    from medgan.data.body import body_mask
    from medgan.data.domains import domain_named
    from medgan.data.registration_side import side

    def make(*scans):
        domains = [domain_named(modality.lower()) for _, modality in scans]
        return [
            side(volume, body_mask(volume.voxels, domain), domain, quick.rigid)
            for (volume, _), domain in zip(scans, domains, strict=True)
        ]

    return make
