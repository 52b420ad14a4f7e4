"""medgan's reading and preparing as MONAI's transforms, for pipelines of one's own: the same voxels to the bit.

medgan itself calls what lies below them: importing MONAI takes longer than preparing a study.
"""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImaged, MapTransform
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from medgan.data.belonging import check_belongs
from medgan.data.domains import Domain
from medgan.data.grid import Volume, made_up_grid
from medgan.data.preparation import GridConfig, prepare
from medgan.data.volumes import read_volume


class VolumeReader(ImageReader):
    """What medgan reads, with its checks: NIfTI, DICOM files and folders, MetaImage, NRRD, PNG and TIFF; one image."""

    def verify_suffix(self, filename: Any) -> bool:
        """Any name: it is the content that tells."""
        del filename
        return True

    def read(self, data: Any, **options: Any) -> Volume:
        """The volume of a path."""
        del options
        (path,) = ensure_tuple(data)
        return read_volume(Path(path))

    def get_data(self, img: Volume) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Voxels (X, Y, Z) and what MONAI knows of an image: RAS+ affine, shape, and that there is no channel."""
        affine = img.grid.affine
        facts = {"affine": affine, "original_affine": affine.copy(), "spatial_shape": np.array(img.voxels.shape)}
        told = {"original_channel_dim": float("nan"), "space": "RAS", "modality": img.modality or ""}
        return img.voxels, facts | told | {"notes": list(img.notes)}


class LoadVolumed(LoadImaged):
    """``LoadImaged`` by :class:`VolumeReader` alone: what medgan refuses is refused.

    MONAI's own asks other readers then, which may take a grid or intensities for something else.
    """

    def __init__(self, keys: KeysCollection, **options: Any) -> None:
        super().__init__(keys, reader=VolumeReader, **options)

    def __call__(self, data: Mapping[Hashable, Any], reader: ImageReader | None = None) -> dict[Hashable, Any]:
        """Paths under the keys to images (X, Y, Z), or (1, X, Y, Z) with ``ensure_channel_first``.

        Raises:
            MedganError: What :func:`medgan.data.volumes.read_volume` refuses.
        """
        loaded: dict[Hashable, Any] = super().__call__(data, reader or VolumeReader())
        return loaded


class PrepareStudyd(MapTransform):
    """Images of :class:`LoadVolumed` to RAS+ on the networks' grid, as training and conversion prepare them.

    They become (1, X, Y, Z) in the domain's unit; ``meta`` tells the ``bounds`` that a network sees as -1 and 1, and
    the ``body``'s first and one-past-last index along each axis.
    """

    def __init__(self, keys: KeysCollection, domain: Domain, grid: GridConfig) -> None:
        super().__init__(keys)
        self.domain, self.grid = domain, grid

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """{key: image} to the same, prepared.

        Raises:
            DataError: What cannot be of the domain.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            voxels = image.as_tensor().numpy()
            voxels = voxels[0] if voxels.ndim == 4 else voxels
            grid = made_up_grid(voxels.shape, image.affine.numpy())
            path, meta = Path(image.meta["filename_or_obj"]), image.meta
            volume = Volume(voxels, grid, path, meta["modality"] or None, tuple(meta["notes"]))
            check_belongs(volume, self.domain)
            study = prepare(volume, self.domain, self.grid)
            told = {"bounds": study.bounds, "body": study.body, "spatial_shape": np.array(study.voxels.shape)}
            tensor = torch.from_numpy(np.array(study.voxels[None]))
            result[key] = MetaTensor(tensor, meta={**meta, **told, "affine": study.affine})
        return result
