"""DICOM that is odd or broken: pixels, geometry, scaling, and what lies beside a series."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

import dicom_files as files
from dicom_files import ROOT, pixels, report, save, save_stack, slice_of, stack
from hostile.case import Case, Outcome
from hostile.nifti_cases import ct

HU = ct((32, 32, 1))[..., 0].T
TILT = [1, 0, 0, 0, float(np.cos(0.35)), float(np.sin(0.35))]
ROWS = b"\x28\0\x10\0US"
CORONAL = [1, 0, 0, 0, 0, -1]


def beside_good(**changed: Any) -> Callable[[Path], Path]:
    """A good slice, and one of another patient with some attributes changed; that one's path."""

    def make(folder: Path) -> Path:
        save(folder / "good.dcm", slice_of(HU, SeriesInstanceUID=f"{ROOT}.2", StudyInstanceUID=f"{ROOT}.8"))
        return save(folder / "odd.dcm", slice_of(HU, n=2, **changed))

    return make


def wrong(what: str, *says: str, **changed: Any) -> Case:
    """A slice that fails by name, beside one that is converted."""
    return Case(f"dicom/{what}", beside_good(**changed), "fails", ("odd.dcm: ", *says), ("good.nii.gz",))


def right(what: str, outcome: Outcome = "converts", *says: str, **changed: Any) -> Case:
    """An odd slice that is converted."""
    return Case(f"dicom/{what}", beside_good(**changed), outcome, says, ("good.nii.gz", "odd.nii.gz"))


def series(what: str, outcome: Outcome, *says: str, outputs: tuple[str, ...] = ("s.nii.gz",), **changed: Any) -> Case:
    """A series of four slices in the folder ``s``, with some attributes changed."""
    return Case(f"dicom/{what}", lambda folder: save_stack(folder / "s", **changed), outcome, says, outputs)


def folder_of(
    what: str, fill: Callable[[Path], object], outcome: Outcome, *says: str, outputs: tuple[str, ...] = ("s.nii.gz",)
) -> Case:
    """A good series in the folder ``s``, and what ``fill`` puts beside it."""
    return Case(f"dicom/{what}", lambda folder: fill(save_stack(folder / "s")), outcome, says, outputs)


def alone(what: str, data: Callable[[], Dataset], outcome: Outcome = "converts", *says: str) -> Case:
    """One slice."""
    outputs = () if outcome == "fails" else ("odd.nii.gz",)
    return Case(f"dicom/{what}", lambda folder: save(folder / "odd.dcm", data()), outcome, says, outputs)


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """A good slice, and one whose bytes are changed after it was written."""
    return lambda folder: (odd := beside_good()(folder)).write_bytes(change(odd.read_bytes()))


def with_frames(word: str) -> Callable[[bytes], bytes]:
    """A NumberOfFrames of any text; pydicom would not write it."""
    padded = word.ljust(len(word) + len(word) % 2).encode()
    element = b"\x28\0\x08\0IS" + len(padded).to_bytes(2, "little") + padded
    return lambda content: content.replace(ROWS, element + ROWS)


def multi_frame() -> Dataset:
    data = slice_of(HU, NumberOfFrames=3)
    data.PixelData = data.PixelData * 3
    return data


def float_pixels() -> Dataset:
    data = slice_of(HU, PixelData=None)
    data.FloatPixelData = HU.astype("<f4").tobytes()
    return data


def two(first: dict[str, Any] | None = None, **second: Any) -> Callable[[Path], object]:
    """Two stacks in one folder, as flat exports have them, with some attributes changed."""
    return lambda folder: (
        save_stack(folder / "s", **first or {}), save_stack(folder / "s", name="B{:03d}", **{"first": 21} | second),
    )  # fmt: skip


FLAT = two(SeriesInstanceUID=f"{ROOT}.2", SeriesNumber=4)


def flat_with_holes(folder: Path) -> None:
    """Two series of twelve slices in one folder, of each of which one is missing."""
    for series_number, first in ((1, 1), (2, 31)):
        slices = stack(12, first=first, SeriesInstanceUID=f"{ROOT}.{series_number}", SeriesNumber=series_number)
        save_stack(folder / "s", slices[:5] + slices[6:], name=f"{first:02d}-{{:03d}}")


def phase(number: int, start_mm: float) -> dict[str, Any]:
    """A phase of every other position of a volume."""
    return {"each": lambda k: {"AcquisitionNumber": number, "ImagePositionPatient": [0, 0, 10 * k + start_mm]}}


def copies(folder: Path) -> None:
    for k in (1, 2):
        shutil.copy(folder / f"IM00{k}.dcm", folder / f"IM00{k} (1).dcm")


def public_set(folder: Path) -> None:
    """Five CT series as public sets hand them out, with what else a scanner, an archive and a reader leave there."""
    beside = {"p1": "DIRFILE", "p2": "SR", "p3": "RTSTRUCT", "p4": "SEG", "p5": "PR"}
    for number, (patient, kind) in enumerate(beside.items()):
        own = save_stack(folder / patient / "ct", first=10 * number + 1)
        if kind == "DIRFILE":
            index(own / kind)
        else:
            save(own / f"{kind}000001", report(kind))
        index(own / "DICOMDIR")
        (own / "LICENSE").write_text("CC BY 4.0")


def index(path: Path) -> None:
    """A scanner's index: file meta, FileSetID and no image."""
    data = dcmread(save(path, report()))
    for element in list(data):
        del data[element.tag]
    data.add_new(0x00041130, "CS", "INDEX")
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    data.save_as(path, enforce_file_format=True)


def segmentation(path: Path) -> None:
    label = slice_of(HU, Modality="SEG", NumberOfFrames=2, SegmentationType="BINARY", SeriesInstanceUID=f"{ROOT}.6")
    save(path / "seg.dcm", label)


def colour_capture(path: Path) -> None:
    data = slice_of(HU, SeriesInstanceUID=f"{ROOT}.6", SamplesPerPixel=3, PhotometricInterpretation="RGB")
    data.PixelData = bytes(3 * 32 * 32)
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    save(path / "screen.dcm", data)


def scout(path: Path, **changed: Any) -> None:
    """A coronal view, in a series of its own unless told otherwise."""
    own = {"SeriesInstanceUID": f"{ROOT}.6", "SeriesNumber": 6, "ImageOrientationPatient": CORONAL}
    save(path / "scout.dcm", slice_of(HU, n=77, **{**own, **changed}))


PIXELS = (
    series("good", "converts"),
    wrong("short_pixels", "PixelData holds 512 bytes", "2,048", PixelData=bytes(512)),
    wrong("long_pixels", "PixelData holds 4,096 bytes", PixelData=bytes(4096)),
    wrong("empty_pixels", "no PixelData", PixelData=b""),
    wrong("no_pixels", "no PixelData", PixelData=None),
    *(
        Case(f"dicom/frames_{word}", rewritten(with_frames(word)), outcome, says, outputs)
        for word, outcome, says, outputs in (
            ("1.0", "converts", (), ("good.nii.gz", "odd.nii.gz")),
            ("1.5", "fails", ("odd.dcm: NumberOfFrames",), ("good.nii.gz",)),
            ("one ", "fails", ("odd.dcm: NumberOfFrames",), ("good.nii.gz",)),
            ("2 ", "fails", ("odd.dcm: multi-frame",), ("good.nii.gz",)),
        )
    ),
    wrong("no_rows", "no Rows and Columns", Rows=None),
    wrong("zero_rows", "no Rows and Columns", Rows=0),
    wrong("rows_of_a_forger", Rows=65535, Columns=65535),
    wrong("other_rows", "PixelData holds", Rows=48),
    wrong("eight_bits_of_sixteen", "PixelData holds", BitsAllocated=8, BitsStored=8, HighBit=7),
    wrong("twelve_bits_packed", "12 bits a pixel", BitsAllocated=12),
    wrong("more_bits_than_allocated", "BitsStored 20", BitsStored=20, HighBit=19),
    wrong("no_bits_allocated", "no BitsAllocated", BitsAllocated=None),
    right("no_bits_stored", BitsStored=None, HighBit=None),
    right("signed", PixelRepresentation=1, BitsStored=16, HighBit=15, RescaleIntercept=0,
          PixelData=pixels(HU, "<i2", 0)),
    right("int32", BitsAllocated=32, BitsStored=32, HighBit=31, PixelData=pixels(HU, "<u4")),
    alone("float_pixels", float_pixels, "fails", "floating-point"),
    alone("garbage_above", lambda: files.garbage_above(HU)),
    alone("multi_frame", multi_frame, "fails", "multi-frame", "3 frames"),
    *(
        Case(f"dicom/{what}", rewritten(change), "fails", (f"odd.dcm: {said}",), ("good.nii.gz",))
        for what, change, said in (
            ("cut_in_pixels", lambda b: b[:-700], "PixelData holds"),
            ("cut_in_header", lambda b: b[:220], ""),
            ("only_a_preamble", lambda b: b[:132], ""),
            ("text", lambda _: b"x" * 999, "not DICOM"),
            ("empty", lambda _: b"", "an empty file"),
        )
    ),
    alone("deflated", lambda: files.in_syntax(DeflatedExplicitVRLittleEndian, slice_of(HU))),
    alone("big_endian", lambda: files.in_syntax(ExplicitVRBigEndian, slice_of(HU))),
)  # fmt: skip

COMPRESSED = tuple(
    alone(f"{kind}_{what}".lower(), partial(files.compressed, HU, kind, change, **more), *ends)
    for kind in ("RLE", "JPEG", "JPEG2000")
    for what, change, more, ends in (
        ("good", lambda b: [b], {}, ("converts",)),
        ("cut", lambda b: [b[: len(b) // 4 * 2]], {}, ("fails", "odd.dcm: ")),
        ("two_frames", lambda b: [b, b], {}, ("fails", "odd.dcm: 2 compressed frames")),
        ("other_size", lambda b: [b], {"Rows": 64, "Columns": 64}, ("fails", "odd.dcm: ")),
    )
)

GEOMETRY = (
    wrong("spacing_zero", "PixelSpacing of 0 × 0 mm", PixelSpacing=[0, 0]),
    wrong("spacing_negative", "PixelSpacing of -3 × 3", PixelSpacing=[-3, 3]),
    wrong("spacing_nan", "PixelSpacing is nan", PixelSpacing=["nan", "nan"]),
    wrong("spacing_huge", "odd.dcm: ", PixelSpacing=["1e30", "1e30"]),
    wrong("spacing_in_metres", "odd.dcm: ", PixelSpacing=[0.003, 0.003]),
    wrong("spacing_single", "PixelSpacing is 3, where 2", PixelSpacing=3),
    wrong("spacing_missing", "no PixelSpacing", PixelSpacing=None),
    wrong("orientation_missing", "no ImageOrientationPatient", ImageOrientationPatient=None),
    wrong("orientation_zero", "lengths 0 and 0", ImageOrientationPatient=[0] * 6),
    wrong("orientation_degenerate", "right angles", ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    wrong("orientation_nan", "is nan", ImageOrientationPatient=["nan", 0, 0, 0, 1, 0]),
    wrong("orientation_skewed", "right angles", ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]),
    wrong("orientation_long", "lengths 2 and 2", ImageOrientationPatient=[2, 0, 0, 0, 2, 0]),
    wrong("orientation_short", "where 6 finite", ImageOrientationPatient=[1, 0, 0]),
    right("orientation_rounded", ImageOrientationPatient=[0.9998, 0.0175, 0, -0.0175, 0.9998, 0]),
    right("position_missing", "warns", "no ImagePositionPatient", ImagePositionPatient=None),
    wrong("position_short", "ImagePositionPatient is", ImagePositionPatient=[0, 0]),
    wrong("position_nan", "ImagePositionPatient is", ImagePositionPatient=[0, 0, "nan"]),
    series("positions_missing", "fails", "no ImagePositionPatient", outputs=(), ImagePositionPatient=None),
    series("tilted", "fails", "s: the slices are sheared", "_Tilt", outputs=(), ImageOrientationPatient=TILT),
    series("one_slice_skewed", "fails", "s: IM000.dcm and IM002.dcm have mixed orientations", outputs=(),
           each=lambda k: {"ImageOrientationPatient": TILT} if k == 2 else {}),
    series("one_spacing_zero", "fails", "IM002.dcm: a PixelSpacing of 0", outputs=(),
           each=lambda k: {"PixelSpacing": [0, 0]} if k == 2 else {}),
    series("two_spacings", "fails", "2 slice spacings, 4 mm", "7 mm", outputs=(), count=16,
           each=lambda k: {"ImagePositionPatient": [0, 0, 4 * k if k < 8 else 29.08 + 7 * (k - 8)]}),
    series("one_missing", "fails", "missing slices, 1", outputs=(), count=7,
           each=lambda k: {"ImagePositionPatient": [0, 0, 5 * (k + (k > 3))]}),
    series("two_frames_of_reference", "fails", "mixed frames of reference", outputs=(),
           each=lambda k: {"FrameOfReferenceUID": f"{ROOT}.{k // 2}"}),
)  # fmt: skip

SCALING = (
    wrong("slope_zero", "RescaleSlope of 0", RescaleSlope=0),
    wrong("slope_nan", "RescaleSlope is nan", RescaleSlope="nan"),
    wrong("slope_missing", "no RescaleSlope,", RescaleSlope=None),
    wrong("scaling_missing", "no RescaleSlope and no RescaleIntercept", RescaleSlope=None, RescaleIntercept=None),
    wrong("iodine_map", "RescaleType MGML", RescaleType="MGML"),
    right("inverted_display", PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
    right("window_and_padding", WindowCenter=40, WindowWidth=400, PixelPaddingValue=0),
    right("no_modality", Modality=None),
    series("slope_of_one_slice_missing", "fails", "IM002.dcm: no RescaleSlope", outputs=(),
           each=lambda k: {"RescaleSlope": None, "RescaleIntercept": None} if k == 2 else {}),
    series("two_modalities", "fails", "mixed modalities, CT and PT", outputs=(),
           each=lambda k: {"Modality": "PT"} if k == 2 else {}),
    replace(series("mr_without_slope", "converts", Modality="MR", RescaleSlope=None, RescaleIntercept=None),
            model="mr"),
)  # fmt: skip

KINDS = (
    wrong("mosaic", "a mosaic", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
    wrong("palette", "colours, not intensities", PhotometricInterpretation="PALETTE COLOR"),
    wrong("scout_alone", "a localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    folder_of("label_map_beside", segmentation, "converts"),
    folder_of("colour_capture_beside", colour_capture, "warns", "screen.dcm (a colour picture)"),
    folder_of("scout_beside", lambda folder: scout(folder, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
              "warns", "scout.dcm (a localizer)"),
    Case("dicom/scout_of_the_same_series", lambda f: scout(save_stack(f / "s", count=8), SeriesInstanceUID=f"{ROOT}.1"),
         "warns", ("scout.dcm (a localizer",), ("s.nii.gz",)),
)  # fmt: skip

FOLDERS = (
    Case("dicom/public_set_with_indexes", public_set, "converts",
         outputs=tuple(f"p{n}/ct.nii.gz" for n in range(1, 6))),
    series("no_preamble", "converts", name="{:06d}", bare=True),
    series("uid_per_slice", "warns", "4 slices that have a SeriesInstanceUID each",
           each=lambda k: {"SeriesInstanceUID": f"{ROOT}.3.{k}"}),
    series("uid_per_slice_uneven", "fails", "s: uneven", outputs=(), count=6, each=lambda k: {
        "SeriesInstanceUID": f"{ROOT}.3.{k}", "ImagePositionPatient": [0, 0, k**1.5]}),
    series("uid_per_slice_no_frame", "fails", "no common StudyInstanceUID", outputs=(),
           each=lambda k: {"SeriesInstanceUID": f"{ROOT}.3.{k}", "FrameOfReferenceUID": None}),
    series("every_uid_per_slice", "fails", "s: 4 slices lie like one volume", outputs=(), each=lambda k: {
        f"{name}InstanceUID": f"{ROOT}.{n}.{k}" for n, name in enumerate(("Study", "Series"))}),
    series("captures", "warns", "a secondary capture", SOPClassUID="1.2.840.10008.5.1.4.1.1.7"),
    series("no_uids_at_all", "converts", SeriesInstanceUID="", StudyInstanceUID="", SOPInstanceUID=""),
    Case("dicom/flat_export", FLAT, "converts", outputs=("s/series_1.nii.gz", "s/series_4.nii.gz")),
    Case("dicom/one_series_of_a_flat_export", FLAT, "converts", outputs=("series_4.nii.gz",), source="s/series_4"),
    Case("dicom/no_such_series", FLAT, "fails", ("series_9",), (), source="s/series_9"),
    Case("dicom/flat_export_with_holes", flat_with_holes, "fails",
         ("series_1: missing slices, 1", "series_2: missing"), ()),
    Case("dicom/flat_export_of_one_number", two(SeriesInstanceUID=f"{ROOT}.2"), "converts",
         outputs=("s/series_1_87ab53.nii.gz", "s/series_1_d8cf90.nii.gz")),
    Case("dicom/two_phases", two({"AcquisitionNumber": 1}, AcquisitionNumber=2), "fails",
         ("AcquisitionNumber 2 and 1", "a folder of its own"), ()),
    Case("dicom/two_phases_in_turns", two(phase(1, 0), **phase(2, 5)), "fails",
         ("AcquisitionNumber 1, 2 in turns",), ()),
    folder_of("exact_copies", copies, "warns", "IM001 (1).dcm (an exact copy of IM001.dcm)"),
    folder_of("broken_slice_beside", lambda f: (f / "IM009.dcm").write_bytes(b"no"), "fails", "IM009.dcm", outputs=()),
    Case("dicom/only_reports", lambda f: save(f / "s" / "SR1", report()), "fails", (), ()),
)  # fmt: skip

CASES = (*PIXELS, *COMPRESSED, *GEOMETRY, *SCALING, *KINDS, *FOLDERS)
