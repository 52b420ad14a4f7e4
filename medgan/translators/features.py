"""Features of a frozen segmenter of the target: what looks alike to it has its tissues in one place.

L1 seeks the median, which leaves out what is rare and of uncertain place, such as the edge of bone. A segmenter learns
what tells tissues apart; the distance of its encoder's maps asks for that beside the intensities. It is trained on the
run's own training subjects before the translator is, so that nothing is downloaded.

Sources: Johnson et al. 2016, arXiv:1603.08155, section 3.2 (features of a frozen network as a loss); Zhang et al. 2018,
arXiv:1801.03924, Eq. 1 (maps of all stages, of unit length along their channels).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from medgan import losses
from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.masks import labels_of, labels_on
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.studies import Cohort, Study
from medgan.errors import ConfigError, DataError
from medgan.networks.blocks import encoder_maps
from medgan.segmentation.labelled import Labelled
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription, SegmenterModel, SegmenterNetworkConfig
from medgan.training.fit import FitConfig, Training
from medgan.training.model_folder import read_model
from medgan.translators.semantic import FrozenSegmenter

BANDS_HU = {"lung": -900.0, "fat": -300.0, "soft": -30.0, "spongy": 150.0, "cortical": 400.0}
"""Labels that cost nothing: from which HU on a voxel is of which tissue; below the first there is air."""
BANDS: dict[str, tuple[int, ...]] = {name: (number,) for number, name in enumerate(BANDS_HU, start=1)}
NOISE = 0.02
"""Of the window, the most noise in the segmenter's patches: 50 HU where it is 2500 HU wide. A band that noise hides is
told by its neighbourhood, and not voxel by voxel."""
EPOCHS, SHARE = 4, 4
"""The segmenter is trained for a quarter of the translator's iterations."""


class FeaturesConfig(Config):
    """A term beside L1: how far the translation is from the target in the maps of a frozen segmenter's encoder."""

    weight: float = Field(default=0.0, ge=0, lt=1)
    """The term's share of ``l1``; L1 keeps the rest, so that 0.5 is half of each. 0 trains and asks no segmenter."""
    labels: Literal["bands", "masks"] = "bands"
    """What the segmenter learns: bands of HU (air, lung, fat, soft, spongy, cortical), or what the cohort's masks
    mark."""
    model: Path | None = None
    """A segmenter's model folder, to be asked instead of one that the run trains."""
    warm_up: float = Field(default=0.33, ge=0, lt=1)
    """Share of the run, at its start, that is on L1 alone."""
    control: Literal["none", "random", "shuffled"] = "none"
    """What must be worse: random asks an untrained network, shuffled one whose labels lay at random places."""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.model_fields_set and "weight" not in self.model_fields_set:
            raise ValueError("features are off without a weight: set it, such as weight=0.5, or leave the others out")
        if self.model and self.control != "none":
            raise ValueError(f"model and control={self.control} exclude each other: a control makes its own network")
        return self

    @property
    def trained(self) -> bool:
        """Whether the run trains the segmenter."""
        return bool(self.weight) and not self.model and self.control != "random"


class Features:
    """The term of one domain and patch; :meth:`take` gives it the segmenter that the run has trained.

    Raises:
        ModelError: The segmenter of ``config.model`` cannot see what the translator draws.
        ConfigError: A patch that no segmenter can halve.
    """

    def __init__(
        self, config: FeaturesConfig, *, domain: Domain, patch: PatchConfig, grid: GridConfig, seed: int
    ) -> None:
        self.config, self.domain, self.grid, self.seed = config, domain, grid, seed
        # Of a stack of slices the translator draws one.
        self.patch = patch.model_copy(update={"dimensions": "3" if patch.spatial == 3 else "2"})
        self.segmenter: FrozenSegmenter | None = None
        self.encoder: list[nn.Module] = []
        self.sha256 = ""
        if config.model:
            self.take(read_model(config.model, SegmenterDescription), config.model)
        elif config.control == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = self.settings(BANDS).build()
            self._freeze(network)

    def settings(self, labels: dict[str, tuple[int, ...]], fit: FitConfig | None = None) -> SegmenterConfig:
        """Those of a segmenter that sees what the translator draws; ``fit`` is the translator's."""
        sizes = self.patch.shape
        downs = next((n for n in (3, 2, 1) if all(size % 2**n == 0 and size > 2**n for size in sizes)), None)
        if downs is None:
            raise ConfigError(
                f"patches of {' x '.join(map(str, sizes))} voxels cannot be halved by the segmenter of "
                "features; set patch.size_voxels, in 3D patch.depth_voxels, to multiples of 8."
            )
        # HU mean something: of intensities nothing but noise is varied.
        patch = self.patch.model_copy(update={"intensity": IntensityConfig(noise=NOISE), "mirroring": False})
        own = {}
        if fit:
            iterations = max(1, fit.epochs * fit.iterations_per_epoch // (SHARE * EPOCHS))
            changed = {"epochs": EPOCHS, "iterations_per_epoch": iterations, "keep": "last", "average_decay": 0.99}
            own = {"fit": fit.model_copy(update=changed | {"compile": False, "checkpointing": False})}
        return SegmenterConfig(
            labels=labels, domain=self.domain, grid=self.grid, patch=patch,
            network=SegmenterNetworkConfig(downs=downs), **own,
        )  # fmt: skip

    def training(
        self, cohort: Cohort, couples: Sequence[tuple[Study, Study]], images: Sequence[Prepared], fit: FitConfig
    ) -> Training[SegmenterDescription]:
        """The segmenter's, on the prepared targets of the pairs that the translator is trained on, and on no others.

        Raises:
            ConfigError: Bands of HU for a target in another unit.
            DataError: No target of a pair has a mask, where masks are wanted.
        """
        if self.config.labels == "bands":
            if self.domain.unit != "HU":
                raise ConfigError(
                    f"features.labels=bands are bands of HU, and {self.domain.name} is in {self.domain.unit} units; "
                    "set features.labels=masks, or features.model to a segmenter's folder."
                )
            labels = BANDS
            bands = list(BANDS_HU.values())
            named = [
                (target.subject, image, np.digitize(image.voxels, bands).astype(np.uint8))
                for (_, target), image in zip(couples, images, strict=True)
            ]
        else:
            masked = [
                (target if target.mask else source, image)
                for (source, target), image in zip(couples, images, strict=True)
                if source.mask or target.mask
            ]
            if not masked:
                raise DataError(
                    f"{cohort.root}: features.labels=masks, and no training pair has a mask; name masks in the "
                    "cohort's `mask` column, or set features.labels=bands for a target in HU."
                )
            labels = labels_of(cohort)
            named = [(study.subject, image, labels_on(study, labels, image)) for study, image in masked]
        if self.config.control == "shuffled":  # as many voxels of each label, at random places
            random = np.random.default_rng(self.seed)
            named = [(name, image, random.permutation(own.ravel()).reshape(own.shape)) for name, image, own in named]
        # It judges by scipy, for which a training without features need not wait.
        from medgan.segmentation.segmenter import segmenter_task

        return segmenter_task([Labelled(*each) for each in named], (), self.settings(labels, fit), seed=self.seed)

    def take(self, model: SegmenterModel, folder: Path) -> None:
        """Ask this segmenter from now on.

        Raises:
            ModelError: It cannot see what the translator draws.
        """
        self.segmenter = FrozenSegmenter(model, folder, self.domain, self.patch, self.grid)
        self.sha256 = self.segmenter.sha256
        self._freeze(model.network)

    def _freeze(self, network: nn.Module) -> None:
        self.encoder = SegmenterNetworkConfig.encoder(network.eval().requires_grad_(False))

    def distance(
        self, fake: Tensor, target: Tensor, inside: Tensor | None = None, total: losses.Total | None = None
    ) -> Tensor:
        """Mean L1 distance over the encoder's stages, whose maps have unit length along their channels.

        All are (B, 1, *shape), images in [-1, 1] of the target's window; ``inside`` is 1 where the pair may be
        compared, and a place of a coarse map counts by the share of its voxels that do. ``total`` sums over ranks.
        """
        with torch.no_grad():
            true = self._maps(target)
        stages = []
        for ours, theirs in zip(self._maps(fake), true, strict=True):
            weight = None if inside is None else interpolate(inside, ours.shape[2:], mode="area").expand_as(ours)
            stages.append(losses.reconstruction(ours, theirs, weight, *([total] if total else [])))
        return torch.stack(stages).mean()

    def _maps(self, image: Tensor) -> list[Tensor]:
        layers = [layer.to(image.device) for layer in self.encoder]
        shown = self.segmenter.shown(image) if self.segmenter else image
        return [normalize(each.float(), dim=1) for each in encoder_maps(shown, layers)]
