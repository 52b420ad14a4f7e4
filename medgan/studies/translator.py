"""Translators that a study trains: one cohort, one split, settings of their own; converted and judged alike."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from rich.console import Console

from medgan import catalog
from medgan.config import flattened, from_overrides, user_layers
from medgan.data.domains import DomainPair
from medgan.data.splits import MAX_NAMED, Split, split_subjects
from medgan.data.studies import Data, Location
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import KEYS, ROWS, Evaluation, evaluate
from medgan.evaluation.judging import Modalities
from medgan.inference.convert import ConvertOrder, convert
from medgan.phantom.cohort import PAIRED, UNPAIRED
from medgan.studies.base import Context, StudyOrder, Task
from medgan.studies.subjects import OTHER_SPLIT, freeze_split
from medgan.studies.tables import read_rows
from medgan.text import few
from medgan.tracking import add_metrics
from medgan.training.run import Order, train
from medgan.training.run_folder import RunFolder
from medgan.translators.pipeline import TranslationPipeline

CONVERTED, JUDGED = "test", "evaluation"
"""Folders in a translator's run: its translations of the test subjects, and their figures."""
LONGEST_NAME = 100
"""Characters of a folder's name; longer ones are cut, and told apart by a hash."""


@dataclass(frozen=True)
class Cell:
    """One of the compared settings."""

    name: str
    settings: tuple[str, ...] = ()
    """``KEY=VALUE`` laid over the settings that all cells share."""
    optional: bool = False
    """Whether the study goes on without it where the pipeline refuses its settings."""

    def folder(self, seed: int) -> str:
        """The run's name of this cell and a seed: one that every file system takes."""
        name = re.sub(r"[^\w.=+,\[\]-]+", "_", self.name)
        if name != self.name or len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}~{hashlib.sha256(self.name.encode()).hexdigest()[:6]}"
        return f"{name},seed={seed}"


@dataclass(frozen=True)
class TranslatorRun:
    """One training, as ``medgan train`` does it, with all that a process needs for it."""

    name: str
    """Of its cell."""
    settings: tuple[str, ...]
    seed: int | None
    """None is the settings' own."""
    order: StudyOrder
    data: Data
    split: Path
    split_hash: str
    pair: DomainPair


class Translators:
    """The translators of a study, or of a part of it, with one split, which is frozen in the first one's ``folder``.

    ``cells`` are those that are trained, by name, the first the reference; ``left_out`` says why others are not.
    """

    def __init__(
        self, order: StudyOrder, cells: Sequence[Cell], shared: Sequence[str], folder: Path, data: Data | None
    ) -> None:
        """Settle what will be trained.

        Raises:
            ConfigError: Settings that cannot be, a seed among them; cells that would not share a split.
            DataError: A cohort that cannot be used.
            LeakageError: A test subject that was trained on before.
        """
        if "seed" in from_overrides(shared):
            raise ConfigError("every cell is trained with every seed; give seeds as --seeds, not as seed=N.")
        self.order, self.shared = order, tuple(shared)
        self.cells, self.left_out = dict[str, Cell](), dict[str, str]()
        self.pipelines: dict[str, TranslationPipeline[Any]] = {}
        for cell in cells:
            try:
                pipeline = configured(order, (*shared, *cell.settings))
            except ConfigError as error:
                if not cell.optional:
                    raise ConfigError(f"{cell.name}: {error}") from None
                self.left_out[cell.name] = str(error)
                continue
            if same := [name for name, other in self.pipelines.items() if other.config == pipeline.config]:
                self.left_out[cell.name] = f"it has the settings of {same[0]}."
            else:
                self.cells[cell.name], self.pipelines[cell.name] = cell, pipeline
        pipelines = list(self.pipelines.values())
        if len({pipeline.config.split.model_dump_json() for pipeline in pipelines}) > 1:
            raise ConfigError(
                "the cells divide the subjects differently; a study has one split: run one for each split.*."
            )
        # A paired split has a pair in every part, and serves unpaired cells too.
        drawer = next((each for each in pipelines if each.pair.paired), pipelines[0])
        self.data = data or drawer.cohort(None).root / (PAIRED if drawer.pair.paired else UNPAIRED)
        cohort, self.split = drawer.cohort(self.data), folder / "split.json"
        split = split_subjects(cohort, drawer.pair, drawer.config.split)
        self.split_hash = freeze_split(self.split, split, split.part(cohort, "test")).hash
        self.tags = {"split_hash": self.split_hash, "data_fingerprint": cohort.fingerprint()}

    def tasks(self, seeds: Sequence[int]) -> list[Task]:
        """Each cell with each seed; seed by seed, so that a study that is stopped early has compared all cells."""
        tasks = []
        for seed in seeds:
            for cell in self.cells.values():
                pipeline = self.pipelines[cell.name]
                settings = pipeline.config.model_copy(update={"seed": seed}).model_dump(mode="json")
                own, split = (*self.shared, *cell.settings), (self.split, self.split_hash)
                translator = TranslatorRun(cell.name, own, seed, self.order, self.data, *split, pipeline.pair)
                name = (self.split.parent / cell.folder(seed)).relative_to(self.order.folder).as_posix()
                inputs = {**flattened(settings), "split_hash": self.split_hash}
                tasks.append(Task(name, inputs, train_and_judge, (translator,)))
        return tasks


def configured(order: StudyOrder, settings: Sequence[str] = ()) -> TranslationPipeline[Any]:
    """The pipeline as a translator of the study has it: the order's file, then the settings."""
    pipeline, layers = catalog.load_translation(order.pipeline), user_layers(order.config, settings)
    return pipeline.configured(*layers, on_phantom=order.data is None, on_cpu=order.on_cpu)


def train_translator(context: Context, translator: TranslatorRun) -> RunFolder:
    """Train a translator as ``medgan train`` does, from wherever that was left.

    Raises:
        LeakageError: It was trained on another split, and may have seen who is tested now.
    """
    order, run = translator.order, RunFolder(context.folder)
    resume = run.config.exists()
    if resume and Split.load(run.split).hash != translator.split_hash:
        raise LeakageError(f"{context.folder} {OTHER_SPLIT}")
    seed = () if translator.seed is None else (f"seed={translator.seed}",)
    train(
        Order(
            order.pipeline,
            data=translator.data,
            config=None if resume else order.config,
            overrides=() if resume else (*translator.settings, *seed),
            out=order.out,
            name=context.folder.relative_to(order.out / order.pipeline).as_posix(),
            resume=resume,
            tracking=context.tracking,
            device=context.device,
            split=translator.split,
            phantom=order.data is None,
            parent=context.parent,
        ),
        context.console,
    )
    return run


def train_and_judge(context: Context, translator: TranslatorRun) -> pd.DataFrame:
    """Train, convert the test subjects and judge them against the cohort: ``cell, seed``, ``KEYS``, the metrics.

    Raises:
        LeakageError: It was trained on another split, or is judged on whom it was trained on.
        DataError: A test subject that was not converted, or none that could be judged.
    """
    run = train_translator(context, translator)
    convert_test(translator.data, context.folder / CONVERTED, run.model, context.device)
    evaluation = _judged(context, translator)
    own = evaluation.summary[evaluation.summary["arm"] == SYNTHETIC]
    means = {f"test/{metric}": mean for metric, mean in zip(own["metric"], own["mean"], strict=True)}
    add_metrics(context.tracking, run.facts()["mlflow_run_id"], means)
    rows = read_rows([context.folder / JUDGED / ROWS], KEYS)
    rows.insert(0, "cell", translator.name)
    rows.insert(1, "seed", translator.seed)
    return rows


def convert_test(data: Data, folder: Path, model: Path, device: str) -> None:
    """Convert the test subjects of a model's split; a ``DataError`` names all that cannot be."""
    order = ConvertOrder(data, folder, str(model), part="test", overwrite=True, device=device)
    batch = convert(order, Console(quiet=True))
    if batch.failed:
        failed = "; ".join(f"{each.input}: {each.message}" for each in batch.outcomes if each.status == "failed")
        raise DataError(f"{batch.failed} of {len(batch.outcomes)} test images were not converted: {failed}")


def _judged(context: Context, translator: TranslatorRun) -> Evaluation:
    """The converted test subjects against their own target images where the cohort has them, else against others'."""
    pair, data = translator.pair, translator.data
    source, target = pair.names
    evaluation = evaluate(
        context.folder / CONVERTED,
        f"{data}:{target}",
        context.folder / JUDGED,
        source=f"{data}:{source}",
        options=Location.of(data).options,
        modalities=Modalities(pair.source.modality, pair.target.modality),
    )
    for failure in evaluation.failures:
        context.console.out(f"{translator.name}: not judged: {failure.image}: {failure.reason}", highlight=False)
    if evaluation.who.subjects:
        raise LeakageError(
            f"{context.folder} has seen who is tested: {few(sorted(evaluation.who.subjects), MAX_NAMED)}. Correct the "
            "cohort or its split."
        )
    if evaluation.rows.empty:
        raise DataError("; ".join(failure.reason for failure in evaluation.failures))
    return evaluation


def check_translators(pipeline: str, wanted: Sequence[str]) -> None:
    """Refuse a pipeline whose setting ``translator`` lacks one of these, each with a group of settings of its name."""
    fields = catalog.load(pipeline).settings.model_fields
    offered: tuple[Any, ...] = get_args(fields["translator"].annotation) if "translator" in fields else ()
    lacking = [name for name in wanted if name not in offered or name not in fields]
    if lacking:
        there = ", ".join(map(str, offered)) or "no choice of translators"
        raise ConfigError(
            f"pipeline '{pipeline}' has no {' and no '.join(lacking)}, which this study compares; it has {there}. "
            "Choose another pipeline, or compare settings of your own with `medgan sweep`."
        )


def adversarial_game(settings: Mapping[str, Any]) -> str:
    """The adversarial loss that pix2pix's arms play: the configured one, or the paper's where that is none."""
    configured = str(settings["pix2pix"]["adversarial"])
    return "vanilla" if configured == "none" else configured
