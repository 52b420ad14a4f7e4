"""Insertion: more lesions in healthy tissue, or another shape for an organ; what fills them is a method's own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.blending import feather
from medgan.synthesis.canvas import Canvas, Site
from medgan.synthesis.placement import Anatomy, PlacementConfig, find_place
from medgan.synthesis.shapes import (
    ORGAN,
    Lesion,
    Piece,
    ShapeConfig,
    Voxel,
    cut,
    draw_map,
    lesions_of,
    organ_of,
    reach_of,
)
from medgan.synthesis.synthesiser import Synthetic

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
        """See :class:`medgan.synthesis.synthesiser.Synthesiser`."""
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
        return cut(donor, lesion, matrix, (x, y, z), spacing, config, rng)

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
