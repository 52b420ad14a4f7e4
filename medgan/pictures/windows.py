"""What is black and white in a picture: the windows in which radiologists read, and the colours of a difference."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from medgan.data.domains import Domain
from medgan.data.domains import Window as Bounds

PERCENTILES = Bounds(lower=1.0, upper=99.0, percentiles=True)
"""Of what is not 0: how MR is shown, whose scale is its own."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@cache
def diverging() -> NDArray[np.uint8]:
    """The colours of a difference, (255, 3): blue is less, red is more, and the middle is white, no change.

    They are ColorBrewer's, told apart by the colour-blind.
    """
    import matplotlib as mpl  # who draws nothing need not wait for it

    colours = mpl.colormaps["RdBu_r"].resampled(255)(np.arange(255))
    return np.asarray(np.rint(255 * colours[:, :3]), np.uint8)


@dataclass(frozen=True)
class DisplayWindow:
    """A range of intensities and its name; what lies beyond is black or white, or the outermost colour."""

    name: str
    lower: float
    upper: float
    unit: str
    """HU, or ``arbitrary``; empty where the name says all."""
    diverging: bool = False
    """Whether 0 is the neutral middle between two colours, and not a grey."""

    @property
    def label(self) -> str:
        """As in ``soft tissue −160 … 240 HU``."""
        if not self.unit:
            return self.name
        return f"{self.name} {number(self.lower)} … {number(self.upper)} {self.unit}"

    def colours(self, pixels: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Intensities (rows, columns) as colours (rows, columns, 3); what is no number counts as the lowest."""
        share = np.clip((np.asarray(pixels, np.float32) - self.lower) / (self.upper - self.lower), 0, 1)
        share = np.nan_to_num(share)
        if self.diverging:
            table = diverging()
            return np.asarray(table[np.rint(share * (len(table) - 1)).astype(np.intp)])
        return np.repeat(np.rint(share * 255).astype(np.uint8)[..., None], 3, axis=2)


WINDOWS = {
    window.name: window
    for window in (
        DisplayWindow("soft tissue", -160.0, 240.0, "HU"),
        DisplayWindow("lung", -1350.0, 150.0, "HU"),
        DisplayWindow("bone", -450.0, 1050.0, "HU"),
        DisplayWindow("brain", 0.0, 80.0, "HU"),
        DisplayWindow("wide", -1000.0, 1000.0, "HU"),
    )
}
"""The windows of CT by name."""
SOFT_TISSUE, BONE = WINDOWS["soft tissue"], WINDOWS["bone"]


def percentiles(voxels: NDArray[np.floating], bounds: Bounds = PERCENTILES) -> DisplayWindow:
    """Between two percentiles of what is not 0 in voxels (X, Y, Z)."""
    return DisplayWindow(_percentiles(bounds), *bounds.bounds(voxels), "arbitrary")


def window_between(domain: Domain, bounds: tuple[float, float], name: str = "soft tissue") -> DisplayWindow:
    """How an image of a domain is shown: a CT in the window called ``name``, an MR between ``bounds`` of its own."""
    if domain.unit == "HU":
        return WINDOWS[name]
    shown = domain.window
    return DisplayWindow(_percentiles(shown), *bounds, domain.unit)


def window_for(domain: Domain, voxels: NDArray[np.floating], name: str = "soft tissue") -> DisplayWindow:
    """How an image of a domain is shown: a CT in the window called ``name``, an MR between its percentiles."""
    return WINDOWS[name] if domain.unit == "HU" else percentiles(voxels)


def change(limit: float, unit: str, name: str = "change") -> DisplayWindow:
    """From ``-limit`` to ``limit``: a difference, with 0 neutral."""
    return DisplayWindow(name, -limit, limit, unit, diverging=True)


def change_limit(difference: NDArray[np.floating]) -> float:
    """A round number that 99.5 % of the amounts that are not 0 do not pass; 1 where nothing differs."""
    amounts = np.abs(difference[difference != 0])
    largest = float(np.percentile(amounts, 99.5)) if amounts.size else 0.0
    if largest <= 0:
        return 1.0
    decade = 10.0 ** np.floor(np.log10(largest))
    return float(next(step for step in STEPS if step * decade >= largest * (1 - 1e-9)) * decade)


def _percentiles(bounds: Bounds) -> str:
    return f"P{bounds.lower:g}–P{bounds.upper:g}:"


def number(value: float) -> str:
    """To three digits, with a true minus sign."""
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:.0f}".replace("-", "−")
