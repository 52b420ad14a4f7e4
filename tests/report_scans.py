"""Small CT pairs and translations of them on disk, for pages."""

import json

import numpy as np

from medgan.data.grid import made_up_grid
from medgan.data.volumes import write_volume


def write_scans(root, subjects, shape=(40, 36, 6), *, phantom=False):
    """CT with contrast medium and without of discs, and translations that keep a fifth of it; by role, the folders."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.hypot(x, y)
    grid = made_up_grid(shape, np.diag([3.0, 3.0, 5.0, 1.0]))
    for number, subject in enumerate(subjects):
        noise = np.random.default_rng(number).normal(0, 5, shape)
        plain = np.select([radius < 0.1, radius < 0.7, radius < 0.9], [600.0, 45.0, -100.0], -1000.0) + noise
        contrast = plain + (150.0 + 10 * number) * ((radius > 0.1) & (radius < 0.35))
        volumes = {"source": contrast, "reference": plain, "synthetic": plain + 0.2 * (contrast - plain)}
        for role, voxels in volumes.items():
            write_volume(voxels.round(), grid, root / role / f"{subject}.nii.gz", np.int16)
        facts = {
            "Model": {"Name": "ct_contrast", "DescriptionSHA256": "0" * 64},
            "Direction": "to_target",
            "Unit": "HU",
        }
        (root / f"synthetic/{subject}.json").write_text(json.dumps(facts))
        if phantom:
            (root / f"reference/{subject}.json").write_text('{"phantom": true}')
    return {name: root / name for name in ("synthetic", "reference", "source", "out")}
