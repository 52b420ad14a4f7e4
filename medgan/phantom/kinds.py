"""The kinds of phantom: what is scanned of which body, and what its labels mean. One renderer serves all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.abdomen import draw_abdomen
from medgan.phantom.anatomy import Anatomy, lay
from medgan.phantom.ct import CT
from medgan.phantom.head import draw_head
from medgan.phantom.mr import MR, Acquisition, InversionRecovery, SpinEcho, SpoiledGradientEcho
from medgan.phantom.space import GridSize, Point, Space, has_lesions, stream
from medgan.phantom.tissues import HEAD_LESIONS, LESIONS, HeadTissue, Label, Tissue


@dataclass(frozen=True)
class Kind:
    """One kind of phantom."""

    draw: Callable[..., Anatomy]  # a random anatomy: ``draw(rng, lesions=True)``
    examinations: tuple[CT | MR, ...]
    """All on one grid, without motion between them. Domains in order: source, target, then what else is scanned."""
    labels: type[Label]
    lesion_labels: tuple[Label, ...]
    field_of_view_mm: Point
    shape: GridSize  # voxels along x, y and z, by default
    lesions: float  # share of subjects with lesions, by default
    mask: str = "labels"
    """The volume that tables name as mask; where it is ``lesions``, that holds the lesions' labels instead of 1."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each scan, by domain."""
        return {domain: each.unit for each in self.examinations for domain in each.series}

    @property
    def scans(self) -> tuple[str, ...]:
        """Every domain that a subject has."""
        return tuple(self.units)

    @property
    def domains(self) -> tuple[str, str]:
        """Source and target; a test subject's target is the hidden truth."""
        source, target, *_ = self.units
        return source, target

    def spacing_mm(self, shape: GridSize) -> Point:
        """The voxel size at which the whole field of view is covered."""
        x, y, z = (length / size for length, size in zip(self.field_of_view_mm, shape, strict=True))
        return x, y, z

    def describe(self, seed: int, subject: int, *, lesions: float | None = None) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says, by domain."""
        rng, carrier = partial(stream, seed, subject), {"lesions": self._carries(seed, subject, lesions)}
        notes = (note for each in self.examinations for note in each.describe(rng).items())
        return {domain: note | carrier for domain, note in notes}

    def render(
        self,
        seed: int,
        subject: int,
        *,
        shape: GridSize | None = None,
        spacing_mm: Point | None = None,
        lesions: float | None = None,
        noise: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """All scans of a cohort's subject, counted from 0, and the truth about it, (X, Y, Z) in RAS+ order.

        By default the whole field of view is covered, whatever the shape. Without noise two scans of one kind differ
        by the contrast agent alone.

        Returns:
            A volume for each scan (int16, in its unit), ``labels`` and ``lesions`` (uint8).
        """
        shape = shape or self.shape
        grid, rng = Space.regular(shape, spacing_mm or self.spacing_mm(shape)), partial(stream, seed, subject)
        scanners = [each.scanner(rng, grid) for each in self.examinations]
        anatomy = self.draw(rng("anatomy"), lesions=self._carries(seed, subject, lesions))
        labels = lay(anatomy.layers, anatomy.coordinates(grid), *scanners)
        values = labels if self.mask == "lesions" else 1
        marked = np.where(np.isin(labels, self.lesion_labels), values, 0).astype(np.uint8)
        scans = {name: voxels for scanner in scanners for name, voxels in scanner.images(noise=noise).items()}
        return scans | {"labels": labels, "lesions": marked}

    def _carries(self, seed: int, subject: int, share: float | None) -> bool:
        return has_lesions(seed, subject, self.lesions if share is None else share)


_ABDOMEN_CT = Kind(
    draw_abdomen,
    (CT({"contrast": True, "plain": False}),),
    Tissue,
    LESIONS,
    field_of_view_mm=(365.0, 365.0, 120.0),
    shape=(96, 96, 24),
    lesions=0.3,
)
_IN_PHASE = SpoiledGradientEcho(tr_ms=150, te_ms=4.6, flip_deg=70)  # fat and water, in a breath-hold
_T1 = SpoiledGradientEcho(tr_ms=25, te_ms=5, flip_deg=35)
_HEAD_SERIES = {
    "t1": Acquisition(_T1),
    "t1_gd": Acquisition(_T1, enhanced=True),
    "t2": Acquisition(SpinEcho(tr_ms=5000, te_ms=95)),
    # Read when the fluid passes through zero.
    "flair": Acquisition(InversionRecovery(tr_ms=9000, te_ms=100, ti_ms=2372)),
}

KINDS: Mapping[str, Kind] = {
    "abdomen_ct": _ABDOMEN_CT,
    "abdomen_mr_ct": replace(_ABDOMEN_CT, examinations=(MR(Tissue, {"mr": Acquisition(_IN_PHASE)}), CT({"ct": False}))),
    "head_mr": Kind(
        draw_head,
        (MR(HeadTissue, _HEAD_SERIES),),
        HeadTissue,
        HEAD_LESIONS,
        field_of_view_mm=(192.0, 224.0, 120.0),
        shape=(96, 112, 30),
        lesions=0.6,
        mask="lesions",
    ),
}
"""By the name that ``medgan data phantom --kind`` and a pipeline's ``phantom`` give."""
