"""What every task shares: its settings, the built-in subjects that stand in for data, and what is learnt from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import NonNegativeInt

from medgan.config import Config, Settings, load, merged, read_yaml, shipped
from medgan.data.cache import Cache
from medgan.data.domains import DomainPair
from medgan.data.splits import Split, SplitConfig
from medgan.data.studies import Cohort, Data, find_cohort
from medgan.phantom.cohort import PAIRED, PHANTOM_SEED, PHANTOM_SUBJECTS, UNPAIRED, kept_phantom
from medgan.phantom.kinds import KINDS
from medgan.training.fit import FitConfig, Training

Size = Literal["auto", "small", "full"]


class PipelineConfig(Config):
    """Settings that every task has."""

    size: Size = "auto"
    """small is for a CPU, full for a GPU; auto takes what the device asks for."""
    seed: NonNegativeInt = 0
    """Of weights, patches and replay."""
    split: SplitConfig = SplitConfig()
    fit: FitConfig = FitConfig()


C = TypeVar("C", bound=PipelineConfig)


class Pipeline(ABC, Generic[C]):
    """A task from studies on disk to a model folder."""

    settings: ClassVar[type[PipelineConfig]]
    phantom: ClassVar[str]
    """The built-in subjects that stand in where no data is given."""
    used_by: ClassVar[str]
    """The command that a model is for, without ``--model``."""

    def __init__(self, config: C) -> None:
        self.config = config
        self.sized_by_device = False
        """Whether ``size: auto`` took the size from the device, which people are told."""
        self.on_phantom = False
        """Whether the data that are given say that they are a phantom."""
        self.left_out = ""
        """What of the cohort is not learnt from, which people are told; empty where all is."""

    @property
    @abstractmethod
    def pair(self) -> DomainPair:
        """The domains by which studies are read and subjects divided."""

    @abstractmethod
    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Training[Any]:
        """What is learnt from a divided cohort.

        Raises:
            DataError: A part that lacks what the task needs.
        """

    @classmethod
    def name(cls) -> str:
        """The word after ``--pipeline``."""
        return cls.__module__.rsplit(".", 1)[-1]

    @classmethod
    def experiment(cls) -> str:
        """The folder of its runs, and their experiment in MLflow."""
        return cls.name()

    @classmethod
    def variant(cls, settings: Settings) -> str | None:
        """The form of a task that is asked for and has shipped settings of its own; None where none is."""
        del settings
        return None

    @classmethod
    def configured(cls, *layers: Path | Mapping[str, Any], on_phantom: bool, on_cpu: bool) -> Self:
        """The pipeline with its settings: defaults, shipped files, then ``layers``; a later one wins.

        Of the shipped files count ``NAME``, ``NAME_small``, ``NAME_VARIANT`` for a variant that is asked for, and
        ``NAME_phantom``, in this order. ``size: auto`` goes by whether it is to run on a CPU.
        """
        settings: Settings = {}
        for layer in layers:
            settings = merged(settings, read_yaml(layer) if isinstance(layer, Path) else layer)
        size = settings.get("size", "auto")
        by_device = size == "auto"
        if by_device:
            size = "small" if on_cpu else "full"
        forms = "small" if size == "small" else None, cls.variant(settings), "phantom" if on_phantom else None
        wanted = [cls.name(), *(f"{cls.name()}_{form}" for form in forms if form)]
        ours = [path for path in map(shipped, wanted) if path]
        pipeline = cls(load(cls.settings, *ours, settings | {"size": size}))  # type: ignore[arg-type]
        pipeline.sized_by_device = by_device
        return pipeline

    def complete(self, data: Data | None) -> Self:
        """Set what the settings leave to the data; most leave nothing."""
        del data
        return self

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
        return kept_phantom(self.phantom, subjects, seed, shape)


class OneDomain(Pipeline[C]):
    """A task that learns from the labelled images of one domain."""

    phantom_table = PAIRED

    @property
    def pair(self) -> DomainPair:
        """The one domain, on both sides."""
        domain = self.config.domain  # type: ignore[attr-defined]
        return DomainPair(source=domain, target=domain, paired=False)
