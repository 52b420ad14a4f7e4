"""Trained networks as methods: a painter that fills masks, and a sampler that draws image and labels at once."""

from collections.abc import Sequence
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
    UNVARIED,
    Canvas,
    Inserter,
    InsertionConfig,
    Site,
    Synthesiser,
    Synthetic,
    feathered,
    soft_poisson,
)
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.placement import body_coordinates
from medgan.synthesis.shapes import (
    Lesion,
    MaskGenerator,
    MaskGeneratorConfig,
    Piece,
    Voxel,
    cut_piece,
    lesions_of,
    organ_of,
    reach_of,
)

Masks = Literal["real", "generated"]
"""Where masks come from: real ones, varied, or drawn by a shape model of the real ones."""


class Painted(Inserter):
    """Lesions by a network that paints what a mask asks for into the tissue around it.

    What is hidden is the new content (with ``replace`` where the old organ was and the new one will be, or only where
    the two differ) and the width of ``feather_mm`` around it; over that width what is painted goes over into what was
    there. A 2D painter paints each slice of a lesion with the same noise.

    Args:
        network: Context (B, 1, *shape), hidden (B, 1, *shape), masks (B, K, *shape) and condition (B, D) to the patch
            (B, 1, *shape) in [-1, 1]; in evaluation mode, on the device where it shall run.
        lesions: What it was trained on.
        config: What is inserted, where.
        source: Where masks come from.
    """

    name = "painted"

    def __init__(
        self, network: nn.Module, lesions: LesionConfig, config: InsertionConfig, source: Masks = "real"
    ) -> None:
        super().__init__(config, lesions.domain)
        self.network, self.lesions, self.source = network, lesions, source
        self._fitted: tuple[tuple[Labelled, ...], MaskGenerator] | None = None

    def added(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Piece:
        """A lesion's mask, real or generated."""
        if self.source == "real":
            return super().added(canvas, donors, rng)
        return self._generated(canvas, donors, (0, 0, 0), rng)

    def exchanged(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """An organ's mask, real or generated."""
        if self.source == "real":
            return super().exchanged(canvas, donors, least, rng)
        return self._generated(canvas, donors, least, rng)

    def renewed(self, new: NDArray[np.uint8], old: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """All that is or was organ, or what changes its label; where nothing does, all."""
        changed = new != old
        return changed if self.config.renew == "changed" and changed.any() else super().renewed(new, old)

    def fits(self, canvas: Canvas, region: NDArray[np.bool_]) -> bool:
        """Whether a region, (x, y, z) around a piece's middle, can be hidden within the painter's patch."""
        reach = np.abs(np.argwhere(region) - np.array(region.shape) // 2).max(axis=0)
        margin = np.ceil(self.config.feather_mm / canvas.spacing_mm)
        axes = self.lesions.spatial
        return bool((2 * (reach + margin)[:axes] + 1 <= self.lesions.shape).all())

    @torch.no_grad()
    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """What the painter makes of the site, mixed with the recipient over the feather's width."""
        hidden, labels = (np.zeros(site.image.shape, dtype=np.uint8) for _ in range(2))
        hidden[site.box] = site.share > 0
        labels[site.box] = site.labels
        image = Prepared(site.image, site.recipient.affine, site.recipient.body, site.recipient.bounds)
        starts, extent = self._starts(site), (*self.lesions.shape, 1)[:3]
        context = np.stack([cut(image, start, extent) for start in starts])
        hiding = np.stack([cut_labels(hidden, start, extent) for start in starts])
        wanted = np.stack([cut_labels(labels, start, extent) for start in starts])
        painted = self._paint(context, hiding, wanted, self._conditions(site, wanted), rng)
        found = _laid(site.image, painted.reshape(len(starts), *extent), starts, site.recipient.bounds)
        return feathered(site.before, found[site.box], site.share)

    def _starts(self, site: Site) -> list[tuple[int, int, int]]:
        """The first voxel of each patch: one block, or a slice wherever something is hidden."""
        x, y, z = (
            round(float(at) - (size - 1) / 2) for at, size in zip(site.place, (*self.lesions.shape, 1)[:3], strict=True)
        )
        if self.lesions.spatial == 3:
            return [(x, y, z)]
        first = site.box[2].start
        return [(x, y, first + int(number)) for number in np.flatnonzero((site.share > 0).any(axis=(0, 1)))]

    def _conditions(self, site: Site, labels: NDArray[np.float32]) -> Tensor:
        """What each patch (N, x, y, z) shall show."""
        config = self.lesions
        vectors = [
            config.condition.vector(
                config.names,
                patch.astype(np.int64),
                body_coordinates(site.recipient, site.place),
                site.subject,
            )
            for patch in labels
        ]
        return torch.from_numpy(np.stack(vectors))

    def _paint(
        self,
        image: NDArray[np.float32],
        hidden: NDArray[np.float32],
        labels: NDArray[np.float32],
        condition: Tensor,
        rng: np.random.Generator,
    ) -> NDArray[np.float32]:
        """Patches (N, x, y, z) as they are painted, (N, 1, *shape)."""
        seen, hiding, wanted = (
            torch.from_numpy(stack.reshape(len(stack), 1, *self.lesions.shape)) for stack in (image, hidden, labels)
        )
        masked = masks(wanted.long(), len(self.lesions.names)).to(seen.dtype) * hiding
        device = next((each.device for each in self.network.parameters()), seen.device)
        asked = [each.to(device) for each in (seen * (1 - hiding), hiding, masked, condition)]
        if isinstance(self.network, Painter):
            noise = rng.standard_normal((1, self.network.noise, *self.lesions.shape), dtype=np.float32)
            asked.append(torch.from_numpy(noise).to(device).expand(len(image), *noise.shape[1:]))
        found = self.network(*asked).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise InsertionError("the painter answers with values that are no numbers; train it anew.")
        return np.asarray(found, dtype=np.float32)

    def _generated(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """A drawn mask on the recipient's spacing; it has no image."""
        mask = self._shapes(donors).draw(canvas.spacing_mm.tolist(), rng)
        flat = np.array(canvas.labels.shape) == 1
        margin = np.where(flat, 0, np.ceil(self.gap_mm(canvas) / canvas.spacing_mm).astype(int))
        half = np.maximum(np.array(mask.shape) // 2, least) + margin
        labels = np.pad(mask, [(int(gap), int(gap)) for gap in half - np.array(mask.shape) // 2])
        return Piece("", labels, np.zeros(labels.shape, dtype=np.float32), (-1.0, 1.0))

    def _shapes(self, donors: Sequence[Labelled]) -> MaskGenerator:
        """The shape model of some donors, fitted once for as long as they stay the same."""
        if self._fitted is None or self._fitted[0] != tuple(donors):
            found = [(_lesions(case, self.config), np.asarray(case.image.affine)) for case in donors]
            shapes = [(each.labels, affine) for lesions, affine in found for each in lesions]
            spacings = [np.linalg.norm(affine[:3, :3], axis=0).tolist() for _, affine in shapes]
            fitted = MaskGenerator.fit(
                [labels for labels, _ in shapes], spacings, len(self.lesions.names), MaskGeneratorConfig()
            )
            self._fitted = tuple(donors), fitted
        return self._fitted[1]


def _lesions(case: Labelled, config: InsertionConfig) -> Sequence[Lesion]:
    """The shapes that a case lends: its lesions, or its organ as one."""
    if config.placement == "add":
        return lesions_of(case)
    organ = organ_of(case)
    return [organ] if organ else []


def _laid(
    image: NDArray[np.float32],
    painted: NDArray[np.float32],
    starts: Sequence[tuple[int, int, int]],
    bounds: tuple[float, float],
) -> NDArray[np.float32]:
    """The image (X, Y, Z) with patches (N, x, y, z) in [-1, 1] laid over it; what is beyond it is lost."""
    result = image.copy()
    for patch, start in zip(painted, starts, strict=True):
        low = np.maximum(start, 0)
        high = np.minimum(np.add(start, patch.shape), image.shape)
        place = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        part = tuple(slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True))
        result[place] = denormalise(patch[part], bounds)
    return result


class Sampled(Inserter):
    """Lesions or whole cases by a network that draws joint patches of image and labels from noise.

    With ``add`` the largest lesion of a sample is placed, with ``replace`` all that it marks takes the place of the
    recipient's organ; what the network drew around it is not the recipient's, so its gradients are blended (see
    :func:`medgan.synthesis.insertion.soft_poisson`). With ``whole`` the sample is the case, at the place of the
    recipient's labels: Bowles et al. 2018, arXiv:1810.10863. What a sample is asked to show (class, size, place) is
    what a drawn real lesion of the donors shows.

    Args:
        network: ``network.latent`` values z (B, latent) and a condition (B, D) to (B, 1 + K, *shape) in [-1, 1]; in
            evaluation mode, on the device where it shall run.
        lesions: What it was trained on.
        config: What is inserted, where; shapes are not varied, the network does that.
    """

    name = "sampled"

    def __init__(self, network: nn.Module, lesions: LesionConfig, config: InsertionConfig) -> None:
        super().__init__(config, lesions.domain)
        self.network, self.lesions = network, lesions

    def check(self, config: InsertionConfig) -> None:
        """Every placement is possible."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """See :class:`medgan.synthesis.insertion.Synthesiser`; with ``whole`` the case is as large as a patch."""
        if self.config.placement != "whole":
            return super().synthesise(recipient, donors, rng)
        for _ in range(ATTEMPTS):
            image, labels = self._sample(donors, rng)
            if labels.any():
                case = _in_place_of(recipient, image, labels)
                return Synthetic(case, (recipient.subject,), {"method": self.name, "placement": "whole"})
        raise InsertionError(_NOTHING)

    def added(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Piece:
        """The largest lesion of a sample."""
        drawn = self._drawn(canvas, donors, rng)
        return self._piece(canvas, drawn, max(lesions_of(drawn), key=lambda lesion: lesion.voxels), (0, 0, 0), rng)

    def exchanged(self, canvas: Canvas, donors: Sequence[Labelled], least: Voxel, rng: np.random.Generator) -> Piece:
        """All that a sample marks."""
        drawn = self._drawn(canvas, donors, rng)
        organ = organ_of(drawn)
        assert organ is not None
        return self._piece(canvas, drawn, organ, least, rng)

    def fill(self, site: Site, rng: np.random.Generator) -> NDArray[np.float32]:
        """The image with the sample's gradients in the lesion and the recipient's values around it."""
        del rng
        return soft_poisson(site.before, site.inserted, site.share, site.spacing_mm)

    def _drawn(self, canvas: Canvas, donors: Sequence[Labelled], rng: np.random.Generator) -> Labelled:
        """A sample with a lesion in it, as a case on the recipient's spacing."""
        for _ in range(ATTEMPTS):
            image, labels = self._sample(donors, rng)
            if labels.any():
                affine = np.diag([*canvas.spacing_mm, 1.0])
                return Labelled("", Prepared(image, affine, tuple((0, n) for n in image.shape), (-1.0, 1.0)), labels)
        raise InsertionError(_NOTHING)

    def _piece(self, canvas: Canvas, drawn: Labelled, lesion: Lesion, least: Voxel, rng: np.random.Generator) -> Piece:
        margin = np.ceil(self.gap_mm(canvas) / canvas.spacing_mm).astype(int) * (np.array(drawn.labels.shape) > 1)
        x, y, z = (np.maximum(reach_of(drawn, lesion, np.eye(3), canvas.spacing_mm), least) + margin).tolist()
        return cut_piece(drawn, lesion, np.eye(3), (x, y, z), canvas.spacing_mm, UNVARIED, rng)

    @torch.no_grad()
    def _sample(
        self, donors: Sequence[Labelled], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """An image in [-1, 1] and its labels, (x, y, z); z = 1 of a 2D network."""
        device = next((each.device for each in self.network.parameters()), torch.device("cpu"))
        z = torch.from_numpy(rng.standard_normal((1, int(self.network.latent)), dtype=np.float32))  # type: ignore[arg-type]
        condition = torch.from_numpy(self._condition(donors, rng))[None]
        stack = self.network(z.to(device), condition.to(device)).float().cpu()
        if not torch.isfinite(stack).all():
            raise InsertionError("the generator answers with values that are no numbers; train it anew.")
        image, labels = (each.numpy().reshape((*self.lesions.shape, 1)[:3]) for each in split_joint(stack))
        return image.astype(np.float32), labels.astype(np.uint8)

    def _condition(self, donors: Sequence[Labelled], rng: np.random.Generator) -> NDArray[np.float32]:
        """What the patch around a drawn real lesion shows, (D,)."""
        every = [(donor, lesion) for donor in donors for lesion in lesions_of(donor)]
        if not every:
            raise InsertionError("no donor has a lesion to ask the generator for; give cases with lesions.")
        donor, lesion = every[int(rng.integers(len(every)))]
        extent = (*self.lesions.shape, 1)[:3]
        start = [round(at - (size - 1) / 2) for at, size in zip(lesion.centre, extent, strict=True)]
        labels = cut_labels(donor.labels, start, extent).astype(np.int64)
        place = body_coordinates(donor.image, lesion.centre)
        return self.lesions.condition.vector(self.lesions.names, labels, place, donor.subject)


_NOTHING = "the generator draws no lesion; train it longer, or choose another epoch."


def _in_place_of(recipient: Labelled, image: NDArray[np.float32], labels: NDArray[np.uint8]) -> Labelled:
    """A sample in the recipient's unit, where its organ (or the middle of its body) lies."""
    own = organ_of(recipient)
    middle = own.centre if own else [(first + last - 1) / 2 for first, last in recipient.image.body]
    start = [round(float(at) - (size - 1) / 2) for at, size in zip(middle, image.shape, strict=True)]
    affine = recipient.image.affine.copy()
    affine[:3, 3] = (affine @ (*start, 1))[:3]
    bounds = recipient.image.bounds
    body = tuple((0, size) for size in image.shape)
    return Labelled(recipient.subject, Prepared(denormalise(image, bounds), affine, body, bounds), labels)


def by_network(
    network: nn.Module, lesions: LesionConfig, config: InsertionConfig, masks: Masks = "real"
) -> Synthesiser:
    """A trained generator: one with a latent vector draws image and labels, any other paints what masks ask for.

    Args:
        network: The kept network, in evaluation mode, on its device.
        lesions: What it was trained on.
        config: What is inserted, where.
        masks: Where those that are painted come from.

    Raises:
        ConfigError: A placement that it does not know.
    """
    if hasattr(network, "latent"):
        return Sampled(network, lesions, config)
    return Painted(network, lesions, config, masks)
