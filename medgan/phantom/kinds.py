"""The kinds of phantom: what is scanned of which body, and what its labels mean. One renderer serves all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.anatomy import Anatomy, draw_abdomen
from medgan.phantom.ct import CT
from medgan.phantom.head import draw_head
from medgan.phantom.mr import ABDOMEN, HEAD, MR, Acquisition, InversionRecovery, SpinEcho, SpoiledGradientEcho
from medgan.phantom.space import Point, Size, Space, has_lesions, stream
from medgan.phantom.tissues import HEAD_LESIONS, LESIONS, HeadTissue, Tissue, lay


@dataclass(frozen=True)
class Kind:
    """One kind of phantom."""

    draw: Callable[..., Anatomy]
    """A random anatomy: ``draw(rng, lesions=True)``."""
    examinations: tuple[CT | MR, ...]
    """All on one grid, without motion between them. Domains in order: source, target, then what else is scanned."""
    labels: type[IntEnum]
    lesion_labels: tuple[IntEnum, ...]
    field_of_view_mm: Point
    shape: Size
    """Voxels along x, y and z, by default."""
    lesions: float
    """Share of subjects with lesions, by default."""
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

    def spacing_mm(self, shape: Size) -> Point:
        """The voxel size at which the whole field of view is covered."""
        x, y, z = (length / size for length, size in zip(self.field_of_view_mm, shape, strict=True))
        return x, y, z

    def describe(self, seed: int, subject: int, *, lesions: float | None = None) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says, by domain."""
        rng, carrier = partial(stream, seed, subject), {"lesions": self._carries(seed, subject, lesions)}
        notes = [each.describe(rng) for each in self.examinations]
        return {domain: note | carrier for each in notes for domain, note in each.items()}

    def render(
        self,
        seed: int,
        subject: int,
        *,
        shape: Size | None = None,
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
        lay([layer for scanner in scanners for layer in scanner.furniture], grid, *scanners)
        anatomy = self.draw(rng("anatomy"), lesions=self._carries(seed, subject, lesions))
        labels = lay(anatomy.layers, anatomy.coordinates(grid), *scanners)
        kept = labels if self.mask == "lesions" else 1
        marked = np.where(np.isin(labels, self.lesion_labels), kept, 0).astype(np.uint8)
        scans = [scanner.images(noise=noise) for scanner in scanners]
        return {name: voxels for each in scans for name, voxels in each.items()} | {"labels": labels, "lesions": marked}

    def _carries(self, seed: int, subject: int, share: float | None) -> bool:
        return has_lesions(seed, subject, self.lesions if share is None else share)


_abdomen = partial(
    Kind,
    draw_abdomen,
    labels=Tissue,
    lesion_labels=LESIONS,
    field_of_view_mm=(365.0, 365.0, 120.0),
    shape=(96, 96, 24),
    lesions=0.3,
)
_T1 = SpoiledGradientEcho(tr_ms=25, te_ms=5, flip_deg=35)

KINDS: Mapping[str, Kind] = {
    "abdomen_ct": _abdomen((CT({"contrast": True, "plain": False}),)),
    # In a breath-hold, fat and water in phase.
    "abdomen_mr_ct": _abdomen(
        (MR(ABDOMEN, {"mr": Acquisition(SpoiledGradientEcho(tr_ms=150, te_ms=4.6, flip_deg=70))}), CT({"ct": False}))
    ),
    # FLAIR reads when the fluid passes through zero.
    "head_mr": Kind(
        draw_head,
        (
            MR(
                HEAD,
                {
                    "t1": Acquisition(_T1),
                    "t1_gd": Acquisition(_T1, enhanced=True),
                    "t2": Acquisition(SpinEcho(tr_ms=5000, te_ms=95)),
                    "flair": Acquisition(InversionRecovery(tr_ms=9000, te_ms=100, ti_ms=2372)),
                },
            ),
        ),
        HeadTissue,
        HEAD_LESIONS,
        field_of_view_mm=(192.0, 224.0, 120.0),
        shape=(96, 112, 30),
        lesions=0.6,
        mask="lesions",
    ),
}
"""By the name that ``medgan data phantom --kind`` and a pipeline's ``phantom`` give."""
