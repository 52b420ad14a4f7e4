"""Methods that make cases: copy-paste, soft-Poisson, CarveMix, bending, and trained networks that paint or draw."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from medgan.data.domains import Domain
from medgan.data.patches import cut
from medgan.data.preparation import Prepared, denormalise
from medgan.errors import ConfigError, InsertionError
from medgan.networks.painter import Painter
from medgan.segmentation.labelled import Labelled
from medgan.synthesis import insertion, shapes
from medgan.synthesis.generator import masks, split_joint
from medgan.synthesis.insertion import Array, Canvas, Inserter, InsertionConfig, Mask, Site, Synthesiser, Synthetic
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.placement import body_coordinates, voxel_at
from medgan.synthesis.shapes import LabelMap, Piece, Voxel

Masks = Literal["real", "generated"]
"""Where masks come from: real ones, varied, or drawn by a shape model of the real ones."""


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
        return insertion.soft_poisson(site.before, site.inserted, site.share, site.canvas.spacing_mm)


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
        lesions = shapes.organ_of(donor)
        if self.config.placement == "add":
            place = voxel_at(recipient.image, body_coordinates(donor.image, lesions.centre))
        else:
            place = shapes.organ_of(recipient).centre
        distance = _signed_distance(lesions.labels > 0, voxel_sizes(donor.image.affine))
        drawn_mm, canvas = _draw_distance(float(distance.min()), rng), Canvas(recipient)
        piece = shapes.cut_piece(donor, lesions, canvas.spacing_mm, rng, room_mm=max(drawn_mm, 0.0))
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
    return shapes.signed_distance(framed, spacing_mm)[tuple(slice(1, -1) if each else slice(None) for each in thick)]


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

    def __init__(self, config: shapes.ShapeConfig) -> None:
        self.config = config

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`; beyond the volume its outermost voxels continue."""
        del donors
        image, shape = recipient.image, recipient.labels.shape
        spacing = voxel_sizes(image.affine)
        moved = shapes.deformation(shape, spacing, self.config, rng) / spacing.reshape(3, 1, 1, 1)
        if shape[2] == 1:
            moved[2] = 0
        # Clipped, so that labels continue beyond the volume as the image does.
        places = np.clip(np.indices(shape) + moved, 0, np.reshape(shape, (3, 1, 1, 1)) - 1)
        bent = np.asarray(ndimage.map_coordinates(image.voxels, places, order=1, mode="nearest"), dtype=np.float32)
        labels = shapes.labels_at(shapes.Lesion(recipient.labels, (0, 0, 0)), places)
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
    """A method that needs no network."""
    if name not in BASELINES:
        raise ConfigError(f"method '{name}' is none of {', '.join(BASELINES)}.")
    return BASELINES[name](config, domain)


def by_network(
    network: nn.Module, lesions: LesionConfig, config: InsertionConfig, masks: Masks = "real"
) -> Synthesiser:
    """A trained generator in evaluation mode: with a latent vector it draws image and labels, else it paints masks."""
    if hasattr(network, "latent"):
        return _Sampled(network, lesions, config)
    return _Painted(network, lesions, config, masks)


class _Painted(Inserter):
    """Lesions by a network that paints what a mask asks for into the tissue around it.

    What is hidden is the new content (with ``replace`` where the old organ was and the new one will be, or only where
    the two differ) and the width of ``feather_mm`` around it; over that width what is painted goes over into what was
    there. A 2D painter paints each slice of a lesion with the same noise.

    The network maps context and hidden region (B, 1, *shape), masks (B, K, *shape) and condition (B, D) to the patch
    (B, 1, *shape) in [-1, 1].
    """

    name = "painted"

    def __init__(
        self, network: nn.Module, lesions: LesionConfig, config: InsertionConfig, source: Masks = "real"
    ) -> None:
        super().__init__(config, lesions.domain)
        self.network, self.lesions, self.source = network, lesions, source
        self._extent: Voxel = _extent(lesions)
        self._fitted: tuple[tuple[Labelled, ...], shapes.ShapeModel] | None = None

    def piece(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """A real mask, varied, or a generated one on the recipient's spacing, which has no image."""
        if self.source == "real":
            return super().piece(canvas, donors, least, rng)
        mask = self._shapes(donors).draw(canvas.spacing_mm.tolist(), rng)
        margin = np.ceil(self.gap_mm(canvas) / canvas.spacing_mm).astype(int) * (np.array(canvas.labels.shape) > 1)
        half = np.array(mask.shape) // 2
        gaps = np.maximum(half, least) + margin - half
        labels = np.pad(mask, np.stack([gaps, gaps], axis=1))
        return Piece("", labels, np.zeros(labels.shape, dtype=np.float32), (-1.0, 1.0))

    def renewed(self, new: LabelMap, old: LabelMap) -> Mask:
        """All that is or was organ, or what changes its label; where nothing does, all."""
        changed = new != old
        return changed if self.config.renew == "changed" and changed.any() else super().renewed(new, old)

    def fits(self, canvas: Canvas, region: Mask) -> bool:
        """Whether a region, (x, y, z) around a piece's middle, can be hidden within the painter's patch."""
        reach = np.abs(np.argwhere(region) - np.array(region.shape) // 2).max(axis=0)
        margin = np.ceil(self.config.feather_mm / canvas.spacing_mm)
        return bool((2 * (reach + margin)[: self.lesions.spatial] + 1 <= self.lesions.shape).all())

    @torch.no_grad()
    def fill(self, site: Site, rng: np.random.Generator) -> Array:
        """What the painter makes of the site, mixed with the recipient over the feather's width."""
        canvas, bounds = site.canvas, site.canvas.recipient.image.bounds
        hidden, labels = (np.zeros(canvas.image.shape, dtype=np.float32) for _ in range(2))
        hidden[site.box] = site.share > 0
        labels[site.box] = site.labels
        image = replace(canvas.recipient.image, voxels=canvas.image)
        # The first voxel of each patch: one block, or a slice wherever something is hidden.
        x, y, z = _start(site.place, self._extent)
        slices = np.flatnonzero((site.share > 0).any(axis=(0, 1))) + site.box[2].start
        starts = [(x, y, z)] if self.lesions.spatial == 3 else [(x, y, int(z)) for z in slices]
        patches = (
            [cut(image, start, self._extent) for start in starts],
            *([cut(volume, start, self._extent) for start in starts] for volume in (hidden, labels)),
        )
        context, holes, wanted = (
            torch.from_numpy(np.reshape(each, (len(starts), 1, *self.lesions.shape))) for each in patches
        )
        painted = self._paint(context, holes, wanted.long(), site, rng)
        result = canvas.image.copy()
        for patch, start in zip(painted.reshape(len(starts), *self._extent), starts, strict=True):
            place, part = insertion.overlap(result.shape, start, patch.shape)
            result[place] = denormalise(patch[part], bounds)
        return insertion.feathered(site.before, result[site.box], site.share)

    def _paint(self, image: Tensor, hidden: Tensor, labels: Tensor, site: Site, rng: np.random.Generator) -> Array:
        """Patches of a site, (N, 1, *shape) each, as they are painted."""
        config, recipient = self.lesions, site.canvas.recipient
        place = body_coordinates(recipient.image, site.place)
        condition = [config.condition.vector(config.names, each, place, recipient.subject) for each in labels.numpy()]
        masked = masks(labels, len(config.names)).to(image.dtype) * hidden
        inputs = [image * (1 - hidden), hidden, masked, torch.from_numpy(np.stack(condition))]
        if isinstance(self.network, Painter):
            noise = rng.standard_normal((1, self.network.noise, *config.shape), dtype=np.float32)
            inputs.append(torch.from_numpy(noise).expand(len(image), *noise.shape[1:]))
        device = _device(self.network)
        painted = self.network(*(each.to(device) for each in inputs)).float().cpu().numpy()
        if not np.isfinite(painted).all():
            raise InsertionError("the painter answers with values that are no numbers; train it anew.")
        return np.asarray(painted, dtype=np.float32)

    def _shapes(self, donors: Sequence[Labelled]) -> shapes.ShapeModel:
        """The shape model of some donors' lesions or organs, fitted once for as long as they stay the same."""
        if self._fitted is None or self._fitted[0] != tuple(donors):
            real = [
                (lesion.labels, np.linalg.norm(case.image.affine[:3, :3], axis=0).tolist())
                for case in donors
                if case.labels.any()
                for lesion in (shapes.lesions_of(case) if self.config.placement == "add" else (shapes.organ_of(case),))
            ]
            self._fitted = tuple(donors), shapes.ShapeModel.fit(real, len(self.lesions.names))
        return self._fitted[1]


class _Sampled(SoftPoisson):
    """Lesions or whole cases by a network that draws joint patches of image and labels from noise.

    With ``add`` the largest lesion of a sample is placed, with ``replace`` all that it marks takes the place of the
    recipient's organ; what the network drew around it is not the recipient's, so its gradients are blended. With
    ``whole`` the sample is the case, at the place of the recipient's labels: Bowles et al. 2018, arXiv:1810.10863. A
    sample's condition (class, size, place) is that of a drawn real lesion of the donors.

    The network maps z (B, latent) and condition (B, D) to (B, 1 + K, *shape) in [-1, 1]. Shapes are not varied: it does
    that.
    """

    name = "sampled"
    draws_whole = True

    def __init__(self, network: nn.Module, lesions: LesionConfig, config: InsertionConfig) -> None:
        super().__init__(config, lesions.domain)
        self.network, self.lesions = network, lesions

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`; with ``whole`` the case is as large as a patch."""
        if self.config.placement != "whole":
            return super().synthesise(recipient, donors, rng)
        image, labels = self._sample(donors, rng)
        # In the recipient's unit, where its organ (or the middle of its body) lies.
        middle: Sequence[float] = [(first + last - 1) / 2 for first, last in recipient.image.body]
        if recipient.labels.any():
            middle = shapes.organ_of(recipient).centre
        affine, bounds = recipient.image.affine.copy(), recipient.image.bounds
        affine[:3, 3] = (affine @ (*_start(middle, image.shape), 1))[:3]
        whole = Prepared(denormalise(image, bounds), affine, tuple((0, size) for size in image.shape), bounds)
        how = {"method": self.name, "placement": "whole"}
        return Synthetic(Labelled(recipient.subject, whole, labels), (recipient.subject,), how)

    def piece(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """The largest lesion of a sample or, with ``replace``, all that it marks."""
        image, labels = self._sample(donors, rng)
        body = tuple((0, size) for size in image.shape)
        sample = Labelled("", Prepared(image, np.diag([*canvas.spacing_mm, 1.0]), body, (-1.0, 1.0)), labels)
        largest = max(shapes.lesions_of(sample), key=lambda each: each.voxels)
        lesion = shapes.organ_of(sample) if self.config.placement == "replace" else largest
        return shapes.cut_piece(sample, lesion, canvas.spacing_mm, rng, room_mm=self.gap_mm(canvas), least=least)

    @torch.no_grad()
    def _sample(self, donors: Sequence[Labelled], rng: np.random.Generator) -> tuple[Array, LabelMap]:
        """A sample with a lesion in it: image in [-1, 1] and labels, (x, y, z) each; z = 1 of a 2D network."""
        device = _device(self.network)
        for _ in range(insertion.ATTEMPTS):
            z = torch.from_numpy(rng.standard_normal((1, int(self.network.latent)), dtype=np.float32))  # type: ignore[arg-type]
            condition = torch.from_numpy(self._condition(donors, rng))[None]
            stack = self.network(z.to(device), condition.to(device)).float().cpu()
            if not torch.isfinite(stack).all():
                raise InsertionError("the generator answers with values that are no numbers; train it anew.")
            image, labels = (each.numpy().reshape(_extent(self.lesions)) for each in split_joint(stack))
            if labels.any():
                return image.astype(np.float32), labels.astype(np.uint8)
        raise InsertionError("the generator draws no lesion; train it longer, or choose another epoch.")

    def _condition(self, donors: Sequence[Labelled], rng: np.random.Generator) -> NDArray[np.float32]:
        """The condition of the patch around a drawn real lesion, (D,)."""
        every = [(donor, lesion) for donor in donors for lesion in shapes.lesions_of(donor)]
        if not every:
            raise InsertionError("no donor has a lesion to ask the generator for; give cases with lesions.")
        donor, lesion = every[int(rng.integers(len(every)))]
        extent = _extent(self.lesions)
        labels = cut(donor.labels, _start(lesion.centre, extent), extent).astype(np.int64)
        place = body_coordinates(donor.image, lesion.centre)
        return self.lesions.condition.vector(self.lesions.names, labels, place, donor.subject)


def _extent(lesions: LesionConfig) -> Voxel:
    """A patch along all three axes; 1 along the third of a slice."""
    return (*lesions.shape, 1)[:3]


def _start(middle: Sequence[float] | NDArray[np.int64], extent: Sequence[int]) -> Voxel:
    """The first voxel of a patch around a place."""
    return tuple(round(float(at) - (size - 1) / 2) for at, size in zip(middle, extent, strict=True))


def _device(network: nn.Module) -> torch.device:
    """Where a network runs."""
    return next((each.device for each in network.parameters()), torch.device("cpu"))
