"""Trained networks as methods: a painter that fills masks, and a sampler that draws image and labels at once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan.data.patches import cut, cut_labels
from medgan.data.preparation import Prepared, denormalise
from medgan.errors import InsertionError
from medgan.networks.painter import Painter
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.generator import masks, split_joint
from medgan.synthesis.insertion import (
    ATTEMPTS,
    Array,
    Canvas,
    Inserter,
    InsertionConfig,
    Mask,
    Site,
    Synthesiser,
    Synthetic,
    feathered,
    overlap,
)
from medgan.synthesis.methods import SoftPoisson
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.placement import body_coordinates
from medgan.synthesis.shapes import LabelMap, Piece, ShapeModel, Voxel, cut_piece, lesions_of, organ_of

Masks = Literal["real", "generated"]
"""Where masks come from: real ones, varied, or drawn by a shape model of the real ones."""


def by_network(
    network: nn.Module, lesions: LesionConfig, config: InsertionConfig, masks: Masks = "real"
) -> Synthesiser:
    """A trained generator, in evaluation mode: one with a latent vector draws image and labels, any other paints masks.

    Raises:
        ConfigError: A placement that it does not know.
    """
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
        self._fitted: tuple[tuple[Labelled, ...], ShapeModel] | None = None

    def piece(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """A real mask, varied, or a generated one on the recipient's spacing, which has no image."""
        if self.source == "real":
            return super().piece(canvas, donors, least, rng)
        mask = self._shapes(donors).draw(canvas.spacing_mm.tolist(), rng)
        margin = np.ceil(self.gap_mm(canvas) / canvas.spacing_mm).astype(int) * (np.array(canvas.labels.shape) > 1)
        half = np.array(mask.shape) // 2
        gaps = np.maximum(half, least) + margin - half
        labels = np.pad(mask, [(int(gap), int(gap)) for gap in gaps])
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
        hidden, labels = (np.zeros(canvas.image.shape, dtype=np.uint8) for _ in range(2))
        hidden[site.box] = site.share > 0
        labels[site.box] = site.labels
        image = replace(canvas.recipient.image, voxels=canvas.image)
        starts = self._starts(site)
        context = np.stack([cut(image, start, self._extent) for start in starts])
        hiding, wanted = (
            np.stack([cut_labels(volume, start, self._extent) for start in starts]) for volume in (hidden, labels)
        )
        painted = self._paint(context, hiding, wanted, self._conditions(site, wanted), rng)
        result = canvas.image.copy()
        for patch, start in zip(painted.reshape(len(starts), *self._extent), starts, strict=True):
            place, part = overlap(result.shape, start, patch.shape)
            result[place] = denormalise(patch[part], bounds)
        return feathered(site.before, result[site.box], site.share)

    def _starts(self, site: Site) -> list[Voxel]:
        """The first voxel of each patch: one block, or a slice wherever something is hidden."""
        x, y, z = _start(site.place, self._extent)
        if self.lesions.spatial == 3:
            return [(x, y, z)]
        first = site.box[2].start
        return [(x, y, first + int(number)) for number in np.flatnonzero((site.share > 0).any(axis=(0, 1)))]

    def _conditions(self, site: Site, labels: Array) -> Tensor:
        """The condition of each patch (N, x, y, z)."""
        config, recipient = self.lesions, site.canvas.recipient
        place = body_coordinates(recipient.image, site.place)
        vectors = [
            config.condition.vector(config.names, patch.astype(np.int64), place, recipient.subject) for patch in labels
        ]
        return torch.from_numpy(np.stack(vectors))

    def _paint(self, image: Array, hidden: Array, labels: Array, condition: Tensor, rng: np.random.Generator) -> Array:
        """Patches (N, x, y, z) as they are painted, (N, 1, *shape)."""
        context, hiding, wanted = (
            torch.from_numpy(stack.reshape(len(stack), 1, *self.lesions.shape)) for stack in (image, hidden, labels)
        )
        masked = masks(wanted.long(), len(self.lesions.names)).to(context.dtype) * hiding
        device = _device(self.network)
        inputs = [each.to(device) for each in (context * (1 - hiding), hiding, masked, condition)]
        if isinstance(self.network, Painter):
            noise = rng.standard_normal((1, self.network.noise, *self.lesions.shape), dtype=np.float32)
            inputs.append(torch.from_numpy(noise).to(device).expand(len(image), *noise.shape[1:]))
        patches = self.network(*inputs).float().cpu().numpy()
        if not np.isfinite(patches).all():
            raise InsertionError("the painter answers with values that are no numbers; train it anew.")
        return np.asarray(patches, dtype=np.float32)

    def _shapes(self, donors: Sequence[Labelled]) -> ShapeModel:
        """The shape model of some donors' lesions or organs, fitted once for as long as they stay the same."""
        if self._fitted is None or self._fitted[0] != tuple(donors):
            shapes = []
            for case in donors:
                organ = organ_of(case)
                lesions = lesions_of(case) if self.config.placement == "add" else [organ] if organ else []
                spacing = np.linalg.norm(case.image.affine[:3, :3], axis=0).tolist()
                shapes += [(lesion.labels, spacing) for lesion in lesions]
            self._fitted = tuple(donors), ShapeModel.fit(shapes, len(self.lesions.names))
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
        case = _in_place_of(recipient, *self._with_lesion(donors, rng))
        return Synthetic(case, (recipient.subject,), {"method": self.name, "placement": "whole"})

    def piece(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """The largest lesion of a sample or, with ``replace``, all that it marks."""
        image, labels = self._with_lesion(donors, rng)
        body = tuple((0, size) for size in image.shape)
        sample = Labelled("", Prepared(image, np.diag([*canvas.spacing_mm, 1.0]), body, (-1.0, 1.0)), labels)
        lesion = max(lesions_of(sample), key=lambda each: each.voxels)
        if self.config.placement == "replace":
            organ = organ_of(sample)
            assert organ is not None
            lesion = organ
        return cut_piece(sample, lesion, canvas.spacing_mm, rng, room_mm=self.gap_mm(canvas), least=least)

    def _with_lesion(self, donors: Sequence[Labelled], rng: np.random.Generator) -> tuple[Array, LabelMap]:
        """A sample with a lesion in it: image in [-1, 1] and labels, (x, y, z) each."""
        for _ in range(ATTEMPTS):
            image, labels = self._sample(donors, rng)
            if labels.any():
                return image, labels
        raise InsertionError("the generator draws no lesion; train it longer, or choose another epoch.")

    @torch.no_grad()
    def _sample(self, donors: Sequence[Labelled], rng: np.random.Generator) -> tuple[Array, LabelMap]:
        """An image in [-1, 1] and its labels, (x, y, z); z = 1 of a 2D network."""
        device = _device(self.network)
        z = torch.from_numpy(rng.standard_normal((1, int(self.network.latent)), dtype=np.float32))  # type: ignore[arg-type]
        condition = torch.from_numpy(self._condition(donors, rng))[None]
        stack = self.network(z.to(device), condition.to(device)).float().cpu()
        if not torch.isfinite(stack).all():
            raise InsertionError("the generator answers with values that are no numbers; train it anew.")
        image, labels = (each.numpy().reshape(_extent(self.lesions)) for each in split_joint(stack))
        return image.astype(np.float32), labels.astype(np.uint8)

    def _condition(self, donors: Sequence[Labelled], rng: np.random.Generator) -> NDArray[np.float32]:
        """The condition of the patch around a drawn real lesion, (D,)."""
        every = [(donor, lesion) for donor in donors for lesion in lesions_of(donor)]
        if not every:
            raise InsertionError("no donor has a lesion to ask the generator for; give cases with lesions.")
        donor, lesion = every[int(rng.integers(len(every)))]
        extent = _extent(self.lesions)
        labels = cut_labels(donor.labels, _start(lesion.centre, extent), extent).astype(np.int64)
        place = body_coordinates(donor.image, lesion.centre)
        return self.lesions.condition.vector(self.lesions.names, labels, place, donor.subject)


def _in_place_of(recipient: Labelled, image: Array, labels: LabelMap) -> Labelled:
    """A sample in the recipient's unit, where its organ (or the middle of its body) lies."""
    own = organ_of(recipient)
    middle = own.centre if own else [(first + last - 1) / 2 for first, last in recipient.image.body]
    affine = recipient.image.affine.copy()
    affine[:3, 3] = (affine @ (*_start(middle, image.shape), 1))[:3]
    bounds, body = recipient.image.bounds, tuple((0, size) for size in image.shape)
    return Labelled(recipient.subject, Prepared(denormalise(image, bounds), affine, body, bounds), labels)


def _extent(lesions: LesionConfig) -> Voxel:
    """A patch along all three axes; 1 along the third of a slice."""
    return (*lesions.shape, 1)[:3]


def _start(middle: Sequence[float] | NDArray[np.int64], extent: Sequence[int]) -> Voxel:
    """The first voxel of a patch around a place."""
    return tuple(round(float(at) - (size - 1) / 2) for at, size in zip(middle, extent, strict=True))


def _device(network: nn.Module) -> torch.device:
    """Where a network runs."""
    return next((each.device for each in network.parameters()), torch.device("cpu"))
