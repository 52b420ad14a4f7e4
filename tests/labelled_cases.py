"""Labelled cases made up in memory, whose body fills the image."""

import numpy as np

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled


def case_of(labels, voxels, subject="s", *, noise=0.0, seed=0, affine=None, bounds=(0.0, 200.0)):
    """A case of ``voxels`` (X, Y, Z) and normal noise of this deviation."""
    voxels = (voxels + np.random.default_rng(seed).normal(0, noise, labels.shape)).astype(np.float32)
    body = tuple((0, size) for size in labels.shape)
    image = Prepared(voxels, np.eye(4) if affine is None else affine, body, bounds)
    return Labelled(subject, image, labels.astype(np.uint8))


def boxed_case(shape, lesions, number=0, *, level=100, contrast=60, noise=5.0, **changes):
    """A case of noise about a level, with a brighter box for each name; ``lesions`` are slices, as of ``np.s_``."""
    labels = np.zeros(shape, dtype=np.uint8)
    for name, box in enumerate(lesions, start=1):
        labels[box] = name
    return case_of(labels, level + contrast * labels, f"s{number}", noise=noise, seed=number, **changes)
