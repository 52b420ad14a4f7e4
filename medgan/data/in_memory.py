"""Images in memory, nibabel's, SimpleITK's or arrays with an affine: taken as a volume, given back as they came."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from medgan.data import nifti
from medgan.data.grid import Grid, Volume, check_affine, check_finite, grid_in_lps
from medgan.data.raw import METAIMAGE_MODALITIES
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

DICOM_MODALITY, METAIMAGE_MODALITY = "0008|0060", "Modality"
"""Where SimpleITK keeps what a file says that it is."""
ITK_NOTES = "ITK_FileNotes"
"""What SimpleITK writes into the description of a NIfTI file."""
ARRAY, NIBABEL, ITK = (Path(f"<{name}>") for name in ("array", "nibabel image", "SimpleITK image"))
"""What messages call images that come from no file; no file beside them is ever taken for theirs."""

Back = Callable[[NDArray[Any], str, bool], Any]
"""Voxels (X, Y, Z) on the volume's grid, a description and whether they are labels, as the kind of image that came."""


@dataclass(frozen=True, eq=False)
class InMemory:
    """An image as a volume, and the way back."""

    volume: Volume
    back: Back


def in_memory(image: Any, affine: Any = None) -> InMemory:
    """An image as a volume, and how voxels on its grid become an image of the same kind.

    Args:
        image: A nibabel image, a SimpleITK image, an array (X, Y) or (X, Y, Z), such an array and its affine as a
            pair, or the path of an image or of a DICOM series' folder, which comes back as a nibabel image.
        affine: Of an array alone, (4, 4): voxel index to RAS+ mm.

    Raises:
        DataError: What :func:`medgan.data.volumes.read_volume` refuses of files, in the same words.
        GeometryError: A grid that an output could not lie on exactly.
        ConfigError: No image, or an array without a grid.
    """
    pair = isinstance(image, tuple) and len(image) == 2
    is_array = pair or isinstance(image, np.ndarray)
    if affine is not None and (pair or not is_array):
        raise ConfigError("affine= is for an array alone; the image that was given has a grid of its own.")
    if is_array:
        array, matrix = image if pair else (image, affine)
        return _of_array(np.asarray(array), matrix, pair)
    if isinstance(image, str | Path):
        volume = read_volume(Path(image))
        return InMemory(volume, _as_nibabel(volume.grid, None))
    if isinstance(image, Nifti1Pair):
        volume = nifti.volume_of(image, Path(image.get_filename() or NIBABEL))
        return InMemory(volume, _as_nibabel(volume.grid, image))
    if isinstance(image, SpatialImage):
        raise DataError(
            f"{image.get_filename() or NIBABEL}: a {type(image).__name__}, not NIfTI; give "
            "nibabel.Nifti1Image.from_image(image)."
        )
    if any(kind.__module__.startswith("SimpleITK") for kind in type(image).__mro__):
        return _of_itk(image)
    raise ConfigError(
        f"a {type(image).__name__} is no image; give one of nibabel or SimpleITK, an array with affine=, or a path."
    )


def _as_nibabel(grid: Grid, like: Nifti1Pair | None) -> Back:
    return lambda voxels, descrip, labels: nifti.image_of(voxels, grid, like, descrip, labels)


def _of_array(array: NDArray[Any], affine: Any, pair: bool) -> InMemory:
    """An array as the NIfTI image that nibabel makes of it, whose affine has single precision."""
    if affine is None:
        raise ConfigError("an array does not say where its voxels lie; give affine=, voxel index to RAS+ mm.")
    matrix = np.asarray(affine, np.float64)
    if matrix.shape != (4, 4):
        raise ConfigError(f"an affine is (4, 4), voxel index to RAS+ mm, and not {matrix.shape}.")
    nifti.check_type(ARRAY, array.dtype)
    x, y, z = (*array.shape, 1, 1, 1)[:3]
    check_affine(ARRAY, matrix, (x, y, z))
    volume = nifti.volume_of(Nifti1Image(array, matrix, dtype=np.float32), ARRAY)

    def back(voxels: NDArray[Any], descrip: str, labels: bool) -> Any:
        del descrip, labels
        own = voxels.reshape(array.shape)
        return (own, affine) if pair else own

    return InMemory(volume, back)


def _of_itk(image: "sitk.Image") -> InMemory:
    """An ITK image, whose voxels are (Z, Y, X) to numpy, as MetaImage and NRRD are read."""
    import SimpleITK as sitk  # noqa: N813

    axes, size = image.GetDimension(), image.GetSize()
    if axes > 3:
        raise DataError(f"{ITK}: {axes}D with shape {size}; split it into 3D volumes first.")
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise DataError(f"{ITK}: several values a voxel (colours or vectors), not intensities; give one of them.")
    stored = sitk.GetArrayViewFromImage(image).T
    nifti.check_type(ITK, stored.dtype)
    columns = np.reshape(image.GetDirection(), (axes, axes)) * image.GetSpacing()
    grid = grid_in_lps(ITK, size, columns, np.array(image.GetOrigin()))
    voxels = np.array(stored, np.float32, order="F").reshape(grid.size, order="F")
    check_finite(ITK, voxels)

    def back(voxels: NDArray[Any], descrip: str, labels: bool) -> "sitk.Image":
        del labels
        made = sitk.GetImageFromArray(voxels.reshape(size).T)
        made.CopyInformation(image)
        made.SetMetaData(ITK_NOTES, descrip)
        return made

    return InMemory(Volume(voxels, grid, ITK, _itk_modality(image)), back)


def _itk_modality(image: "sitk.Image") -> str | None:
    """What the file said that SimpleITK read, in DICOM's words."""
    words = {key: image.GetMetaData(key).strip() for key in (DICOM_MODALITY, METAIMAGE_MODALITY) if key in image}
    own = METAIMAGE_MODALITIES.get(words.get(METAIMAGE_MODALITY, ""))
    return words.get(DICOM_MODALITY) or own
