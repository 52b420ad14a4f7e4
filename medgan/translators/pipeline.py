"""What every translation task shares: pairs or two crowds of studies, their patches, and the model folder."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache, partial
from typing import TypeVar

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt

from medgan.config import Config, Settings
from medgan.data.belonging import Scans
from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.grid import apart, same_grid
from medgan.data.patches import AnchoredDataset, PatchConfig, PatchDataset, Patches
from medgan.data.preparation import GridConfig, Prepared, agreement, misaligned, on_scale_of
from medgan.data.splits import Split
from medgan.data.studies import Cohort, find_cohort
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
from medgan.training.fit import Training
from medgan.training.learner import HeldOut
from medgan.translators.features import Features
from medgan.translators.translator import Parts, Translator

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
    """Images of one domain into another; refuses change maps and patches that domains and networks cannot take."""

    used_by = "medgan convert INPUT OUTPUT"

    def __init__(self, config: C) -> None:
        super().__init__(config)
        check_change(config.generator, self.pair)
        _check_patch(
            config.patch, config.generator.network, config.discriminator, config.fit.batch_size, self.pair.target
        )

    @classmethod
    def variant(cls, settings: Settings) -> str | None:
        """The translator."""
        return settings.get("translator")

    @abstractmethod
    def learner(self) -> Translator:
        """A fresh translator, made of :attr:`parts`."""

    @property
    def parts(self) -> Parts:
        """What every translator is made of, beside its own settings."""
        config, pair = self.config, self.pair
        return Parts(
            pair=pair, patch=config.patch, generator=config.generator, discriminator=config.discriminator,
            features=self.features,
        )  # fmt: skip

    @property
    def features(self) -> Features | None:
        """What the translator's own settings ask for; None where it has no features, or does not weigh them."""
        config = self.config
        own = getattr(getattr(config, getattr(config, "translator", "pix2pix"), None), "features", None)
        if own is None or not own.weight:
            return None
        return Features(own, domain=self.pair.target, patch=config.patch, grid=config.grid, seed=config.seed)

    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Training[TranslationDescription]:
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
        domains = self.pair.source, self.pair.target
        wanted = ((part.of_domain(domain.name).studies, domain) for part in (train, validation) for domain in domains)
        cache.fill(((study, domain) for studies, domain in wanted for study in studies), config.grid)
        source, target = self.prepared(train, cache)
        features, first = self.features, None
        if features and features.config.trained:
            first = features.training(train, train.pairs(self.pair), target, config.fit)
        if config.misalignment_voxels and self.pair.paired:
            couples = zip(target, train.pairs(self.pair), strict=True)
            voxels, seed = config.misalignment_voxels, config.seed
            target = [misaligned(study, voxels, subject=one.subject, seed=seed) for study, (one, _) in couples]
        sides = self.prepared(validation, cache)
        held_out = HeldOut(*sides, self.regions(*sides))
        drawn = partial(PatchDataset, config=config.patch, seed=config.seed)
        real = drawn(source, target, paired=self.pair.paired, regions=self.regions(source, target))
        patches: Patches = real
        phantom = config.phantom_pairs
        if phantom.subjects and not self.pair.paired:
            # Simulated subjects with their truth; the split of the real ones does not concern them.
            folder = self.rendered(phantom.subjects, phantom.seed, phantom.shape_voxels)
            sides = self._paired(find_cohort(folder / PAIRED, self.pair), cache)
            patches = AnchoredDataset(real, drawn(*sides, paired=True))
        facts = self._facts(source, target) | {"trained": len(split.train), "validated": len(split.validation)}
        return Training(
            config, config.fit, config.seed, self.learner, patches, held_out, TranslationDescription, facts, first
        )

    def _facts(self, source: Sequence[Prepared], target: Sequence[Prepared]) -> Settings:
        """What a model's description tells of the settings and of the training studies."""
        config = self.config
        by_domain = dict(zip(self.pair.names, (source, target), strict=True))
        scans = {name: [study.scan for study in own if study.scan] for name, own in by_domain.items()}
        # The lowest .1 and the highest 99.9 percentile of the studies' intensities.
        ranges = {
            name: np.transpose([np.percentile(study.voxels, [0.1, 99.9]) for study in own])
            for name, own in by_domain.items()
        }
        return {
            "name": self.name(),
            "pair": self.pair,
            "grid": config.grid,
            "patch": config.patch,
            "generator": config.generator,
            "intensities": {name: (float(low.min()), float(high.max())) for name, (low, high) in ranges.items()},
            "scans": {name: Scans.of(own) for name, own in scans.items() if own},
        }

    def regions(self, source: Sequence[Prepared], target: Sequence[Prepared]) -> list[Prepared]:
        """Where each pair may be compared; empty for unpaired studies."""
        couples = zip(source, target, strict=True) if self.pair.paired else ()
        return [agreement(one, other, self.pair) for one, other in couples]

    def prepared(self, cohort: Cohort, cache: Cache) -> Sides:
        """Source and target studies on the networks' grid; of paired subjects, pair by pair."""
        if self.pair.paired:
            return self._paired(cohort, cache)
        source, target = (
            [cache.prepared(study, domain, self.config.grid) for study in cohort.of_domain(domain.name).studies]
            for domain in (self.pair.source, self.pair.target)
        )
        return source, target

    def _paired(self, cohort: Cohort, cache: Cache) -> Sides:
        sides: Sides = [], []
        for studies in cohort.pairs(self.pair):
            grids = [read_grid(study.image) for study in studies]
            if not same_grid(*grids):
                raise GeometryError(
                    f"{studies[0].image} and {studies[1].image} ({apart(*grids)}) are on different voxel grids, "
                    "so they cannot be trained as a pair; register them first with `medgan data register`."
                )
            domains = (self.pair.source, self.pair.target)
            one, other = (cache.prepared(*each, self.config.grid) for each in zip(studies, domains, strict=True))
            if self.pair.source.unit == self.pair.target.unit == "arbitrary":
                other = on_scale_of(one, other, agreement(one, other, self.pair))
            sides[0].append(one)
            sides[1].append(other)
        return sides

    def _lacking(self, cohort: Cohort) -> str:
        """What a part of a cohort must have and has not; empty where it has all."""
        if self.pair.paired:
            return "" if cohort.pairs(self.pair) else f"both {' and '.join(self.pair.names)}"
        return " or ".join(name for name in self.pair.names if not cohort.of_domain(name).studies)


@cache
def _check_patch(
    patch: PatchConfig,
    generator: ResNetConfig | UNetConfig,
    discriminator: DiscriminatorConfig,
    batch_size: int,
    target: Domain,
) -> None:
    """Refuse patches that the networks cannot take: a batch is sent through them without memory or arithmetic."""
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
