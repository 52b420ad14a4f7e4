"""Small real files to read: NIfTI written byte by byte, DICOM written by pydicom."""

import contextlib
import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from dicom_files import save, slice_of

CT = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


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
def write_series() -> Callable[..., Path]:
    """Write an axial DICOM series with one slice for each z; names run against the order of the positions."""

    def write(folder, heights, *, prefix="", **changed):
        for number, z in enumerate(heights):
            hu = np.full((5, 4), 10 * number) + np.arange(4)
            data = slice_of(hu, (-7.5, 3.25, z), number + 1, **{"PixelSpacing": [0.75, 0.5]} | changed)
            save(folder / f"{prefix}{99 - number}.dcm", data)
        return folder

    return write


@pytest.fixture
def studies(tmp_path, write_nifti, write_series) -> dict[str, Path]:
    """One study of every kind that is read, by name."""
    Image.fromarray(CT[0].astype(np.uint8)).save(tmp_path / "slice.png")
    return {
        "volume": write_nifti(tmp_path / "volume.nii.gz", CT),
        "flat": write_nifti(tmp_path / "flat.NII", CT[..., 0]),
        "slice": save(tmp_path / "CT.1.2.16573", slice_of(CT[0], (-5, 6, 7))),
        "series": write_series(tmp_path / "series", [4, 0, 2]),
        "picture": tmp_path / "slice.png",
    }


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
