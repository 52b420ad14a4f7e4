"""Patches with a lesion in their middle, cut from real and synthetic images by one rule."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.masks import voxels_of
from medgan.data.patches import cut, cut_labels
from medgan.data.preparation import Prepared
from medgan.errors import DataError

SLICES = (0.25, 0.5, 0.75)
"""Where 2D patches lie within a lesion, as shares of the slices that it is in."""
BLUR_VOXELS = 1.5
"""Standard deviation of the Gaussian that takes real patches' texture."""
NOISE = 0.02
"""Standard deviation, of images in [-1, 1]: what keeps repeated patches and copies from being equal to the bit."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Origin:
    """Where a patch was cut."""

    subject: str
    lesion: str
    """Which one, of which image."""
    recipient: str | None = None
    """The real subject in whose image a synthetic lesion lies."""
    centre: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    """The patch's, in voxels of the image; not a number where the image is the patch."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one kind, as many images as labels as origins."""

    images: Floats
    """(N, *shape) in [-1, 1]."""
    labels: NDArray[np.uint8]
    """(N, *shape): 0 is background, n the n-th name."""
    origins: tuple[Origin, ...]

    def __len__(self) -> int:
        return len(self.origins)

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,), whose anatomy each shows: the recipient's, else the subject's."""
        return np.array([origin.recipient or origin.subject for origin in self.origins])

    @property
    def lesions(self) -> NDArray[np.str_]:
        """(N,), which lesion each shows."""
        return np.array([origin.lesion for origin in self.origins])

    @property
    def classes(self) -> NDArray[np.intp]:
        """(N,), the label that most voxels of each have; 0 where nothing is labelled."""
        flat = self.labels.reshape(len(self), -1)
        return np.array([np.bincount(patch[patch > 0], minlength=1).argmax() for patch in flat], dtype=np.intp)

    def at(self, which: Iterable[int]) -> "Patches":
        """Some of them, in the asked order."""
        chosen = [int(number) for number in which]
        return Patches(self.images[chosen], self.labels[chosen], tuple(self.origins[number] for number in chosen))

    def drawn(self, count: int, seed: int) -> "Patches":
        """``count`` of them by chance, each once, in their order; all where there are no more."""
        if count >= len(self):
            return self
        return self.at(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    @classmethod
    def joined(cls, parts: Sequence["Patches"]) -> "Patches":
        """Patches of one shape, one after another; a DataError where there are none, or of several shapes."""
        kept = [part for part in parts if len(part)]
        shapes = sorted({part.images.shape[1:] for part in kept})
        if not shapes:
            raise DataError("there are no patches: no image that could be read has a lesion; check masks and labels.")
        if len(shapes) > 1:
            raise DataError(
                f"patches of the shapes {' and '.join(map(str, shapes))} do not compare; give images of one size, or a "
                "cohort with a `mask` column, around whose lesions patches of one size are cut."
            )
        images, labels = (np.concatenate([getattr(part, name) for part in kept]) for name in ("images", "labels"))
        return cls(images, labels, tuple(origin for part in kept for origin in part.origins))


def lesion_patches(
    image: Prepared,
    labels: NDArray[np.uint8],
    shape: Sequence[int],
    name: str,
    subject: str,
    *,
    recipient: str | None = None,
    changed: NDArray[np.bool_] | None = None,
) -> Patches:
    """A patch around each lesion's centre, in 2D three slices of each; beyond the image there is air.

    A lesion is what hangs together by faces, edges or corners, whatever its names; large or small, it counts once. It
    is numbered below the image's ``name``. ``labels`` and ``changed`` are (X, Y, Z) on the image's grid, ``shape`` is
    (H, W) or (H, W, D). Of a synthetic image, made from that of the real subject ``recipient``, only lesions with a
    voxel that has ``changed`` are cut; without it, all are.
    """
    images, maps, origins = [], [], []
    extent = (*shape, 1)[:3]
    for number, voxels in enumerate(voxels_of(labels), start=1):
        if changed is not None and not changed[tuple(voxels.T)].any():
            continue
        for centre in _centres(voxels, len(shape)):
            start = [round(float(c) - (size - 1) / 2) for c, size in zip(centre, extent, strict=True)]
            images.append(cut(image, start, extent).reshape(shape))
            maps.append(cut_labels(labels, start, extent).reshape(shape).astype(np.uint8))
            x, y, z = centre.tolist()
            origins.append(Origin(subject, f"{name}#{number}", recipient, (x, y, z)))
    if not images:
        return Patches(np.empty((0, *shape), np.float32), np.empty((0, *shape), np.uint8), ())
    return Patches(np.stack(images), np.stack(maps), tuple(origins))


def smooth(images: Floats) -> Floats:
    """Patches (N, *shape) smoothed by a Gaussian of one voxel: their structure with little of their noise."""
    return np.asarray(ndimage.gaussian_filter(images, (0, *[1.0] * (images.ndim - 1)), mode="nearest"))


def coarse(images: Floats) -> Floats:
    """Patches (N, *shape) smoothed and halved; an odd last row, column or slice is left out."""
    spatial = images.ndim - 1
    even = smooth(images)[(slice(None), *(slice(2 * (size // 2)) for size in images.shape[1:]))]
    split = [part for size in even.shape[1:] for part in (size // 2, 2)]
    return np.asarray(even.reshape(len(even), *split).mean(axis=tuple(range(2, 2 * spatial + 1, 2))))


def _centres(voxels: NDArray[np.intp], spatial: int) -> list[NDArray[np.float64]]:
    """The centre of a lesion's voxels (N, 3), or those of some of its slices, each slice once."""
    if spatial == 3:
        return [voxels.mean(axis=0)]
    heights = np.unique(voxels[:, 2])
    chosen = sorted({int(heights[int(share * len(heights))]) for share in SLICES})
    return [voxels[voxels[:, 2] == height].mean(axis=0) for height in chosen]


def blurred(real: Patches) -> Patches:
    """Real patches without their fine texture."""
    widths = (0, *[BLUR_VOXELS] * (real.images.ndim - 1))
    return Patches(ndimage.gaussian_filter(real.images, widths, mode="nearest"), real.labels, real.origins)


def collapsed(real: Patches, seed: int) -> Patches:
    """The first real patch as often as there are real ones, with a little noise."""
    count = len(real)
    repeated = real.at([0] * count)
    return Patches(_noisy(repeated.images, seed), repeated.labels, _unrelated("repeated", count))


def copied(training: Patches, count: int, seed: int) -> Patches:
    """Training patches, a little noisy, shifted by a voxel, and every other one mirrored along its first axis."""
    drawn = training.at(np.resize(np.random.default_rng(seed).permutation(len(training)), count))
    shift = (0, *[1] * (drawn.images.ndim - 1))
    images, labels = (ndimage.shift(each, shift, order=0, mode="nearest") for each in (drawn.images, drawn.labels))
    images[::2], labels[::2] = images[::2, ::-1].copy(), labels[::2, ::-1].copy()
    return Patches(_noisy(images, seed), labels, _unrelated("copied", count))


def _noisy(images: Floats, seed: int) -> Floats:
    noise = np.random.default_rng(seed).normal(0, NOISE, images.shape)
    return np.asarray(images + noise, dtype=np.float32)


def _unrelated(name: str, count: int) -> tuple[Origin, ...]:
    """As samples of a generator, which belong to no subject."""
    return tuple(Origin(f"{name} {number}", f"{name} {number}") for number in range(count))
