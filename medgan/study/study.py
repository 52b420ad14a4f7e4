"""A study from its cells to its table: one parent run in MLflow, a child for each cell and seed, resumable anywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from medgan.data.streams import write_csv
from medgan.evaluation.statistics import plain
from medgan.study.children import read_rows, run_children
from medgan.study.compare import headlines, metrics_of, paired_table, render
from medgan.study.failures import Failure
from medgan.study.grid import Cell
from medgan.study.plan import Plan, StudyOrder, make_plan
from medgan.study.records import begun_before, write_json
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in

ROWS, TABLE, RECORD = "study.csv", "table.csv", "study.json"

Findings = Callable[[pd.DataFrame], Mapping[str, str]]
"""From all figures to what a kind of study finds beside the paired table, by name."""


@dataclass(frozen=True)
class Study:
    """A study that has run through."""

    folder: Path
    rows: pd.DataFrame
    """See ``medgan.study.children.read_rows``."""
    table: pd.DataFrame
    """See ``medgan.study.compare.paired_table``; empty where no child has figures."""
    findings: Mapping[str, str]
    failures: tuple[Failure, ...]
    left_out: Mapping[str, str]
    tracked: str
    """Where to look at the parent run in MLflow."""

    @property
    def exit_code(self) -> int:
        """0 if every child has its figures, else 1."""
        return 1 if self.failures else 0


def run_study(order: StudyOrder, cells: Sequence[Cell], console: Console, findings: Findings | None = None) -> Study:
    """Run what is not finished of a study, compare all of it, and write ``study.csv``, ``table.csv``, ``study.json``.

    Args:
        order: What was asked.
        cells: What is compared; the first is the reference.
        console: Where progress and the table are shown.
        findings: What else follows from the figures.

    Raises:
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order goes on.
    """
    check_store(order.tracking)
    with alone_in(order.folder, console):
        begun = begun_before(order.folder, order.kind)
        plan = make_plan(order, cells)
        if plan.phantom:
            console.out(
                "no --data: training on the built-in phantom, which never stands for a patient", highlight=False
            )
        for cell, reason in plan.left_out.items():
            console.out(f"left out: {cell}: {reason}", highlight=False)
        record = order.folder / RECORD
        with parent_run(order, plan, begun) as tracker:
            before = {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri}
            write_json(record, described(order, plan) | before)
            failures = run_children(order, plan, tracker.id, tracker.uri, console)
            rows = read_rows(plan.children)
            table = pd.DataFrame() if rows.empty else paired_table(rows, plan.cells[0])
            found = dict(findings(rows)) if findings and not rows.empty else {}
            study = Study(order.folder, rows, table, found, failures, plan.left_out, tracker.describe())
            write_json(record, described(order, plan) | before | results(study))
            write_csv(order.folder / ROWS, rows)
            write_csv(order.folder / TABLE, table)
            tracker.artifact(order.folder / TABLE)
            tracker.tags({"failed_children": f"{len(failures)} of {len(plan.children)}", **found})
    show(study, plan, console)
    return study


def parent_run(order: StudyOrder, plan: Plan, before: Mapping[str, Any]) -> Tracker:
    """The study's own MLflow run: a new one, or the one that was begun."""
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.name,
        parameters={"cells": "; ".join(plan.cells), "reference": plan.cells[0], "seeds": list(order.seeds)},
        tags={
            "pipeline": order.pipeline,
            "study": order.kind,
            "split_hash": plan.split_hash,
            "data_fingerprint": plan.data_fingerprint,
            "git_revision": code_revision(),
        },
        run_id=before.get("mlflow_run_id"),
    )


def described(order: StudyOrder, plan: Plan) -> dict[str, Any]:
    """What a study is, before it has results."""
    cells = {child.cell.name: list(child.cell.settings) for child in plan.children}
    return {
        "pipeline": order.pipeline,
        "kind": order.kind,
        "phantom": plan.phantom,
        "split_hash": plan.split_hash,
        "data_fingerprint": plan.data_fingerprint,
        "seeds": list(order.seeds),
        "shared": list(order.overrides),
        "cells": cells,
        "reference": plan.cells[0],
        "left_out": plan.left_out,
    }


def results(study: Study) -> dict[str, Any]:
    """What a study found."""
    return {
        "table": plain(study.table),
        "findings": dict(study.findings),
        "failures": [asdict(failure) for failure in study.failures],
    }


def show(study: Study, plan: Plan, console: Console) -> None:
    """The table, what follows from it, and which children failed."""
    if not study.table.empty:
        console.print(render(study.table, plan.cells[0], headlines(metrics_of(study.rows))))
    for name, finding in study.findings.items():
        console.print(Text(f"{name}: {finding}"))
    for failure in study.failures:
        console.print(Text(f"failed: {failure.child}: {failure.reason}", style="red"))
