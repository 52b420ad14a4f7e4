"""Made-up limbs to register, and settings under which that takes a fraction of a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from medgan.data.domains import domain_named
from medgan.data.grid import Volume, made_up_grid
from medgan.data.masks import body_mask
from medgan.registration.cohort import PairConfig
from medgan.registration.search import RegistrationConfig, Side, side


@pytest.fixture(scope="session")
def scan() -> Callable[..., Volume]:
    """A made-up limb as CT or MR: ``scan("MR", moved=matrix)``; ``moved`` (4, 4) takes it elsewhere, RAS+ mm, exactly.

    The intensities are a function of the place, so a moved scan is no interpolated one.
    """
    parts = [
        ((0, 0, 0), (30, 24, 60)),
        ((8, 6, 0), (7, 7, 60)),
        ((-12, -6, 10), (9, 7, 12)),
        ((-6, 10, -14), (8, 6, 9)),
    ]
    intensities = {"CT": (-1000, 40, 500, -90, 110), "MR": (5, 300, 60, 700, 480)}

    def make(modality, moved=None, shape=(34, 30, 24), spacing=(2.5, 2.5, 3.5), seed=0):
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -(np.array(shape) - 1) * spacing / 2
        index = np.indices(shape).reshape(3, -1)
        at = np.linalg.inv(np.eye(4) if moved is None else moved) @ affine @ np.vstack([index, np.ones(index.shape[1])])
        values = np.full(index.shape[1], float(intensities[modality][0]))
        for (centre, radii), value in zip(parts, intensities[modality][1:], strict=True):
            depth = (1 - np.linalg.norm((at[:3].T - centre) / radii, axis=1)) * min(radii)
            values += (value - values) / (1 + np.exp(-2 * depth))
        values += np.random.default_rng(seed).normal(0, 5, len(values))
        voxels = np.maximum(values, 0) if modality == "MR" else values
        return Volume(voxels.reshape(shape).astype(np.float32), made_up_grid(shape, affine), Path(f"{modality}.nii.gz"))

    return make


@pytest.fixture(scope="session")
def rigid() -> Callable[..., np.ndarray]:
    """A rigid motion (4, 4) in RAS+ mm: ``rigid([0, 0, 8], [5, 0, -3])``, degrees and mm about the origin."""

    def make(degrees=(0, 0, 0), shift_mm=(0, 0, 0)):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        matrix[:3, 3] = shift_mm
        return matrix

    return make


@pytest.fixture(scope="session")
def flesh_apart(scan) -> Callable[..., Volume]:
    """A CT whose deep part and bone moved otherwise than the rest: ``flesh_apart(deep=matrix, flesh=matrix)``."""

    def make(deep=None, flesh=None):
        volume = scan("CT", deep)
        affine = volume.grid.affine
        x_mm, y_mm = (affine[a, a] * np.arange(volume.voxels.shape[a]) + affine[a, 3] for a in (0, 1))
        outside = (x_mm[:, None] / 22) ** 2 + (y_mm[None] / 16) ** 2 >= 1
        volume.voxels[outside] = scan("CT", flesh).voxels[outside]
        return volume

    return make


@pytest.fixture(scope="session")
def quick() -> PairConfig:
    """Settings under which a registration of :func:`scan` takes a fraction of a second."""
    levels = (8.0, 6.0, 4.0, 2.5)
    config = RegistrationConfig(
        level_spacings_mm=levels, samples=8000, start_rotation_degrees=0.0, kept_starts=1, iterations=60
    )
    return PairConfig(rigid=config)


@pytest.fixture(scope="session")
def sides(quick) -> Callable[..., list[Side]]:
    """Volumes with their modalities, ready to register: ``sides((fixed, "MR"), (moving, "CT"))``."""

    def make(*scans):
        domains = [domain_named(modality.lower()) for _, modality in scans]
        return [
            side(volume, body_mask(volume.voxels, domain), domain, quick.rigid)
            for (volume, _), domain in zip(scans, domains, strict=True)
        ]

    return make
