"""T1-weighted MR and CT without iodine of one abdomen, on one grid.

The body and the CT are those of the kind ``abdomen_ct`` with the same seed; there is no motion between the scans.
"""

from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from medgan.phantom import ct
from medgan.phantom.anatomy import draw_abdomen
from medgan.phantom.ct import Attenuation, abdomen_pieces, draw_scan, scanned, truth
from medgan.phantom.mr import ABDOMEN, Acquisition, Magnetisation, SpoiledGradientEcho, bias_field, draw_session
from medgan.phantom.space import Point, Size, Space, has_lesions, stream
from medgan.phantom.tissues import laid

ACQUISITION = Acquisition(SpoiledGradientEcho(tr_ms=150, te_ms=4.6, flip_deg=70))
"""In a breath-hold, fat and water in phase."""


def default_spacing_mm(shape: Size) -> Point:
    """The voxel size at which the whole field of view is covered."""
    return ct.default_spacing_mm(shape)


def describe(seed: int, subject: int, *, lesions: float) -> dict[str, dict[str, Any]]:
    """What a subject's sidecars say, by domain."""
    scan, carrier = draw_scan(seed, subject), {"lesions": has_lesions(seed, subject, lesions)}
    mr = asdict(draw_session(seed, subject)) | asdict(ACQUISITION)
    return {
        "mr": mr | carrier,
        "ct": {"noise_hu": scan.noise_hu, "blur_mm": scan.blur_mm, "table": scan.table} | carrier,
    }


def render_subject(
    seed: int,
    subject: int,
    *,
    shape: Size = (96, 96, 24),
    spacing_mm: Point | None = None,
    lesions: float = 0.3,
    noise: bool = True,
) -> dict[str, NDArray[Any]]:
    """Both scans of one subject and the truth about it, (X, Y, Z) in RAS+ order.

    Args:
        seed: The cohort's.
        subject: The subject's number in it, from 0.
        shape: Voxels along x, y and z.
        spacing_mm: The voxels' size; by default 365 x 365 x 120 mm are in view, whatever the shape.
        lesions: Share of subjects with liver lesions.
        noise: Whether the scans have noise.

    Returns:
        ``mr`` (int16, arbitrary unit), ``ct`` (int16, HU), ``labels`` (uint8, ``Tissue``), ``lesions`` (uint8, 0 or 1).
    """
    scan, grid = draw_scan(seed, subject), Space.regular(shape, spacing_mm or default_spacing_mm(shape))
    session, coil = draw_session(seed, subject), stream(seed, subject, "relaxation")
    attenuation = Attenuation(stream(seed, subject, "materials"), grid, scan)
    magnetisation = Magnetisation(coil, grid, ABDOMEN, {"mr": ACQUISITION})
    anatomy = draw_abdomen(stream(seed, subject, "anatomy"), lesions=has_lesions(seed, subject, lesions))
    labels = laid(grid, abdomen_pieces(anatomy, grid, table=scan.table), attenuation, magnetisation)
    bias = bias_field(coil, grid, session.bias)
    mr = magnetisation.scanned("mr", session, bias, stream(seed, subject, "mr") if noise else None)
    ct = scanned(attenuation.hu, scan, grid, stream(seed, subject, "plain") if noise else None)
    return {"mr": mr, "ct": ct} | truth(labels)
