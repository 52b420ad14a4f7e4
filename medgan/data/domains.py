"""What kind of scan a study is: its modality, unit and intensity window, and which kind it shall become."""

import re
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from medgan.config import Config
from medgan.errors import ConfigError


class Window(Config):
    """The intensities mapped onto [-1, 1]; the map is linear, and values outside are clipped."""

    lower: FiniteFloat = -1000.0
    """Intensity that becomes -1: HU for CT, a percentile of the volume where ``percentiles`` is set."""
    upper: FiniteFloat = 1000.0
    """Intensity that becomes +1: HU for CT, a percentile of the volume where ``percentiles`` is set."""
    percentiles: bool = False
    """Read the bounds as percentiles of each volume's non-zero voxels (MR, arbitrary units)."""
    headroom: float = Field(default=0.0, ge=0, le=100)
    """With percentiles: room above the upper one, as a share of the distance between the two, for what contrast agent
    makes brighter than anything was."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lower >= self.upper:
            raise ValueError(f"window is empty: lower={self.lower:g} is not below upper={self.upper:g}")
        if self.percentiles and (self.lower < 0 or self.upper > 100):
            raise ValueError(f"percentiles lie in 0..100, not {self.lower:g}..{self.upper:g}")
        return self

    def bounds(self, voxels: NDArray[np.generic]) -> tuple[float, float]:
        """The intensities that become -1 and +1 in this volume; (X, Y, Z) of any dtype."""
        if not self.percentiles:
            return self.lower, self.upper
        inside = voxels[voxels != 0]
        if inside.size == 0:
            return 0.0, 1.0
        lower, upper = np.percentile(inside, [self.lower, self.upper], overwrite_input=True)  # a copy
        return float(lower), float(lower + (1 + self.headroom) * max(upper - lower, 1e-6))


class Domain(Config):
    """One side of a translation: a kind of scan."""

    name: str = Field(pattern=r"^[a-z0-9_]+$", max_length=100)
    """The word in a cohort's ``domain`` column."""
    modality: Literal["CT", "MR"]
    unit: Literal["HU", "arbitrary"]
    air: float
    """The intensity of nothing: -1024 HU in CT, 0 in MR; what lies outside a volume."""
    window: Window


WORDS = {
    "contrast": ("contrast", "ce", "cect", "enhanced", "arterial", "portal", "venous"),
    "plain": ("plain", "nc", "ncct", "nect", "noncontrast", "unenhanced", "native"),
    "ct": ("ct",),
    "mr": ("mr", "mri"),
    "t1": ("t1", "t1w"),
    "t1_gd": ("t1gd", "t1ce", "t1c", "t1_gd", "t1_ce"),
    "t2": ("t2", "t2w"),
    "flair": ("flair",),
}
"""What people call the domains in names of folders and files."""
ALL_WORDS = (
    *(word for words in WORDS.values() for word in words),
    *("cta", "cbct", "pet", "pd", "dwi", "nce", "pre", "post", "delayed", "gd", "source", "target"),
)
"""These, and words that say something of a domain and not which."""
SEQUENCES = ("t1", "t2", "pd", "t2star", "flair")
"""MR without contrast agent, as BIDS names it; any of them is an image of the domain ``mr``."""


def domain_names(word: str, *, enhanced: bool = False) -> list[str]:
    """What domains an image may be of by the word that the field calls it, the closest first.

    ``T1w`` is ``t1`` or ``t1w``, ``FLAIR`` is ``flair``, and ``mr`` is any of T1w, T2w, PDw, T2starw and FLAIR; with
    contrast agent ``_gd`` follows: ``t1_gd``. ``CT`` is ``ct``, and ``contrast`` with agent or ``plain`` without.
    """
    word = word.lower()
    if word in WORDS["ct"]:
        return ["contrast" if enhanced else "plain", "ct"]
    if word in WORDS["t1_gd"]:
        return ["t1_gd", word, "mr"]
    short = word.removesuffix("w")
    return [each + "_gd" * enhanced for each in (short, word)] + ["mr"] * (short in SEQUENCES)


def domain_named(text: str) -> Domain:
    """The domain of a name that tells its modality, or of ``name:CT`` or ``name:MR``; a ConfigError without either."""
    name, colon, modality = text.partition(":")
    if not colon:
        modality = "CT" if name.startswith("ct") else "MR" if name.startswith(("mr", "dwi", *SEQUENCES)) else ""
    if modality.upper() not in ("CT", "MR") or not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError(f"domain '{text}' does not say whether it is CT or MR; write for example `plain:CT`.")
    if modality.upper() == "CT":
        return Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window())
    window = Window(lower=1.0, upper=99.0, percentiles=True)
    return Domain(name=name, modality="MR", unit="arbitrary", air=0.0, window=window)


class DomainPair(Config):
    """What goes in, what comes out, and whether a subject has both on one grid."""

    source: Domain
    target: Domain
    paired: bool

    @property
    def names(self) -> tuple[str, str]:
        """The domains' names, source first."""
        return self.source.name, self.target.name

    @property
    def one_unit(self) -> bool:
        """Whether both sides are in HU: an intensity means the same tissue in either."""
        return self.source.unit == self.target.unit == "HU"

    @property
    def one_scale(self) -> bool:
        """Whether a generator may predict the change: both sides measure the same thing, and their scales are known.

        MR images have scales of their own; the two of a pair can be brought onto one.
        """
        alike = self.source.unit == self.target.unit and self.source.window == self.target.window
        return alike and (self.source.unit == "HU" or self.paired)
