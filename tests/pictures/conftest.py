import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from medgan.data.grid import Volume, made_up_grid

SIZE = (40, 50, 30)
SPACING_MM = (1.0, 1.2, 2.5)


def turned(degrees):
    """A rotation about the patient's long axis."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


@pytest.fixture
def marked(tmp_path):
    """Makes a volume with a bright block at the patient's left, front and top, stored along ``codes``."""

    def make(codes="RAS", oblique_degrees=0.0):
        voxels = np.full(SIZE, -1000.0, np.float32)
        voxels[4:12, 36:46, 20:27] = 1000.0  # x grows to the right, y to the front, z to the head
        affine = np.diag([*SPACING_MM, 1.0])
        affine[:3, 3] = -np.multiply(SPACING_MM, np.subtract(SIZE, 1)) / 2
        affine = turned(oblique_degrees) @ affine
        turn = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
        stored = np.ascontiguousarray(apply_orientation(voxels, turn))
        return Volume(stored, made_up_grid(stored.shape, affine @ inv_ornt_aff(turn, SIZE)), tmp_path / "marked.nii.gz")

    return make


ORDERS = {"LPS": ("LPS", 0), "RAS": ("RAS", 0), "sagittal": ("ASL", 0), "coronal": ("RSP", 0), "oblique": ("LPS", 20)}
"""How volumes are stored: by name, the axes' directions and a turn in degrees."""
