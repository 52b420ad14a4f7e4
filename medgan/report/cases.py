"""The worst cases of an evaluation as pictures, and all cases for the slice viewer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.layouts import map_beside
from medgan.data.volumes import Volume
from medgan.errors import MedganError
from medgan.pictures.tiles import Row, Tile, sheet
from medgan.pictures.views import standing_up, view
from medgan.pictures.windows import SOFT_TISSUE, DisplayWindow, change, change_limit, percentiles
from medgan.report.figures import embedded
from medgan.report.html import Plot, Section
from medgan.report.viewer import ViewerCase, viewer_html
from medgan.report.voxels import Scans, read_scans, without_paths

MOST_PICTURES, MOST_VIEWED = 6, 8
"""Worst cases that are drawn, and that the slice viewer holds; these are the first of those."""
BUDGET_MB = 11.0
"""Of the volumes in a page."""


def case_sections(
    cases: pd.DataFrame, values: pd.Series, label: str, labels: Mapping[str, Sequence[int]], units: Mapping[str, str]
) -> Iterator[Section]:
    """Pictures of the subjects with the largest error, the worst first, and the slice viewer of them.

    Args:
        cases: As of :class:`medgan.report.evaluation.Evaluation`.
        values: By subject, the worst first.
        label: What the values are, with their unit.
        labels: The values of each organ in the label maps, for outlines; empty are all.
        units: ``HU`` or ``arbitrary`` of ``source``, ``synthetic`` and ``truth``.
    """
    first = {str(case["subject"]): case for case in reversed(cases.to_dict("records"))}
    plots, viewed = [], []
    for number, (subject, value) in enumerate(values.items(), start=1):
        case, caption = first[str(subject)], f"{subject}: {label} {value:.3g}"
        if number <= MOST_VIEWED:
            viewed.append(_viewer_case(case, caption, labels, units))
        if number <= MOST_PICTURES and case["reference"]:
            alt = f"{subject}: source, translation, truth and their difference in one slice"
            try:
                src, where, centre = _picture(read_scans(case), units)
                plots.append(Plot(src, alt, caption, where, link=f"#case-{number}@{centre}"))
            except (MedganError, OSError) as error:
                plots.append(Plot(None, alt, caption, problem=without_paths(str(error), case)))
    many = f"{len(plots)} of {len(values)} subjects" if len(values) > len(plots) else "All subjects"
    note = f"{many}, the worst first, each in the axial slice with the largest error. R is the patient's right."
    if plots:
        yield Section("Worst cases first", "worst", note=f"{note} A picture leads to the viewer.", plots=plots)
    yield from viewer_section(viewed)


def viewer_section(cases: Sequence[ViewerCase]) -> Iterator[Section]:
    """The slice viewer, where there is a case."""
    if cases:
        yield Section("Slice by slice", "slices", markup=viewer_html(cases, BUDGET_MB), live=True)


def _viewer_case(
    case: Mapping[str, Any], caption: str, labels: Mapping[str, Sequence[int]], units: Mapping[str, str]
) -> ViewerCase:
    files = {"source": "source", "synthetic": "synthetic", "reference": "truth"}
    volumes = {name: Path(case[role]) for role, name in files.items() if case[role]}
    change = map_beside(volumes["synthetic"], "change")
    volumes |= {"change": change} if change.is_file() else {}
    masks = {"labels": Path(case["labels"])} if case["labels"] else {}
    return ViewerCase(str(case["subject"]), caption, volumes, masks, labels, units=units)


def _picture(scans: Scans, units: Mapping[str, str]) -> tuple[str, str, str]:
    """Source, translation, truth and difference in the slice with the largest error.

    Returns:
        The ``src`` of an image, its slice in words, and where in it the error is largest, as ``x,y,z`` in RAS+ mm.
    """
    grid, unit = scans.synthetic.grid, units["synthetic"]
    error = np.where(scans.inside, scans.synthetic.voxels - scans.reference.voxels, 0).astype(np.float32)
    weight, affine = standing_up(np.abs(error), grid.affine)
    place = int(np.argmax(weight.sum(axis=(0, 1))))
    worst = ndimage.uniform_filter(weight[..., place], 3)
    centre_mm = affine @ [*np.unravel_index(np.argmax(worst), worst.shape), place, 1.0]
    difference = change(change_limit(error), unit, "translation − truth")

    def tile(voxels: NDArray[Any], window: DisplayWindow, title: str) -> Tile:
        return Tile(view(voxels, grid.affine, "axial", place), window, title)

    def grey(volume: Volume, title: str, role: str) -> Tile:
        return tile(volume.voxels, SOFT_TISSUE if units[role] == "HU" else percentiles(volume.voxels), title)

    where = view(error, grid.affine, "axial", place).caption
    first = [grey(scans.source, "Source", "source")] if scans.source else [None]
    truth = Row([grey(scans.reference, "Truth", "truth"), tile(error, difference, "Difference")])
    rows = [Row([*first, grey(scans.synthetic, "Translation", "synthetic")]), truth]
    return embedded(sheet(rows, where)), where, ",".join(f"{mm:.1f}" for mm in centre_mm[:3])
