"""CarveMix: a region around a donor's lesions, larger or smaller by a drawn distance, takes the recipient's place."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.domains import Domain
from medgan.errors import InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.canvas import Canvas
from medgan.synthesis.insertion import UNVARIED, InsertionConfig, refuse_whole
from medgan.synthesis.places import body_coordinates, voxel_at
from medgan.synthesis.shapes import Lesion, Piece, Voxel, cut, organ_of, reach_of
from medgan.synthesis.synthesiser import Synthetic


class CarveMix:
    """Image and labels of a carved region change together, with a hard edge; what of an old label lies outside stays.

    As published the region keeps its place, and nothing asks what it covers. Here donor and recipient need no common
    grid: with ``add`` the region lies at the same place in the body, with ``replace`` on the recipient's own organ.

    Args:
        config: Only ``placement`` matters; shapes are not varied.
        domain: Not used; every method takes it.

    Source: Zhang et al. 2021, arXiv:2107.06774, Eq. 1 to 5.
    """

    name = "carve-mix"

    def __init__(self, config: InsertionConfig, domain: Domain) -> None:
        del domain
        refuse_whole(config, self.name)
        self.config = config

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.synthesiser.Synthesiser`."""
        others = [donor for donor in donors if donor.labels.any() and donor.subject != recipient.subject]
        if not others:
            raise InsertionError(f"{recipient.subject} has no other labelled case to carve from; give two or more.")
        donor = others[int(rng.integers(len(others)))]
        whole = organ_of(donor)
        assert whole is not None
        place = self._place(recipient, donor, whole)
        distance = signed_distance(whole.labels > 0, voxel_sizes(donor.image.affine))
        drawn_mm = draw_distance(float(distance.min()), rng)
        canvas = Canvas(recipient)
        piece = _piece(donor, whole, canvas, drawn_mm, rng)
        return _carved(canvas, piece, place, drawn_mm)

    def _place(self, recipient: Labelled, donor: Labelled, whole: Lesion) -> Voxel:
        """Where in the recipient the centre of the donor's lesions goes."""
        if self.config.placement == "add":
            return voxel_at(recipient.image, body_coordinates(donor.image, whole.centre))
        own = organ_of(recipient)
        if own is None:
            raise InsertionError(f"{recipient.subject} has no label that could be replaced; use placement=add.")
        return own.centre


def signed_distance(region: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in mm to a region's border, negative inside, (X, Y, Z); what lies beyond the array is outside."""
    thick = np.array(region.shape) > 1  # a single slice has no border above and below
    framed = np.pad(region, [(int(each), int(each)) for each in thick])
    distance = ndimage.distance_transform_edt(~framed, sampling=spacing_mm) - ndimage.distance_transform_edt(
        framed, sampling=spacing_mm
    )
    return np.asarray(distance[tuple(slice(1, -1) if each else slice(None) for each in thick)])


def draw_distance(deepest_mm: float, rng: np.random.Generator) -> float:
    """The distance at which the region is cut: half of the draws inside the lesion, half outside.

    Args:
        deepest_mm: The least signed distance, below 0: regions reach half as far in, and as far out.
        rng: Chance.
    """
    depth = abs(deepest_mm)
    return float(rng.uniform(-depth / 2, 0) if rng.random() < 0.5 else rng.uniform(0, depth))


def _piece(donor: Labelled, whole: Lesion, canvas: Canvas, drawn_mm: float, rng: np.random.Generator) -> Piece:
    margin = np.ceil(max(drawn_mm, 0.0) / canvas.spacing_mm).astype(int) * (np.array(donor.labels.shape) > 1)
    x, y, z = (np.array(reach_of(donor, whole, np.eye(3), canvas.spacing_mm)) + margin).tolist()
    return cut(donor, whole, np.eye(3), (x, y, z), canvas.spacing_mm, UNVARIED, rng)


def _carved(canvas: Canvas, piece: Piece, place: Voxel, drawn_mm: float) -> Synthetic:
    """The recipient with image and labels of the region ``distance <= drawn_mm`` of the piece."""
    region = signed_distance(piece.labels > 0, canvas.spacing_mm) <= drawn_mm
    carved = replace(piece, labels=np.where(region, piece.labels, np.uint8(0)))
    site = canvas.site(carved, place, 0.0, region=region)
    if not site.hidden.any():
        raise InsertionError(f"{canvas.recipient.subject}: the carved region lies outside the image.")
    canvas.insert(site, site.inserted, piece.source)
    return canvas.result({"method": CarveMix.name, "carved_mm": round(drawn_mm, 3)})
