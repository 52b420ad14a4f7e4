"""What the DICOM files of one folder are: series that are volumes, single slices, and what lies beside them.

A folder with one volume is that volume's path. Where it holds several, each is called ``FOLDER/series_2``, by its
SeriesNumber; no file or folder of that name exists. Numbers that are missing or used twice are followed by six digits
that stand for the UIDs.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medgan.data.dicom_header import Header, dataset, read_header
from medgan.data.series import Slice, is_stack, positions_mm
from medgan.errors import DataError
from medgan.text import few

NAME = re.compile(r"series(_\d+)?(_[0-9a-f]{6})?")
MAX_NAMED = 3
FEW = 3
"""So many slices that lie across all others of their series are localizers, whatever they are called."""
ACROSS = 0.7
"""The cosine between two normals below which slices lie across each other."""


@dataclass(frozen=True)
class Series:
    """The files of one volume."""

    name: str
    """What it is called below its folder, such as ``series_2``."""
    headers: tuple[Header, ...]
    notes: tuple[str, ...] = ()
    """What was left out of it, and what was taken for granted."""
    problem: DataError | None = None
    """Why the files cannot be one volume."""

    def slices(self) -> list[Slice]:
        """Its slices, unordered.

        Raises:
            DataError: The files cannot be one volume, or one of them cannot be trusted.
        """
        if self.problem:
            raise self.problem.with_traceback(None)
        return [header.slice() for header in self.headers]


@dataclass(frozen=True)
class Parted:
    """The studies in one folder."""

    folder: Path
    series: tuple[Series, ...]
    singles: tuple[Path, ...]
    """Single slices, and files that are broken or no slice: each is a study, and reading it tells what is wrong."""
    left: Mapping[Path, str]
    """What is no study, and why: copies, indexes, reports, localizers beside a volume."""

    @property
    def whole(self) -> bool:
        """Whether the folder as such is one volume."""
        return len(self.series) == 1 and not self.singles

    def studies(self) -> list[Path]:
        """The path of each study: the folder itself, or its series and single slices."""
        if self.whole:
            return [self.folder]
        return [*(self.folder / one.name for one in self.series), *self.singles]


def is_series(path: Path) -> bool:
    """Whether a path is one of several series in a folder, such as ``FOLDER/series_2``; no file is read."""
    return NAME.fullmatch(path.name) is not None and not path.exists() and path.parent.is_dir()


def part(folder: Path, files: Sequence[Path]) -> Parted:
    """Tell apart what the DICOM files of one folder are.

    Slices are of one series that share patient, study and series UIDs. It is a volume if it is the only series and
    lies at two positions or more, or if any series of the folder is a stack: four even positions, or many that are
    mostly even. Else the files are a collection of single slices, as teaching sets and exported key images are.
    Slices with a UID each are one series where study, frame of reference, size and orientation agree.

    Args:
        folder: Where the files lie.
        files: Its DICOM files.
    """
    headers, broken = _headers(files)
    left = {header.path: header.object for header in headers if header.object}
    images = [header for header in headers if not header.object]
    copies = _copies(images)
    groups = _groups([header for header in images if header.path not in copies])
    if any(_is_volume(group) for group in groups):
        beside = {header.path: why for group in groups for header, why in _beside(group)}
        if len(beside) == sum(len(group.headers) for group in groups):
            beside = {}  # nothing but localizers, or nothing but captures: they are what there is
        left |= beside
        groups = [kept for group in groups if (kept := _without(group, beside))]
        whole = [group for group in groups if len(group.headers) > 1]
    else:
        beside = {}
        whole = [group for group in groups if len(groups) == 1 and _is_several(group)]
    whole = [_told(group, groups) for group in whole]
    slices = {header.path for group in whole for header in group.headers}
    copies = {path: original for path, original in copies.items() if original in slices}
    left |= {path: f"an exact copy of {original.name}" for path, original in copies.items()}
    singles = [header.path for header in images if header.path not in {*slices, *left}]
    if len(whole) == 1 and not singles:
        notes = _notes(copies.keys() | beside.keys(), left)
        only = whole[0]
        problem = next(iter(broken.values()), only.problem)
        return Parted(folder, (replace(only, notes=(*only.notes, *notes), problem=problem),), (), left)
    return Parted(folder, _named(folder, whole), tuple(sorted([*singles, *broken])), left)


def _headers(files: Iterable[Path]) -> tuple[list[Header], dict[Path, DataError]]:
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


def _groups(headers: Iterable[Header]) -> list[Series]:
    """The files of each series; names are given later."""
    groups = defaultdict(list)
    for header in headers:
        groups[header.series].append(header)
    return _joined([Series("", tuple(group)) for group in groups.values()])


def _joined(groups: Sequence[Series]) -> list[Series]:
    """Put slices that are alone in their series together, where they lie like one volume.

    Where study and frame of reference are the same, only the UIDs speak against it, and it is one. Where they are not,
    nothing speaks for it but even positions: such slices are no single pictures either, and are refused.
    """
    alone = [
        (group, group.headers[0], image)
        for group in groups
        if len(group.headers) == 1 and isinstance(image := group.headers[0].image, Slice) and not group.headers[0].aside
    ]
    joined: list[Series] = []
    for framed in (True, False):
        alike = defaultdict(list)
        for _, header, image in alone:
            if not framed or (header.series[1] and image.frame):
                orientation = tuple(np.round(image.direction.ravel(), 2).tolist())
                key = (header.series[:2], image.frame) if framed else header.series[0]
                alike[key, image.size, image.modality, orientation].append((header, image))
        for members in alike.values():
            slices = [image for _, image in members]
            if is_stack(slices) or (framed and (len(positions_mm(slices)) > FEW or is_stack(slices, FEW))):
                joined.append(_one_of_many(tuple(header for header, _ in members), framed))
        taken = {header.path for group in joined for header in group.headers}
        alone = [one for one in alone if one[1].path not in taken]
    return [*(group for group in groups if group.headers[0].path not in taken), *joined]


def _one_of_many(headers: tuple[Header, ...], framed: bool) -> Series:
    """A volume of slices that are alone in their series each; without a common frame a problem."""
    if framed:
        return Series("", headers, (f"stacked from {len(headers)} slices that have a SeriesInstanceUID each",))
    problem = DataError(
        f"{headers[0].path.parent}: {len(headers)} slices lie like one volume, but have no common StudyInstanceUID, "
        "SeriesInstanceUID and FrameOfReferenceUID that says so; give them common ones, or each a folder of its own."
    )
    return Series("", headers, problem=problem)


def _told(group: Series, groups: Sequence[Series]) -> Series:
    """A volume with what its headers say of it; without a SeriesInstanceUID, beside slices that have one, a problem."""
    first, problem = group.headers[0], group.problem
    others = [other.headers[0] for other in groups if other is not group]
    if not first.series[2] and any(other.series[:2] == first.series[:2] for other in others):
        problem = DataError(
            f"{first.path}: no SeriesInstanceUID, which other slices of its study here have, so its series is unknown; "
            "export it again."
        )
    return replace(group, notes=(*group.notes, *aside_notes(group.headers)), problem=problem)


def _is_volume(group: Series) -> bool:
    """Whether a series is a volume for certain, though perhaps a broken one."""
    slices = [header.image for header in group.headers if isinstance(header.image, Slice)]
    several = len(group.headers) > FEW
    if several and (group.problem or len(slices) < len(group.headers)):
        return True
    across = {header.path for header, _ in _beside(group)}
    if len(across) < len(group.headers):
        slices = [one for one in slices if one.path not in across]
    return bool(slices) and (is_stack(slices) or (several and not all(one.positioned for one in slices)))


def _is_several(group: Series) -> bool:
    """Whether the only series of a folder is more than copies of one slice."""
    slices = [header.image for header in group.headers if isinstance(header.image, Slice)]
    if len(group.headers) > 1 and not (len(slices) == len(group.headers) and all(one.positioned for one in slices)):
        return True
    return len(positions_mm(slices)) > 1 if slices else False


def _beside(group: Series) -> list[tuple[Header, str]]:
    """The images of a series that are no part of a volume: what says so, and few that lie across all others."""
    found = [(header, header.aside) for header in group.headers if header.aside]
    slices = [
        (header, header.image) for header in group.headers if isinstance(header.image, Slice) and not header.aside
    ]
    if len(slices) > 2 * FEW:
        normals = np.stack([image.direction[:, 2] for _, image in slices])
        across = np.abs(normals @ np.median(normals, axis=0)) < ACROSS
        if 0 < across.sum() <= FEW:
            found += [(slices[at][0], "a localizer, across the others") for at in np.flatnonzero(across)]
    return found


def aside_notes(headers: Sequence[Header]) -> tuple[str, ...]:
    """What images are that are read although they are no part of a volume as a rule."""
    return tuple(sorted({f"{header.aside}, by its header" for header in headers if header.aside}))


def _without(group: Series, beside: Mapping[Path, str]) -> Series | None:
    headers = tuple(header for header in group.headers if header.path not in beside)
    return replace(group, headers=headers) if headers else None


def _notes(paths: Collection[Path], left: Mapping[Path, str]) -> tuple[str, ...]:
    """What was left out of the only volume of a folder, in one sentence part."""
    if not paths:
        return ()
    named = [f"{path.name} ({left[path]})" for path in sorted(paths)]
    return (f"left out beside the slices: {len(paths)}, {few(named, MAX_NAMED)}",)


def _named(folder: Path, whole: Sequence[Series]) -> tuple[Series, ...]:
    numbers = [group.headers[0].number for group in whole]
    named = []
    for group, number in zip(whole, numbers, strict=True):
        name = "series" if number is None else f"series_{number}"
        if number is None or numbers.count(number) > 1 or (folder / name).exists():
            uids = "\n".join(sorted("\\".join(header.series) for header in group.headers))
            name += "_" + hashlib.sha256(uids.encode()).hexdigest()[:6]
        named.append(replace(group, name=name))
    return tuple(sorted(named, key=lambda one: one.name))
