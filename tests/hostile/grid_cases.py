"""Headers whose voxels are no scanner's: in another unit, or of a size that would fill any memory or be nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import dicom_files as files
from hostile.case import Case
from hostile.nifti_cases import ct, save


def odd(
    *spacing: float, shape: tuple[int, ...] = (32, 32, 4), unit: str = "mm", offset: float = 0.0
) -> Callable[[Path], object]:
    """A study with voxels of so many units, and one that is to be converted all the same."""
    image = nib.Nifti1Image((ct(shape) + offset).astype(np.int16), np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units(unit)
    return lambda folder: (save(folder / "good.nii.gz", ct() + offset), nib.save(image, folder / "odd.nii.gz"))


def dicom_of_metres(folder: Path) -> None:
    save(folder / "good.nii.gz")
    files.save(folder / "odd.dcm", files.slice_of(ct((32, 32)), PixelSpacing=[900, 900], SpacingBetweenSlices=1))


def refused(name: str, make: Callable[[Path], object], field_mm: str, model: Any = "ct") -> Case:
    """The odd one is refused with its field of view and what to do; the good one is converted."""
    says = ("odd.", f"field of view of {field_mm} mm", "correct")
    return Case(f"grid/{name}", make, "fails", says, ("good.nii.gz",), model=model)


def converted(name: str, make: Callable[[Path], object]) -> Case:
    return Case(f"grid/{name}", make, "converts", outputs=("good.nii.gz", "odd.nii.gz"))


CASES = (
    refused("metres", odd(0.9, 0.9, 3, unit="meter"), "28800 × 28800 × 12000"),
    refused("metres_mr", odd(0.9, 0.9, 3, unit="meter", offset=1100), "28800 × 28800 × 12000", model="mr"),
    refused("metres_one_slice", odd(0.9, 0.9, 3, unit="meter", shape=(32, 32, 1)), "28800 × 28800 × 3000"),
    refused("metres_4d", odd(0.9, 0.9, 3, unit="meter", shape=(32, 32, 4, 1)), "28800 × 28800 × 12000"),
    refused("metres_3d_model", odd(0.9, 0.9, 3, unit="meter"), "28800 × 28800 × 12000", model="ct 3d"),
    refused("metres_dicom", dicom_of_metres, "28800 × 28800 × 1"),
    refused("100_mm", odd(100, 100, 100), "3200 × 3200 × 400"),
    refused("100_mm_few_voxels", odd(100, 100, 100, shape=(8, 8, 4)), "800 × 800 × 400"),
    refused("100_mm_along_one_axis", odd(0.9, 100, 3), "28.8 × 3200 × 12"),
    refused("huge", odd(1e30, 1e30, 1e30), "3.2e+31 × 3.2e+31 × 4e+30"),
    refused("huge_along_one_axis", odd(0.9, 0.9, 1e30), "28.8 × 28.8 × 4e+30"),
    refused("huge_mr_to_ct", odd(1e30, 1e30, 1e30, offset=1100), "3.2e+31 × 3.2e+31 × 4e+30", model="mr to ct"),
    refused("micrometres", odd(0.9, 0.9, 3, unit="micron"), "0.0288 × 0.0288 × 0.012"),
    refused("a_thousandth", odd(0.001, 0.001, 0.003), "0.032 × 0.032 × 0.012"),
    refused("tiny", odd(1e-30, 1e-30, 1e-30), "3.2e-29 × 3.2e-29 × 4e-30"),
    refused("tiny_along_one_axis", odd(0.9, 0.9, 1e-30), "28.8 × 28.8 × 4e-30"),
    refused("resampled_to_too_much", odd(19, 19, 5, shape=(80, 80, 24)), "1520 × 1520 × 120"),
    Case("grid/resampled_to_nothing", odd(0.02, 0.02, 1), "fails", ("odd.nii.gz", "1 × 1 × 4 voxels", "spacing"),
         ("good.nii.gz",)),
    converted("coarse", odd(12, 12, 5)),
    converted("fine", odd(0.3, 0.3, 0.3)),
    converted("slices_far_apart", odd(2, 2, 60)),
    converted("4d_of_one", odd(3, 3, 5, shape=(32, 32, 4, 1))),
)  # fmt: skip
