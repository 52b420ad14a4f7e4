"""Does a translator invent lesions, or erase them, when the target domain has more or fewer of them than the source?

Cohen et al. 2018 (arXiv:1805.08841) warn that matching distributions does so. Here translators learn from targets of
which none, half or all subjects have lesions, all else being equal, and a frozen detector that was trained on real
target images looks for lesions in the translations of subjects that nobody was trained on. How its recall and its false
findings rise with the prevalence is a slope with an interval; a faithful translator has none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import PositiveFloat
from rich.console import Console

from medgan import catalog
from medgan.config import Config, flattened, read_yaml
from medgan.data.streams import write_csv
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.statistics import plain
from medgan.study.children import CONVERTED, is_finished, run_children
from medgan.study.failures import Failure
from medgan.study.grid import Cell
from medgan.study.needs import adversarial_game, check_translators
from medgan.study.plan import Child, Plan, StudyOrder, configured, make_plan
from medgan.study.prevalence_design import PrevalenceCohorts, PrevalenceDesign, rendered
from medgan.study.prevalence_rows import KEYS, Judge, detections
from medgan.study.prevalence_segmenters import FROZEN, SIDES, segmenter_folder, trained
from medgan.study.prevalence_table import (
    PLAIN,
    REAL,
    WATCHED,
    in_order,
    semantic_differences,
    show,
    slopes,
    written,
)
from medgan.study.records import begun_before, write_json
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.device import make_fabric
from medgan.training.fit import FitConfig
from medgan.training.folder_lock import alone_in

ROWS, TABLE, RECORD = "detections.csv", "slopes.csv", "study.json"
SHORTER = ("fit.epochs=8", "fit.validate_every=4")
"""Beneath the user's own settings: nine trainings in the time of three."""


class PrevalenceConfig(Config):
    """Settings of a lesion-prevalence study, beside the translators' own."""

    design: PrevalenceDesign = PrevalenceDesign()
    semantic: PositiveFloat = 10.0
    """Weight of semantic consistency in the arm that has it."""
    segmenter_fit: FitConfig = FROZEN
    """How long both frozen segmenters learn."""


@dataclass(frozen=True)
class Part:
    """The translators that learn from one table."""

    percent: int
    """The target's prevalence."""
    order: StudyOrder
    plan: Plan


@dataclass(frozen=True)
class Prevalence:
    """A lesion-prevalence study that has run through."""

    folder: Path
    rows: pd.DataFrame
    """See ``medgan.study.prevalence_table.slopes``."""
    table: pd.DataFrame
    differences: pd.DataFrame
    """See ``medgan.study.prevalence_table.semantic_differences``."""
    findings: Mapping[str, str]
    failures: tuple[Failure, ...]
    tracked: str
    """Where to look at the parent run in MLflow."""

    @property
    def exit_code(self) -> int:
        """0 if every translator was judged, else 1."""
        return 1 if self.failures else 0


def run_prevalence(order: StudyOrder, config: PrevalenceConfig, console: Console) -> Prevalence:
    """Run what is not finished of a study, and write ``detections.csv``, ``slopes.csv`` and ``study.json``.

    Args:
        order: What was asked; its settings are the translators'.
        config: The study's own settings.
        console: Where progress and the table are shown.

    Raises:
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order goes on.
    """
    if order.data is not None:
        raise ConfigError("the study renders its own subjects, whose lesions are known; leave --data out.")
    check_translators(order.pipeline, ["cyclegan", "pix2pix"])
    check_store(order.tracking)
    with alone_in(order.folder, console):
        before = begun_before(order.folder, order.kind)
        _refuse_other_subjects(order.folder, before, config.design)
        cohorts = rendered(config.design, catalog.load(order.pipeline).phantom)
        parts = list(planned(order, config, cohorts))
        with _parent(order, config, before) as tracker:
            begun = _described(order, config, parts) | {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri}
            write_json(order.folder / RECORD, begun)
            judge = _judge(order, config, cohorts, parts, console)
            failures = [
                failure
                for part in parts
                for failure in run_children(part.order, part.plan, tracker.id, tracker.uri, console)
            ]
            study = _found(order, _rows(judge, cohorts, parts), failures, tracker.describe())
            _write(study, begun)
            tracker.artifact(order.folder / TABLE)
            children = sum(len(part.plan.children) for part in parts)
            tracker.tags({"failed_children": f"{len(failures)} of {children}", **study.findings})
    show(study.table, console)
    return study


def _refuse_other_subjects(folder: Path, before: Mapping[str, Any], design: PrevalenceDesign) -> None:
    """Keep segmenters that were trained on some subjects from judging others, among whom may be the same.

    Prevalences may be added: who is tested, and who the segmenters learn from, does not depend on them.

    Raises:
        LeakageError: The study was begun with another design.
    """
    earlier = before.get("settings", {}).get("design")
    if earlier is None:
        return
    now = design.model_dump(mode="json")
    changed = [key for key in earlier if key != "prevalences_percent" and earlier[key] != now.get(key)]
    if changed:
        raise LeakageError(
            f"{folder} was begun with other subjects (design.{', design.'.join(changed)}), and its segmenters may have "
            "learnt from who is tested now; choose another --name, or put that folder away."
        )


def _found(order: StudyOrder, rows: pd.DataFrame, failures: Sequence[Failure], tracked: str) -> Prevalence:
    """What follows from the rows."""
    table, differences = slopes(rows), semantic_differences(rows)
    words = written(table, differences)
    return Prevalence(order.folder, rows, table, differences, words, tuple(failures), tracked)


def planned(order: StudyOrder, config: PrevalenceConfig, cohorts: PrevalenceCohorts) -> Iterator[Part]:
    """For each prevalence the unpaired translators and the paired one, each on its table.

    Raises:
        ConfigError: Settings that cannot be, or others than the study was begun with.
    """
    said = flattened(read_yaml(order.config)) if order.config else {}
    shorter = [setting for setting in SHORTER if setting.partition("=")[0] not in said]
    ours = replace(order, phantom=True, overrides=[*shorter, *order.overrides])
    for percent in config.design.prevalences_percent:
        for paired in (False, True):
            side = "paired" if paired else "unpaired"
            own = replace(
                ours,
                data=cohorts.table(percent, paired=paired),
                name=f"{order.name}/{side},prevalence={percent}",
            )
            yield Part(percent, own, make_plan(own, _cells(order, config, percent, paired)))


def _cells(order: StudyOrder, config: PrevalenceConfig, percent: int, paired: bool) -> list[Cell]:
    if paired:
        game = adversarial_game(configured(order, ["translator=pix2pix"]).config.model_dump(mode="json"))
        settings = {"pix2pix": ["translator=pix2pix", f"pix2pix.adversarial={game}"]}
    else:
        settings = {PLAIN: ["translator=cyclegan"]}
        if _one_unit(order):
            folder = json.dumps(segmenter_folder(order, "source").as_posix())
            watched = [f"cyclegan.semantic={config.semantic:g}", f"cyclegan.semantic_model={folder}"]
            settings[WATCHED] = [*settings[PLAIN], *watched]
    return [Cell(_name(translator, percent), tuple(own)) for translator, own in settings.items()]


def _name(translator: str, percent: int) -> str:
    return f"{translator},prevalence={percent}"


def _one_unit(order: StudyOrder) -> bool:
    """Whether one segmenter can look at both domains."""
    pair = configured(order, ["translator=cyclegan"]).pair
    return bool(pair.source.unit == pair.target.unit)


def _judge(
    order: StudyOrder, config: PrevalenceConfig, cohorts: PrevalenceCohorts, parts: Sequence[Part], console: Console
) -> Judge:
    """Both frozen segmenters, trained where that is not done yet, and whom they judge."""
    pipeline = parts[0].plan.children[0].pipeline
    fabric = make_fabric(order.device, "32")
    source, target = (trained(order, config.segmenter_fit, cohorts, pipeline, side, fabric, console) for side in SIDES)
    inputs = {study.subject: study for study in cohorts.tested(cohorts.domains[0])}
    return Judge(source, target, inputs, fabric)


def _rows(judge: Judge, cohorts: PrevalenceCohorts, parts: Sequence[Part]) -> pd.DataFrame:
    """What is found in all translations, and in the real images."""
    target = {study.subject: study.image for study in cohorts.tested(cohorts.domains[1])}
    frames = [judge.rows(target).assign(translator=REAL)]
    for part in parts:
        for child in filter(is_finished, part.plan.children):
            found = detections(judge, child.run.path, child.run.path / CONVERTED, cohorts.root)
            frames.append(found.assign(translator=_translator(child), prevalence_percent=part.percent, seed=child.seed))
    columns = pd.concat(frames, ignore_index=True)
    return in_order(columns.reindex(columns=list(dict.fromkeys([*columns.columns, *KEYS]))), KEYS)


def _translator(child: Child) -> str:
    return child.cell.name.rpartition(",")[0]


def _parent(order: StudyOrder, config: PrevalenceConfig, before: Mapping[str, Any]) -> Tracker:
    """The study's own MLflow run: a new one, or the one that was begun."""
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.name,
        parameters=config.model_dump(mode="json") | {"seeds": list(order.seeds)},
        tags={"pipeline": order.pipeline, "study": order.kind, "git_revision": code_revision()},
        run_id=before.get("mlflow_run_id"),
    )


def _described(order: StudyOrder, config: PrevalenceConfig, parts: Sequence[Part]) -> dict[str, Any]:
    """What the study is, before it has results."""
    return {
        "pipeline": order.pipeline,
        "kind": order.kind,
        "phantom": True,
        "seeds": list(order.seeds),
        "settings": config.model_dump(mode="json"),
        "shared": list(order.overrides),
        "cells": {child.cell.name: list(child.cell.settings) for part in parts for child in part.plan.children},
        "splits": {part.order.folder.name: part.plan.split_hash for part in parts},
    }


def _write(study: Prevalence, begun: Mapping[str, Any]) -> None:
    write_csv(study.folder / ROWS, study.rows)
    write_csv(study.folder / TABLE, study.table)
    found = {
        "table": plain(study.table),
        "semantic_differences": plain(study.differences),
        "findings": dict(study.findings),
        "failures": [asdict(failure) for failure in study.failures],
    }
    write_json(study.folder / RECORD, dict(begun) | found)
