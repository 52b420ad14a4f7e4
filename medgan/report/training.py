"""What a run or a model folder says, for people: how it was trained, its curves, its panels and its card."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from medgan.data.splits import Split
from medgan.data.studies import Location
from medgan.documents import read_json
from medgan.errors import DataError, MedganError
from medgan.pictures.curves import progress
from medgan.report.html import Plot, Section, kept_pictures, markdown, png
from medgan.training.model_folder import CARD, COMMANDS, DESCRIPTION, description_hash
from medgan.training.run_folder import RunFolder

MOST_PANEL_BYTES = 6_000_000


@dataclass(frozen=True)
class Training:
    """A run folder, or a model folder by itself."""

    run: RunFolder | None
    """None where the model folder lies in no run."""
    model: Path
    facts: Mapping[str, Any]
    """The content of ``run.json``; empty without a run."""
    description: Mapping[str, Any]
    """The content of ``model.json``; empty where the training is not finished."""

    @property
    def phantom(self) -> bool:
        """Whether it learnt from the built-in phantom."""
        origin = self.description.get("origin", {})
        return bool(self.facts.get("phantom") or origin.get("phantom"))

    @property
    def sha256(self) -> str:
        """Of ``model.json``, as outputs' sidecars have it; empty where there is none."""
        return description_hash(self.description) if self.description else ""

    @property
    def name(self) -> str:
        """Of the pipeline or the task."""
        return str(self.facts.get("pipeline") or self.description.get("name") or self.description.get("task", "model"))

    @property
    def used_by(self) -> str:
        """The command that the model is for."""
        return COMMANDS.get(str(self.description.get("task", "translation")), "convert")

    @property
    def split(self) -> Split | None:
        """Who was in which part; None where that cannot be read."""
        try:
            return Split.load(self.run.split) if self.run else None
        except MedganError:
            return None


def read_training(folder: Path) -> Training:
    """The training in a run folder, or that of a model folder.

    Raises:
        DataError: A record of it is damaged.
    """
    model = folder if (folder / DESCRIPTION).is_file() else folder / "model"
    around = model.resolve().parent if model == folder else folder
    run = RunFolder(around if model == folder else folder) if (around / "run.json").is_file() else None
    description: dict[str, Any] = {}
    if (model / DESCRIPTION).is_file():
        try:
            description = read_json(model / DESCRIPTION)
            if not isinstance(description, dict):
                raise ValueError("holds no description")
        except (OSError, ValueError) as error:
            raise DataError(f"{model / DESCRIPTION}: cannot be read ({error}); copy the model folder again.") from None
    return Training(run, model, run.facts() if run else {}, description)


def training_sections(training: Training, *, anonymous: bool = False) -> Iterator[Section]:
    """How it was trained, curves and panels, each where there is something; without places where ``anonymous``."""
    yield Section("Training", "training", facts=_facts(training))
    if training.run:
        yield from _curves(training, training.run)
        if not anonymous:  # their captions name subjects
            yield from _panels(training, training.run)


def card_section(training: Training) -> Iterator[Section]:
    """The model card."""
    try:
        text = (training.model / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield Section("Model card", "card", markup=Markup('<div class="card">{}</div>').format(markdown(text)))


def run_commands(training: Training) -> dict[str, str]:
    """What trains it again, by what it is for."""
    run, facts = training.run, training.facts
    if run is None or not run.config.is_file():
        return {}
    task = str(facts.get("pipeline", "PIPELINE"))
    words = ["medgan", "train", "--pipeline", task, "--config", str(run.config)]
    try:
        location = Location.of_facts(facts)
    except (TypeError, ValueError):
        location = None
    if location:
        words += ["--data", str(location.path)]
        words += ["--root", str(location.options.root)] if location.options.root else []
        words += (
            ["--bids", ",".join(f"{key}={value}" for key, value in location.options.bids)]
            if location.options.bids
            else []
        )
    return {"Train it again, with all its settings": shlex.join([*words, "--name", f"{run.name}-again"])}


def _facts(training: Training) -> dict[str, str]:
    facts, description, split = training.facts, training.description, training.split
    origin = description.get("origin", {})
    phantom = "built-in phantom: computed bodies, no patients"
    listed = {
        "Pipeline": facts.get("pipeline") or description.get("name"),
        "Subjects": phantom if training.phantom else "given by the user",
        "Parts": split and f"{len(split.train)} train, {len(split.validation)} validation, {len(split.test)} test",
        "Data fingerprint": facts.get("data_fingerprint") or origin.get("data_fingerprint"),
        "Split": facts.get("split_hash") or origin.get("split_hash"),
        "Networks kept": description and f"averages after epoch {description.get('epoch')}",
        "Seed": facts.get("seed", description.get("seed")),
        "Device": facts.get("device"),
        "Precision": facts.get("precision"),
        "Started": facts.get("started"),
        "Versions": ", ".join(f"{name} {version}" for name, version in (facts.get("versions") or {}).items()),
        "Code": facts.get("git_revision"),
        "Model (SHA-256 of model.json)": training.sha256,
        "MLflow run": facts.get("mlflow_run_id"),
    }
    return {name: str(value) for name, value in listed.items() if value not in (None, "", {})}


def _curves(training: Training, run: RunFolder) -> Iterator[Section]:
    try:
        history = pd.read_csv(run.path / "metrics.csv").apply(pd.to_numeric, errors="coerce")
    except (OSError, ValueError):
        return
    if history.empty or "epoch" not in history:
        return
    kept = training.description.get("epoch")
    note = f"Epoch {kept} was kept." if kept is not None else "No model is kept yet."
    values = {key: value for key, value in training.description.get("metrics", {}).items() if isinstance(value, float)}
    lines = [f"{key} of the kept networks: {value:.4g}" for key, value in sorted(values.items())]
    lines = [*lines, *(["Validation subjects chose the epoch, so these figures are no evidence."] if lines else [])]
    rows = (row.items() for row in history.to_dict("records"))
    known = tuple(tuple((str(key), value) for key, value in row if pd.notna(value)) for row in rows)
    drawn = _drawn(known, kept if isinstance(kept, int) else 0)
    alt = f"Curves by epoch: {', '.join(key for key in history.columns if key != 'epoch')}"
    yield Section("Curves", "curves", note=note, lines=lines, plots=[Plot(png(drawn), alt)])


@lru_cache(maxsize=4)
def _drawn(history: tuple[tuple[tuple[str, float], ...], ...], best_epoch: int) -> bytes:
    """The curves, a row an epoch, drawn once for all pages that an evaluation writes of its training."""
    return progress([dict(row) for row in history], best_epoch, f"epoch {len(history)}", columns=1)


def _panels(training: Training, run: RunFolder) -> Iterator[Section]:
    """The panels of the kept epoch and of the last one."""
    panels = sorted((run.path / "samples").glob("epoch_*.png"))
    kept = f"epoch_{training.description.get('epoch', 0):04}.png"
    shown = dict.fromkeys([*(panel for panel in panels if panel.name == kept), *panels[-1:]])
    epochs = {panel: int(panel.stem.removeprefix("epoch_")) for panel in shown}
    files = [
        (panel, f"Samples of validation subjects after epoch {epoch}", f"After epoch {epoch}")
        for panel, epoch in epochs.items()
    ]
    if plots := list(kept_pictures(files, len(files), MOST_PANEL_BYTES)):
        note = f"{len(shown)} of {len(panels)} panels. All are in {run.path / 'samples'}."
        yield Section("Samples while it trained", "samples", note=note, plots=plots, layout="single")
