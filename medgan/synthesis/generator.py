"""What all lesion generators share: joint patches, held-out patches to be judged on, and how mode collapse is found."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.utils.data import default_collate

from medgan.data.augmentation import Batch
from medgan.data.preparation import denormalise
from medgan.errors import DataError
from medgan.evaluation.synthesis.distances import sliced_wasserstein
from medgan.pictures.panels import Panel, panel
from medgan.pictures.tiles import Row, Tile, outlines_of
from medgan.pictures.views import Plane, view
from medgan.pictures.windows import DisplayWindow
from medgan.segmentation.labelled import IMAGE, LABELS, LabelledHeldOut
from medgan.synthesis.patches import CONDITION, LesionConfig, LesionPatches
from medgan.training.learner import HeldOut, Judgement, Learner, Networks, bare

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
"""Names of networks; the generator is the one that is kept."""
JUDGED, SHOWN = 64, 4
"""Patches that a validation compares, and those of its panel."""
PROJECTIONS = 128
ALL_ALIKE = 0.1
"""A training stops when samples differ among themselves by less than this share of what real patches do. Noise, labels,
classes and places all count. A sound training may vary little at first, so this is far below ``COLLAPSED`` of
:mod:`medgan.evaluation.synthesis.diversity`, the verdict on a finished generator."""


def joint(image: Tensor, labels: Tensor, names: int) -> Tensor:
    """Image and labels, (B, 1, *shape) each, as (B, 1 + names, *shape) in [-1, 1]: a map for each name, +1 inside.

    Source: Bowles et al. 2018, arXiv:1810.10863.
    """
    return torch.cat([image, 2 * masks(labels, names).to(image.dtype) - 1], dim=1)


def masks(labels: Tensor, names: int) -> Tensor:
    """One map for each name: (B, 1, *shape) of whole numbers to (B, names, *shape) of 0 and 1."""
    return F.one_hot(labels[:, 0].long(), names + 1).movedim(-1, 1)[:, 1:]


def split_joint(stack: Tensor) -> tuple[Tensor, Tensor]:
    """The way back; a voxel has the name whose map is highest there, and none where no map is positive."""
    highest, number = stack[:, 1:].max(dim=1, keepdim=True)
    return stack[:, :1], torch.where(highest > 0, number + 1, torch.zeros_like(number))


class LesionGenerator(Learner):
    """Networks by name, each with an Adam of its own rate; the one that draws lesions is kept."""

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    kept = (GENERATOR,)
    best = "val/sliced_wasserstein"

    def __init__(
        self, lesions: LesionConfig, networks: Networks, rates: Mapping[str, float], betas: tuple[float, float]
    ) -> None:
        super().__init__()
        self.lesions, self._held_out = lesions, dict[str, Tensor]()
        self.trained = self.optimized = tuple(networks)
        for name, network in networks.items():
            setattr(self, name, network)
            setattr(self, f"{name}_optimizer", Adam(network.parameters(), rates[name], betas))

    def held_out_patches(self, held_out: HeldOut) -> Batch:
        """The same ``JUDGED`` patches of the held-out subjects at each call, unvaried, on the learner's device."""
        assert isinstance(held_out, LabelledHeldOut), "a lesion generator is judged on labelled subjects"
        if not self._held_out:
            try:
                patches = LesionPatches(held_out.subjects(), self.lesions.still(), seed=0)
            except DataError:
                raise DataError(
                    "no validation subject has a lesion to judge by; choose others, or set fit.keep=last and "
                    "split.validation=0."
                ) from None
            self._held_out = default_collate([patches.patch(number) for number in range(JUDGED)])
        return {key: self.attached.to_device(value) for key, value in self._held_out.items()}


class Sampler(LesionGenerator):
    """A generator from noise: z (B, latent) and condition (B, D) become joint patches (B, 1 + K, *shape)."""

    saved: tuple[str, ...] = ("diversity",)
    diversity = 1.0
    """The last ``val/diversity``."""

    def joint(self, batch: Batch) -> Tensor:
        """Image and labels of a batch as the discriminator sees them, (B, 1 + K, *shape)."""
        return joint(batch[IMAGE], batch[LABELS], len(self.lesions.names))

    @property
    def latent(self) -> int:
        """The length of z."""
        return int(getattr(bare(self.generator), "latent"))  # noqa: B009 - a module's own number, untyped

    def noise(self, like: Tensor) -> Tensor:
        """Noise (B, latent) from N(0, 1) for a batch as long as ``like``, on its device."""
        return torch.randn(like.shape[0], self.latent, device=like.device)

    @torch.no_grad()
    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """The distance of samples to held-out patches of the same conditions, and how much samples differ.

        ``val/sliced_wasserstein`` is the sliced Wasserstein distance of joint patches, in units of [-1, 1];
        ``val/diversity`` the mean distance between samples as a share of that between real patches.
        """
        batch = self.held_out_patches(held_out)
        real, condition = self.joint(batch).cpu(), batch[CONDITION]
        z = torch.randn(JUDGED, self.latent, generator=torch.Generator().manual_seed(0)).to(condition.device)
        fake = networks[GENERATOR](z, condition).float().cpu()
        distance = sliced_wasserstein(fake.numpy(), real.numpy(), projections=PROJECTIONS, seed=0)
        self.diversity = spread(fake) / max(spread(real), 1e-6)
        metrics = {"val/sliced_wasserstein": distance, "val/diversity": self.diversity}
        return Judgement(metrics, _panel(real, fake, self.lesions))

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """Advice where the last validation found mode collapse."""
        del means
        if self.diversity >= ALL_ALIKE:
            return None
        return (
            f"mode collapse: samples differ by {self.diversity:.0%} of what real patches do; lower the generator's "
            "rate, change the adversarial loss (wasserstein), or give it more lesions to learn from."
        )


def spread(patches: Tensor) -> float:
    """Mean distance between two patches of a batch (B, C, *shape): the root of the mean squared difference."""
    flat = patches.flatten(1)
    return float((torch.pdist(flat) / flat.shape[1] ** 0.5).mean())


def _panel(real: Tensor, fake: Tensor, lesions: LesionConfig) -> Panel:
    """Real patches above, samples below, with the outlines of their labels; blocks in two planes."""
    rows = []
    for title, stack in (("held-out patches", real[:SHOWN]), ("samples", fake[:SHOWN])):
        image, labels = split_joint(stack)
        for plane in patch_planes(image):
            pairs = zip(image, labels, strict=True)
            rows.append(Row([patch_tile(each, lesions, plane, labels=own) for each, own in pairs], f"{title}, {plane}"))
    return panel(rows, "held-out patches above, samples below")


def patch_planes(patches: Tensor) -> tuple[Plane, ...]:
    """In which planes patches (B, 1, *shape) are shown."""
    return ("axial", "coronal") if patches.dim() == 5 else ("axial",)


def patch_tile(
    patch: Tensor, lesions: LesionConfig, plane: Plane = "axial", title: str = "", labels: Tensor | None = None
) -> Tile:
    """The middle slice of a patch (1, *shape) in [-1, 1], with the outlines of its label map, of the same shape."""
    window, unit = lesions.domain.window, lesions.domain.unit
    voxels = volume(patch)
    if unit == "HU":
        voxels, shown = (
            denormalise(voxels, window.bounds(voxels)),
            DisplayWindow("network's window", window.lower, window.upper, unit),
        )
    else:
        shown = DisplayWindow("range of the network", -1.0, 1.0, unit)
    outlines = [] if labels is None else outlines_of(view(volume(labels), plane=plane).pixels, lesions.names)
    return Tile(view(voxels, plane=plane), shown, title, outlines)


def volume(patch: Tensor) -> NDArray[np.float32]:
    """A patch (1, *shape) as (X, Y, Z)."""
    voxels = patch[0].float().cpu().numpy()
    return np.asarray(voxels if voxels.ndim == 3 else voxels[..., None], dtype=np.float32)
