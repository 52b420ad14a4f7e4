"""The kinds of phantom that can be rendered: what each scans, and what its labels mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from medgan.phantom import abdomen_mr_ct, ct, head_mr
from medgan.phantom.space import Point, Size
from medgan.phantom.tissues import HeadTissue, Tissue


class Renderer(Protocol):
    """The module of a kind."""

    def render_subject(self, seed: int, subject: int, *, shape: Size, lesions: float) -> dict[str, NDArray[Any]]:
        """A volume for each scan, ``labels`` and ``lesions``, all on one grid, (X, Y, Z)."""

    def describe(self, seed: int, subject: int, *, lesions: float) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says."""

    def default_spacing_mm(self, shape: Size) -> Point:
        """The voxel size at which a grid of this shape covers the field of view."""


@dataclass(frozen=True)
class Kind:
    """One kind of phantom."""

    renderer: Renderer
    units: Mapping[str, str]
    """The unit of each scan, by domain: source first, then target, then what else is scanned."""
    labels: type[IntEnum]
    shape: Size
    """Voxels along x, y and z where nothing else is asked for."""
    lesions: float
    """Share of subjects with lesions where nothing else is asked for."""
    mask: str = "labels"
    """The volume that tables name as mask."""

    @property
    def scans(self) -> tuple[str, ...]:
        """Every domain that a subject has."""
        return tuple(self.units)

    @property
    def domains(self) -> tuple[str, str]:
        """Source and target; a test subject's target is the hidden truth."""
        source, target, *_ = self.units
        return source, target


KINDS: Mapping[str, Kind] = {
    "abdomen_ct": Kind(ct, {"contrast": "HU", "plain": "HU"}, Tissue, shape=(96, 96, 24), lesions=0.3),
    "abdomen_mr_ct": Kind(abdomen_mr_ct, {"mr": "arbitrary", "ct": "HU"}, Tissue, shape=(96, 96, 24), lesions=0.3),
    "head_mr": Kind(
        head_mr,
        dict.fromkeys(head_mr.ACQUISITIONS, "arbitrary"),
        HeadTissue,
        shape=(96, 112, 30),
        lesions=0.6,
        mask="lesions",
    ),
}
"""By the name that ``medgan data phantom --kind`` and a pipeline's ``phantom`` give."""
