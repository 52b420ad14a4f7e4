"""MetaImage and NRRD: good, odd and broken."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from hostile.case import Case
from hostile.nifti_cases import beside_good, ct


def write(path: Path, *, compressed: bool = False) -> Path:
    """The CT of the NIfTI rows in another format, on the same grid."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(ct().astype(np.int16).T))
    image.SetSpacing((3.0, 3.0, 5.0))
    sitk.WriteImage(image, path, compressed)
    return path


def written(name: str, change: Callable[[bytes], bytes] = bytes, *, compressed: bool = False) -> Callable[[Path], None]:
    """A file that was changed after it was written; ``.mhd`` and ``.nhdr`` have their voxels beside them."""
    return lambda folder: (path := write(folder / name, compressed=compressed)).write_bytes(change(path.read_bytes()))


def edited(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    return beside_good(written(name, lambda content: content.replace(old, new)))


def cut(name: str, *, compressed: bool = False) -> Callable[[Path], None]:
    return beside_good(written(name, lambda content: content[: len(content) // 2], compressed=compressed))


def without_voxels(name: str) -> Callable[[Path], None]:
    return beside_good(lambda folder: write(folder / name).with_suffix(".raw").unlink())


def colours(folder: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 8, 8, 3), np.uint8), isVector=True), folder / "a.mha")


def as_nifti(folder: Path, output: Path) -> None:
    """The output is what the same CT as NIfTI becomes: voxels unlike it nowhere but where the model changes them."""
    image = nib.load(output / "a.nii.gz")
    np.testing.assert_allclose(image.affine, np.diag([-3.0, -3.0, 5.0, 1.0]), atol=1e-6)
    voxels, given = np.asarray(image.dataobj), ct()
    np.testing.assert_array_equal(voxels[given < -300], given[given < -300])  # below the window nothing is changed
    assert voxels.shape == given.shape


def fails(name: str, make: Callable[[Path], None], *says: str) -> Case:
    return Case(f"format/{name}", make, "fails", says, outputs=("good.nii.gz",))


def converts(name: str, make: Callable[[Path], None]) -> Case:
    return Case(f"format/{name}", make, "converts", outputs=("a.nii.gz",), holds=as_nifti)


DIRECTIONS = b"space directions: (3,0,0) (0,3,0) (0,0,5)"
MATRIX = b"TransformMatrix = 1 0 0 0 1 0 0 0 1"
CASES = (
    *(
        converts(kind + packed, written(f"a.{kind}", compressed=bool(packed)))
        for kind in ("mha", "mhd", "nrrd", "nhdr")
        for packed in ("", "_compressed")
    ),
    fails("mha_truncated", cut("a.mha"), "a.mha", "truncated"),
    fails("mha_truncated_compressed", cut("a.mha", compressed=True), "a.mha", "truncated"),
    fails("nrrd_truncated", cut("a.nrrd"), "a.nrrd", "truncated"),
    fails("nrrd_truncated_compressed", cut("a.nrrd", compressed=True), "a.nrrd", "truncated"),
    fails("mhd_without_voxels", without_voxels("a.mhd"), "a.mhd", "a.raw"),
    fails("nhdr_without_voxels", without_voxels("a.nhdr"), "a.nhdr", "a.raw"),
    fails("mhd_elsewhere", edited("a.mhd", b"a.raw", b"../a.raw"), "a.mhd", "not in its own folder"),
    fails("mhd_device", edited("a.mhd", b"a.raw", b"/dev/zero"), "a.mhd", "not in its own folder"),
    fails("mhd_names_itself", edited("a.mhd", b"a.raw", b"a.mhd"), "a.mhd", "names no file of voxels"),
    fails("nhdr_names_itself", edited("a.nhdr", b"a.raw", b"./a.nhdr"), "a.nhdr", "names no file of voxels"),
    fails("mhd_name_with_nul", edited("a.mhd", b"a.raw", b"a\0.raw"), "a.mhd", "names no file of voxels"),
    fails("mha_sheared", edited("a.mha", MATRIX, b"TransformMatrix = 1 0 0 0 1 0 0 0.2 1"), "a.mha", "sheared"),
    fails("nrrd_sheared", edited("a.nrrd", b"(0,0,5)", b"(0,1,5)"), "a.nrrd", "sheared"),
    fails("mha_no_spacing", edited("a.mha", b"ElementSpacing", b"ElementSomething"), "a.mha", "no voxel spacing"),
    fails("mha_zero_spacing", edited("a.mha", b"3 3 5", b"3 0 5"), "a.mha", "not positive"),
    fails("nrrd_metres", edited("a.nrrd", DIRECTIONS, DIRECTIONS + b'\nspace units: "m" "m" "m"'), "a.nrrd", "in mm"),
    fails("mha_forged_size", edited("a.mha", b"32 32 4", b"32000 32000 4"), "a.mha", "promises"),
    fails("nrrd_forged_size", edited("a.nrrd", b"32 32 4", b"32000 32000 4"), "a.nrrd", "promises"),
    fails("mha_colours", beside_good(colours), "a.mha", "several values a voxel"),
    Case(
        *("format/mha_unplaced", edited("a.mha", MATRIX + b"\n", b""), "warns", ("how it lies in the patient",)),
        outputs=("a.nii.gz", "good.nii.gz"),
    ),
)
