"""Labelled copies that need no network: histograms matched to the target domain, and the masks of other subjects."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.exposure import match_histograms

from medgan.data.domains import Domain
from medgan.data.hashes import file_hash
from medgan.data.masks import body_mask
from medgan.data.studies import Study
from medgan.data.volumes import Volume, read_volume, write_volume
from medgan.errors import DataError

COPIES = 3
"""Matched copies of an image, each to another target image and with another gamma, so that they vary as scans do."""
LARGEST_GAMMA = 1.25
"""The exponent lies between its inverse and this."""
INT16 = np.iinfo(np.int16)


def matched_copies(
    sources: Sequence[Study], references: Sequence[Study], source: Domain, target: Domain, folder: Path
) -> tuple[Study, ...]:
    """Each labelled source image with the histogram of a target image, and a gamma; its mask stays.

    Copies are written to ``folder``, where what is there is kept, and count as of the target domain.
    """
    random = np.random.default_rng(0)
    place = folder / _key([*sources, *references])
    copies = []
    for index, study in enumerate(sources):
        for number in range(COPIES):
            reference = references[int(random.integers(len(references)))]
            gamma = float(LARGEST_GAMMA ** random.uniform(-1, 1))
            path = place / f"{index:04d}_{number}.nii.gz"
            if not path.exists():
                volume = read_volume(study.image)
                found = matched(volume, read_volume(reference.image), source, target, gamma)
                is_ct = target.modality == "CT"
                write_volume(np.rint(found) if is_ct else found, volume.grid, path, np.int16 if is_ct else np.float32)
            copies.append(Study(study.subject, target.name, path, study.mask))
    return tuple(copies)


def matched(
    volume: Volume, reference: Volume, source: Domain, target: Domain, gamma: float = 1.0
) -> NDArray[np.float32]:
    """A body with the histogram of another body, then contrast by a gamma on [0, 1] of the target's window.

    Intensities outside of the window stay, and what is not body becomes the target's air.

    Returns:
        (X, Y, Z) as the volume, in the unit of the reference, which may be of any shape.
    """
    inside, other = body_mask(volume.voxels, source), body_mask(reference.voxels, target)
    result = np.full(volume.voxels.shape, target.air, dtype=np.float32)
    if not inside.any() or not other.any():
        return result
    values = match_histograms(volume.voxels[inside], reference.voxels[other])
    lower, upper = target.window.bounds(reference.voxels)
    share = (values - lower) / (upper - lower)
    seen = (share > 0) & (share < 1)
    values[seen] = lower + share[seen] ** gamma * (upper - lower)
    result[inside] = np.clip(values, INT16.min, INT16.max) if target.modality == "CT" else values
    return result


def shuffled_masks(studies: Sequence[Study], folder: Path) -> tuple[Study, ...]:
    """The same images, each with the mask of the next subject in a drawn round; no subject keeps its own.

    Where grids differ, the mask is stretched over the image: that it does not fit is the point. Masks are written to
    ``folder``.

    Raises:
        DataError: One subject only.
    """
    subjects = sorted({study.subject for study in studies})
    if len(subjects) < 2:
        raise DataError(f"masks of {len(subjects)} subject(s) cannot be exchanged; leave the arm real+shuffled out.")
    drawn = np.random.default_rng(0).permutation(subjects).tolist()
    following = dict(zip(drawn, [*drawn[1:], drawn[0]], strict=True))
    first = {study.subject: study for study in reversed(studies)}
    place = folder / _key(studies)
    result = []
    for index, study in enumerate(studies):
        path = place / f"{index:04d}.nii.gz"
        wrong = first[following[study.subject]].mask
        assert wrong is not None
        if not path.exists():
            image, mask = read_volume(study.image), read_volume(wrong)
            write_volume(stretched(mask.voxels, image.grid.size), image.grid, path, np.uint8)
        result.append(Study(study.subject, study.domain, study.image, path))
    return tuple(result)


def _key(studies: Sequence[Study]) -> str:
    """A name for what is made of these images and masks: of other ones, nothing that is there is taken for theirs."""
    files = ((study.subject, study.image, study.mask) for study in studies)
    lines = ["\t".join([subject, *(file_hash(path) for path in paths if path)]) for subject, *paths in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def stretched(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) of any shape over another, by nearest index; the same where the shapes are equal."""
    index = [
        np.rint(np.linspace(0, before - 1, after)).astype(int)
        for before, after in zip(labels.shape, shape, strict=True)
    ]
    return np.asarray(labels[np.ix_(*index)], dtype=np.uint8)
