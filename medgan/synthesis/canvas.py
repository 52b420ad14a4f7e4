"""A recipient while it is changed, and the sites at which pieces are put in."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.blending import feather
from medgan.synthesis.shapes import Piece, Voxel
from medgan.synthesis.synthesiser import Synthetic

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
