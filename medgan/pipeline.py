"""What every task shares: its settings, the built-in subjects that stand in for data, and what a training needs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import NonNegativeInt
from torch.utils.data import Dataset

from medgan.config import Config, Settings, load, merged, read_yaml, shipped
from medgan.data.belonging import Scans
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import DomainPair
from medgan.data.patches import Batch
from medgan.data.splits import Split, SplitConfig
from medgan.data.studies import Cohort, Data, find_cohort
from medgan.phantom.cohort import PAIRED, UNPAIRED, write_phantom
from medgan.phantom.kinds import KINDS
from medgan.training.fit import FitConfig, Fitted
from medgan.training.learner import HeldOut, Learner

Size = Literal["auto", "small", "full"]
PHANTOM_SUBJECTS, PHANTOM_SEED = 24, 0


class PipelineConfig(Config):
    """Settings that every task has."""

    size: Size = "auto"
    """small is for a CPU, full for a GPU; auto takes what the device asks for."""
    seed: NonNegativeInt = 0
    """Of weights, patches and replay."""
    split: SplitConfig = SplitConfig()
    fit: FitConfig = FitConfig()


@dataclass(frozen=True)
class Seen:
    """What a model's description tells of the training studies, by domain."""

    intensities: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The lowest .1 and the highest 99.9 percentile."""
    scans: dict[str, Scans] = field(default_factory=dict)
    """How they were scanned."""


@dataclass(frozen=True)
class TrainingData:
    """What a training sees."""

    patches: Dataset[Batch]
    held_out: HeldOut
    seen: Seen = field(default_factory=Seen)


C = TypeVar("C", bound=PipelineConfig)


class Pipeline(ABC, Generic[C]):
    """A task from studies on disk to a model folder.

    Args:
        config: The resolved settings.
    """

    settings: ClassVar[type[PipelineConfig]]
    phantom: ClassVar[str]
    """The built-in subjects that stand in where no data is given."""
    used_by: ClassVar[str]
    """The command that a model is for, without ``--model``."""

    def __init__(self, config: C) -> None:
        self.config = config
        self.sized_by_device = False
        """Whether ``size: auto`` took the size from the device, which people are told."""
        self.left_out = ""
        """What of the cohort is not learnt from, which people are told; empty where all is."""

    @property
    @abstractmethod
    def pair(self) -> DomainPair:
        """The domains that subjects are found and divided by; a task of one domain has it on both sides."""

    @abstractmethod
    def learner(self) -> Learner:
        """A fresh learner."""

    @abstractmethod
    def training_data(self, cohort: Cohort, split: Split, cache: Cache) -> TrainingData:
        """What the training sees of a divided cohort.

        Raises:
            DataError: A part that lacks what the task needs.
        """

    @abstractmethod
    def write_model(self, folder: Path, fitted: Fitted, split: Split, seen: Seen, facts: Settings) -> None:
        """Write the networks that were kept, and all that their use must know.

        Args:
            folder: The model folder.
            fitted: What the training gave.
            split: Who was trained on.
            seen: What training saw.
            facts: What ``run.json`` tells of the run, ``data_fingerprint`` and ``phantom`` among it.
        """

    @classmethod
    def name(cls) -> str:
        """The word after ``--pipeline``."""
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def variant(cls, asked: Settings) -> str | None:
        """The form of a task that is asked for and has shipped settings of its own; None where none is."""
        del asked
        return None

    @classmethod
    def configured(cls, *layers: Path | Mapping[str, Any], on_phantom: bool, on_cpu: bool) -> Self:
        """The pipeline with its settings: defaults, shipped files, then ``layers``; a later one wins.

        Of the shipped files count ``NAME``, ``NAME_small``, ``NAME_VARIANT`` for a variant that is asked for, and
        ``NAME_phantom``, in this order.

        Args:
            layers: The user's file and overrides.
            on_phantom: Whether the built-in phantom stands in for data.
            on_cpu: What ``size: auto`` goes by.
        """
        asked: Settings = {}
        for layer in layers:
            asked = merged(asked, read_yaml(layer) if isinstance(layer, Path) else layer)
        size = asked.get("size", "auto")
        by_device = size == "auto"
        if by_device:
            size = "small" if on_cpu else "full"
        variant = cls.variant(asked)
        wanted = [cls.name()]
        wanted += [f"{cls.name()}_small"] if size == "small" else []
        wanted += [f"{cls.name()}_{variant}"] if variant else []
        wanted += [f"{cls.name()}_phantom"] if on_phantom else []
        ours = [path for path in map(shipped, wanted) if path]
        pipeline = cls(load(cls.settings, *ours, asked | {"size": size}))  # type: ignore[arg-type]
        pipeline.sized_by_device = by_device
        return pipeline

    def cohort(self, data: Data | None) -> Cohort:
        """The studies to work on; without data the phantom, rendered once and kept."""
        if data:
            return find_cohort(data, self.pair)
        folder = self.rendered(PHANTOM_SUBJECTS, PHANTOM_SEED, KINDS[self.phantom].shape)
        return find_cohort(folder / self.phantom_table, self.pair)

    @property
    def phantom_table(self) -> str:
        """Which of the phantom's tables stands in for data."""
        return PAIRED if self.pair.paired else UNPAIRED

    def rendered(self, subjects: int, seed: int, shape: tuple[int, int, int]) -> Path:
        """A cohort's folder of the pipeline's phantom, rendered once and kept."""
        size = "x".join(map(str, shape))
        folder = default_folder() / "phantom" / f"{self.phantom}-{version('medgan')}-{subjects}-{seed}-{size}"
        if not (folder / PAIRED).exists():
            write_phantom(folder, kind=self.phantom, subjects=subjects, seed=seed, shape=shape)
        return folder
