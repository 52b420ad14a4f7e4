"""Whether the borders of blocks show in a volume that was translated block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from monai.data.utils import dense_patch_slices
from numpy.typing import NDArray

USUAL_PERCENT = 99.9
"""What is still usual: the percentile of what is found away from borders."""

LEAST_SHARE = 0.1
"""Planes with fewer pairs of voxels than this share of their axis' fullest are noise, and are left out."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Seams:
    """How jumps between neighbouring voxels across the borders of blocks compare with those elsewhere.

    All are in the volume's unit, and not a number where there is no border. Of single jumps one in a thousand is above
    the 99.9th percentile at *any* place, so that the largest of many is above it without a seam, too. A seam is a whole
    plane: there the jumps are larger than in the planes before and behind. That is its step.
    """

    largest: float
    """The largest jump across a border."""
    usual: float
    """The 99.9th percentile of the jumps elsewhere."""
    share_above: float
    """Share of the jumps across borders that are above ``usual``: about .001 where borders are like other places."""
    largest_step: float
    """The largest step of a plane between blocks."""
    usual_step: float
    """The 99.9th percentile of the steps of all other planes."""

    @property
    def visible(self) -> bool:
        """Whether a plane between blocks stands out more than planes elsewhere."""
        return self.largest_step > self.usual_step


def block_borders(shape: Sequence[int], block: Sequence[int], overlap: float = 0.5) -> tuple[tuple[int, ...], ...]:
    """Where ``medgan.networks.sliding.maps_over_blocks`` begins or ends a block inside a volume of (X, Y, Z).

    By axis, the first voxel behind each border; ``overlap`` is the share of a block that its neighbour sees too.
    """
    sizes = [min(size, whole) for size, whole in zip(block, shape, strict=True)]
    steps = [
        size if size == whole else max(1, int(size * (1 - overlap))) for size, whole in zip(sizes, shape, strict=True)
    ]
    blocks = dense_patch_slices(shape, sizes, steps)
    return tuple(
        tuple(sorted({int(end) for part in blocks for end in (part[axis].start, part[axis].stop)} - {0, whole}))
        for axis, whole in enumerate(shape)
    )


def seams(values: Array, borders: Sequence[Sequence[int]], inside: Mask | None = None) -> Seams:
    """The jumps across borders beside those elsewhere.

    Give the *change* that a translation made (output minus input): an edge of the anatomy is no seam.

    Args:
        values: (X, Y, Z).
        borders: By axis, the first voxel behind each border, as :func:`block_borders` gives them.
        inside: Where to look; a jump counts if both its voxels are inside. By default everywhere.
    """
    inside = np.ones(values.shape, bool) if inside is None else inside
    jumps: dict[bool, list[Array]] = {True: [np.empty(0, np.float32)], False: [np.empty(0, np.float32)]}
    steps: dict[bool, list[float]] = {True: [], False: []}
    for axis, places in enumerate(borders):
        planes, counted = _jumps(np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0))
        for plane, (jump, counts) in enumerate(zip(planes, counted, strict=True), start=1):
            jumps[plane in places].append(jump[counts])
        for plane, step in _steps(planes, counted):
            steps[plane in places].append(step)
    border, usual = np.concatenate(jumps[True]), _usual(np.concatenate(jumps[False]))
    return Seams(
        largest=float(border.max()) if border.size else float("nan"),
        usual=usual,
        share_above=float((border > usual).mean()) if border.size else float("nan"),
        largest_step=max(steps[True], default=float("nan")),
        usual_step=_usual(np.array(steps[False])),
    )


def _jumps(values: Array, inside: Mask) -> tuple[Array, Mask]:
    """The jumps along the first axis, and which of them count; number 0 is between the voxels 0 and 1."""
    return np.abs(np.diff(values, axis=0)), inside[1:] & inside[:-1]


def _steps(planes: Array, counted: Mask) -> Iterator[tuple[int, float]]:
    """The first voxel behind each plane, and the mean by which its jumps exceed those one plane before and behind."""
    pairs = counted[1:-1] & counted[:-2] & counted[2:]
    found = pairs.sum(axis=(1, 2))
    excess = planes[1:-1] - (planes[:-2] + planes[2:]) / 2
    for number in np.flatnonzero(found > LEAST_SHARE * found.max(initial=0)).tolist():
        yield number + 2, float(excess[number][pairs[number]].mean())


def _usual(found: NDArray[np.floating]) -> float:
    return float(np.percentile(found, USUAL_PERCENT)) if found.size else float("nan")
