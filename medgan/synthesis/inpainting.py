"""The way back: what lay where a lesion lies. A lesion is hidden, and healthy tissue painted in its place.

Two ways. The learnt one is a painter that has been shown nothing but holes in healthy tissue. The historical one has
learnt no filling at all: it searches a generator's inputs for the sample that fits around the hole.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from medgan import losses
from medgan.config import Config
from medgan.data.patches import Batch
from medgan.networks.painter import composite
from medgan.segmentation.labelled import IMAGE, LABELS
from medgan.synthesis.hiding import holes
from medgan.synthesis.painting import Painting, PaintingConfig

Realness = Callable[[Tensor], Tensor]
"""A discriminator: joint patches (B, 1 + names, *spatial) to raw scores."""


class InpaintingConfig(PaintingConfig):
    """Settings of a painter of healthy tissue."""

    kind: Literal["inpainting"] = "inpainting"


class Inpainting(Painting):
    """Learns on holes in healthy tissue alone; the masks that it is given are always empty."""

    def hidden(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """A hole that touches no lesion."""
        return holes(batch[IMAGE], batch[LABELS], self.config.hiding, rng)


class SemanticConfig(Config):
    """How a sampler's inputs are searched; the defaults are the paper's."""

    steps: PositiveInt = 1500
    rate: PositiveFloat = 0.01
    window_voxels: PositiveInt = 7
    """Edge of the neighbourhood in which a known voxel's distance to the hole counts."""
    prior: NonNegativeFloat = 0.003
    """Weight of the prior: that a discriminator takes the sample for real or, without one, that z is a likely draw."""
    seed: int = 0


class SemanticInpainting(nn.Module):
    """A sampler as painter: the sample that fits best around the hidden region fills it.

    ``z = argmin sum W |G(z) - y| + prior * L_p(z)``, over known voxels of the image and, as the masks are known
    everywhere, over all of theirs. W is the share of hidden voxels around each known one. L_p is log(1 - D(G(z))) with
    a discriminator. A model folder holds none; then it is the mean of z squared, z's own likelihood.

    Args:
        sampler: z (B, latent) and condition (B, D) to joint patches (B, 1 + names, *spatial) in [-1, 1].
        latent: The length of z.
        config: The search.
        realness: The sampler's discriminator.

    Source: Yeh et al. 2017, arXiv:1607.07539, section 3: importance weighted context loss and prior loss. Their Poisson
    blending is left to what inserts the patch.
    """

    def __init__(
        self, sampler: nn.Module, latent: int, config: SemanticConfig, realness: Realness | None = None
    ) -> None:
        super().__init__()
        self.sampler, self.latent, self.config, self.realness = (
            sampler.eval().requires_grad_(False),
            latent,
            config,
            realness,
        )

    def forward(self, context: Tensor, hidden: Tensor, masks: Tensor, condition: Tensor) -> Tensor:
        """As :class:`medgan.networks.painter.Painter`'s; outside the hidden region the context to the bit."""
        config, weight = self.config, importance(hidden, self.config.window_voxels)
        wanted = 2 * masks.to(context.dtype) - 1
        random = torch.Generator().manual_seed(config.seed)
        z = torch.randn(len(context), self.latent, generator=random).to(context).requires_grad_()
        optimizer = Adam([z], config.rate)
        # A painter is used without gradients; this one descends for each patch.
        with torch.enable_grad():
            for _ in range(config.steps):
                optimizer.zero_grad(set_to_none=True)
                sample = self.sampler(z, condition)
                image, drawn = sample[:, :1], sample[:, 1:]
                fit = (weight * (image - context).abs()).sum() / weight.sum().clamp_min(1e-6)
                self._loss(fit + F.l1_loss(drawn, wanted), sample, z).backward()
                optimizer.step()
        with torch.no_grad():
            return composite(context, hidden, self.sampler(z, condition)[:, :1])

    def _loss(self, fit: Tensor, sample: Tensor, z: Tensor) -> Tensor:
        if self.realness is None:
            return fit + self.config.prior * z.square().mean()
        # log(1 - D) of raw scores: minus the cross-entropy with the label "fake".
        return fit - self.config.prior * losses.binary_cross_entropy(self.realness(sample), real=False)


def importance(hidden: Tensor, window_voxels: int) -> Tensor:
    """How much each known voxel counts: the share of hidden ones in the window around it; hidden ones count 0.

    Args:
        hidden: (B, 1, *spatial) of 0 and 1.
        window_voxels: Edge of the window, odd.
    """
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[hidden.dim() - 2]
    around = pool(hidden, window_voxels, 1, window_voxels // 2)
    return (1 - hidden) * around
