"""What every translation task shares: pairs or two crowds of studies, their patches, and the model folder."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch.utils.data import Dataset

from medgan.config import Config, Settings
from medgan.data.agreement import agreement, misaligned, on_scale_of
from medgan.data.belonging import Scans
from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.grid import apart, same_grid
from medgan.data.patches import AnchoredDataset, Batch, PatchConfig, PatchDataset
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Study, find_cohort
from medgan.data.volumes import read_grid
from medgan.errors import ConfigError, DataError, GeometryError
from medgan.phantom.cohort import PAIRED
from medgan.pipeline import Pipeline, PipelineConfig
from medgan.training.architecture import (
    DiscriminatorConfig,
    GeneratorConfig,
    ResNetConfig,
    TranslationDescription,
    UNetConfig,
    check_change,
)
from medgan.training.learner import HeldOut
from medgan.training.task import Task
from medgan.translators.translator import Translator

Sides = tuple[list[Prepared], list[Prepared]]


class PhantomPairs(Config):
    """Simulated pairs beside the real studies; see ``cyclegan.anchor``."""

    subjects: NonNegativeInt = 0
    """How many to render; 0 trains on the real studies alone."""
    shape_voxels: tuple[PositiveInt, PositiveInt, PositiveInt] = (192, 192, 24)
    """Their grid: the field of view is about 370 x 370 x 120 mm, so more voxels are finer ones."""
    seed: NonNegativeInt = 1000


class TranslationConfig(PipelineConfig):
    """Settings that every translation task has."""

    grid: GridConfig = GridConfig()
    patch: PatchConfig = PatchConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    phantom_pairs: PhantomPairs = PhantomPairs()
    misalignment_voxels: NonNegativeInt = 0
    """Moves each training pair's target in plane by so many voxels, in a direction that seed and subject draw, to learn
    what badly registered pairs cost; who is validated or tested is never moved, and unpaired training does not care."""


C = TypeVar("C", bound=TranslationConfig)


class TranslationPipeline(Pipeline[C]):
    """Images of one domain into another.

    Args:
        config: The resolved settings.

    Raises:
        ConfigError: A change map between domains that have none, or patches that the networks cannot take.
    """

    used_by = "medgan convert INPUT OUTPUT"

    def __init__(self, config: C) -> None:
        super().__init__(config)
        try:
            check_change(config.generator, self.pair)
        except ValueError as error:
            raise ConfigError(f"{error}.") from None
        _check_patch(
            config.patch, config.generator.network, config.discriminator, config.fit.batch_size, self.pair.target
        )

    @classmethod
    def variant(cls, asked: Settings) -> str | None:
        """The translator."""
        return asked.get("translator")

    @abstractmethod
    def learner(self) -> Translator:
        """A fresh translator, made of :attr:`parts`."""

    @property
    def parts(self) -> dict[str, Any]:
        """What every translator is made of, beside its own settings."""
        config = self.config
        own = {"generator": config.generator, "discriminator": config.discriminator}
        return {"pair": self.pair, "patch": config.patch, **own}

    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Task[TranslationDescription]:
        """Patches of the training subjects, and the validation subjects whole; where the last epoch is kept, none.

        Raises:
            DataError: A part without an image of either domain, or without a pair where pairs are wanted.
        """
        config = self.config
        train, validation = split.part(cohort, "train"), split.part(cohort, "validation")
        for part, studies in (("training", train), ("validation", validation)):
            if part == "validation" and not studies.studies and config.fit.keep == "last":
                continue
            if lacking := self._lacking(studies):
                raise DataError(
                    f"{cohort.root}: no {part} subject has {lacking}; add subjects, or divide them anew "
                    "(split.validation, split.test, or the CSV's `split` column)."
                )
        source, target = self._misaligned(train, *self.prepared(train, cache))
        held_out = self.held_out(validation, cache)
        regions = self.regions(source, target)
        real = PatchDataset(
            source, target, paired=self.pair.paired, config=config.patch, seed=config.seed, regions=regions
        )
        patches: Dataset[Batch] = real
        if config.phantom_pairs.subjects and not self.pair.paired:
            anchors = PatchDataset(*self._phantom_pairs(cache), paired=True, config=config.patch, seed=config.seed)
            patches = AnchoredDataset(real, anchors)
        facts = self._facts(source, target) | {"trained": len(split.train), "validated": len(split.validation)}
        return Task(config, config.fit, config.seed, self.learner, patches, held_out, TranslationDescription, facts)

    def _facts(self, source: Sequence[Prepared], target: Sequence[Prepared]) -> Settings:
        """What a model's description tells of the settings and of the training studies."""
        config = self.config
        by_domain = dict(zip(self.pair.names, (source, target), strict=True))
        scans = {name: [study.scan for study in own if study.scan] for name, own in by_domain.items()}
        return {
            "name": self.name(),
            "pair": self.pair,
            "grid": config.grid,
            "patch": config.patch,
            "generator": config.generator,
            "intensities": {name: _intensity_range(own) for name, own in by_domain.items()},
            "scans": {name: Scans.of(own) for name, own in scans.items() if own},
        }

    def held_out(self, cohort: Cohort, cache: Cache) -> HeldOut:
        """The validation subjects, whole."""
        source, target = self.prepared(cohort, cache)
        return HeldOut(source, target, self.regions(source, target))

    def regions(self, source: Sequence[Prepared], target: Sequence[Prepared]) -> list[Prepared]:
        """Where each pair may be compared; empty for unpaired studies."""
        couples = zip(source, target, strict=True) if self.pair.paired else ()
        return [agreement(one, other, self.pair) for one, other in couples]

    def prepared(self, cohort: Cohort, cache: Cache) -> Sides:
        """Source and target studies on the networks' grid; of paired subjects, pair by pair."""
        source, target = self.pair.source, self.pair.target
        if not self.pair.paired:
            return (
                [cache.prepared(study, source, self.config.grid) for study in cohort.of_domain(source.name).studies],
                [cache.prepared(study, target, self.config.grid) for study in cohort.of_domain(target.name).studies],
            )
        return self._paired(cohort, cache)

    def _paired(self, cohort: Cohort, cache: Cache) -> Sides:
        source, target = self.pair.source, self.pair.target
        couples = [
            (cache.prepared(one, source, self.config.grid), cache.prepared(other, target, self.config.grid))
            for one, other in map(self._on_one_grid, cohort.pairs(self.pair))
        ]
        if source.unit == target.unit == "arbitrary":
            couples = [(one, on_scale_of(one, other, agreement(one, other, self.pair))) for one, other in couples]
        return [one for one, _ in couples], [other for _, other in couples]

    def _misaligned(self, cohort: Cohort, source: list[Prepared], target: list[Prepared]) -> Sides:
        voxels, seed = self.config.misalignment_voxels, self.config.seed
        if not voxels or not self.pair.paired:
            return source, target
        subjects = [one.subject for one, _ in cohort.pairs(self.pair)]
        couples = zip(target, subjects, strict=True)
        return source, [misaligned(study, voxels, subject=subject, seed=seed) for study, subject in couples]

    def _lacking(self, cohort: Cohort) -> str:
        """What a part of a cohort must have and has not; empty where it has all."""
        if self.pair.paired:
            return "" if cohort.pairs(self.pair) else f"both {' and '.join(self.pair.names)}"
        return " or ".join(name for name in self.pair.names if not cohort.of_domain(name).studies)

    def _on_one_grid(self, couple: tuple[Study, Study]) -> tuple[Study, Study]:
        source, target = (read_grid(study.image) for study in couple)
        if not same_grid(source, target):
            raise GeometryError(
                f"{couple[0].image} and {couple[1].image} ({apart(source, target)}) are on different voxel grids, "
                "so they cannot be trained as a pair; register them first with `medgan data register`."
            )
        return couple

    def _phantom_pairs(self, cache: Cache) -> Sides:
        """Simulated subjects with their truth, for the anchor; the split of the real ones does not concern them."""
        wanted = self.config.phantom_pairs
        folder = self.rendered(wanted.subjects, wanted.seed, wanted.shape_voxels)
        return self._paired(find_cohort(folder / PAIRED, self.pair), cache)


@cache
def _check_patch(
    patch: PatchConfig,
    generator: ResNetConfig | UNetConfig,
    discriminator: DiscriminatorConfig,
    batch_size: int,
    target: Domain,
) -> None:
    """Refuse patches that the networks cannot take: a batch is sent through them without memory or arithmetic.

    Raises:
        ConfigError: An axis that cannot be halved so often, or too short for a discriminator.
    """
    with torch.device("meta"):
        networks = {
            "generator.network": generator.build(patch.spatial, patch.channels),
            "discriminator": discriminator.build(patch.spatial, patch.channels, target),
        }
        batch = torch.empty(batch_size, patch.channels, *patch.shape)
        for name, network in networks.items():
            try:
                network(batch)
            except (RuntimeError, ValueError) as error:
                reason = str(error).splitlines()[0].rstrip(".")
                raise ConfigError(
                    f"patches of {' x '.join(map(str, patch.shape))} voxels do not fit {name} ({reason}); change "
                    "patch.size_voxels, generator.network.downs or discriminator.receptive_field."
                ) from None


def _intensity_range(studies: Sequence[Prepared]) -> tuple[float, float]:
    """The lowest .1 and the highest 99.9 percentile of the studies' intensities."""
    percentiles = np.array([np.percentile(study.voxels, [0.1, 99.9]) for study in studies])
    return float(percentiles[:, 0].min()), float(percentiles[:, 1].max())
