"""Made-up bodies with organs, and a translation of them that is known."""

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE, SPACING = (56, 48, 20), (3.0, 3.0, 4.0)
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = (-80, -70, -40)


def ball(centre, radius_mm):
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    return (np.linalg.norm((index - centre) * SPACING, axis=-1) <= radius_mm).astype(np.float32)


def body(seed):
    """HU with organs at places of their own: fat, muscle, two organs, a bone."""
    random = np.random.default_rng(seed)
    x, y, _ = np.indices(SHAPE)
    inside = ((x - 27.5) / 24) ** 2 + ((y - 23.5) / 20) ** 2
    hu = np.select([inside < 0.7, inside < 1], [55.0, -95.0], -1000.0)
    for centre, radius, value in (((20, 24, 10), 24, 110), ((38, 28, 9), 16, 170), ((28, 10, 10), 12, 600)):
        place = np.array(centre) + random.integers(-1, 2, 3)
        hu += (value - hu) * ball(place, radius)
    return ndimage.gaussian_filter(hu, 0.6) + random.normal(0, 8, SHAPE)


def translated(hu, seed):
    """By one look-up for all, with noise of its own."""
    known = np.interp(hu, [-1000, -95, 55, 110, 170, 600], [-1000, -95, 40, 55, 35, 560])
    return known + np.random.default_rng(1000 + seed).normal(0, 6, SHAPE)


def save(path, voxels, affine=AFFINE, dtype=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.rint(voxels).astype(dtype), affine).to_filename(path)
