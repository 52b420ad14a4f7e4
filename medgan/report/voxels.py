"""What a page reads of the images themselves: HU by band, the joint histogram, and pictures of the worst cases."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.grid import apart, same_grid
from medgan.data.volumes import Volume, read_volume
from medgan.errors import GeometryError, MedganError
from medgan.evaluation.fidelity import body_mask
from medgan.evaluation.statistics import t_interval
from medgan.evaluation.tissues import BANDS_HU
from medgan.report.charts import joint_histogram
from medgan.report.figures import embedded
from medgan.report.html import Plot, Section, Table

EDGES_HU = np.linspace(-1024.0, 1576.0, 131)
"""Of the joint histogram: steps of 20 HU; what lies beyond counts as the outermost."""
BANDS: Mapping[str, tuple[float, float]] = {
    "air, below −900": BANDS_HU["air"],
    "lung, −900 to −500": BANDS_HU["lung"],
    "partly air, −500 to −150": (-500.0, -150.0),
    "fat, −150 to −30": BANDS_HU["fat"],
    "soft tissue, −30 to 100": BANDS_HU["soft_tissue"],
    "dense, 100 to 450": BANDS_HU["enhancing"],
    "bone, from 450": BANDS_HU["bone"],
}
"""Of true HU."""
LEAST_VOXELS = 50
"""Of a band in an image; fewer say nothing."""
MOST_IMAGES = 20
"""Whose voxels a page's figures are of."""


@dataclass(frozen=True)
class Scans:
    """A case's volumes (X, Y, Z) on one grid."""

    synthetic: Volume
    reference: Volume
    source: Volume | None
    inside: NDArray[np.bool_]


def read_scans(case: Mapping[str, Any]) -> Scans:
    """The volumes of a row of ``cases.csv`` with a reference; inside is its mask, else the body in the reference.

    Raises:
        MedganError: A file cannot be read, or lies on another grid.
    """
    synthetic = read_volume(Path(case["synthetic"]))
    read = {}
    for role in ("reference", "source", "mask"):
        if case[role]:
            read[role] = read_volume(Path(case[role]))
            if not same_grid(synthetic.grid, read[role].grid):
                raise GeometryError(f"the {role} is on another grid: {apart(synthetic.grid, read[role].grid)}.")
    reference = read["reference"]
    inside = read["mask"].voxels > 0 if "mask" in read else body_mask(reference.voxels)
    return Scans(synthetic, reference, read.get("source"), inside)


def places_read(count: int) -> list[int]:
    """Which of so many images are read: all, or ``MOST_IMAGES`` evenly among them."""
    return sorted(set(np.linspace(0, count - 1, min(MOST_IMAGES, count)).astype(int).tolist()))


def band_figures(true_hu: NDArray[Any], synthetic_hu: NDArray[Any]) -> dict[str, dict[str, float]]:
    """By band of true HU, over voxels (n,): ``share_percent``, ``bias_hu``, and ``slope`` of synthetic on true."""
    figures = {}
    for name, (lower, upper) in BANDS.items():
        own = (true_hu >= lower) & (true_hu < upper)
        count = int(np.count_nonzero(own))
        if count < LEAST_VOXELS:
            continue
        real, fake = true_hu[own].astype(np.float64), synthetic_hu[own].astype(np.float64)
        apart_hu = real - real.mean()
        spread = float(np.square(apart_hu).sum())
        figures[name] = {
            "share_percent": 100 * count / true_hu.size,
            "bias_hu": float((fake - real).mean()),
            "slope": float((apart_hu * fake).sum() / spread) if spread > 0 else np.nan,
        }
    return figures


def joint_counts(true_hu: NDArray[Any], synthetic_hu: NDArray[Any]) -> NDArray[np.float64]:
    """How often each pair of true (rows) and synthetic HU (columns) occurs in voxels (n,), by ``EDGES_HU``."""
    real, fake = (np.clip(values, EDGES_HU[0], EDGES_HU[-1]) for values in (true_hu, synthetic_hu))
    return np.asarray(np.histogram2d(real, fake, bins=[EDGES_HU, EDGES_HU])[0])


def histogram_section(cases: pd.DataFrame) -> Iterator[Section]:
    """HU by band and the joint histogram of at most ``MOST_IMAGES`` images, each subject with the same weight."""
    paired = cases[cases["reference"] != ""]
    if paired.empty:
        return
    places = places_read(len(paired))
    total, figures, problems = np.zeros([len(EDGES_HU) - 1] * 2), [], []
    for case in paired.iloc[places].to_dict("records"):
        try:
            scans = read_scans(case)
        except (MedganError, OSError) as error:
            problems.append(f"Not shown: {case['image']}: {without_paths(str(error), case)}")
            continue
        real, fake = (volume.voxels[scans.inside] for volume in (scans.reference, scans.synthetic))
        if real.size:
            total += joint_counts(real, fake) / real.size
            figures += [
                {"subject": case["subject"], "band": band} | own for band, own in band_figures(real, fake).items()
            ]
    note = (
        f"Every voxel inside the body or mask, of {len(places) - len(problems)} of {len(paired)} images. "
        "Where the line of means lies on the broken line, the HU are right."
    )
    if not figures:
        yield Section("Truth against translation", "histogram", warnings=problems)
        return
    table = _band_table(pd.DataFrame(figures))
    alt = "Joint histogram of true and synthetic HU, with the mean synthetic value at each true one"
    plot = Plot(embedded(joint_histogram(total, EDGES_HU)), alt)
    yield Section("Truth against translation", "histogram", warnings=problems, note=note, plots=[plot], tables=[table])


def _band_table(figures: pd.DataFrame) -> Table:
    """Bias and slope in each band with intervals over subjects."""
    by_subject = figures.groupby(["band", "subject"], sort=False).mean()
    rows = []
    for band in BANDS:
        if band in by_subject.index.get_level_values("band"):
            own = by_subject.loc[band]
            texts = []
            for key, form in (("share_percent", ".1f"), ("bias_hu", "+.1f"), ("slope", ".2f")):
                texts.append(t_interval(own[key]).text(form))
            rows.append([band, *texts, str(len(own))])
    return Table("By band of true HU", ["true HU", "% of voxels", "bias, HU", "slope", "subjects"], 1, rows)


def without_paths(message: str, case: Mapping[str, Any]) -> str:
    """A message that names a case's files by their role, and no place of this machine."""
    for role in ("synthetic", "reference", "source", "mask"):
        if case[role]:
            message = message.replace(str(case[role]), f"its {role}")
    return message
