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
    UNVARIED,
    Canvas,
    Inserter,
    InsertionConfig,
    Site,
    Synthesiser,
    Synthetic,
    feathered,
    refuse_whole,
    soft_poisson,
)
from medgan.synthesis.placement import body_coordinates, voxel_at
from medgan.synthesis.shapes import (
    Lesion,
    Piece,
    ShapeConfig,
    Voxel,
    cut_piece,
    deformation,
    labels_at,
    organ_of,
    reach_of,
)


class CopyPaste(Inserter):
    """The baseline that a generator has to beat.

    Source: Ghiasi et al. 2021, arXiv:2012.07177, with one object at a time and placed by anatomy.
    """

    name = "copy-paste"

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The donor's image where the content is new, mixed with the recipient's around it."""
        del rng
        return feathered(site.before, site.inserted, site.share)


class SoftPoisson(Inserter):
    """Copy-paste that no step of brightness gives away.

    Source: Huo et al. 2024, arXiv:2406.14826; Pérez et al. 2003, doi 10.1145/882262.882269.
    """

    name = "soft-poisson"

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image with the donor's gradients in the lesion and the recipient's values around it."""
        del rng
        return soft_poisson(site.before, site.inserted, site.share, site.spacing_mm)


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
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
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
    return cut_piece(donor, whole, np.eye(3), (x, y, z), canvas.spacing_mm, UNVARIED, rng)


def _carved(canvas: Canvas, piece: Piece, place: Voxel, drawn_mm: float) -> Synthetic:
    """The recipient with image and labels of the region ``distance <= drawn_mm`` of the piece."""
    region = signed_distance(piece.labels > 0, canvas.spacing_mm) <= drawn_mm
    carved = replace(piece, labels=np.where(region, piece.labels, np.uint8(0)))
    site = canvas.site(carved, place, 0.0, region=region)
    if not site.hidden.any():
        raise InsertionError(f"{canvas.recipient.subject}: the carved region lies outside the image.")
    canvas.insert(site, site.inserted, piece.source)
    return canvas.result({"method": CarveMix.name, "carved_mm": round(drawn_mm, 3)})


class Elastic:
    """Elastic deformation (Simard et al. 2003, doi:10.1109/ICDAR.2003.1227801), by as much as inserted shapes are bent.

    Every voxel of the recipient changes, and no donor takes part. A generator that does no better than this has
    brought shapes, and no images.

    Args:
        config: ``deformation_mm`` and ``smoothness_mm`` count.
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
    """The cases of another method, bent as a whole: each shape and its surroundings are then seen in many forms.

    Args:
        method: What makes the cases.
        elastic: What bends them.
    """

    def __init__(self, method: Synthesiser, elastic: Elastic) -> None:
        self.method, self.elastic, self.name = method, elastic, method.name

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`."""
        made = self.method.synthesise(recipient, donors, rng)
        bent = self.elastic.synthesise(made.case, donors, rng)
        return Synthetic(bent.case, made.parents, bent.how | made.how)


BASELINES: Mapping[str, type[CopyPaste] | type[CarveMix] | type[SoftPoisson]] = {
    each.name: each for each in (CopyPaste, CarveMix, SoftPoisson)
}
"""Methods that need no network, by name."""


def baseline(name: str, config: InsertionConfig, domain: Domain) -> Synthesiser:
    """A method that needs no network.

    Raises:
        ConfigError: No such method, or a placement that it does not know.
    """
    if name not in BASELINES:
        raise ConfigError(f"method '{name}' is none of {', '.join(BASELINES)}.")
    return BASELINES[name](config, domain)
