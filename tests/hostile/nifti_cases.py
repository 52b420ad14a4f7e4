"""NIfTI files that are odd or broken."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from hostile.case import Case

AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])


def ct(shape: tuple[int, ...] = (32, 32, 4), seed: int = 0) -> np.ndarray:
    """A cylinder in HU with a vessel and a bone."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:2]), indexing="ij")
    hu = np.select([np.hypot(x, y) < 0.3, np.hypot(x, y * 1.2) < 0.8], [180.0, 40.0], -1000.0)
    hu[(np.abs(x) < 0.15) & (y > 0.4) & (y < 0.6)] = 700
    hu = np.broadcast_to(hu.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)
    return np.rint(hu + np.random.default_rng(seed).normal(0, 8, shape))


def save(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray = AFFINE, dtype: type = np.int16) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((ct() if voxels is None else voxels).astype(dtype), affine), path)
    return path


def truncated(folder: Path) -> None:
    good = save(folder / "good.nii.gz").read_bytes()
    (folder / "half.nii.gz").write_bytes(good[: len(good) // 2])


def text_after_gzip(folder: Path) -> None:
    path = save(folder / "a.nii.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())) + b"<html>end of transfer</html>\n")


CASES = (
    Case("nifti/good", lambda folder: save(folder / "a.nii.gz"), "converts", outputs=("a.nii.gz",)),
    Case("nifti/truncated", truncated, "fails", ("half.nii.gz", "truncated"), outputs=("good.nii.gz",)),
)
