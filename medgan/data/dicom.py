"""DICOM: single slices, folders that are one series, and series that share a folder with others.

A folder with one volume is that volume's path. Where it holds several, each is called ``FOLDER/series_2``, by its
SeriesNumber; no file or folder of that name exists. Numbers that are missing or used twice are followed by six digits
that stand for the UIDs.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medgan.data.dicom_header import (
    Header,
    Slice,
    dataset,
    in_order,
    is_stack,
    positions_mm,
    read_header,
    series_affine,
    text,
)  # fmt: skip
from medgan.data.dicom_pixels import stored_values
from medgan.data.grid import Grid, Volume, check_affine, check_finite, made_up_grid
from medgan.data.streams import open_regular, special, unreadable
from medgan.errors import DataError
from medgan.text import few

SUFFIXES = (".dcm", ".dicom", ".ima")
MAGIC, MAGIC_OFFSET = b"DICM", 128
FIRST_GROUPS = (b"\x02\0", b"\x08\0")
"""A data set without preamble begins with an element of one of these groups."""

NAME = re.compile(r"series(_\d+)?(_[0-9a-f]{6})?")
MAX_NAMED = 3
FEW = 3
"""So many slices that lie across all others of their series are localizers, whatever they are called."""
ACROSS = 0.7
"""The cosine between two normals below which slices lie across each other."""


@dataclass(frozen=True)
class _Series:
    """The files of one volume."""

    headers: tuple[Header, ...]
    notes: tuple[str, ...] = ()
    """What was left out of it, and what was taken for granted."""
    problem: DataError | None = None
    """Why the files cannot be one volume."""
    name: str = ""
    """What it is called below its folder, such as ``series_2``."""

    @property
    def images(self) -> list[Slice]:
        """Those of its files that can be read as slices."""
        return [header.image for header in self.headers if isinstance(header.image, Slice)]

    def without(self, paths: Collection[Path]) -> "_Series":
        """The series without some of its files."""
        return replace(self, headers=tuple(header for header in self.headers if header.path not in paths))

    def slices(self) -> list[Slice]:
        """Its slices, unordered, if all files can be read and be one volume."""
        if self.problem:
            raise self.problem.with_traceback(None)
        return [header.slice() for header in self.headers]


@dataclass(frozen=True)
class _Parted:
    """The studies in one folder."""

    series: tuple[_Series, ...]
    singles: tuple[Path, ...]
    """Single slices, and files that are broken or no slice: each is a study, and reading it tells what is wrong."""
    left: Mapping[Path, str]
    """What is no study, and why: copies, indexes, reports, localizers beside a volume."""

    @property
    def whole(self) -> bool:
        """Whether the folder as such is one volume."""
        return len(self.series) == 1 and not self.singles


def read(path: Path) -> Volume:
    """One DICOM slice, or a series of them, with the rescale slope and intercept applied.

    ``path`` is a file (voxels (X, Y, 1)), a folder whose DICOM files are one series (voxels (X, Y, Z), ordered along
    the slice normal), or one of several series in a folder, ``FOLDER/series_2``. Files need no suffix and no preamble.
    What lies beside a series is left out: reports, indexes, localizers, exact copies, sub-folders.
    """
    slices, notes = _slices(path)
    grid = _grid(path, slices)
    for z, one in enumerate(slices):
        stored = stored_values(one.path)
        if not z:  # once the first slice has shown that the header's size is no fancy
            voxels = np.empty(grid.size, np.float32, order="F")
        slope, intercept = one.scaling or (1.0, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is counted and named by check_finite
            voxels[..., z] = (stored * slope + intercept).T
    check_finite(path, voxels)
    return Volume(voxels, grid, path, slices[0].modality, notes)


def read_grid(path: Path) -> Grid:
    """The grid of a DICOM slice or series, after the same checks of its headers as in ``read``."""
    return _grid(path, _slices(path)[0])


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, by ``DICM`` at byte 128, or because it begins as a bare data set does.

    A DICOMDIR is an index, not an image. Neither is a pipe or a device, which is not opened. A file that cannot be
    opened counts as DICOM: reading it tells why.
    """
    if path.name.upper() == "DICOMDIR" or special(path):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with open_regular(path) as file:
            head = file.read(MAGIC_OFFSET + len(MAGIC))
    except OSError:
        return True
    return head[MAGIC_OFFSET:] == MAGIC or (head[:2] in FIRST_GROUPS and _is_bare(path))


def is_series(path: Path) -> bool:
    """Whether a path is one of several series in a folder, such as ``FOLDER/series_2``; no file is read."""
    return NAME.fullmatch(path.name) is not None and not path.exists() and path.parent.is_dir()


def dicom_files(path: Path) -> list[Path]:
    """The DICOM files of a series, or all those directly in a folder, by name; hidden files do not count."""
    if is_series(path):
        return sorted(one.path for one in _slices(path)[0])
    try:
        files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".") and is_dicom(file)]
    except OSError as error:
        raise unreadable(path, error) from None
    if not files:
        raise DataError(f"{path}: a folder without DICOM files; give a file, or the folder of one DICOM series.")
    return files


def studies_among(folder: Path, files: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """What the DICOM files of one folder are: the path of each study, and what is none, with its reason.

    Slices are of one series that share patient, study and series UIDs. It is a volume if it is the only series and
    lies at two positions or more, or if any series of the folder is a stack: four even positions, or many that are
    mostly even. Else the files are a collection of single slices, as teaching sets and exported key images are.
    Slices with a UID each are one series where study, frame of reference, size and orientation agree. Every path can be
    read; reading a broken one says what is wrong.
    """
    if not files:
        return [], {}
    parted = _part(folder, files)
    if parted.whole:
        return [folder], dict(parted.left)
    return [*(folder / one.name for one in parted.series), *parted.singles], dict(parted.left)


def _is_bare(path: Path) -> bool:
    """Whether a file without preamble is a DICOM data set: it names a class or a modality where DICOM has them."""
    try:
        data = dataset(path, ["SOPClassUID", "Modality", "Rows"])
    except DataError:
        return False
    return text(data, "SOPClassUID").startswith("1.2.840.10008.") or bool(text(data, "Modality") and "Rows" in data)


def _grid(path: Path, slices: Sequence[Slice]) -> Grid:
    affine, size = series_affine(slices), (*slices[0].size, len(slices))
    check_affine(path, affine, size)
    return made_up_grid(size, affine)


def _slices(path: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """The slice that a file is, or the ordered slices of a series; and what is odd about them."""
    if path.is_dir() or is_series(path):
        slices, notes = _series_slices(path)
    else:
        header = read_header(path)
        slices, notes = [header.slice()], _aside_notes([header])
    first = slices[0]
    if not first.positioned:
        notes = (*notes, "no ImagePositionPatient: it was put at the origin")
    if first.modality is None and first.scaling is None:
        notes = (*notes, "neither Modality nor RescaleSlope: the stored values were taken as they are")
    return slices, notes


def _series_slices(path: Path) -> tuple[list[Slice], tuple[str, ...]]:
    """The ordered slices of a folder that is one series, or of a series that a name in a folder stands for."""
    folder = path if path.is_dir() else path.parent
    parted = _part(folder, dicom_files(folder))
    for one in parted.series:
        if parted.whole if path.is_dir() else one.name == path.name:
            return in_order(path, one.slices()), one.notes
    names, count = [one.name for one in parted.series], len(parted.singles)
    shown = few(names, MAX_NAMED)
    if not path.is_dir():
        raise DataError(f"{path}: no series of that name; {folder} has {shown or 'no series but itself'}.")
    if names:
        beside = f" and {count} other images" if count else ""
        raise DataError(
            f"{path}: mixed series, {len(names)} volumes ({shown}){beside}; name one, such as {path / names[0]}, or "
            "give each series its own folder."
        )
    if count == 1:
        return [read_header(parted.singles[0]).slice()], ()
    if count:
        raise DataError(
            f"{path}: {count} single DICOM images, of mixed series or at one place, are no volume; give "
            "the folder to `medgan convert`, which takes each for itself, or each series its own folder."
        )
    file, why = next(iter(parted.left.items()))
    raise DataError(f"{path}: no DICOM image ({file.name}: {why}); give the folder of one DICOM series.")


def _part(folder: Path, files: Sequence[Path]) -> _Parted:
    """Tell apart what the DICOM files of one folder are; see :func:`studies_among`."""
    headers, broken = _headers(files)
    left = {header.path: header.object for header in headers if header.object}
    images = [header for header in headers if not header.object]
    copies = _copies(images)
    groups = _groups([header for header in images if header.path not in copies])
    beside: dict[Path, str] = {}
    if any(_is_volume(group) for group in groups):
        beside = {header.path: why for group in groups for header, why in _beside(group)}
        if len(beside) == sum(len(group.headers) for group in groups):
            beside = {}  # nothing but localizers, or nothing but captures: they are what there is
        left |= beside
        groups = [group for each in groups if (group := each.without(beside)).headers]
        whole = [group for group in groups if len(group.headers) > 1]
    else:
        whole = [group for group in groups if len(groups) == 1 and _is_several(group)]
    whole = [_judged(group, groups) for group in whole]
    slices = {header.path for group in whole for header in group.headers}
    copies = {path: original for path, original in copies.items() if original in slices}
    left |= {path: f"an exact copy of {original.name}" for path, original in copies.items()}
    singles = [header.path for header in images if header.path not in {*slices, *left}]
    if len(whole) != 1 or singles:
        return _Parted(_named(folder, whole), tuple(sorted([*singles, *broken])), left)
    only, notes = whole[0], whole[0].notes
    if out := [f"{path.name} ({left[path]})" for path in sorted({*copies, *beside})]:
        notes = (*notes, f"left out beside the slices: {len(out)}, {few(out, MAX_NAMED)}")
    return _Parted((replace(only, notes=notes, problem=next(iter(broken.values()), only.problem)),), (), left)


def _headers(files: Sequence[Path]) -> tuple[list[Header], dict[Path, DataError]]:
    headers, broken = [], {}
    for path in files:
        try:
            header = read_header(path)
        except DataError as error:
            broken[path] = error
            continue
        if isinstance(header.image, DataError) and not any((*header.series, header.instance, header.object)):
            broken[path] = header.image  # it ends before it says whose it is
        else:
            headers.append(header)
    return headers, broken


def _copies(headers: Sequence[Header]) -> dict[Path, Path]:
    """Files that hold the same image as another, and which: one SOPInstanceUID, one place, and equal pixels."""
    twins = defaultdict(list)
    for header in sorted(headers, key=lambda one: (len(one.path.name), one.path.name)):
        if isinstance(header.image, Slice):
            place = (header.image.origin_mm.tobytes(), header.image.direction.tobytes(), header.image.size)
            twins[header.series, header.instance, place].append(header.path)
    copies: dict[Path, Path] = {}
    for paths in twins.values():
        first: dict[bytes, Path] = {}
        for path in paths if len(paths) > 1 else ():
            original = first.setdefault(_pixels(path), path)
            if original != path:
                copies[path] = original
    return copies


def _pixels(path: Path) -> bytes:
    """A hash of the pixels as stored; of a file that cannot be read, one that no other has."""
    try:
        data = dataset(path, ["PixelData", "RescaleSlope", "RescaleIntercept"])
        return hashlib.sha256(repr([(tag, data[tag].value) for tag in data.keys()]).encode()).digest()  # noqa: SIM118
    except DataError:
        return os.fsencode(path)


def _groups(headers: Sequence[Header]) -> list[_Series]:
    """The files of each series; slices that are alone in theirs are one where they lie like one volume.

    Where study and frame of reference are the same, only the UIDs speak against it, and it is one. Where they are not,
    nothing speaks for it but even positions: such slices are no single pictures either, and are refused.
    """
    by_uid = defaultdict(list)
    for header in headers:
        by_uid[header.series].append(header)
    groups = [_Series(tuple(group)) for group in by_uid.values()]
    own = [group.headers[0] for group in groups if len(group.headers) == 1 and group.images]
    alone = [header for header in own if not header.aside]
    joined: list[_Series] = []
    for framed in (True, False):
        alike = defaultdict(list)
        for header in alone:
            image = header.slice()
            if not framed or (header.series[1] and image.frame):
                orientation = tuple(np.round(image.direction.ravel(), 2).tolist())
                key = (header.series[:2], image.frame) if framed else header.series[0]
                alike[key, image.size, image.modality, orientation].append(header)
        for members in alike.values():
            slices = [header.slice() for header in members]
            if is_stack(slices) or (framed and (len(positions_mm(slices)) > FEW or is_stack(slices, FEW))):
                note = f"stacked from {len(slices)} slices that have a SeriesInstanceUID each"
                problem = DataError(
                    f"{slices[0].path.parent}: {len(slices)} slices lie like one volume, but have no common "
                    "StudyInstanceUID, SeriesInstanceUID and FrameOfReferenceUID that says so; give them common ones, "
                    "or each a folder of its own."
                )
                joined.append(_Series(tuple(members), (note,) if framed else (), None if framed else problem))
        taken = {header.path for group in joined for header in group.headers}
        alone = [header for header in alone if header.path not in taken]
    return [*(group for group in groups if group.headers[0].path not in taken), *joined]


def _judged(group: _Series, groups: Sequence[_Series]) -> _Series:
    """A volume with what its headers say of it; without a SeriesInstanceUID, beside slices that have one, a problem."""
    first, problem = group.headers[0], group.problem
    others = [other.headers[0] for other in groups if other is not group]
    if not first.series[2] and any(other.series[:2] == first.series[:2] for other in others):
        problem = DataError(
            f"{first.path}: no SeriesInstanceUID, which other slices of its study here have, so its series is unknown; "
            "export it again."
        )
    return replace(group, notes=(*group.notes, *_aside_notes(group.headers)), problem=problem)


def _is_volume(group: _Series) -> bool:
    """Whether a series is a volume for certain, though perhaps a broken one."""
    several = len(group.headers) > FEW
    if several and (group.problem or len(group.images) < len(group.headers)):
        return True
    upright = group.without({header.path for header, _ in _beside(group)})
    slices = (upright if upright.headers else group).images
    return bool(slices) and (is_stack(slices) or (several and not all(one.positioned for one in slices)))


def _is_several(group: _Series) -> bool:
    """Whether the only series of a folder is more than copies of one slice."""
    slices = group.images
    if len(group.headers) > 1 and not (len(slices) == len(group.headers) and all(one.positioned for one in slices)):
        return True
    return len(positions_mm(slices)) > 1 if slices else False


def _beside(group: _Series) -> list[tuple[Header, str]]:
    """The images of a series that are no part of a volume: what says so, and few that lie across all others."""
    beside = [(header, header.aside) for header in group.headers if header.aside]
    slices = [header for header in group.headers if isinstance(header.image, Slice) and not header.aside]
    if len(slices) > 2 * FEW:
        normals = np.stack([header.slice().direction[:, 2] for header in slices])
        across = np.abs(normals @ np.median(normals, axis=0)) < ACROSS
        if 0 < across.sum() <= FEW:
            beside += [(slices[at], "a localizer, across the others") for at in np.flatnonzero(across)]
    return beside


def _aside_notes(headers: Sequence[Header]) -> tuple[str, ...]:
    """What images are that are read although they are no part of a volume as a rule."""
    return tuple(sorted({f"{header.aside}, by its header" for header in headers if header.aside}))


def _named(folder: Path, whole: Sequence[_Series]) -> tuple[_Series, ...]:
    numbers = [group.headers[0].number for group in whole]
    named = []
    for group, number in zip(whole, numbers, strict=True):
        name = "series" if number is None else f"series_{number}"
        if number is None or numbers.count(number) > 1 or (folder / name).exists():
            uids = "\n".join(sorted("\\".join(header.series) for header in group.headers))
            name += "_" + hashlib.sha256(uids.encode()).hexdigest()[:6]
        named.append(replace(group, name=name))
    return tuple(sorted(named, key=lambda one: one.name))
