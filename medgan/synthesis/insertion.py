"""Insertion: more lesions in healthy tissue, or another shape for an organ; what fills them is a method's own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.linalg import cg

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.placement import Anatomy, PlacementConfig, find_place
from medgan.synthesis.shapes import (
    ORGAN,
    Lesion,
    Piece,
    ShapeConfig,
    Voxel,
    cut_piece,
    draw_map,
    lesions_of,
    organ_of,
    reach_of,
)


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A case that was made and not acquired."""

    case: Labelled
    """Outside the changed voxels image and labels equal the recipient's to the bit; so do affine, body and bounds.
    Only a case that is drawn whole (``placement: whole``) is as large as a patch, with affine and body of its own."""
    parents: tuple[str, ...]
    """The subjects that it was made from: the recipient first, then the donors that went into it."""
    how: dict[str, Any]
    """What was done, as JSON takes it: method, sizes, places; it goes into the case's sidecar."""


class Synthesiser(Protocol):
    """One way to make labelled cases; equal arguments give equal cases, whatever was made before."""

    name: str
    """As users ask for it: ``copy-paste``."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """A new case in the recipient's anatomy; recipient and donors stay as they are.

        Args:
            recipient: Whose image is changed.
            donors: Real cases that lesions, their shapes and places are taken from; the recipient may be among them.
                All of them, and the recipient, belong to one training part.
            rng: All chance comes from here.

        Raises:
            InsertionError: Nothing can be placed in this recipient, and why.
        """
        ...


Array = NDArray[np.float32]

TOLERANCE = 1e-7
"""Relative residual at which the Poisson equation counts as solved; float32 has no more digits."""


def feather(region: NDArray[np.bool_], width_mm: float, spacing_mm: NDArray[np.float64]) -> Array:
    """The share of what is inserted: 1 in the region, falling linearly to 0 at a distance from it.

    Args:
        region: (X, Y, Z) of any size; where it holds nothing, nothing is inserted.
        width_mm: Where the share reaches 0; 0 is a hard edge.
        spacing_mm: (3,). Along an axis whose voxels are larger than the width nothing is mixed.
    """
    if not region.any() or width_mm == 0:
        return region.astype(np.float32)
    distance = ndimage.distance_transform_edt(~region, sampling=spacing_mm)
    return np.asarray(np.clip(1 - distance / width_mm, 0, 1), dtype=np.float32)


def feathered(before: Array, inserted: Array, share: Array) -> Array:
    """Both mixed by the share of what is inserted; where that is 0, ``before`` to the bit. All (X, Y, Z)."""
    return np.where(share > 0, share * inserted + (1 - share) * before, before)


def soft_poisson(before: Array, inserted: Array, share: Array, spacing_mm: NDArray[np.float64]) -> Array:
    """The image whose gradients are the inserted ones in the lesion and the recipient's away from it.

    Between neighbours p and q the wanted difference is the larger of their shares times the inserted difference, plus
    the rest times the recipient's: a lesion keeps all of its contrast. The least-squares solution inside the share's
    support, with the recipient's values around it, has no step at the border: a constant that the inserted image is
    off by vanishes.

    Args:
        before: The recipient, (X, Y, Z).
        inserted: What is inserted, in the same unit.
        share: From :func:`feather`. With a hard edge this is Poisson image editing as published.
        spacing_mm: (3,); neighbours count by the inverse square of their distance.

    Returns:
        (X, Y, Z); where the share is 0, ``before`` to the bit.

    Raises:
        InsertionError: The region fills the whole image, so nothing holds its level.

    Source: Pérez et al. 2003, doi 10.1145/882262.882269, Eq. 7 with the guidance field of Eq. 11; a mask with a soft
    edge as in Huo et al. 2024, arXiv:2406.14826.
    """
    inside = share > 0
    if not inside.any():
        return before.copy()
    if inside.all():
        raise InsertionError("the region to blend fills the whole image; insert something smaller, or a larger image.")
    number = np.full(before.shape, -1)
    number[inside] = np.arange(np.count_nonzero(inside))
    rows, columns, weights, right = _equations(before, inserted, share, spacing_mm, number)
    matrix = coo_array((weights, (rows, columns)), shape=(right.size, right.size)).tocsr()
    found, failed = cg(matrix, right, x0=before[inside].astype(np.float64), rtol=TOLERANCE, maxiter=10 * right.size)
    if failed:
        raise InsertionError("the Poisson equation of a lesion could not be solved; blend it by feathering.")
    result = before.copy()
    result[inside] = found
    return result


def _equations(
    before: Array, inserted: Array, share: Array, spacing_mm: NDArray[np.float64], number: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, columns and values of the Laplacian's matrix, and the right side (Pérez et al. 2003, Eq. 7)."""
    count = int(number.max()) + 1
    right = np.zeros(count)
    diagonal = np.zeros(count)
    rows: list[NDArray[np.int64]] = []
    columns: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    fields = [image.astype(np.float64) for image in (before, inserted, share)]
    for axis in range(before.ndim):
        weight = float(spacing_mm[axis] ** -2.0)
        low, high = (_shifted(axis, side) for side in (0, 1))
        for own, other in ((low, high), (high, low)):
            known, donor, soft = ([field[own], field[other]] for field in fields)
            most = np.maximum(soft[0], soft[1])
            wanted = most * (donor[0] - donor[1]) + (1 - most) * (known[0] - known[1])
            here, there = number[own], number[other]
            mine = here >= 0
            border, within = mine & (there < 0), mine & (there >= 0)
            np.add.at(right, here[mine], weight * wanted[mine])
            np.add.at(right, here[border], weight * known[1][border])
            np.add.at(diagonal, here[mine], weight)
            rows.append(here[within])
            columns.append(there[within])
            weights.append(np.full(int(within.sum()), -weight))
    every = np.arange(count)
    return (
        np.concatenate([every, *rows]),
        np.concatenate([every, *columns]),
        np.concatenate([diagonal, *weights]),
        right,
    )


def _shifted(axis: int, side: int) -> tuple[slice, ...]:
    """All but the last (0) or the first (1) along an axis."""
    parts = [slice(None)] * 3
    parts[axis] = slice(1, None) if side else slice(None, -1)
    return tuple(parts)


Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Site:
    """Where a piece goes; all but ``image`` lie in the box, (x, y, z)."""

    image: NDArray[np.float32]
    """(X, Y, Z), the recipient with what was inserted before, in its unit; not to be written to."""
    subject: str
    """The recipient's."""
    recipient: Prepared
    """As it was."""
    spacing_mm: NDArray[np.float64]
    box: Box
    inserted: NDArray[np.float32]
    """The piece's image in the recipient's unit."""
    labels: NDArray[np.uint8]
    """What the labels become."""
    hidden: NDArray[np.bool_]
    """Whose content is new: the lesion, or the old and the new organ."""
    share: NDArray[np.float32]
    """1 where the content is new, falling to 0 where the recipient stays."""
    place: NDArray[np.int64]
    """The voxel (3,) of the recipient on which the piece's middle lies."""

    @property
    def before(self) -> NDArray[np.float32]:
        """The recipient in the box."""
        return self.image[self.box]


class Canvas:
    """A recipient while it is changed."""

    def __init__(self, recipient: Labelled) -> None:
        self.recipient = recipient
        self.spacing_mm = np.asarray(voxel_sizes(recipient.image.affine))
        self.image = np.array(recipient.image.voxels, dtype=np.float32)
        self.labels = recipient.labels.copy()
        self.lesions: list[dict[str, Any]] = []
        self.sources: list[str] = []
        self.refused = 0

    def holds(self, piece: Piece, place: Voxel) -> bool:
        """Whether all that a piece marks lies in the image."""
        voxels = np.argwhere(piece.labels) - piece.half + place
        return bool(len(voxels) and (voxels >= 0).all() and (voxels < self.labels.shape).all())

    def under(self, piece: Piece, place: Voxel) -> NDArray[np.uint8]:
        """The labels that lie under a piece now, (x, y, z) of it; beyond the image there are none."""
        result = np.zeros(piece.labels.shape, dtype=np.uint8)
        box, inner = self._cut(piece, place)
        result[inner] = self.labels[box]
        return result

    def site(self, piece: Piece, place: Voxel, feather_mm: float, region: NDArray[np.bool_] | None = None) -> Site:
        """A piece over a place, cut to the image.

        Args:
            piece: Image and labels.
            place: The voxel under its middle.
            feather_mm: Width of the mixed edge.
            region: (x, y, z) of the piece whose content is new; None is what the piece marks.
        """
        box, inner = self._cut(piece, place)
        new, old = piece.labels[inner], self.labels[box]
        hidden = (piece.labels > 0 if region is None else region)[inner]
        return Site(
            self.image, self.recipient.subject, self.recipient.image, self.spacing_mm, box,
            piece.intensities(self.recipient.image.bounds)[inner], np.where(hidden, new, old), hidden,
            feather(hidden, feather_mm, self.spacing_mm), np.array(place),
        )  # fmt: skip

    def _cut(self, piece: Piece, place: Voxel) -> tuple[Box, Box]:
        """The part of the image that a piece lies over, and the part of the piece that lies in the image."""
        first = np.subtract(place, piece.half)
        low = np.clip(first, 0, self.labels.shape)
        high = np.clip(first + piece.labels.shape, low, self.labels.shape)
        return _box(low, high), _box(low - first, high - first)

    def insert(self, site: Site, image: NDArray[np.float32], source: str) -> None:
        """Make a site's content the recipient's."""
        self.image[site.box] = np.where(site.share > 0, image, site.before)
        self.labels[site.box] = site.labels
        self.sources.append(source)
        voxels = int(np.count_nonzero(site.labels[site.hidden]))
        self.lesions.append({"source": source, "voxels": voxels, "place": site.place.tolist()})

    def result(self, how: dict[str, Any]) -> Synthetic:
        """The changed recipient."""
        image = replace(self.recipient.image, voxels=self.image)
        parents = dict.fromkeys([self.recipient.subject, *(source for source in self.sources if source)])
        facts = how | {"lesions": self.lesions, "refused": self.refused}
        return Synthetic(Labelled(self.recipient.subject, image, self.labels), tuple(parents), facts)


def _box(low: NDArray[np.int64], high: NDArray[np.int64]) -> Box:
    x, y, z = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return x, y, z


ATTEMPTS = 10
"""Shapes that are drawn for one lesion before it is given up."""
BENDING = 3.0
"""Deviations of the deformation that a piece leaves room for."""


UNVARIED = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)


class InsertionConfig(Config):
    """What is inserted, where, and how it meets the recipient."""

    placement: Literal["add", "replace", "whole"] = "add"
    """add: more lesions in healthy tissue. replace: the recipient's own organ takes another shape. whole: a joint
    sample of image and labels is the whole case; only for networks that draw both."""
    most: PositiveInt = 10
    """Lesions added to a case: as many as a drawn donor has, and no more than this."""
    shapes: Literal["others", "own"] = "others"
    """With ``replace``, whose shape the organ takes, varied: another donor's, or its own, which fits in better."""
    shape: ShapeConfig | None = None
    """How shapes are varied; null is as lesions are, or with ``replace`` as organs are."""
    place: PlacementConfig = PlacementConfig()
    feather_mm: NonNegativeFloat = 3.0
    """Width around a lesion over which inserted and own image are mixed."""
    renew: Literal["all", "changed"] = "all"
    """With ``replace``, what a painter paints: all of the old and the new organ, or only where the label changes, so
    that what stays inside and outside keeps its own image."""

    @property
    def variation(self) -> ShapeConfig:
        """How shapes are varied."""
        return self.shape or (ORGAN if self.placement == "replace" else ShapeConfig())


class Inserter(ABC):
    """Places real shapes, varied, in a recipient; a method says how the image becomes what the labels say.

    Args:
        config: What is inserted, where.
        domain: Of the images.

    Raises:
        ConfigError: ``placement: whole``.
    """

    name: str

    def __init__(self, config: InsertionConfig, domain: Domain) -> None:
        self.check(config)
        self.config, self.domain = config, domain

    def check(self, config: InsertionConfig) -> None:
        """Refuse what the method cannot do."""
        refuse_whole(config, self.name)

    @abstractmethod
    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image in the site's box; where the share is 0, the recipient's to the bit."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        canvas = Canvas(recipient)
        if self.config.placement == "replace":
            self._replace(canvas, donors, rng)
        else:
            self._add(canvas, donors, rng)
        return canvas.result({"method": self.name, "placement": self.config.placement})

    def shape(self, canvas: Canvas, donor: Labelled, lesion: Lesion, least: Voxel, rng: np.random.Generator) -> Piece:
        """A varied lesion with its image, of at least ``least`` voxels on each side of its middle, and a margin."""
        spacing, config = canvas.spacing_mm, self.config.variation
        matrix = draw_map(config, rng, flat=donor.labels.shape[2] == 1)
        room_mm = BENDING * config.deformation_mm + self.gap_mm(canvas)
        margin = np.ceil(room_mm / spacing).astype(int) * (np.array(donor.labels.shape) > 1)
        x, y, z = (np.maximum(reach_of(donor, lesion, matrix, spacing), least) + margin).tolist()
        return cut_piece(donor, lesion, matrix, (x, y, z), spacing, config, rng)

    def fits(self, canvas: Canvas, region: NDArray[np.bool_]) -> bool:
        """Whether a region, (x, y, z) around a piece's middle, is not too large for the method."""
        del canvas, region
        return True

    def renewed(self, new: NDArray[np.uint8], old: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whose content is new where labels take the place of others, (x, y, z) each."""
        return np.asarray((new > 0) | (old > 0))

    def gap_mm(self, canvas: Canvas) -> float:
        """How far a new lesion keeps from other labels: blending leaves those alone, and no two become one."""
        return max(self.config.feather_mm, 1.01 * float(np.linalg.norm(canvas.spacing_mm)))

    def added(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Piece:
        """A lesion to add: each of the donors' is equally likely, so that sizes are spread as real ones are."""
        every = [(donor, lesion) for donor in donors for lesion in lesions_of(donor)]
        donor, lesion = every[int(rng.integers(len(every)))]
        return self.shape(canvas, donor, lesion, (0, 0, 0), rng)

    def exchanged(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """An organ to take the place of the recipient's: of another donor where there is one, or its own, varied."""
        if self.config.shapes == "own":
            donors = [canvas.recipient]
        with_organ = [donor for donor in donors if donor.labels.any()]
        others = [donor for donor in with_organ if donor.subject != canvas.recipient.subject] or with_organ
        if not others:
            raise InsertionError("no donor has a label whose shape could be taken; give labelled donors.")
        donor = others[int(rng.integers(len(others)))]
        organ = organ_of(donor)
        assert organ is not None
        return self.shape(canvas, donor, organ, least, rng)

    def _add(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> None:
        config, gap_mm = self.config, self.gap_mm(canvas)
        anatomy = Anatomy.of(donors, config.place.tissue_percent)
        allowed = anatomy.allowed(canvas.recipient, self.domain, rim_mm=config.place.rim_mm, gap_mm=gap_mm)
        counts = [len(lesions_of(donor)) for donor in donors if donor.labels.any()]
        for _ in range(min(int(rng.choice(counts)), config.most)):
            found = self._placed(canvas, donors, allowed, anatomy, rng)
            if found is None:
                continue
            piece, place = found
            site = canvas.site(piece, place, config.feather_mm)
            canvas.insert(site, self.fill(site, rng), piece.source)
            allowed[site.box] &= feather(site.hidden, gap_mm, canvas.spacing_mm) == 0
        if not canvas.lesions:
            raise InsertionError(
                f"{canvas.recipient.subject} has no tissue like that around real lesions where one would fit; "
                "allow more with place.tissue_percent or place.rim_mm, or take another recipient."
            )

    def _placed(
        self,
        canvas: Canvas,
        donors: Sequence[Labelled],
        allowed: NDArray[np.bool_],
        anatomy: Anatomy,
        rng: np.random.Generator,
    ) -> tuple[Piece, Voxel] | None:
        """A lesion and where its middle goes; None where none of those that were drawn fits."""
        for _ in range(ATTEMPTS):
            piece = self.added(canvas, donors, rng)
            lesion = piece.labels > 0
            if self.fits(canvas, lesion):
                place = find_place(allowed, lesion, anatomy, canvas.recipient.image, self.config.place.tries, rng)
                if place is not None:
                    return piece, place
            canvas.refused += 1
        return None

    def _replace(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> None:
        recipient = canvas.recipient
        organ = organ_of(recipient)
        if organ is None:
            raise InsertionError(f"{recipient.subject} has no label that could be replaced; use placement=add.")
        centre, least = organ.centre, reach_of(recipient, organ, np.eye(3), canvas.spacing_mm)
        for _ in range(ATTEMPTS):
            piece = self.exchanged(canvas, donors, least, rng)
            region = self.renewed(piece.labels, canvas.under(piece, centre))
            if canvas.holds(piece, centre) and self.fits(canvas, region):
                site = canvas.site(piece, centre, self.config.feather_mm, region)
                canvas.insert(site, self.fill(site, rng), piece.source)
                return
            canvas.refused += 1
        raise InsertionError(
            f"{recipient.subject}: none of the donors' shapes fits, with what it replaces, into the image "
            "and into what the method sees at once; use larger patches."
        )


def refuse_whole(config: InsertionConfig, method: str) -> None:
    """Refuse ``placement: whole``.

    Raises:
        ConfigError: Says for what it is.
    """
    if config.placement == "whole":
        raise ConfigError(f"placement=whole is for networks that draw image and labels; {method} does not.")
