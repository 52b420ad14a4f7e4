# mypy: untyped-calls-exclude="SimpleITK"
"""Whether a registration can be trusted: figures before and after, and the limits that they must keep."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from scipy.ndimage import gaussian_filter
from scipy.stats import entropy

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.grid import Volume
from medgan.data.streams import replacing
from medgan.pictures.tiles import OUTLINES, Outline, Row, Tile, sheet
from medgan.pictures.views import PLANES, view_of
from medgan.pictures.windows import DisplayWindow, window_for
from medgan.registration.search import Side, centred, matrix_lps, on, voxels_of

PairStatus = Literal["accepted", "refused", "failed"]

BINS = 32
BLOCK_MM = 30.0
"""Edge of the blocks by which the noise of mutual information is measured: neighbouring voxels say the same."""
NOISE_ERRORS = 3.0
"""A gain of fewer standard errors is noise: the best of several ends of a search looks better than it is."""
MOST_POINTS = 20_000
"""Body voxels whose displacement is measured."""
FIELDS = 8
"""Of the checkerboard, along the shorter edge of a slice."""
EDGES = (0.2, 0.7)
"""Of the moved scan's window: its skin, and what is bright."""
EDGE_SIGMA = 1.5
"""Pixels by which it is smoothed first: edges of noise would hide all others."""


class Limits(Config):
    """What a registration must keep to be passed on."""

    least_dice: float = Field(default=0.0, ge=0, le=1)
    """Of the body outlines after registration, where both scans look; below it, the pair is refused."""
    least_covered: float = Field(default=0.5, ge=0, le=1)
    """Share of the fixed body that the moving scan shows; below it, the pair is refused."""
    largest_displacement_mm: PositiveFloat = 150.0
    """Of a body voxel, from where the headers or else the centred bodies put it; beyond it, the search went astray."""
    largest_rotation_degrees: PositiveFloat = 45.0
    """Beyond it, the search went astray."""
    lost_information: float = Field(default=0.02, ge=0, lt=1)
    """Share of the mutual information that may be lost: a pair that was aligned gains none, and is interpolated."""


@dataclass(frozen=True)
class Quality:
    """What registration did to a pair."""

    mutual_information_before: float
    """In nats, where the rigid registration looks (around the bones of a CT, else near the fixed body) and both scans
    show something; before, as the headers say."""
    mutual_information_after: float
    gain_noise: float
    """Standard error of the difference between the two, over blocks of the scan; 0 where the headers alone bring less
    than half of these voxels together."""
    dice_before: float
    """Of the two body masks, where both scans look; 0 where they do not overlap."""
    dice_after: float
    covered: float
    """Share of the fixed body that the moving scan shows."""
    largest_displacement_mm: float
    """How far the farthest body voxel went from where the headers put it."""
    from_start_mm: float
    """The same, from the nearer of the two starts: the headers, or the bodies centred on each other."""
    rotation_degrees: float
    translation_mm: float
    """Of the centre of the fixed body."""


def measure(fixed: Side, moving: Side, rigid: sitk.Euler3DTransform, transform: sitk.Transform) -> Quality:
    """Figures of a registration; ``transform`` is ``rigid``, or contains it and a deformation."""
    before_and_after = sitk.Transform(3, sitk.sitkIdentity), transform
    body, everywhere = voxels_of(fixed.body) > 0, moving.body * 0 + 1
    # Of which voxels the moving scan shows something, air or not.
    shown_before, shown = (on(fixed.image, everywhere, each) for each in before_and_after)
    body_before, body_after = (on(fixed.image, moving.body, each) for each in before_and_after)
    where = voxels_of(fixed.near if fixed.bone is None else fixed.bone) > 0
    if fixed.bone is None and moving.bone is not None:
        # All that either takes to its bones: compared on the same voxels, since mutual information of few is too high.
        where = np.any([on(fixed.image, moving.bone, each) for each in before_and_after], axis=0)
    lowest = float(sitk.GetArrayViewFromImage(moving.image).min())
    images = [
        voxels_of(sitk.Resample(moving.image, fixed.image, each, sitk.sitkLinear, lowest)) for each in before_and_after
    ]
    still_image = voxels_of(fixed.image)
    before = _mutual_information(still_image[where & shown_before], images[0][where & shown_before])
    after = _mutual_information(still_image[where & shown], images[1][where & shown])
    both = where & shown_before & shown
    noise = 0.0
    if 2 * both.sum() >= max((where & shown).sum(), 1):
        blocks = np.argwhere(both) * np.array(fixed.image.GetSpacing()) // BLOCK_MM
        noise = _gain_noise(still_image[both], images[0][both], images[1][both], blocks)
    indices = np.argwhere(body)[:: max(1, int(body.sum()) // MOST_POINTS)]
    points = np.array([fixed.body.TransformIndexToPhysicalPoint(index) for index in indices.tolist()])  # LPS+ mm
    ends = np.array([transform.TransformPoint(point) for point in points.tolist()])
    centre = np.array(centred(fixed, moving).GetTranslation())
    from_headers, from_centred = (float(np.linalg.norm(ends - points - t, axis=1).max()) for t in (0.0, centre))
    turn = matrix_lps(rigid)[:3, :3]
    middle = np.array(rigid.TransformPoint(points.mean(axis=0).tolist()))
    return Quality(
        mutual_information_before=before,
        mutual_information_after=after,
        gain_noise=noise,
        dice_before=dice(body & shown_before, body_before & shown_before),
        dice_after=dice(body & shown, body_after & shown),
        covered=float((body & shown).sum() / body.sum()),
        largest_displacement_mm=from_headers,
        from_start_mm=min(from_headers, from_centred),
        rotation_degrees=math.degrees(math.acos(np.clip((np.trace(turn) - 1) / 2, -1, 1))),
        translation_mm=float(np.linalg.norm(middle - points.mean(axis=0))),
    )


def gains_nothing(quality: Quality, voxel_mm: float) -> bool:
    """Whether the scans were aligned as well before: what was gained is noise, or a move within a voxel lost something.

    They then need not be moved, nor interpolated.
    """
    gained = quality.mutual_information_after - quality.mutual_information_before
    noise = NOISE_ERRORS * quality.gain_noise
    return abs(gained) <= noise or (gained <= 0 and quality.largest_displacement_mm < voxel_mm)


def judge(quality: Quality, limits: Limits) -> tuple[PairStatus, str]:
    """Whether a registration is passed on, and if not, why."""
    gained = quality.mutual_information_after - quality.mutual_information_before
    if gained < -limits.lost_information * quality.mutual_information_before:
        text = f"mutual information fell from {quality.mutual_information_before:.3f} "
        return "failed", text + f"to {quality.mutual_information_after:.3f}"
    if quality.from_start_mm > limits.largest_displacement_mm:
        return "failed", f"a displacement of {quality.from_start_mm:.0f} mm is not plausible"
    if quality.rotation_degrees > limits.largest_rotation_degrees:
        return "failed", f"a rotation of {quality.rotation_degrees:.0f} degrees is not plausible"
    if quality.covered < limits.least_covered:
        return "refused", f"the moving scan shows {quality.covered:.0%} of the fixed body"
    if quality.dice_after < limits.least_dice:
        return "refused", f"Dice of the body outlines {quality.dice_after:.3f} is below {limits.least_dice:g}"
    return "accepted", ""


def _mutual_information(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Of two images' intensities (voxels,), in nats, from a joint histogram of 32 × 32 bins; 0 without voxels."""
    if one.size == 0:
        return 0.0
    joint, _, _ = np.histogram2d(one, other, bins=BINS)
    return float(entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)) - entropy(joint.ravel()))


def _gain_noise(
    fixed: NDArray[np.floating], before: NDArray[np.floating], after: NDArray[np.floating], blocks: NDArray[np.floating]
) -> float:
    """Standard error of the mutual information that a move gains, of intensities at the same voxels (N,).

    Mutual information is the mean over voxels of log p(x, y) / p(x) p(y). How much that rises differs from place to
    place; the error is that of its mean when blocks of the scan are drawn anew. ``blocks`` (N, 3) says in which block
    each voxel lies.
    """
    rise = _pointwise(fixed, after) - _pointwise(fixed, before)
    _, block = np.unique(blocks, axis=0, return_inverse=True)
    apart = np.bincount(block.ravel(), rise - rise.mean())  # a block's voxels times their distance from the mean
    return float(np.sqrt((apart**2).sum() * len(apart) / max(len(apart) - 1, 1)) / len(rise))


def _pointwise(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log p(x, y) / p(x) p(y) of each voxel (N,), of a histogram as in :func:`mutual_information`."""
    cells = [
        np.minimum((each - each.min()) / max(float(np.ptp(each)), 1e-30) * BINS, BINS - 1).astype(int)
        for each in (one, other)
    ]
    joint = np.bincount(cells[0] * BINS + cells[1], minlength=BINS**2).reshape(BINS, BINS) / len(one)
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return np.asarray(np.log(joint[*cells] / alone[*cells]))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Overlap of two masks of one shape: 1 where equal, 0 where apart or both empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0


def _checkerboard(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Two slices (rows, columns) as the fields of one board; the first field, at index 0, 0, shows ``one``."""
    edge = max(1, min(one.shape) // FIELDS)
    row, column = np.indices(one.shape) // edge
    return np.where((row + column) % 2 == 0, one, other)


def draw_pair(
    fixed: Volume, moved: NDArray[np.float32], domains: tuple[Domain, Domain], path: Path, title: str
) -> None:
    """Write a PNG of a scan and another on its grid: both, a checkerboard, and edges, in the middle of each plane."""
    windows = [window_for(domain, voxels) for voxels, domain in zip((fixed.voxels, moved), domains, strict=True)]
    rows = []
    for plane in PLANES[::-1]:
        still, other = view_of(fixed, plane), view_of(replace(fixed, voxels=moved), plane)
        one, two = ((each.pixels - window.lower) / (window.upper - window.lower)
                    for each, window in zip((still, other), windows, strict=True))  # fmt: skip
        board = replace(still, pixels=_checkerboard(*(np.clip(each, 0, 1) for each in (one, two))))
        smooth = gaussian_filter(two, EDGE_SIGMA)
        edges = [
            Outline(smooth >= level, colour, f"{level:.0%} of the window")
            for level, colour in zip(EDGES, OUTLINES, strict=False)
        ]
        tiles = [
            Tile(still, windows[0], f"fixed: {domains[0].name}"),
            Tile(other, windows[1], f"moved: {domains[1].name}"),
            Tile(board, DisplayWindow("each in its own window", 0.0, 1.0, ""), "checkerboard"),
            Tile(still, windows[0], f"edges of {domains[1].name} on {domains[0].name}", edges),
        ]
        rows.append(Row(tiles, still.caption))
    with replacing(path) as stream:
        stream.write(sheet(rows, title, title=title).png())
