"""The patches of an evaluation, cut by one rule: synthetic ones, real ones of training and others, and broken ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.domains import Domain
from medgan.data.layouts import Study
from medgan.data.masks import LABELS_JSON, Labels, labels_of, labels_on, voxels_of
from medgan.data.patches import cut
from medgan.data.preparation import GridConfig, Prepared, prepare
from medgan.data.splits import Split, owner_of
from medgan.data.studies import AS_IT_IS, Cohort, Location, Options, read_cohort, sidecar
from medgan.data.tables import is_table
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import Failure, Place, read_images, split_place

SLICES = (0.25, 0.5, 0.75)
"""Where 2D patches lie within a lesion, as shares of the slices that it is in."""
BLUR_VOXELS = 1.5
"""Standard deviation of the Gaussian that takes real patches' texture."""
NOISE = 0.02
"""Standard deviation, of images in [-1, 1]: what keeps repeated patches and copies from being equal to the bit."""

Floats = NDArray[np.float32]
LEAST = 8
"""Patches of each kind, without which no covariance and no neighbourhood says anything."""
OWN_GRID = GridConfig(spacing_mm=(None, None, None))


@dataclass(frozen=True)
class PatchOrigin:
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
    origins: tuple[PatchOrigin, ...]

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
        filled = [part for part in parts if len(part)]
        shapes = sorted({part.images.shape[1:] for part in filled})
        if not shapes:
            raise DataError("there are no patches: no image that could be read has a lesion; check masks and labels.")
        if len(shapes) > 1:
            raise DataError(
                f"patches of the shapes {' and '.join(map(str, shapes))} do not compare; give images of one size, or a "
                "cohort with a `mask` column, around whose lesions patches of one size are cut."
            )
        images, labels = (np.concatenate([getattr(part, name) for part in filled]) for name in ("images", "labels"))
        return cls(images, labels, tuple(origin for part in filled for origin in part.origins))


def _lesion_patches(
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
            maps.append(cut(labels, start, extent).reshape(shape).astype(np.uint8))
            x, y, z = centre.tolist()
            origins.append(PatchOrigin(subject, f"{name}#{number}", recipient, (x, y, z)))
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


def _unrelated(name: str, count: int) -> tuple[PatchOrigin, ...]:
    """As samples of a generator, which belong to no subject."""
    return tuple(PatchOrigin(f"{name} {number}", f"{name} {number}") for number in range(count))


@dataclass(frozen=True)
class _Row:
    """An image and what is known of where it comes from."""

    study: Study
    synthetic: bool
    recipient: str | None
    """The real subject whose image a synthetic one was made from."""

    @classmethod
    def of(cls, study: Study) -> Self:
        """As the sidecar of its image says."""
        facts = sidecar(study.image)
        parents = facts.get("Parents")
        parent = parents[0] if isinstance(parents, list) and parents else None
        return cls(study, facts.get("Synthetic") is True, parent if isinstance(parent, str) else None)


def _read_rows(place: Place, options: Options = AS_IT_IS) -> list[_Row]:
    """The images of a cohort (CSV, folders, BIDS, nnU-Net raw), of ``COHORT:DOMAIN``, or of a folder of images."""
    path, domain = split_place(place)
    cohort = None
    if path.is_dir() or is_table(path):
        cohort = read_cohort(Location(path, options), (domain,) if domain else (), tested=True)
    if cohort is None:
        return [_Row.of(Study(image.subject, "", image.path)) for image in read_images(place).images]
    domains = sorted({study.domain for study in cohort.studies})
    if domain and domain not in domains:
        raise DataError(f"{path} has no image of domain {domain}; it has {', '.join(domains)}.")
    if not domain and len(domains) > 1:
        raise ConfigError(f"{path} has images of {', '.join(domains)}; say which, as in {path}:{domains[0]}.")
    return [_Row.of(study) for study in cohort.studies if study.domain == (domain or domains[0])]


def divided(synthetic: Place, reference: Place | None, options: Options = AS_IT_IS) -> tuple[list[_Row], list[_Row]]:
    """Synthetic rows and real ones: by the sidecars of one cohort, or those of two places."""
    rows = _read_rows(synthetic, options)
    marked = [row for row in rows if row.synthetic]
    if reference is not None:
        real = [row for row in _read_rows(reference, options) if not row.synthetic]
        if not real:
            raise DataError(f"{reference} holds synthetic images only; give real ones with --reference.")
        return marked or rows, real
    if not marked:
        raise DataError(
            f"no sidecar in {synthetic} marks an image as synthetic; give an augmented cohort as `medgan augment` "
            "writes it, or the real images with --reference."
        )
    if len(marked) == len(rows):
        raise DataError(f"{synthetic} holds synthetic images only; give the real ones with --reference.")
    return marked, [row for row in rows if not row.synthetic]


@dataclass(frozen=True, eq=False)
class PatchSets:
    """Synthetic patches and the real ones that they are compared with."""

    synthetic: Patches
    training: Patches
    held_out: Patches
    """Real ones of other subjects than the training ones, with which all are compared."""
    suspected: Patches
    """Real ones that a generator may have seen: the training ones, or all where that is not known."""
    names: tuple[str, ...]
    """What the labels mean, from 1; empty where there are none."""
    split_known: bool
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _Reader:
    """How images become patches."""

    domain: Domain
    shape: tuple[int, ...]
    """Of the patches, (H, W) or (H, W, D); images of just this shape are patches already."""
    labels: Labels
    """Names and values of the label maps; empty where there are none, and images are patches."""

    def patches(self, rows: Sequence[_Row], real: Sequence[_Row], failures: list[Failure]) -> Patches:
        """All patches of some images, whose recipients are among the real ones; ``failures`` takes what is unusable."""
        recipients = {row.study.subject: row.study for row in real}
        cached_case = lru_cache(maxsize=2)(self._case)  # several synthetic images share a recipient
        parts = []
        for row in sorted(rows, key=lambda row: (row.recipient or "", str(row.study.image))):
            try:
                before = recipients.get(row.recipient) if row.recipient else None
                parts.append(self._of_row(row, cached_case(before) if before else None))
            except DataError as error:
                failures.append(Failure(row.study.image.name, str(error)))
        return Patches.joined(parts)

    def _of_row(self, row: _Row, before: tuple[Prepared, NDArray[np.uint8]] | None) -> Patches:
        image, labels = self._case(row.study)
        name, subject = row.study.image.name, row.study.subject
        if not self.labels or image.voxels.shape == (*self.shape, 1)[:3]:
            voxels = image.normalised()
            if voxels.shape[2] == 1:  # a patch of two dimensions
                voxels, labels = voxels[..., 0], labels[..., 0]
            return Patches(voxels[None], labels[None], (PatchOrigin(subject, name, row.recipient),))
        changed = None
        if before is not None and before[0].voxels.shape == image.voxels.shape:
            changed = (before[0].voxels != image.voxels) | (before[1] != labels)
        return _lesion_patches(image, labels, self.shape, name, subject, recipient=row.recipient, changed=changed)

    def _case(self, study: Study) -> tuple[Prepared, NDArray[np.uint8]]:
        """An image on its own grid in RAS+, and its labels."""
        image = prepare(read_volume(study.image), self.domain, OWN_GRID)
        if not self.labels:
            return image, np.zeros(image.voxels.shape, dtype=np.uint8)
        return image, labels_on(study, self.labels, image)


def gather(
    synthetic: Sequence[_Row],
    real: Sequence[_Row],
    domain: Domain,
    shape: tuple[int, ...],
    *,
    split: Split | None,
    seed: int,
) -> PatchSets:
    """Cut all patches and divide the real ones by subject.

    Who trained the generator is said by ``split``, else by the ``split`` column of the real rows. Where neither tells,
    half of the real subjects are compared with the other half, and all of them are suspected to have been copied.
    """
    labels = _labels(real)
    reader, failures = _Reader(domain, shape, labels), list[Failure]()
    synthetic_patches = reader.patches(synthetic, real, failures)
    all_real = reader.patches(real, (), failures)
    trained, known = _trained(real, split, seed)
    which = np.isin([origin.subject for origin in all_real.origins], sorted(trained))
    training, held_out = all_real.at(np.flatnonzero(which)), all_real.at(np.flatnonzero(~which))
    for kind, patches in (("synthetic", synthetic_patches), ("real training", training), ("real held-out", held_out)):
        if len(patches) < LEAST:
            raise DataError(
                f"{len(patches)} {kind} patches cannot be judged, at least {LEAST} can; give more images, or 2D "
                "patches (--dimensions 2), of which a lesion has up to three."
                + (f" First of the images that failed: {failures[0].reason}" if failures else "")
            )
    if synthetic_patches.images.shape[1:] != all_real.images.shape[1:]:
        Patches.joined([synthetic_patches, all_real])  # says which shapes there are
    suspected = training if known else all_real
    return PatchSets(synthetic_patches, training, held_out, suspected, tuple(labels), known, tuple(failures))


def _labels(real: Sequence[_Row]) -> Labels:
    masked = tuple(row.study for row in real if row.study.mask)
    folders = (up for study in masked for up in study.image.parents)
    root = next((folder for folder in folders if (folder / LABELS_JSON).is_file()), Path())
    return labels_of(Cohort(masked, root)) if masked else {}


def _trained(real: Sequence[_Row], split: Split | None, seed: int) -> tuple[set[str], bool]:
    """The subjects that a generator was trained on, by name or by an image of theirs, and whether that is known."""
    subjects = sorted({row.study.subject for row in real})
    if len(subjects) < 2:
        raise DataError("there is one real subject: nobody is left to show how alike real ones are; give two or more.")
    if split:
        owners = split.owners(["train"])
        return {*split.train, *(row.study.subject for row in real if owner_of(row.study.image, owners))}, True
    named = {row.study.subject for row in real if row.study.split == "train"}
    if named and named != set(subjects):
        return named, True
    drawn = np.random.default_rng(seed).permutation(subjects)
    return set(drawn[: (len(drawn) + 1) // 2].tolist()), False
