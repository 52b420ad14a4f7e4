"""A study of augmentation from order to tables: one parent run in MLflow, a child for each network, resumable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from medgan.benefit.augmentation.arms import BY_NAME, Method
from medgan.benefit.augmentation.children import KEYS, check_identity, run_child
from medgan.benefit.augmentation.generators import generator_task, run_generator
from medgan.benefit.augmentation.material import cases_task, run_cases
from medgan.benefit.augmentation.plan import QUICK_NOTE, AugmentationOrder, AugmentationPlan, Draw, make_plan
from medgan.benefit.augmentation.ratio import Sweep, choose_ratios
from medgan.benefit.augmentation.show import render
from medgan.benefit.augmentation.tables import (
    ALL,
    SEED_METRICS,
    comparisons,
    means,
    slopes,
    with_mean,
)
from medgan.benefit.augmentation.tasks import Child, Task, child_of
from medgan.benefit.failures import Failure
from medgan.benefit.pool import run_tasks
from medgan.benefit.records import begun_before, write_json
from medgan.benefit.segmenters import read_curves, read_figures
from medgan.data.sidecars import left_out
from medgan.data.streams import write_csv
from medgan.evaluation.statistics import plain
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in

ROWS, COMPARISONS, CURVES, RESULT = "augmentation.csv", "comparisons.csv", "curves.csv", "augmentation.json"
RECORD, KIND = "study.json", "augmentation"


@dataclass(frozen=True)
class Augmentation:
    """A study of augmentation, as far as it has run."""

    folder: Path
    rows: pd.DataFrame
    """See ``medgan.benefit.segmenters.read_figures``."""
    means: pd.DataFrame
    comparisons: pd.DataFrame
    slopes: pd.DataFrame
    sweeps: tuple[Sweep, ...]
    failures: tuple[Failure, ...]
    tracked: str
    """Where to look at the parent run in MLflow."""

    @property
    def exit_code(self) -> int:
        """0 if every child has its figures, else 1."""
        return 1 if self.failures else 0


@dataclass(frozen=True)
class OfSize:
    """What has been run with one number of training subjects."""

    children: tuple[Child, ...]
    comparisons: pd.DataFrame
    sweeps: tuple[Sweep, ...]
    failures: tuple[Failure, ...]


def run_augmentation(order: AugmentationOrder, console: Console) -> Augmentation:
    """Run what is not finished of a study, and write ``augmentation.csv``, ``curves.csv`` and ``augmentation.json``.

    Sizes are run one after the other, the smallest first, and the files are written after each.

    Args:
        order: What was asked.
        console: Where progress and the tables are shown.

    Raises:
        LeakageError: A test subject would reach, or has reached, a training.
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order goes on.
    """
    check_store(order.tracking)
    with alone_in(order.folder, console):
        begun = begun_before(order.folder, KIND)
        plan = make_plan(order)
        announce(plan, console)
        record = order.folder / RECORD
        done: list[OfSize] = []
        with parent_run(plan, begun) as tracker:
            write_json(record, described(plan) | {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri})
            for size in plan.sizes:
                done.append(run_size(plan, size, tracker, console))
                found = collect(plan, done, tracker)
                write_results(plan, found, [child for each in done for child in each.children])
            # What names subjects stays on this disk.
            tracker.artifact(order.folder / CURVES)
            tracker.artifact(order.folder / COMPARISONS)
            tracker.metrics(gains(found.comparisons), step=0)
            tracker.tags({"failed_children": str(len(found.failures))})
    show(plan, found, console)
    return found


def run_size(plan: AugmentationPlan, size: int, tracker: Tracker, console: Console) -> OfSize:
    """Generators, synthetic cases, ratios and segmenters of one number of training subjects.

    Where a draw's generator or cases fail, the arms that need them are left out for this draw alone: differences are
    taken within a draw. A method of which no ratio could be trained is left out for this size.
    """
    draws, jobs, config = plan.of_size(size), plan.order.jobs, plan.config
    failures: list[Failure] = []
    ready: dict[Method, tuple[Draw, ...]] = {}
    for method in config.methods:
        making = [cases_task(plan, method, draw) for draw in draws]
        if method == "generator":
            training = [generator_task(plan, draw, tracker.id, tracker.uri) for draw in draws]
            failures += run_tasks(training, run_generator, jobs, console, what="generators")
            making = [task for task, learnt in zip(making, training, strict=True) if learnt.child.trained]
        failed = run_tasks(making, run_cases, jobs, console, what="sets of cases")
        unmade = {failure.child for failure in failed}
        failures += failed
        if made := tuple(task.child.draw for task in making if task.child.name not in unmade):
            ready[method] = made
    sweeps, lost = choose_ratios(plan, size, ready, tracker.id, tracker.uri, console)
    failures += lost
    ratios = {sweep.method: sweep.ratio_percent for sweep in sweeps}
    tasks = [
        Task(plan, child_of(plan, arm, draw, ratios[arm.method] if arm.method else 0), tracker.id, tracker.uri)
        for draw in draws
        for arm in plan.arms
        if arm.method is None or (arm.method in ratios and draw in ready[arm.method])
    ]
    for task in tasks:
        check_identity(task)
    failures += run_tasks(tasks, run_child, jobs, console)
    children = tuple(task.child for task in tasks)
    compared = comparisons(with_mean(read_figures(children, KEYS)), config.comparisons)
    return OfSize(children, compared, tuple(sweeps), tuple(failures))


def collect(plan: AugmentationPlan, done: Sequence[OfSize], tracker: Tracker) -> Augmentation:
    """The figures of all children, and what follows from them."""
    rows = read_figures([child for each in done for child in each.children], KEYS)
    all_organs = with_mean(rows)
    return Augmentation(
        plan.order.folder,
        rows,
        means(all_organs),
        pd.concat([each.comparisons for each in done], ignore_index=True),
        slopes(all_organs, plan.config.comparisons),
        tuple(sweep for each in done for sweep in each.sweeps),
        tuple(failure for each in done for failure in each.failures),
        tracker.describe(),
    )


def write_results(plan: AugmentationPlan, found: Augmentation, children: Sequence[Child]) -> None:
    """The study's files; ``augmentation.json`` comes last."""
    folder = plan.order.folder
    write_csv(folder / ROWS, found.rows)
    write_csv(folder / COMPARISONS, found.comparisons)
    curves = read_curves(children, ("arm", "size", "seed", "ratio_percent"))
    write_csv(folder / CURVES, curves)
    write_json(folder / RESULT, described(plan) | results(plan, found))


def results(plan: AugmentationPlan, found: Augmentation) -> dict[str, Any]:
    """What a study found."""
    return {
        "command": plan.order.command,
        "sweeps": [
            asdict(sweep) | {"val_dice": {str(ratio): dice for ratio, dice in sweep.val_dice.items()}}
            for sweep in found.sweeps
        ],
        "means": plain(found.means),
        "comparisons": plain(found.comparisons),
        "slopes": plain(found.slopes),
        "learning_curves": CURVES,
        "failures": [asdict(failure) for failure in found.failures],
    }


def gains(found: pd.DataFrame) -> dict[str, float]:
    """What the generator adds to standard augmentation, by tracking key: ``gain/n5/mean_dice``."""
    arm = BY_NAME["standard+generator"]
    if found.empty:
        return {}
    own = found[(found["arm"] == arm.name) & (found["reference"] == arm.reference) & (found["seed"] == ALL)]
    own = own[own["metric"].isin(SEED_METRICS)]
    keys = "gain/n" + own["size"].astype(str) + "/" + own["organ"] + "_" + own["metric"]
    return dict(zip(keys, own["mean"], strict=True))


def announce(plan: AugmentationPlan, console: Console) -> None:
    """Say what is about to happen, and what was chosen on the user's behalf."""
    if plan.phantom:
        console.out("no --data: a study of the built-in phantom, which never stands for a patient", highlight=False)
    if plan.order.quick:
        console.out(QUICK_NOTE, highlight=False)
    if told := left_out(plan.left_out):
        console.out(told, highlight=False)
    fit, split = plan.segmenter.fit, plan.split
    besides = f" and {plan.config.healthy} healthy ones" if plan.config.healthy else ""
    console.out(
        f"{plan.order.folder}: {', '.join(plan.segmenter.labels)} in {plan.segmenter.domain.name}; "
        f"n = {', '.join(map(str, plan.sizes))}{besides} x {len(plan.order.seeds)} seeds x {len(plan.arms)} arms, "
        f"{fit.epochs * fit.iterations_per_epoch} steps of {fit.batch_size} patches each; "
        f"{len(split.validation)} validation and {len(split.test)} test subjects",
        highlight=False,
    )


def parent_run(plan: AugmentationPlan, before: Mapping[str, Any]) -> Tracker:
    """The study's own MLflow run: a new one, or the one that was begun."""
    order = plan.order
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.name,
        parameters={"arms": [arm.name for arm in plan.arms], "seeds": list(order.seeds), "sizes": list(plan.sizes)},
        tags={
            "pipeline": order.pipeline,
            "study": KIND,
            "split_hash": plan.split.hash,
            "data_fingerprint": plan.cohort.fingerprint(),
            "git_revision": code_revision(),
        },
        run_id=before.get("mlflow_run_id"),
    )


def described(plan: AugmentationPlan) -> dict[str, Any]:
    """What a study is, before it has results."""
    fit = plan.segmenter.fit
    return {
        "pipeline": plan.order.pipeline,
        "kind": KIND,
        "phantom": plan.phantom,
        "quick": plan.order.quick,
        "seeds": list(plan.order.seeds),
        "sizes": list(plan.sizes),
        "arms": [arm.name for arm in plan.arms],
        "budget": {"iterations": fit.epochs * fit.iterations_per_epoch, "batch_size": fit.batch_size},
        "split_hash": plan.split.hash,
        "subjects": {part: len(getattr(plan.split, part)) for part in ("train", "validation", "test")},
        "organs": {organ: number for number, organ in enumerate(plan.segmenter.labels, start=1)},
        "settings": plan.config.model_dump(mode="json"),
        "segmenter": plan.segmenter.model_dump(mode="json"),
    }


def show(plan: AugmentationPlan, found: Augmentation, console: Console) -> None:
    """The tables, and which children failed."""
    if not found.rows.empty:
        console.print(render(found.means, found.comparisons, found.slopes, [arm.name for arm in plan.arms]))
    if plan.order.quick:
        console.print(Text(QUICK_NOTE, style="yellow"))
    for failure in found.failures:
        console.print(Text(f"failed: {failure.child}: {failure.reason}", style="red"))
