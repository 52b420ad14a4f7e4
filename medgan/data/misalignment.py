"""Pairs made to misfit: a training target moved in plane by a known number of voxels, to learn what that costs."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medgan.data.preparation import Prepared

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Along the axes only: every shift has the wanted length to the voxel, and nothing is interpolated."""


def misaligned(study: Prepared, voxels: int, *, subject: str, seed: int) -> Prepared:
    """A study moved in plane in a direction that its subject draws; its affine and body stay, as if it did fit.

    Args:
        study: The target of a pair, on the networks' grid.
        voxels: How far, in voxels of that grid; 0 returns the study itself.
        subject: Whose it is: all images of a subject move alike, and different subjects differently.
        seed: Of the draw.
    """
    if voxels == 0:
        return study
    right, anterior = direction(subject, seed)
    return replace(study, voxels=moved(study.voxels, voxels * right, voxels * anterior))


def direction(subject: str, seed: int) -> tuple[int, int]:
    """One of the four directions, as steps to the right and to the front; a function of the seed and the name alone."""
    digest = hashlib.sha256(f"{seed} {subject}".encode()).digest()
    return DIRECTIONS[digest[0] % len(DIRECTIONS)]


def moved(voxels: NDArray[np.float32], right: int, anterior: int) -> NDArray[np.float32]:
    """Voxels (X, Y, Z) moved by whole voxels along X and Y; what comes in repeats the edge."""
    along = [
        np.clip(np.arange(size) - step, 0, size - 1)
        for size, step in zip(voxels.shape[:2], (right, anterior), strict=True)
    ]
    return np.ascontiguousarray(voxels[np.ix_(*along)])
