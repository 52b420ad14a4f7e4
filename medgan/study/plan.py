"""What a study will run, settled before anything runs: every child's settings, the cohort and the split of them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan import catalog
from medgan.config import Config, Settings, from_overrides, load
from medgan.data.splits import Split, split_subjects
from medgan.data.studies import Data
from medgan.errors import ConfigError
from medgan.phantom.cohort import PAIRED, UNPAIRED
from medgan.studies.subjects import freeze_split, refuse_other_split
from medgan.study.grid import Cell
from medgan.training.device import make_fabric
from medgan.training.run_folder import RunFolder, changed_settings, folder_named
from medgan.translators.pipeline import TranslationConfig, TranslationPipeline


@dataclass(frozen=True)
class StudyOrder:
    """What a user asks of a study."""

    pipeline: str
    kind: str
    """sweep, ablation, misalignment or lesion-prevalence."""
    name: str
    """Of the study's folder; the same name goes on with the study."""
    data: Data | None = None
    """A cohort; None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    """``KEY=VALUE`` of every cell."""
    seeds: tuple[int, ...] = (0,)
    out: Path = Path("runs")
    tracking: str | None = None
    device: str = "auto"
    phantom: bool = False
    """Whether ``data`` holds the built-in phantom, rendered elsewhere."""

    @property
    def on_phantom(self) -> bool:
        """Whether the built-in phantom stands in for data."""
        return self.data is None or self.phantom

    @property
    def folder(self) -> Path:
        """Where the study and its children lie."""
        return folder_named(self.out / self.pipeline, self.name)


@dataclass(frozen=True)
class Child:
    """One cell with one seed."""

    cell: Cell
    seed: int
    pipeline: TranslationPipeline[Any]
    """Of the cell, whatever the seed."""
    run: RunFolder

    @property
    def config(self) -> TranslationConfig:
        """The resolved settings, with the seed."""
        config: TranslationConfig = self.pipeline.config
        return config.model_copy(update={"seed": self.seed})

    @property
    def name(self) -> str:
        """How people call it."""
        return f"{self.cell.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """Everything that a study will do."""

    children: tuple[Child, ...]
    """Seed by seed, so that a study that is stopped early has compared all cells."""
    left_out: dict[str, str]
    """Cells that are not trained, and why."""
    table: Data
    """The cohort of all children."""
    phantom: bool
    split: Path
    split_hash: str
    data_fingerprint: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The compared cells; the first is the reference."""
        return tuple(dict.fromkeys(child.cell.name for child in self.children))


def configured(order: StudyOrder, settings: Sequence[str] = ()) -> TranslationPipeline[Any]:
    """The pipeline as a child has it: the order's settings, then its own.

    Raises:
        ConfigError: Settings that cannot be.
    """
    on_cpu = make_fabric(order.device, "32").device.type == "cpu"
    layers: list[Path | Settings] = [
        *([order.config] if order.config else []),
        from_overrides([*order.overrides, *settings]),
    ]
    return catalog.load_translation(order.pipeline).configured(*layers, on_phantom=order.on_phantom, on_cpu=on_cpu)


def make_plan(order: StudyOrder, cells: Sequence[Cell]) -> Plan:
    """Settle what will run, and freeze the split where that is not done yet.

    Raises:
        ConfigError: Settings that cannot be, a seed among them; cells that would not share a split; children of the
            same name with other settings; a cohort that changed since the study began.
        DataError: A cohort that cannot be used.
        LeakageError: A test subject that was trained on before.
    """
    if "seed" in from_overrides(order.overrides):
        raise ConfigError("every cell is trained with every seed; give seeds as --seeds, not as seed=N.")
    kept, left_out = _usable_cells(order, cells)
    pipelines = [pipeline for _, pipeline in kept]
    splits = {pipeline.config.split.model_dump_json() for pipeline in pipelines}
    if len(splits) > 1:
        raise ConfigError("the cells divide the subjects differently; a study has one split: run one for each split.*.")
    children = tuple(
        Child(cell, seed, pipeline, RunFolder(order.folder / cell.folder(seed)))
        for seed in order.seeds
        for cell, pipeline in kept
    )
    for child in children:
        refuse_other_settings(child.run, child.config)
    # A paired split has a pair in every part, and serves unpaired cells too.
    drawer = next((pipeline for pipeline in pipelines if pipeline.pair.paired), pipelines[0])
    table = order.data or drawer.cohort(None).root / (PAIRED if drawer.pair.paired else UNPAIRED)
    cohort = drawer.cohort(table)
    split = split_subjects(cohort, drawer.pair, drawer.config.split)
    path, tested = order.folder / "split.json", split.part(cohort, "test")
    split = freeze_split(path, split, tested)
    for child in children:
        if child.run.config.exists():
            refuse_other_split(Split.load(child.run.split), split, child.run.split, tested)
    return Plan(children, left_out, table, order.on_phantom, path, split.hash, cohort.fingerprint())


def _usable_cells(
    order: StudyOrder, cells: Sequence[Cell]
) -> tuple[list[tuple[Cell, TranslationPipeline[Any]]], dict[str, str]]:
    kept: list[tuple[Cell, TranslationPipeline[Any]]] = []
    left_out: dict[str, str] = {}
    for cell in cells:
        try:
            pipeline = configured(order, cell.settings)
        except ConfigError as error:
            if not cell.optional:
                raise ConfigError(f"{cell.name}: {error}") from None
            left_out[cell.name] = str(error)
            continue
        same = [other.name for other, known in kept if known.config == pipeline.config]
        if same:
            left_out[cell.name] = f"it has the settings of {same[0]}."
        else:
            kept.append((cell, pipeline))
    return kept, left_out


def refuse_other_settings(run: RunFolder, config: Config) -> None:
    """Keep a run of another study from being taken for this one's.

    Raises:
        ConfigError: The run was begun with other settings than ``config``.
    """
    if not run.config.exists():
        return
    if changed := changed_settings(load(type(config), run.config), config):
        raise ConfigError(
            f"{run.path} was trained with other settings: {changed}. Choose another --name, or put that folder away."
        )
