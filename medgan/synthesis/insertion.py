"""Insertion: more lesions in healthy tissue, or another shape for an organ; what fills them is a method's own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
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
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis import shapes
from medgan.synthesis.placement import LesionSites, PlacementConfig
from medgan.synthesis.shapes import LabelMap, Piece, ShapeConfig, Voxel

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Box = tuple[slice, ...]

ATTEMPTS = 10
"""Shapes that are drawn for one lesion before it is given up."""
TOLERANCE = 1e-7
"""Relative residual at which the Poisson equation counts as solved; float32 has no more digits."""


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
    """As on the command line: ``copy-paste``."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """A new case in the recipient's anatomy, with lesions, shapes and places of the donors; all stay as they are.

        Donors, among whom the recipient may be, and recipient belong to one training part. All chance comes from
        ``rng``. An ``InsertionError`` says why nothing can be placed in this recipient.
        """


def feather(region: Mask, width_mm: float, spacing_mm: NDArray[np.float64]) -> Array:
    """The share of what is inserted, (X, Y, Z): 1 in the region, falling linearly to 0 at ``width_mm`` from it.

    0 is a hard edge. Along an axis whose voxels are larger than the width nothing is mixed.
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

    All are (X, Y, Z), in one unit; the share is from :func:`feather`. With a hard edge this is Poisson image editing as
    published. Neighbours count by the inverse square of their distance. Where the share is 0, the result is ``before``
    to the bit.

    Source: Pérez et al. 2003, doi 10.1145/882262.882269, Eq. 7 with the guidance field of Eq. 11; a mask with a soft
    edge as in Huo et al. 2024, arXiv:2406.14826.
    """
    inside = share > 0
    if not inside.any():
        return before.copy()
    if inside.all():
        raise InsertionError("the region to blend fills the whole image; insert something smaller, or a larger image.")
    count = np.count_nonzero(inside)
    number = np.full(before.shape, -1)
    number[inside] = np.arange(count)
    # The Laplacian's matrix, its diagonal first, and the right side.
    right, diagonal = np.zeros(count), np.zeros(count)
    rows, columns, weights = [np.arange(count)], [np.arange(count)], [diagonal]
    fields = [image.astype(np.float64) for image in (before, inserted, share)]
    # Along each axis and direction, where voxels with a neighbour lie in the volume and where these neighbours lie.
    for axis, pair in product(range(3), permutations((slice(None, -1), slice(1, None)))):
        own, other = ((slice(None),) * axis + (part,) for part in pair)
        weight = float(spacing_mm[axis] ** -2.0)
        known, donor, soft = ([field[own], field[other]] for field in fields)
        most = np.maximum(*soft)
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
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = coo_array((np.concatenate(weights), places), shape=(count, count)).tocsr()
    solution, failed = cg(matrix, right, x0=before[inside].astype(np.float64), rtol=TOLERANCE, maxiter=10 * count)
    if failed:
        raise InsertionError("the Poisson equation of a lesion could not be solved; blend it by feathering.")
    result = before.copy()
    result[inside] = solution
    return result


@dataclass(frozen=True, eq=False)
class Site:
    """Where a piece goes; arrays lie in the box, (x, y, z)."""

    canvas: "Canvas"
    box: Box
    inserted: Array
    """The piece's image in the recipient's unit."""
    labels: LabelMap
    """What the labels become."""
    hidden: Mask
    """Whose content is new: the lesion, or the old and the new organ."""
    share: Array
    """1 where the content is new, falling to 0 where the recipient stays."""
    place: NDArray[np.int64]
    """The voxel (3,) of the recipient on which the piece's middle lies."""

    @property
    def before(self) -> Array:
        """The recipient in the box, with what was inserted before."""
        return self.canvas.image[self.box]


class Canvas:
    """A recipient while it is changed."""

    def __init__(self, recipient: Labelled) -> None:
        self.recipient = recipient
        self.spacing_mm = np.asarray(voxel_sizes(recipient.image.affine))
        self.image = np.array(recipient.image.voxels, dtype=np.float32)
        self.labels = recipient.labels.copy()
        self.lesions: list[dict[str, Any]] = []
        self.refused = 0

    def holds(self, piece: Piece, place: Voxel) -> bool:
        """Whether all that a piece marks lies in the image."""
        voxels = np.argwhere(piece.labels) - piece.half + place
        return bool(len(voxels) and (voxels >= 0).all() and (voxels < self.labels.shape).all())

    def under(self, piece: Piece, place: Voxel) -> LabelMap:
        """The labels that lie under a piece now, (x, y, z) of it; beyond the image there are none."""
        result = np.zeros(piece.labels.shape, dtype=np.uint8)
        box, inner = overlap(self.labels.shape, np.subtract(place, piece.half), piece.labels.shape)
        result[inner] = self.labels[box]
        return result

    def site(self, piece: Piece, place: Voxel, feather_mm: float, region: Mask | None = None) -> Site:
        """A piece over a place, cut to the image; new is the content of its region (x, y, z), else of what it marks."""
        box, inner = overlap(self.labels.shape, np.subtract(place, piece.half), piece.labels.shape)
        hidden = (piece.labels > 0 if region is None else region)[inner]
        image = piece.intensities(self.recipient.image.bounds)[inner]
        labels = np.where(hidden, piece.labels[inner], self.labels[box])
        share = feather(hidden, feather_mm, self.spacing_mm)
        return Site(self, box, image, labels, hidden, share, np.array(place))

    def insert(self, site: Site, image: Array, source: str) -> None:
        """Make a site's content the recipient's."""
        self.image[site.box] = np.where(site.share > 0, image, site.before)
        self.labels[site.box] = site.labels
        voxels = int(np.count_nonzero(site.labels[site.hidden]))
        self.lesions.append({"source": source, "voxels": voxels, "place": site.place.tolist()})

    def result(self, how: dict[str, Any]) -> Synthetic:
        """The changed recipient."""
        image = replace(self.recipient.image, voxels=self.image)
        sources = [lesion["source"] for lesion in self.lesions if lesion["source"]]
        parents = dict.fromkeys([self.recipient.subject, *sources])
        facts = how | {"lesions": self.lesions, "refused": self.refused}
        return Synthetic(Labelled(self.recipient.subject, image, self.labels), tuple(parents), facts)


def overlap(whole: Sequence[int], first: NDArray[np.int64] | Voxel, shape: Sequence[int]) -> tuple[Box, Box]:
    """The box of an image that a part of a shape lies over, from its first voxel on, and the part's own box."""
    low = np.clip(first, 0, whole)
    high = np.clip(np.add(first, shape), low, whole)
    return _box(low, high), _box(low - first, high - first)


def _box(low: NDArray[np.number], high: NDArray[np.number]) -> Box:
    return tuple(map(slice, low.tolist(), high.tolist()))


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
        return self.shape or (shapes.ORGAN if self.placement == "replace" else ShapeConfig())


class Inserter:
    """Places real shapes, varied, in a recipient; a method says how the image becomes what the labels say."""

    name: str
    draws_whole = False
    """Whether ``placement: whole`` is possible."""

    def __init__(self, config: InsertionConfig, domain: Domain) -> None:
        if config.placement == "whole" and not self.draws_whole:
            raise ConfigError(f"placement=whole is for networks that draw image and labels; {self.name} does not.")
        self.config, self.domain = config, domain

    def fill(self, site: Site, rng: np.random.Generator) -> Array:
        """The image in the site's box; where the share is 0, the recipient's to the bit."""
        del rng
        return feathered(site.before, site.inserted, site.share)

    def piece(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """What is to be inserted: a lesion or, with ``replace``, an organ of at least ``least`` voxels on each side.

        Each of the donors' lesions is equally likely, so that sizes are spread as real ones are. An organ is another
        donor's, where there is one, or the recipient's own.
        """
        recipient = canvas.recipient
        if self.config.placement == "replace":
            donors = [each for each in donors if each.labels.any()] if self.config.shapes == "others" else [recipient]
            if not donors:
                raise InsertionError("no donor has a label whose shape could be taken; give labelled donors.")
            others = [each for each in donors if each.subject != recipient.subject] or donors
            donor = others[int(rng.integers(len(others)))]
            lesion = shapes.organ_of(donor)
        else:
            every = [(each, lesion) for each in donors for lesion in shapes.lesions_of(each)]
            donor, lesion = every[int(rng.integers(len(every)))]
        room_mm, variation = self.gap_mm(canvas), self.config.variation
        return shapes.cut_piece(
            donor, lesion, canvas.spacing_mm, rng, variation=variation, room_mm=room_mm, least=least
        )

    def fits(self, canvas: Canvas, region: Mask) -> bool:
        """Whether a region, (x, y, z) around a piece's middle, is not too large for the method."""
        del canvas, region
        return True

    def renewed(self, new: LabelMap, old: LabelMap) -> Mask:
        """Whose content is new where labels take the place of others, (x, y, z) each."""
        return np.asarray((new > 0) | (old > 0))

    def gap_mm(self, canvas: Canvas) -> float:
        """How far a new lesion keeps from other labels: blending leaves those alone, and no two become one."""
        return max(self.config.feather_mm, 1.01 * float(np.linalg.norm(canvas.spacing_mm)))

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`Synthesiser`."""
        canvas = Canvas(recipient)
        (self._replace if self.config.placement == "replace" else self._add)(canvas, donors, rng)
        return canvas.result({"method": self.name, "placement": self.config.placement})

    def _add(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> None:
        config, gap_mm = self.config, self.gap_mm(canvas)
        sites = LesionSites.of(donors, config.place.tissue_percent)
        allowed = sites.allowed(canvas.recipient, self.domain, rim_mm=config.place.rim_mm, gap_mm=gap_mm)
        counts = [len(shapes.lesions_of(donor)) for donor in donors if donor.labels.any()]
        for _ in range(min(int(rng.choice(counts)), config.most)):
            for _ in range(ATTEMPTS):
                piece = self.piece(canvas, donors, (0, 0, 0), rng)
                lesion, place = piece.labels > 0, None
                if self.fits(canvas, lesion):
                    place = sites.find_place(allowed, lesion, canvas.recipient.image, config.place.tries, rng)
                if place is not None:
                    site = canvas.site(piece, place, config.feather_mm)
                    canvas.insert(site, self.fill(site, rng), piece.source)
                    allowed[site.box] &= feather(site.hidden, gap_mm, canvas.spacing_mm) == 0
                    break
                canvas.refused += 1
        if not canvas.lesions:
            raise InsertionError(
                f"{canvas.recipient.subject} has no tissue like that around real lesions where one would fit; "
                "allow more with place.tissue_percent or place.rim_mm, or take another recipient."
            )

    def _replace(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> None:
        recipient = canvas.recipient
        organ = shapes.organ_of(recipient)
        centre, least = organ.centre, shapes.reach_of(recipient, organ, canvas.spacing_mm)
        for _ in range(ATTEMPTS):
            piece = self.piece(canvas, donors, least, rng)
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
