"""A study of routes from its order to its table: one parent run in MLflow, a child for each, resumable at each child.

Labels are simulated: bone of the true CT stands for what a reader would have drawn on so many subjects, while the
translator has seen the CT of all training subjects. The question is what paired scans, once collected, save in labels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from medgan.benefit.failures import Failure, failure_of
from medgan.benefit.records import begun_before, write_json
from medgan.benefit.routes.bone import LEAST_ML
from medgan.benefit.routes.children import Child, check_identity, children_of, read_rows, run_child
from medgan.benefit.routes.material import gather
from medgan.benefit.routes.plan import RoutesOrder, RoutesPlan, make_plan
from medgan.benefit.routes.table import render, routes_table
from medgan.data.streams import write_csv
from medgan.evaluation.bone import TOLERANCE_MM
from medgan.evaluation.statistics import plain
from medgan.evaluation.tissues import BONE_HU
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in

ROWS, TABLE, RECORD = "rows.csv", "table.csv", "routes.json"
KIND = "routes"


@dataclass(frozen=True)
class Routes:
    """A study of routes that has run through."""

    folder: Path
    rows: pd.DataFrame
    """See ``medgan.benefit.routes.children.read_rows``."""
    table: pd.DataFrame
    """See ``medgan.benefit.routes.table.routes_table``; empty where no child has figures."""
    failures: tuple[Failure, ...]
    tracked: str
    """Where to look at the parent run in MLflow."""

    @property
    def exit_code(self) -> int:
        """0 if every child has its figures, else 1."""
        return 1 if self.failures else 0


def run_routes(order: RoutesOrder, console: Console) -> Routes:
    """Run what is not finished of a study of routes, and write ``rows.csv``, ``table.csv`` and ``routes.json``.

    Raises:
        LeakageError: A test subject would reach, or has reached, a training.
        ConfigError: Among others, children of this name that were begun or finished with other settings.
        MedganError: Whatever else keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order goes on.
    """
    check_store(order.tracking)
    with alone_in(order.folder, console):
        begun = begun_before(order.folder, KIND)
        plan = make_plan(order)
        children = [child for fold in plan.folds for child in children_of(plan, fold)]
        for child in children:
            check_identity(plan, child)
        announce(plan, console)
        record = order.folder / RECORD
        with parent_run(plan, begun) as tracker:
            before = {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri}
            write_json(record, described(plan) | before)
            failures = run_children(plan, children, tracker, console)
            rows = read_rows(children)
            table = pd.DataFrame() if rows.empty else routes_table(rows, plan.config.labelled)
            found = Routes(order.folder, rows, table, failures, tracker.describe())
            write_csv(order.folder / ROWS, rows)
            write_csv(order.folder / TABLE, table)
            write_json(record, described(plan) | before | results(found))
            tracker.artifact(order.folder / TABLE)
            tracker.tags({"failed_children": f"{len(failures)} of {len(children)}"})
    show(found, console)
    return found


def run_children(plan: RoutesPlan, children: list[Child], parent: Tracker, console: Console) -> tuple[Failure, ...]:
    """Bring every child to its end, fold by fold; one that fails is named, and does not stop the others.

    Raises:
        LeakageError: A child has learnt, or would learn, from who is tested: nothing of such a study is to be believed.
        KeyboardInterrupt: Asked to stop.
    """
    failures: list[Failure] = []
    left = [child for child in children if not child.finished]
    if len(left) < len(children):
        console.out(f"{len(children) - len(left)} of {len(children)} children: finished before", highlight=False)
    for fold in plan.folds:
        own = [child for child in left if child.fold is fold]
        if not own:
            continue
        console.out(f"fold {fold.number}: labels and synthetic CT of {len(fold.tested)} test scans", highlight=False)
        material = gather(plan, fold)
        for child in own:
            place = f"{children.index(child) + 1}/{len(children)} {child.name}"
            try:
                run_child(plan, child, material, parent)
            except (Exception, KeyboardInterrupt) as error:
                failures.append(failure_of(child.name, error))
                console.out(f"{place}: failed: {failures[-1].reason}", highlight=False)
            else:
                console.out(f"{place}: Dice {read_rows([child])['dice'].mean():.3f}", highlight=False)
    return tuple(failures)


def announce(plan: RoutesPlan, console: Console) -> None:
    """Say what is about to happen."""
    fit, order = plan.config.segmenter.fit, plan.order
    tested = len({case.subject for fold in plan.folds for case in fold.tested})
    console.out(
        f"{order.folder}: bone of {tested} unseen subjects in {len(plan.folds)} folds; segmenters learn from "
        f"{', '.join(map(str, plan.config.labelled))} subjects, {len(order.seeds)} seeds, "
        f"{fit.epochs * fit.iterations_per_epoch} iterations of {fit.batch_size} patches each",
        highlight=False,
    )
    if plan.phantom:
        console.out("a translator was trained on the built-in phantom, which never stands for a patient")


def parent_run(plan: RoutesPlan, before: Mapping[str, Any]) -> Tracker:
    """The study's own MLflow run: a new one, or the one that was begun."""
    order = plan.order
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.name,
        parameters={"labelled": list(plan.config.labelled), "seeds": list(order.seeds), "folds": len(plan.folds)},
        tags={
            "pipeline": order.pipeline,
            "study": KIND,
            "data_fingerprint": plan.cohort.fingerprint(),
            "git_revision": code_revision(),
        },
        run_id=before.get("mlflow_run_id"),
    )


def described(plan: RoutesPlan) -> dict[str, Any]:
    """What a study is, before it has results."""
    fit = plan.config.segmenter.fit
    return {
        "pipeline": plan.order.pipeline,
        "kind": KIND,
        "phantom": plan.phantom,
        "bone": {"above_hu": BONE_HU, "least_part_ml": LEAST_ML, "surface_tolerance_mm": TOLERANCE_MM},
        "seeds": list(plan.order.seeds),
        "labelled": sorted(set(plan.config.labelled)),
        "budget": {"iterations": fit.epochs * fit.iterations_per_epoch, "batch_size": fit.batch_size},
        "folds": [
            {
                "split_hash": fold.split.hash,
                "translator_sha256": fold.description.weights_sha256,
                "translator_pairs": len(fold.training),
                "tested": len(fold.tested),
            }
            for fold in plan.folds
        ],
        "settings": plan.config.model_dump(mode="json"),
    }


def results(found: Routes) -> dict[str, Any]:
    """What a study found."""
    return {"table": plain(found.table), "failures": [asdict(failure) for failure in found.failures]}


def show(found: Routes, console: Console) -> None:
    """The table, and which children failed."""
    if not found.table.empty:
        console.print(render(found.table))
    for failure in found.failures:
        console.print(Text(f"failed: {failure.child}: {failure.reason}", style="red"))
