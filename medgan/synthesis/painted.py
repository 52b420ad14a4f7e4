"""A painter as synthesiser: a mask is placed in a recipient, hidden with its surroundings, and painted anew."""

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
from medgan.synthesis.blending import feathered
from medgan.synthesis.canvas import Canvas, Site
from medgan.synthesis.insertion import Inserter, InsertionConfig
from medgan.synthesis.joint import masks
from medgan.synthesis.mask_generator import MaskGenerator, MaskGeneratorConfig
from medgan.synthesis.places import body_coordinates
from medgan.synthesis.settings import LesionConfig
from medgan.synthesis.shapes import Lesion, Piece, Voxel, lesions_of, organ_of

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
