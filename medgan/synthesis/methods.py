"""Methods without a network: copy-paste, soft-Poisson, CarveMix, and cases bent as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.domains import Domain
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import (
    Canvas,
    Inserter,
    InsertionConfig,
    Site,
    Synthesiser,
    Synthetic,
    own_organ,
    soft_poisson,
)
from medgan.synthesis.placement import body_coordinates, voxel_at
from medgan.synthesis.shapes import Lesion, ShapeConfig, cut_piece, deformation, labels_at, organ_of


class CopyPaste(Inserter):
    """A real lesion or organ, varied, with its own image, mixed in by a feathered edge: what a generator has to beat.

    Source: Ghiasi et al. 2021, arXiv:2012.07177, with one object at a time and placed by anatomy.
    """

    name = "copy-paste"


class SoftPoisson(Inserter):
    """Copy-paste that no step of brightness gives away: gradients are inserted, on the recipient's level.

    Source: Huo et al. 2024, arXiv:2406.14826; Pérez et al. 2003, doi 10.1145/882262.882269.
    """

    name = "soft-poisson"

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image with the piece's gradients in the lesion and the recipient's values around it."""
        del rng
        return soft_poisson(site.before, site.inserted, site.share, site.canvas.spacing_mm)


class CarveMix(Inserter):
    """A region around a donor's lesions, larger or smaller by a drawn distance, takes the recipient's place.

    Image and labels of the region change together, with a hard edge; what of an old label lies outside stays. As
    published the region keeps its place, whatever it covers. Here donor and recipient need no common grid: with ``add``
    the region lies at the same place in the body, with ``replace`` on the recipient's own organ. Of the settings only
    ``placement`` matters; shapes are not varied.

    Source: Zhang et al. 2021, arXiv:2107.06774, Eq. 1 to 5.
    """

    name = "carve-mix"

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        others = [donor for donor in donors if donor.labels.any() and donor.subject != recipient.subject]
        if not others:
            raise InsertionError(f"{recipient.subject} has no other labelled case to carve from; give two or more.")
        donor = others[int(rng.integers(len(others)))]
        lesions = organ_of(donor)
        assert lesions is not None
        if self.config.placement == "add":
            place = voxel_at(recipient.image, body_coordinates(donor.image, lesions.centre))
        else:
            place = own_organ(recipient).centre
        distance = _signed_distance(lesions.labels > 0, voxel_sizes(donor.image.affine))
        drawn_mm, canvas = _draw_distance(float(distance.min()), rng), Canvas(recipient)
        piece = cut_piece(donor, lesions, canvas.spacing_mm, rng, room_mm=max(drawn_mm, 0.0))
        region = _signed_distance(piece.labels > 0, canvas.spacing_mm) <= drawn_mm
        carved = replace(piece, labels=np.where(region, piece.labels, np.uint8(0)))
        site = canvas.site(carved, place, 0.0, region=region)
        if not site.hidden.any():
            raise InsertionError(f"{recipient.subject}: the carved region lies outside the image.")
        canvas.insert(site, site.inserted, piece.source)
        return canvas.result({"method": self.name, "carved_mm": round(drawn_mm, 3)})


def _signed_distance(region: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in mm to a region's border, negative inside, (X, Y, Z); what lies beyond the array is outside."""
    thick = np.array(region.shape) > 1  # a single slice has no border above and below
    framed = np.pad(region, [(int(each), int(each)) for each in thick])
    outside, inside = (ndimage.distance_transform_edt(each, sampling=spacing_mm) for each in (~framed, framed))
    return np.asarray((outside - inside)[tuple(slice(1, -1) if each else slice(None) for each in thick)])


def _draw_distance(deepest_mm: float, rng: np.random.Generator) -> float:
    """The distance at which a region is cut: in half of the draws inside the lesion, up to half of its depth."""
    depth = abs(deepest_mm)
    return float(rng.uniform(-depth / 2, 0) if rng.random() < 0.5 else rng.uniform(0, depth))


class Elastic:
    """The whole case smoothly bent, image and labels alike, by as much as inserted shapes are bent.

    Every voxel of the recipient changes, and no donor takes part. A generator that does no better than this has
    brought shapes, and no images.

    Source: Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801.
    """

    name = "elastic"

    def __init__(self, config: ShapeConfig) -> None:
        self.config = config

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`; beyond the volume its outermost voxels continue."""
        del donors
        image, shape = recipient.image, recipient.labels.shape
        spacing = voxel_sizes(image.affine)
        moved = deformation(shape, spacing, self.config, rng) / spacing.reshape(3, 1, 1, 1)
        if shape[2] == 1:
            moved[2] = 0
        # Clipped, so that labels continue beyond the volume as the image does.
        places = np.clip(np.indices(shape) + moved, 0, np.reshape(shape, (3, 1, 1, 1)) - 1)
        bent = np.asarray(ndimage.map_coordinates(image.voxels, places, order=1, mode="nearest"), dtype=np.float32)
        labels = labels_at(Lesion(recipient.labels, (0, 0, 0)), places)
        case = replace(recipient, image=replace(image, voxels=bent), labels=labels)
        how = {"method": self.name, "deformation_mm": self.config.deformation_mm}
        return Synthetic(case, (recipient.subject,), how)


class Bent:
    """The cases of another method, bent as a whole: each shape and its surroundings are then seen in many forms."""

    def __init__(self, method: Synthesiser, elastic: Elastic) -> None:
        self.method, self.elastic, self.name = method, elastic, method.name

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        straight = self.method.synthesise(recipient, donors, rng)
        bent = self.elastic.synthesise(straight.case, donors, rng)
        return Synthetic(bent.case, straight.parents, bent.how | straight.how)


BASELINES: Mapping[str, type[Inserter]] = {each.name: each for each in (CopyPaste, CarveMix, SoftPoisson)}
"""Methods that need no network, by name."""


def baseline(name: str, config: InsertionConfig, domain: Domain) -> Synthesiser:
    """A method that needs no network.

    Raises:
        ConfigError: No such method, or a placement that it does not know.
    """
    if name not in BASELINES:
        raise ConfigError(f"method '{name}' is none of {', '.join(BASELINES)}.")
    return BASELINES[name](config, domain)
