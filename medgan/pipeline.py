"""What every task shares: its settings, its data, its training and its model folder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import NonNegativeInt

from medgan.config import Config, Settings, load, merged, read_yaml, shipped
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import DomainPair
from medgan.data.patches import PatchDataset
from medgan.data.preparation import GridConfig, Prepared
from medgan.data.splits import Split, SplitConfig
from medgan.data.studies import Cohort, Study, find_cohort
from medgan.data.transforms import PatchConfig
from medgan.data.volumes import read_grid
from medgan.errors import ConfigError, DataError, GeometryError
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, check_change
from medgan.training.fit import FitConfig
from medgan.training.learner import HeldOut
from medgan.translators.translator import Translator

Size = Literal["auto", "small", "full"]
PHANTOM_SUBJECTS, PHANTOM_SEED = 24, 0


class TranslationConfig(Config):
    """Settings that every translation task has."""

    size: Size = "auto"
    """small is for a CPU, full for a GPU; auto takes what the device asks for."""
    seed: NonNegativeInt = 0
    """Of weights, patches and replay."""
    split: SplitConfig = SplitConfig()
    grid: GridConfig = GridConfig()
    patch: PatchConfig = PatchConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    fit: FitConfig = FitConfig()


C = TypeVar("C", bound=TranslationConfig)


class Pipeline(ABC, Generic[C]):
    """A task from studies on disk to a model folder.

    Args:
        config: The resolved settings.
    """

    settings: ClassVar[type[TranslationConfig]]
    phantom: ClassVar[str]
    """The built-in subjects that stand in where no data is given."""

    def __init__(self, config: C) -> None:
        self.config = config
        try:
            check_change(config.generator, self.pair)
        except ValueError as error:
            raise ConfigError(f"{error}.") from None

    @property
    @abstractmethod
    def pair(self) -> DomainPair:
        """What is translated into what."""

    @abstractmethod
    def learner(self) -> Translator:
        """A fresh learner."""

    @classmethod
    def name(cls) -> str:
        """The word after ``--pipeline``."""
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def configured(cls, *layers: Path | Mapping[str, Any], on_phantom: bool, on_cpu: bool) -> "Pipeline[C]":
        """The pipeline with its settings: defaults, shipped files, then ``layers``; a later one wins.

        Args:
            layers: The user's file and overrides.
            on_phantom: Whether the built-in phantom stands in for data.
            on_cpu: What ``size: auto`` goes by.
        """
        asked: Settings = {}
        for layer in layers:
            asked = merged(asked, read_yaml(layer) if isinstance(layer, Path) else layer)
        size = asked.get("size", "auto")
        if size == "auto":
            size = "small" if on_cpu else "full"
        wanted = [cls.name()]
        wanted += [f"{cls.name()}_small"] if size == "small" else []
        wanted += [f"{cls.name()}_phantom"] if on_phantom else []
        ours = [path for path in map(shipped, wanted) if path]
        return cls(load(cls.settings, *ours, asked | {"size": size}))  # type: ignore[arg-type]

    def training_data(self, cohort: Cohort, split: Split, cache: Cache) -> tuple[PatchDataset, HeldOut]:
        """Patches of the training subjects, and the validation subjects whole.

        Raises:
            DataError: Paired subjects are wanted and there are none.
        """
        source, target = self.prepared(split.part(cohort, "train"), cache)
        held_out = HeldOut(*self.prepared(split.part(cohort, "validation"), cache))
        for part, studies in (("training", source), ("validation", held_out.source)):
            if not studies:
                raise DataError(
                    f"{cohort.root}: no {part} subject has what {self.name()} needs; add subjects or lower split.test."
                )
        config = self.config
        dataset = PatchDataset(source, target, paired=self.pair.paired, config=config.patch, seed=config.seed)
        return dataset, held_out

    def cohort(self, data: Path | None) -> Cohort:
        """The studies to work on; without data the phantom, rendered once and kept."""
        if data:
            return find_cohort(data, self.pair)
        from medgan.phantom.cohort import write_phantom

        folder = default_folder() / "phantom" / f"{self.phantom}-{PHANTOM_SUBJECTS}-{PHANTOM_SEED}"
        table = folder / ("cohort.csv" if self.pair.paired else "cohort_unpaired.csv")
        if not table.exists():
            write_phantom(folder, kind=self.phantom, subjects=PHANTOM_SUBJECTS, seed=PHANTOM_SEED)
        return find_cohort(table, self.pair)

    def prepared(self, cohort: Cohort, cache: Cache) -> tuple[list[Prepared], list[Prepared]]:
        """Source and target studies on the networks' grid; of paired subjects, pair by pair."""
        source, target = self.pair.source, self.pair.target
        if not self.pair.paired:
            return (
                [cache.prepared(study, source, self.config.grid) for study in cohort.of_domain(source.name).studies],
                [cache.prepared(study, target, self.config.grid) for study in cohort.of_domain(target.name).studies],
            )
        couples = [
            (cache.prepared(one, source, self.config.grid), cache.prepared(other, target, self.config.grid))
            for one, other in map(self._on_one_grid, cohort.pairs(self.pair))
        ]
        return [one for one, _ in couples], [other for _, other in couples]

    def _on_one_grid(self, couple: tuple[Study, Study]) -> tuple[Study, Study]:
        source, target = (read_grid(study.image) for study in couple)
        if source.size != target.size or not np.allclose(source.affine, target.affine, atol=1e-3):
            raise GeometryError(
                f"{couple[0].image} {source.shape} and {couple[1].image} {target.shape} are on different voxel grids, "
                "so they cannot be trained as a pair; register them first with `medgan data register`."
            )
        return couple
