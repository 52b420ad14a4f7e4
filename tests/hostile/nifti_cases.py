"""NIfTI files that are odd and right, and files that are broken.

Of the odd ones more is held than the outcome: the output has the input's grid, and below the model's window, where
nothing is changed, its very intensities.
"""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from hostile.case import Case, Outcome

AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])
NAME = "a.nii.gz"
GOOD = "good.nii.gz"


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


def image(
    voxels: np.ndarray | None = None, affine: np.ndarray = AFFINE, dtype: type = np.int16, *,
    qform: int = 1, sform: int = 1, qaffine: np.ndarray | None = None,
) -> nib.Nifti1Image:  # fmt: skip
    """An image with the codes of its two affines; a code of 0 leaves the affine out."""
    made = nib.Nifti1Image(np.asarray(ct() if voxels is None else voxels).astype(dtype), affine, dtype=np.dtype(dtype))
    made.set_sform(affine if sform else None, sform)
    made.set_qform((affine if qaffine is None else qaffine) if qform else None, qform)
    return made


def stored(made: nib.Nifti1Image, name: str = NAME) -> Callable[[Path], object]:
    return lambda folder: nib.save(made, folder / name)


def packed(
    pack: Callable[[bytes], bytes] = gzip.compress, name: str = NAME, made: nib.Nifti1Image | None = None
) -> Callable[[Path], object]:
    """A file whose whole content was made of a good one's."""
    return lambda folder: (folder / name).write_bytes(pack((made or image()).to_bytes()))


def edited(at: int, new: bytes, made: nib.Nifti1Image | None = None) -> Callable[[Path], object]:
    """A file in whose raw bytes some were replaced."""
    return packed(lambda content: gzip.compress(content[:at] + new + content[at + len(new) :]), made=made)


def scaled(slope: float, intercept: float, made: nib.Nifti1Image | None = None) -> Callable[[Path], object]:
    return edited(112, struct.pack("<ff", slope, intercept), made)


def beside_good(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """One good study, and what must not keep it from being converted."""
    return lambda folder: (save(folder / GOOD), make(folder))


def halved(content: bytes) -> bytes:
    return gzip.compress(content)[: len(gzip.compress(content)) // 2]


def two_members(content: bytes) -> bytes:
    return gzip.compress(content[:5000]) + gzip.compress(content[5000:])


def turned(degrees: float, axis: int) -> np.ndarray:
    """The affine, turned about an axis of the patient."""
    angle, turn = np.radians(degrees), np.eye(4)
    i, j = (each for each in range(3) if each != axis)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn @ AFFINE


def holding(voxels: np.ndarray | None, affine: np.ndarray) -> Callable[[Path, Path], None]:
    """The output lies where the input does, and holds its intensities where the model changes nothing."""

    def holds(folder: Path, output: Path) -> None:
        del folder
        made, given = nib.load(output / NAME), ct() if voxels is None else voxels
        np.testing.assert_allclose(made.affine, affine, atol=1e-5)
        assert made.shape == given.shape
        found = np.asarray(made.dataobj)
        air = given < -300
        assert air.any()
        np.testing.assert_array_equal(found[air], np.clip(np.rint(given[air]), -32768, 32767))
        assert (found[~air] != np.rint(given[~air])).any()  # and it has been through the model

    return holds


def right(
    name: str, make: Callable[[Path], object], voxels: np.ndarray | None = None, affine: np.ndarray = AFFINE,
    outcome: Outcome = "converts", says: tuple[str, ...] = (),
) -> Case:  # fmt: skip
    return Case(f"nifti/{name}", make, outcome, says, outputs=(NAME,), holds=holding(voxels, affine))


def fails(name: str, make: Callable[[Path], object], *says: str) -> Case:
    return Case(f"nifti/{name}", beside_good(make), "fails", (NAME, *says), outputs=(GOOD,))


def private(folder: Path) -> None:
    made = image()
    made.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"comment: Doe^Jane" + b" " * 200))
    made.header["descrip"] = b"Doe^Jane"
    nib.save(made, folder / NAME)


def says_nothing_of_the_patient(folder: Path, output: Path) -> None:
    holding(None, AFFINE)(folder, output)
    assert b"Doe" not in gzip.decompress((output / NAME).read_bytes())
    assert "Doe" not in "".join(path.read_text(encoding="utf-8") for path in output.glob("*.json*"))


def in_microns() -> nib.Nifti1Image:
    made = image(affine=AFFINE @ np.diag([1000, 1000, 1000, 1]), qform=0)
    made.header.set_xyzt_units(xyz="micron")
    return made


OBLIQUE = turned(7, 0) @ np.linalg.inv(AFFINE) @ turned(12, 2)
PERMUTED = np.array([[0, -3.0, 0, 70], [0, 0, -3.0, 60], [5.0, 0, 0, -30], [0, 0, 0, 1]])
SKEWED = OBLIQUE.copy()
SKEWED[:3, 0] += SKEWED[:3, 1] * 5e-4
EIGHTS = np.clip((ct() + 1024) // 8, 0, 255)
SHORT = ct((32, 32, 1))
CODES, SPACING, DIM, TYPE, OFFSET, MAGIC = 252, 80, 40, 70, 108, 344
NAN, ZERO = struct.pack("<f", np.nan), struct.pack("<f", 0)
RGB = [("R", "u1"), ("G", "u1"), ("B", "u1")]
CODE_ZERO = np.diag([-3.0, 3.0, 5.0, 1.0])
CODE_ZERO[:3, 3] = [46.5, -46.5, -7.5]


def padded(value: float) -> np.ndarray:
    voxels = ct()
    x, y = np.ogrid[-1:1:32j, -1:1:32j]
    voxels[x**2 + y**2 > 1] = value
    return voxels


CASES = (
    right("good", lambda folder: save(folder / NAME)),
    fails("truncated", packed(halved), "truncated"),
    right("qform_only", stored(image(affine=OBLIQUE, sform=0)), affine=OBLIQUE),
    right("sform_only", stored(image(affine=OBLIQUE, qform=0)), affine=OBLIQUE),
    right("template_codes", stored(image(affine=OBLIQUE, qform=1, sform=4)), affine=OBLIQUE),
    right("codes_zero", edited(CODES, bytes(4)), None, CODE_ZERO, "warns", ("how it lies in the patient",)),
    right("left_handed", stored(image(affine=np.diag([-3.0, 3, 5, 1]))), affine=np.diag([-3.0, 3, 5, 1])),
    right("right_handed", stored(image(affine=np.diag([3.0, 3, 5, 1]))), affine=np.diag([3.0, 3, 5, 1])),
    right("forms_disagree", stored(image(affine=turned(20, 2), qaffine=AFFINE, sform=2)), None, turned(20, 2), "warns",
          ("its sform and qform disagree",)),
    right("axes_permuted", stored(image(ct().transpose(2, 0, 1), PERMUTED)), ct().transpose(2, 0, 1), PERMUTED),
    right("shear_of_rounding", stored(image(affine=SKEWED, qform=0)), affine=SKEWED),
    right("slope_nan", scaled(np.nan, np.nan)),
    right("slope_zero", scaled(0, 0)),
    fails("slope_one_intercept_nan", scaled(1, np.nan), "scaling"),
    right("unsigned_with_intercept", scaled(1, -1024, image(ct() + 1024 + 200, dtype=np.uint16)), ct() + 200),
    right("bytes_with_slope", scaled(8, -1024, image(EIGHTS, dtype=np.uint8)), EIGHTS * 8 - 1024),
    right("int64", stored(image(dtype=np.int64))),
    right("int32", stored(image(dtype=np.int32))),
    right("float32", stored(image(dtype=np.float32))),
    right("float64", stored(image(dtype=np.float64))),
    right("fractions", stored(image(ct() + 0.25, dtype=np.float64)), ct() + 0.25, AFFINE, "warns", ("fractions of",)),
    right("zeros_after_gzip", packed(lambda content: gzip.compress(content) + bytes(512))),
    right("text_after_gzip", packed(lambda content: gzip.compress(content) + b"<html>end of transfer</html>\n"), None,
          AFFINE, "warns", ("bytes that are no part of it",)),
    right("not_compressed", packed(bytes)),
    right("compressed_nii", packed(gzip.compress, "a.nii")),
    right("two_gzip_members", packed(two_members)),
    right("more_than_voxels", packed(lambda content: gzip.compress(content + bytes(4096)))),
    right("junk_behind_voxels", packed(lambda content: gzip.compress(content + b"x" * 777))),
    right("nifti2", stored(nib.Nifti2Image(ct().astype(np.int16), OBLIQUE)), affine=OBLIQUE),
    right("big_endian", stored(nib.Nifti1Image(ct().astype(">i2"), AFFINE, nib.Nifti1Header(endianness=">")), "a.nii")),
    right("fourth_axis_of_one", stored(image(ct()[..., None])), ct()[..., None]),
    right("fifth_axis_of_one", stored(image(ct()[..., None, None])), ct()[..., None, None]),
    fails("slices_along_the_fourth", stored(image(ct()[:, :, None, :])), "4D"),
    right("one_slice", stored(image(SHORT)), SHORT),
    right("flat", stored(image(SHORT[..., 0])), SHORT[..., 0]),
    fails("coronal_slice", stored(image(ct()[:, 16:17])), "no axial image"),
    right("tiny_slice", stored(image(ct((8, 8, 1)))), ct((8, 8, 1))),
    right("tiny", stored(image(ct((6, 6, 4)))), ct((6, 6, 4))),
    right("microns", stored(in_microns()), affine=AFFINE @ np.diag([1000, 1000, 1000, 1])),
    right("unit_unknown", edited(123, b"\0")),
    right("padded_3024", stored(image(padded(-3024))), padded(-3024)),
    right("padded_32768", stored(image(padded(-32768))), padded(-32768)),
    replace(right("private_text", private), holds=says_nothing_of_the_patient),
    fails("checksum", packed(lambda content: gzip.compress(content)[:-8] + b"\1\2\3\4" + gzip.compress(content)[-4:]),
          "corrupt gzip"),
    fails("truncated_plain", packed(lambda content: content[:-100]), "promises"),
    fails("header_alone", packed(lambda content: content[:352]), "promises"),
    fails("half_a_header", packed(lambda content: content[:100]), "not a NIfTI file"),
    fails("forged_size", edited(DIM + 2, struct.pack("<3h", 30000, 30000, 3000)), "promises"),
    fails("no_axes", edited(DIM, struct.pack("<h", 0)), "no image or volume"),
    fails("nine_axes", edited(DIM, struct.pack("<h", 9)), "no image or volume"),
    fails("negative_axis", edited(DIM + 2, struct.pack("<h", -32)), "no image or volume"),
    fails("several_volumes", stored(image(np.stack([ct()] * 2, -1))), "split it into 3D"),
    fails("complex", stored(image(dtype=np.complex64)), "complex"),
    fails("colours", stored(image(np.zeros((8, 8, 4), RGB), dtype=RGB)), "RGB"),
    fails("unknown_type", edited(TYPE, struct.pack("<h", 77)), "unknown voxel type"),
    fails("not_a_number", stored(image(np.where(ct() > 600, np.nan, ct()), dtype=np.float32)), "NaN or infinite"),
    fails("infinite", stored(image(np.where(ct() > 600, np.inf, ct()), dtype=np.float32)), "NaN or infinite"),
    fails("spacing_zero", edited(SPACING, ZERO), "not positive"),
    fails("spacing_nan", edited(SPACING, NAN), "not positive"),
    fails("sform_zero", edited(280, bytes(48)), "not positive"),
    fails("sform_nan", edited(280, NAN), "not finite"),
    fails("sheared", stored(image(affine=AFFINE + np.diag([1.0, 0, 0], 1), qform=0)), "sheared"),
    fails("voxels_in_header", edited(OFFSET, struct.pack("<f", 100)), "inside the header"),
    fails("voxels_nowhere", edited(OFFSET, NAN), "inside the header"),
    fails("pair_header", edited(MAGIC, b"ni1\0"), ".hdr/.img pair"),
)  # fmt: skip
