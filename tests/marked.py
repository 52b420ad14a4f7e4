"""A volume with a bright block at the patient's left front, in whatever order it is stored."""

from pathlib import Path

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from medgan.data.grid import Volume, made_up_grid

SIZE = (40, 50, 30)
SPACING_MM = (1.0, 1.2, 2.5)
ORDERS = {"LPS": ("LPS", 0), "RAS": ("RAS", 0), "sagittal": ("ASL", 0), "coronal": ("RSP", 0), "oblique": ("LPS", 20)}
"""How volumes are stored: by name, the axes' directions and a turn in degrees."""


def turned(degrees):
    """A rotation about the patient's long axis."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


def marked(codes="RAS", oblique_degrees=0.0, bright=240.0):
    """The volume, stored along ``codes``: in RAS+ the block lies at voxels 4-12 of 40, 36-46 of 50 and 20-27 of 30."""
    voxels = np.full(SIZE, -1000.0, np.float32)
    voxels[2:-2, 2:-2] = 0.0  # a body
    voxels[4:12, 36:46, 20:27] = bright  # x grows to the right, y to the front, z to the head
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -np.multiply(SPACING_MM, np.subtract(SIZE, 1)) / 2
    affine = turned(oblique_degrees) @ affine
    turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
    stored = np.ascontiguousarray(apply_orientation(voxels, turn))
    grid = made_up_grid(stored.shape, affine @ inv_ornt_aff(turn, SIZE))
    return Volume(stored, grid, Path(f"{codes}.nii.gz"))


def bright_centre(tile):
    """Where the block is in a drawn tile (side, side, 3): shares of height and width, and its extent in pixels.

    Letters and scale bar lie near the edges.
    """
    inside = np.asarray(tile)[16:-40, 16:-16].min(axis=2) > 200
    rows, columns = np.nonzero(inside)
    return (rows.mean() + 16) / len(tile), (columns.mean() + 16) / len(tile), np.ptp(rows) + 1, np.ptp(columns) + 1
