"""Four MR series of one head on one grid: T1-weighted before and after gadolinium, T2-weighted, and FLAIR."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.head import draw_head
from medgan.phantom.mr import (
    HEAD,
    Acquisition,
    InversionRecovery,
    Magnetisation,
    SpinEcho,
    SpoiledGradientEcho,
    bias_field,
    draw_session,
)
from medgan.phantom.space import Point, Size, Space, has_lesions, stream
from medgan.phantom.tissues import HEAD_LESIONS, laid

FIELD_OF_VIEW_MM = (192.0, 224.0, 120.0)
T1 = SpoiledGradientEcho(tr_ms=25, te_ms=5, flip_deg=35)
ACQUISITIONS: Mapping[str, Acquisition] = {
    "t1": Acquisition(T1),
    "t1_gd": Acquisition(T1, enhanced=True),
    "t2": Acquisition(SpinEcho(tr_ms=5000, te_ms=95)),
    "flair": Acquisition(InversionRecovery(tr_ms=9000, te_ms=100, ti_ms=2372)),
}
"""By domain; FLAIR reads when the fluid passes through zero."""


def describe(seed: int, subject: int, *, lesions: float) -> dict[str, dict[str, Any]]:
    """What a subject's sidecars say, by domain."""
    shared = asdict(draw_session(seed, subject)) | {"lesions": has_lesions(seed, subject, lesions)}
    return {domain: shared | asdict(acquisition) for domain, acquisition in ACQUISITIONS.items()}


def default_spacing_mm(shape: Size) -> Point:
    """The voxel size at which the whole field of view is covered."""
    x, y, z = FIELD_OF_VIEW_MM
    return x / shape[0], y / shape[1], z / shape[2]


def render_subject(
    seed: int,
    subject: int,
    *,
    shape: Size = (96, 112, 30),
    spacing_mm: Point | None = None,
    lesions: float = 0.6,
    noise: bool = True,
) -> dict[str, NDArray[Any]]:
    """All series of one subject and the truth about it, (X, Y, Z) in RAS+ order.

    Args:
        seed: The cohort's.
        subject: The subject's number in it, from 0.
        shape: Voxels along x, y and z.
        spacing_mm: The voxels' size; by default 192 x 224 x 120 mm are in view, whatever the shape.
        lesions: Share of subjects with lesions of the white matter.
        noise: Whether the series have noise; without it ``t1`` and ``t1_gd`` differ by gadolinium alone.

    Returns:
        ``t1``, ``t1_gd``, ``t2`` and ``flair`` (int16, arbitrary unit, one scale), ``labels`` (uint8, ``HeadTissue``),
        ``lesions`` (uint8, the labels of lesions, and 0 elsewhere).
    """
    grid = Space.regular(shape, spacing_mm or default_spacing_mm(shape))
    session, coil = draw_session(seed, subject), stream(seed, subject, "relaxation")
    magnetisation = Magnetisation(coil, grid, HEAD, ACQUISITIONS)
    anatomy = draw_head(stream(seed, subject, "anatomy"), lesions=has_lesions(seed, subject, lesions))
    coordinates = anatomy.coordinates(grid)
    labels = laid(grid, ((layer, coordinates) for layer in anatomy.layers), magnetisation)
    bias = bias_field(coil, grid, session.bias)
    rendered: dict[str, NDArray[Any]] = {}
    for domain in ACQUISITIONS:
        rendered[domain] = magnetisation.scanned(
            domain, session, bias, stream(seed, subject, domain) if noise else None
        )
    masked = np.where(np.isin(labels, HEAD_LESIONS), labels, 0).astype(np.uint8)
    return rendered | {"labels": labels, "lesions": masked}
