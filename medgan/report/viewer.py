"""The slice viewer of a page: volumes of each case packed into the HTML, shown by ``viewer.js`` with no network.

A page holds ``viewer_assets()`` once and ``viewer_html(cases)`` where the viewer shall be; ``#case-2`` in its address
selects the second case. Its policy is ``LIVE_POLICY``.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from medgan.data.domains import Domain, Window
from medgan.data.grid import UNPLACED, Grid, apart, same_grid, upright
from medgan.data.masks import LABELS_JSON, body_box, named_labels
from medgan.data.volumes import read_grid, read_volume
from medgan.errors import DataError
from medgan.pictures.windows import WINDOWS, DisplayWindow, diverging, percentiles
from medgan.report.templates import in_script, template

VOLUMES = {"source": "Source", "synthetic": "Synthetic", "truth": "Truth", "change": "Change map"}
"""The volumes of a case in the order in which they are shown, and their titles."""
ASSETS = ("viewer.css", "viewer.js", "viewer3d.js")
NIIVUE = "niivue.js.gz"
"""NiiVue for browsers, gzip'ed; ``niivue.txt`` beside it has its origin and its licences."""
DIFFERENCE_HU = 100.0
"""Where the colours of differences and change maps end at first."""
NO_AIR_HU = -100.0
"""A source without anything below it is no CT, whatever the figures beside it are in: an MR that became CT."""
GREY_STEPS = 4095
"""Into how many steps intensities of arbitrary unit are rounded where they are no whole numbers."""
BODY_MARGIN_MM = 5.0
COARSE_VOXELS = 128
"""The body is looked for on a grid of at most about so many voxels an axis."""
WORTH_CROPPING = 0.9
"""Share of the voxels below which a box around the body is taken instead of the whole volume."""
LEAST_VOXELS = 16
"""To how few an axis may be thinned."""
MOST_LABELS = 255
FACTS_BYTES = 2000
"""Of a case beside its voxels."""
BEST_BITS = 2.0
"""Bits a voxel that no real volume takes less of: where thinning starts."""


@dataclass(frozen=True)
class ViewerCase:
    """A case: volumes that lie on one voxel grid, and label maps on it."""

    title: str
    """``case 3`` or the subject's name; unique on a page."""
    caption: str
    """A sentence about it, for example its metrics."""
    volumes: Mapping[str, Path]
    """Files by ``source``, ``synthetic``, ``truth`` and ``change``; none is a must."""
    masks: Mapping[str, Path] = field(default_factory=dict)
    """Label maps by name; every value has its outline."""
    labels: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Of the label maps, the values that are outlined, by what they are called; empty are all."""
    units: Mapping[str, str] = field(default_factory=dict)
    """``arbitrary`` for volumes that are not in HU."""


@dataclass(frozen=True)
class _Layer:
    """A volume or a label map, upright, as it is packed."""

    name: str
    voxels: NDArray[np.int16] | NDArray[np.uint8]
    """(X, Y, Z), RAS+ axes."""
    facts: dict[str, Any]


def viewer_assets() -> Markup:
    """Style and scripts of the viewer, once a page: 1.1 MB, nearly all of it NiiVue, without which there is no 3D."""
    folder = files("medgan.report")
    style, script, three_d = ((folder / name).read_text(encoding="utf-8") for name in ASSETS)
    parts = [f"<style>\n{style}</style>"]
    if (folder / NIIVUE).is_file():
        packed = base64.b64encode((folder / NIIVUE).read_bytes()).decode()
        parts += [
            f'<script type="application/gzip" class="mv-niivue">{packed}</script>',
            f"<script>\n{three_d}</script>",
        ]
    return Markup("\n".join([*parts, f"<script>\n{script}</script>\n"]))


def viewer_html(cases: Sequence[ViewerCase], budget_mb: float = 12.0) -> Markup:
    """A viewer of all cases as HTML; empty where there is no case.

    What cannot be read, or lies on another grid than the first volume of its case, is named in the page, without the
    path, and the rest is shown. Cases share ``budget_mb`` evenly, and what small ones leave goes to larger ones; where
    a case needs more, every second (third, ...) voxel is packed, and the page says so.
    """
    packed, left = dict.fromkeys(range(len(cases)), ""), budget_mb * 1e6
    for done, number in enumerate(sorted(packed, key=lambda number: _voxel_count(cases[number]))):
        packed[number] = json.dumps(_pack(cases[number], left / (len(cases) - done)), allow_nan=False)
        left -= len(packed[number])
    data = [in_script(text) for text in packed.values()]
    page = template("viewer.html")
    colours = diverging().tolist()
    return Markup(page.render(titles=[case.title for case in cases], data=data, colours=colours))


def _voxel_count(case: ViewerCase) -> int:
    """Of all volumes that can be read."""
    count = 0
    for path in case.volumes.values():
        with suppress(DataError):
            count += prod(read_grid(path).size)
    return count


def _pack(case: ViewerCase, most_bytes: float) -> dict[str, Any]:
    """What ``viewer.js`` needs of a case, of about ``most_bytes`` as JSON."""
    volumes, problems, first = {}, [], None
    named = {name: (path, name in VOLUMES) for name, path in case.volumes.items() if name in VOLUMES}
    ordered = sorted(named.items(), key=lambda item: list(VOLUMES).index(item[0]))
    masks = {f"mask {name}": (path, False) for name, path in case.masks.items()}
    for name, (path, is_volume) in (*ordered, *masks.items()):
        try:
            unit = case.units.get(name, "HU") if is_volume else None
            layer, grid = _read_layer(name, path, unit, case.labels)
            if first is not None and not same_grid(first, grid):
                raise DataError(f"{path}: lies on another voxel grid than the first volume ({apart(first, grid)}).")
        except DataError as error:
            problems.append(f"{name}: {str(error).removeprefix(f'{path}: ').replace(str(path), 'the file')}")
            continue
        first, volumes[name] = first or grid, layer
    facts: dict[str, Any] = {"title": case.title, "caption": case.caption, "problems": problems, "layers": []}
    if first is None:
        return facts
    layers = list(volumes.values())
    box = _box(layers, first)
    cut = [_Layer(each.name, each.voxels[box], each.facts) for each in layers]
    steps, data = _thinned(cut, first.spacing_mm, most_bytes - FACTS_BYTES)
    start = np.array([part.start for part in box])
    affine = first.affine @ np.diag([*steps, 1.0])
    affine[:3, 3] = apply_affine(first.affine, start)
    shape = [len(range(0, part.stop - part.start, step)) for part, step in zip(box, steps, strict=True)]
    return facts | {
        "shape": shape,
        "affine": affine.round(6).tolist(),
        "spacing": [round(spacing * step, 4) for spacing, step in zip(first.spacing_mm, steps, strict=True)],
        "windows": _windows(cut),
        "placed": all(each.facts.get("placed", True) for each in cut),
        "notes": list(_notes(cut, first, shape, steps)),
        "layers": [{"name": each.name} | each.facts | {"data": text} for each, text in zip(cut, data, strict=True)],
    }


def _read_layer(name: str, path: Path, unit: str | None, labels: Mapping[str, Sequence[int]]) -> tuple[_Layer, Grid]:
    """A volume in ``unit``, or a label map where there is none, and its upright grid."""
    volume = upright(read_volume(path))
    if unit is None:
        return _label_layer(name, path, volume.voxels, labels), volume.grid
    voxels = volume.voxels
    largest = float(np.abs(voxels).max())
    airless = name == "source" and unit == "HU" and float(voxels.min()) > NO_AIR_HU
    unit = "arbitrary" if airless else unit
    step = 1.0
    if unit != "HU" and not (largest <= 32767 and np.array_equal(voxels, np.rint(voxels))):
        step = float(np.ptp(voxels)) / GREY_STEPS or 1.0
    step = max(step, largest / 32767)
    group = "HU" if unit == "HU" else "source" if name == "source" else "target"
    facts: dict[str, Any] = {"placed": UNPLACED not in volume.notes, "airless": airless}
    facts |= {"title": VOLUMES[name], "unit": "HU" if unit == "HU" else "", "group": group, "step": step}
    return _Layer(name, np.rint(voxels / step).astype(np.int16), facts), volume.grid


def _label_layer(name: str, path: Path, voxels: NDArray[np.float32], labels: Mapping[str, Sequence[int]]) -> _Layer:
    """Labels as 1, 2, … in their order, with what the legend calls them."""
    values = [value for value in np.unique(voxels).tolist() if value]
    if len(values) > MOST_LABELS or any(value != int(value) for value in values):
        raise DataError(f"{path}: holds values that are no labels, or more than {MOST_LABELS}.")
    title = name.removeprefix("mask ")
    if own := {called: wanted for called, wanted in labels.items() if set(wanted) & set(values)}:
        numbered = np.zeros(voxels.shape, np.uint8)
        for number, wanted in enumerate(own.values(), start=1):
            numbered[np.isin(voxels, wanted)] = number
        return _Layer(name, numbered, {"title": title, "labels": list(own)})
    names = _label_names(path)
    titles = [names.get(int(value), f"{title} {value:g}" if len(values) > 1 else title) for value in values]
    numbers = np.searchsorted([0.0, *values], voxels).astype(np.uint8) if min(values, default=1) > 0 else None
    if numbers is None:
        raise DataError(f"{path}: holds negative values, which are no labels.")
    return _Layer(name, numbers, {"title": title, "labels": titles})


def _label_names(path: Path) -> dict[int, str]:
    """What the nearest ``labels.json``, up to three folders above, calls the values of a label map."""
    for folder in list(path.absolute().parents)[:3]:
        if (folder / LABELS_JSON).is_file():
            with suppress(DataError):
                return {value: name.replace("_", " ") for name, (value,) in named_labels(folder / LABELS_JSON).items()}
    return {}


def _box(layers: list[_Layer], grid: Grid) -> tuple[slice, slice, slice]:
    """A box around the bodies of all volumes and all that is marked, or everything where that saves little."""
    size = grid.size
    coarse = [max(1, count // COARSE_VOXELS) for count in size]
    spans = []
    for layer in layers:
        few = layer.voxels[:: coarse[0], :: coarse[1], :: coarse[2]]
        if "labels" in layer.facts:
            marked = np.argwhere(layer.voxels)
            spans += [np.stack([marked.min(0), marked.max(0) + 1])] if marked.size else []
        elif layer.name != "change":
            box = np.array(body_box(few * np.float32(layer.facts["step"]), _domain(layer))).T
            spans.append(np.array([box[0] - 1, box[1] + 1]) * coarse)
    if not spans:
        return slice(0, size[0]), slice(0, size[1]), slice(0, size[2])
    margin = np.ceil(BODY_MARGIN_MM / np.array(grid.spacing_mm)).astype(int)
    lower = np.maximum(np.min([span[0] for span in spans], axis=0) - margin, 0)
    upper = np.minimum(np.max([span[1] for span in spans], axis=0) + margin, size)
    if prod((upper - lower).tolist()) > WORTH_CROPPING * prod(size):
        lower, upper = np.zeros(3, int), np.array(size)
    x, y, z = (slice(int(start), int(stop)) for start, stop in zip(lower, upper, strict=True))
    return x, y, z


def _domain(layer: _Layer) -> Domain:
    if layer.facts["unit"] == "HU":
        return Domain(name="image", modality="CT", unit="HU", air=-1024.0, window=Window())
    return Domain(name="image", modality="MR", unit="arbitrary", air=0.0, window=Window())


def _thinned(
    layers: list[_Layer], spacing_mm: tuple[float, float, float], most_bytes: float
) -> tuple[tuple[int, int, int], list[str]]:
    """How many voxels there are to one that is packed, by axis, and the packed layers."""
    steps, size = np.ones(3, int), np.array(layers[0].voxels.shape)
    least = len(layers) * size.prod() * BEST_BITS / 8 * 4 / 3
    while True:
        if least / steps.prod() <= most_bytes:
            data = [_encoded(each.voxels[:: steps[0], :: steps[1], :: steps[2]]) for each in layers]
            if sum(map(len, data)) <= most_bytes:
                break
        pace = np.where(size / (steps + 1) >= LEAST_VOXELS, spacing_mm * steps, np.inf)
        if np.isinf(pace).all():
            data = [_encoded(each.voxels[:: steps[0], :: steps[1], :: steps[2]]) for each in layers]
            break
        finest = pace <= 1.01 * pace.min()
        finest[:2] &= not finest[2]  # foot to head first; then both others, so that pixels stay square
        steps = steps + finest
    return (int(steps[0]), int(steps[1]), int(steps[2])), data


def _encoded(voxels: NDArray[Any]) -> str:
    """Voxels (X, Y, Z) with X fastest, all low bytes before all high ones, gzip'ed, as base64.

    Parting the bytes saves a fifth of real CT and MR; differences along an axis saved nothing more.
    """
    numbers = voxels.astype(voxels.dtype.newbyteorder("<")).ravel(order="F")
    parts = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()
    return base64.b64encode(gzip.compress(parts, 6, mtime=0)).decode()


def _windows(layers: list[_Layer]) -> dict[str, Any]:
    """By group of volumes with one scale: the named windows, and where the colours of differences end."""
    groups: dict[str, Any] = {}
    for layer in layers:
        group = layer.facts.get("group")
        if group is None or group in groups or layer.name == "change":
            continue
        windows, spread = tuple(WINDOWS.values()), DIFFERENCE_HU
        if group != "HU":
            voxels = layer.voxels * np.float32(layer.facts["step"])
            whole = DisplayWindow(
                "all", float(voxels.min()), float(max(voxels.max(), voxels.min() + 1e-6)), "arbitrary"
            )
            windows = (replace(percentiles(voxels), name="automatic"), whole)
            spread = (windows[0].upper - windows[0].lower) / 4
        presets = {window.name: (window.lower, window.upper) for window in windows}
        groups[group] = {"presets": presets, "spread": spread}
    return groups


def _notes(layers: list[_Layer], grid: Grid, shape: list[int], steps: tuple[int, int, int]) -> Iterator[str]:
    """What is shown of the files, as sentences."""
    spacing = " × ".join(f"{spacing * step:.3g}" for spacing, step in zip(grid.spacing_mm, steps, strict=True))
    yield f"Voxels of {spacing} mm, {' × '.join(map(str, shape))}, in the order right–left, back–front, foot–head."
    if max(steps) > 1:
        kept = " × ".join(map(str, steps))
        yield f"Thinned to keep this page small: one voxel of {kept} is shown. Small findings may be missing."
    if prod(shape) * prod(steps) < WORTH_CROPPING * prod(grid.size):
        yield "Cropped to a box around the body."
    cosine = float(np.abs(np.diag(grid.affine[:3, :3]) / grid.spacing_mm).min())
    if cosine < np.cos(np.radians(1)):
        yield f"Oblique: the planes are the scan's own, {np.degrees(np.arccos(cosine)):.0f}° off the patient's axes."
    if not all(layer.facts.get("placed", True) for layer in layers):
        yield f"Sides are assumed: {UNPLACED}."
    if any(layer.facts.get("airless") for layer in layers):
        yield f"The source has no value below {NO_AIR_HU:g}, so it is shown as intensities and not as HU."
    coarse = {layer.facts["title"]: layer.facts["step"] for layer in layers if layer.facts.get("unit") == ""}
    yield from (f"{title}: intensities in steps of {step:.2g}." for title, step in coarse.items() if step != 1)
    if any(layer.facts.get("unit") == "HU" for layer in layers):
        yield "Values are rounded to 1 HU."
