"""Label maps as other tools and readers leave them: which belongs to a study, and what its values mean.

A case is one file of labels (nnU-Net, BIDS ``_dseg``, 3D Slicer, ITK-SNAP, TotalSegmentator with ``--ml``) or a folder
with one mask for each structure (TotalSegmentator). Names come from the file itself, or from a table beside it or
above it: ``labels.json``, ``dataset.json``, ``*dseg.tsv``, ``*.ctbl``, or an ITK-SNAP ``*.label`` or ``*label*.txt``.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.grid import same_grid
from medgan.data.layouts import key_below, stem
from medgan.data.listing import find_images
from medgan.data.masks import LABELS_JSON, label_values
from medgan.data.nifti import SUFFIXES
from medgan.data.streams import as_it_was
from medgan.data.volumes import Grid, Volume, is_named, read_volume
from medgan.errors import DataError, GeometryError
from medgan.evaluation.judging import label_names_of
from medgan.evaluation.matching import Image, ImageSet, split_place
from medgan.text import printable

PARTS = "segmentations"
"""The folder of a case in which TotalSegmentator's training data and many users keep its masks."""
OF_LABELS = re.compile(r"([-_.](dseg|seg|segmentations?|labels?|mask|T1w|T2w|CT|ct|\d{4})|_(desc|space|res)-[^_/]+)+$")
"""What the names of images and of label maps have at their ends beside the case's own."""
HEADER_BYTES = 1 << 16
Meaning = tuple[int, ...] | Path
"""A structure's values in the map, or the file that is its mask."""


@dataclass(frozen=True)
class LabelMap:
    """The labels of one case."""

    path: Path
    """A file, or a folder with one mask for each structure."""
    names: Mapping[str, Meaning] | None
    """What can be marked; None where nothing says what the values mean."""

    def masks(self, grid: Grid) -> "Masks":
        """On a study's grid.

        Raises:
            DataError: Values that are no labels.
            GeometryError: The map does not lie in the study's space.
        """
        return Masks(self, grid)


class Masks:
    """A case's structures on a study's grid, read one by one where each has a file of its own."""

    def __init__(self, labels: LabelMap, grid: Grid) -> None:
        self._labels, self._grid = labels, grid

    @cached_property
    def _map(self) -> NDArray[np.float32]:
        return _labels_on(self._labels.path, self._grid)

    @cached_property
    def names(self) -> Mapping[str, Meaning]:
        """By structure; ``label_7`` where nothing says what a value means."""
        if self._labels.names is not None:
            return self._labels.names
        return {f"label_{int(value)}": (int(value),) for value in np.unique(self._map) if value}

    def __getitem__(self, name: str) -> NDArray[np.bool_]:
        """Where a structure is, (X, Y, Z); nowhere if the case has no such label."""
        meaning = self.names.get(name)
        if meaning is None:
            return np.zeros(self._grid.size, dtype=bool)
        if isinstance(meaning, Path):
            mask = _labels_on(meaning, self._grid)
            if np.unique(mask).size > 2:
                raise DataError(
                    f"{meaning}: holds several labels, but its folder is read as one mask for each structure; name "
                    "the files that are label maps, FOLDER:NAME."
                )
            return np.asarray(mask != 0)
        return np.asarray(self._map == meaning[0] if len(meaning) == 1 else np.isin(self._map, meaning))


@dataclass(frozen=True)
class LabelMaps:
    """All label maps at a place, in whatever convention."""

    images: ImageSet
    maps: Mapping[Path, LabelMap]

    def of(self, study: Image, studies: ImageSet) -> LabelMap:
        """Those of a study; by its name below its folder, else without what tools add to names, else by its subject.

        Raises:
            DataError: None, or several, belong to it.
        """
        candidates = self.images.candidates(study, studies)
        if len(candidates) != 1:
            plain = replace(self.images, images=tuple(_plain(image) for image in self.images.images))
            same = replace(studies, images=tuple(_plain(image) for image in studies.images))
            candidates = plain.candidates(_plain(study), same)
        if not candidates:
            raise DataError(
                f"{study.path}: no label map in {self.images.place} has its name ({study.name}) or is alone of its "
                f"subject ({study.subject}); name it alike, or leave the study out."
            )
        if len(candidates) > 1:
            raise DataError(
                f"{study.path}: {len(candidates)} label maps in {self.images.place} could belong to it "
                f"({candidates[0].name}, {candidates[1].name}, …); name the one that is meant like the study."
            )
        return self.maps[candidates[0].path]

    @property
    def vocabulary(self) -> set[str] | None:
        """All names that can be marked in any case; None where a map has none."""
        names = [own.names for own in self.maps.values()]
        return {name for own in names for name in own or ()} if None not in names else None


def read_label_maps(place: str, studies: ImageSet) -> LabelMaps:
    """What lies at ``FOLDER`` or ``FOLDER:NAME``; studies tell files that are named like them from folders of masks."""
    root, wanted = split_place(place)
    paths = find_images(root).images
    folders = defaultdict(list)
    for path in paths:
        if not wanted and path.parent != root:
            folders[path.parent].append(path)
    tails = {_plain(image).name.rpartition("/")[2] for image in studies.images}
    cases = {folder for folder, files in folders.items() if _is_case(folder, files, tails)}
    maps: dict[Path, LabelMap] = {}
    images = []
    for folder in sorted(cases):
        key = folder.relative_to(root).as_posix().removesuffix(f"/{PARTS}")
        maps[folder] = LabelMap(folder, {stem(path): path for path in folders[folder]})
        images.append(_named(key, folder))
    for path in paths:
        if path.parent not in cases and wanted in ("", stem(path)):
            maps[path] = LabelMap(path, _meaning(path, root))
            images.append(_named(key_below(path, root), path))
    if not images:
        raise DataError(f"{place} holds no label map; give a folder of them, one file or one folder a case.")
    return LabelMaps(ImageSet(place, root, tuple(images), whole=False), maps)


def _is_case(folder: Path, files: list[Path], tails: set[str]) -> bool:
    """Whether a folder is one case, with a mask for each structure, and not a folder of cases' own label maps."""
    if folder.name == PARTS:
        return True
    names = [_plain_name(stem(path)) for path in files]
    return len(files) > 1 and tails.isdisjoint(names) and not any(name.startswith("sub-") for name in names)


def _named(key: str, path: Path) -> Image:
    session = re.search(r"(?:^|[/_])ses-([^_/]+)", key)
    return Image(printable(key.split("/")[0]), printable(key), path, session[1] if session else "")


def _plain(image: Image) -> Image:
    return replace(image, name=_plain_name(image.name), subject=_plain_name(image.subject))


def _plain_name(name: str) -> str:
    return OF_LABELS.sub("", name) or name


def _meaning(path: Path, root: Path) -> Mapping[str, Meaning] | None:
    """What the values of a map are called: by the file itself, else by the nearest table up to the folder above all."""
    own = _in_file(path)
    folders = [path.parent, *path.parent.parents]
    folders = folders[: folders.index(root) + 2]  # nnU-Net's dataset.json lies above labelsTr
    tables = (_table(folder, stem(path)) for folder in folders)
    names = own or next((table for table in tables if table), None)
    return {name: values for name, values in names.items() if values != (0,)} if names else None


def _table(folder: Path, name: str) -> dict[str, tuple[int, ...]] | None:
    """The names of the first table in a folder that has any."""
    for file in (LABELS_JSON, "dataset.json"):
        if named := label_names_of(None, folder, file):
            return {name: tuple(np.atleast_1d(value).tolist()) for name, value in named.items()}
    for pattern in (f"{name}.tsv", "*dseg.tsv", "*.ctbl", "*.label", "*label*.txt"):
        for path in sorted(folder.glob(pattern)):
            if rows := dict(_rows(path)):
                return rows
    return None


def _rows(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and values in a BIDS, 3D Slicer or ITK-SNAP table; lines of another kind are comments there."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix == ".tsv":
        for row in csv.DictReader(text.splitlines(), delimiter="\t"):
            if (row.get("index") or "").strip().isdigit() and row.get("name"):
                yield as_it_was(row["name"].strip()), (int(row["index"]),)
        return
    for line in text.splitlines():
        quoted = re.fullmatch(r'\s*(\d+)(?:\s+[\d.]+){6}\s+"(.*)"\s*', line)
        plain = re.fullmatch(r"\s*(\d+)\s+([^\s#]+)(?:\s+[\d.]+){3,4}\s*", line)
        if found := quoted or plain:
            yield found[2], (int(found[1]),)


def _in_file(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Names that the file itself holds: of TotalSegmentator in an extension of NIfTI, of 3D Slicer in ``.seg.nrrd``."""
    if is_named(path, SUFFIXES):
        try:
            extensions = nib.load(path).header.extensions  # type: ignore[attr-defined]
        except Exception:  # reading the map says what is wrong
            return None
        text = " ".join(str(each.get_content()) for each in extensions)
        labels = re.findall(r'<Label Key="(\d+)"[^>]*>\s*(?:<!\[CDATA\[)?([^<\]]+)', text)
        return {name.strip(): (int(value),) for value, name in labels} or None
    fields = _segments(path)
    return {name: (int(fields["LabelValue", number]),) for (key, number), name in fields.items()
            if key == "Name" and ("LabelValue", number) in fields} or None  # fmt: skip


def _segments(path: Path) -> dict[tuple[str, str], str]:
    """What a ``.seg.nrrd`` says of each of its segments, by key and number; empty for other files."""
    if not is_named(path, (".nrrd",)):
        return {}
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES).split(b"\n\n")[0].decode("utf-8", "replace")
    return {
        (key, number): value.strip()
        for number, key, value in re.findall(r"^Segment(\d+)_(Name|LabelValue):=(.*)$", header, re.MULTILINE)
    }


def _labels_on(path: Path, grid: Grid) -> NDArray[np.float32]:
    """A label map on a study's grid, (X, Y, Z): each voxel has the nearest label, where both lie in one space.

    A map of 3D Slicer may be cut to what it marks; every other one must cover the study.
    """
    volume = read_volume(path)
    label_values(volume)
    if same_grid(volume.grid, grid):
        return volume.voxels
    beyond = _beyond_mm(volume, grid, cropped=bool(_segments(path)))
    tolerance = max(*volume.grid.spacing_mm, *grid.spacing_mm)
    if beyond > tolerance:
        raise GeometryError(
            f"{path}: does not lie in the study's space ({beyond:.0f} mm beyond it or short of it); label the study "
            "itself, or resample the map to its grid."
        )
    index = np.linalg.inv(volume.grid.affine) @ grid.affine
    return np.asarray(ndimage.affine_transform(volume.voxels, index[:3, :3], index[:3, 3], grid.size, order=0))


def _beyond_mm(labels: Volume, grid: Grid, *, cropped: bool) -> float:
    """How far the study reaches beyond the map, or what the map marks beyond the study; the larger one, in mm."""

    def beyond(inner: NDArray[np.float64], one: Grid, other: Grid) -> float:
        corners = np.array([inner[list(which), range(3)] for which in np.ndindex(2, 2, 2)])
        index = apply_affine(np.linalg.inv(other.affine) @ one.affine, corners)
        out = np.maximum(-0.5 - index, index - np.subtract(other.size, 0.5))
        return float((out * other.spacing_mm).max())

    def whole(one: Grid) -> NDArray[np.float64]:
        return np.array([[-0.5] * 3, np.subtract(one.size, 0.5)])

    marked: list[Any] = ndimage.find_objects((labels.voxels != 0).astype(np.int8))
    ends = np.array([[part.start - 0.5, part.stop - 0.5] for part in marked[0]]).T if marked else None
    return max(
        0.0 if cropped else beyond(whole(grid), grid, labels.grid),
        0.0 if ends is None else beyond(ends, labels.grid, grid),
    )
