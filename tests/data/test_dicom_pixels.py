import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_files import alter, compressed, garbage_above, in_syntax, pixels, save, slice_of
from medgan.data.dicom_pixels import stored_values
from medgan.errors import DataError

HU = np.random.default_rng(0).integers(-1024, 3071, (24, 32))  # uses all twelve bits
STORED = HU + 1024


def signed(bits=16):
    raw = (HU.astype("<i2") if bits == 16 else HU // 32).astype(f"<i{bits // 8}").tobytes()
    return slice_of(HU, PixelRepresentation=1, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelData=raw)


def signed_with_garbage():
    """Twelve bits with a sign, and ones and zeros above them that are no sign."""
    raw = (((HU // 2).astype("<i2").view("<u2") & 0x0FFF) | 0x5000).tobytes()
    return slice_of(HU, PixelRepresentation=1, PixelData=raw)


def shifted():
    """Twelve bits at the top of sixteen."""
    return slice_of(HU, HighBit=15, PixelData=(STORED.astype("<u2") << 4 | 5).tobytes())


RIGHT = {
    "explicit little endian": (lambda: slice_of(HU), STORED),
    "implicit little endian": (lambda: in_syntax(ImplicitVRLittleEndian, slice_of(HU)), STORED),
    "deflated": (lambda: in_syntax(DeflatedExplicitVRLittleEndian, slice_of(HU)), STORED),
    "big endian": (lambda: in_syntax(ExplicitVRBigEndian, slice_of(HU)), STORED),
    "RLE": (lambda: compressed(HU, "RLE"), STORED),
    "JPEG": (lambda: compressed(HU, "JPEG"), STORED),
    "JPEG 2000": (lambda: compressed(HU, "JPEG2000"), STORED),
    "one frame in two fragments": (lambda: compressed(HU, "JPEG", lambda b: [b[:400], b[400:]]), STORED),
    "an overlay in the free bits": (lambda: garbage_above(HU), STORED),
    "signed": (signed, HU),
    "signed with an overlay": (signed_with_garbage, HU // 2),
    "at the top of the bits": (shifted, STORED),
    "signed, 8 bits": (lambda: signed(8), HU // 32),
    "32 bits": (lambda: slice_of(HU, BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=pixels(HU, "<u4")), STORED),
}


@pytest.mark.parametrize(("make", "expected"), RIGHT.values(), ids=RIGHT)
def test_stored_values_are_those_that_were_written(tmp_path, make, expected):
    values = stored_values(save(tmp_path / "a.dcm", make()))
    np.testing.assert_array_equal(values, expected)
    assert values.dtype.kind in "iu"


def test_a_pad_byte_is_no_pixel(tmp_path):
    odd = HU[:3, :3] // 16
    data = slice_of(odd, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels(odd, "u1", 64) + b"\0")
    np.testing.assert_array_equal(stored_values(save(tmp_path / "a.dcm", data)), odd + 64)


@pytest.mark.parametrize(("size", "message"), [(1534, "1,536: truncated"), (1538, "more than one frame")])
def test_pixels_that_are_not_all_there_or_too_many_are_refused(tmp_path, size, message):
    with pytest.raises(DataError, match=rf"a\.dcm: PixelData holds {size:,} bytes, where 32 × 24 pixels .*{message}"):
        stored_values(save(tmp_path / "a.dcm", slice_of(HU, PixelData=bytes(size))))


def test_a_transfer_syntax_of_nobody_and_a_compression_that_gdcm_does_not_know_are_refused(tmp_path):
    path = save(tmp_path / "a.dcm", slice_of(HU))  # pydicom would not write it
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0", 1))
    with pytest.raises(DataError, match=r"a\.dcm: .*transfer syntax 1\.2\.840\.113619\.5\.2"):
        stored_values(path)
    data = compressed(HU, "JPEG2000")
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
    with pytest.raises(DataError, match=r"b\.dcm: the DICOM pixels cannot be decoded \("):
        stored_values(save(tmp_path / "b.dcm", data))


@pytest.mark.parametrize("kind", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda b: [b[: len(b) // 4 * 2] + bytes(len(b) // 2)], {}),
        (lambda b: [b], {"Rows": 23}),
        (lambda b: [b], {"Columns": 33}),
        (lambda b: [b"nothing of the kind "], {}),
    ],
    ids=["cut and filled with zeros", "a row less", "a column more", "no stream"],
)
def test_compressed_pixels_are_judged_by_their_ends_and_their_decoded_size(tmp_path, kind, change, changed):
    path = save(tmp_path / "a.dcm", compressed(HU, kind, change, **changed))
    with pytest.raises(DataError, match=r"^[^\n]*a\.dcm: [^\n]*again\.$"):
        stored_values(path)


def test_a_file_of_another_image_is_not_remembered(tmp_path):
    path = save(tmp_path / "a.dcm", slice_of(HU))
    stored_values(path)
    save(path, alter(slice_of(HU[:10]), PixelData=pixels(HU[:10])))
    assert stored_values(path).shape == (10, 32)
