"""A benefit study from its order to its tables: one parent run in MLflow, a child for each segmenter, resumable."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from medgan.benefit.arms import BY_NAME, SWEPT
from medgan.benefit.children import run_child
from medgan.benefit.failures import Failure
from medgan.benefit.judge import KEYS
from medgan.benefit.keeping import label_keeper
from medgan.benefit.material import Material, gather_material
from medgan.benefit.plan import QUICK_NOTE, BenefitOrder, BenefitPlan, make_plan
from medgan.benefit.pool import run_tasks
from medgan.benefit.ratio import Sweep, choose_ratio
from medgan.benefit.records import begun_before, write_json
from medgan.benefit.segmenters import read_curves, read_figures
from medgan.benefit.show import render
from medgan.benefit.tables import means, worst_cases
from medgan.benefit.tasks import Child, Task, child_of
from medgan.benefit.translated import LabelKeeping
from medgan.data.streams import write_csv
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import compare_arms, plain
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.folder_lock import alone_in

ROWS, COMPARISONS, CURVES, RESULT = "benefit.csv", "comparisons.csv", "curves.csv", "benefit.json"
RECORD, KIND = "study.json", "benefit"


@dataclass(frozen=True)
class Benefit:
    """A benefit study that has run through."""

    folder: Path
    rows: pd.DataFrame
    """See ``medgan.benefit.segmenters.read_figures``."""
    means: pd.DataFrame
    comparisons: pd.DataFrame
    failures: tuple[Failure, ...]
    tracked: str
    """Where to look at the parent run in MLflow."""

    @property
    def exit_code(self) -> int:
        """0 if every segmenter has its figures, else 1."""
        return 1 if self.failures else 0


def run_benefit(order: BenefitOrder, console: Console, keeping: LabelKeeping | None = None) -> Benefit:
    """Run what is not finished of a study, and write ``benefit.csv``, ``curves.csv`` and ``benefit.json``.

    Args:
        order: What was asked.
        console: Where progress and the tables are shown.
        keeping: By what translations are judged where ``keep_labels_above`` is set, instead of the settings'
            segmenters: from a labelled image and its translation to how well the labels still fit, 0 to 1.

    Raises:
        LeakageError: A test subject would reach, or has reached, a training.
        MedganError: Whatever keeps the study from starting.
        KeyboardInterrupt: Asked to stop; the same order goes on.
    """
    check_store(order.tracking)
    with alone_in(order.folder, console):
        begun = begun_before(order.folder, KIND)
        plan = make_plan(order)
        keeping = keeping or label_keeper(plan)
        announce(plan, console)
        record = order.folder / RECORD
        with parent_run(plan, begun) as tracker:
            write_json(record, described(plan) | {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri})
            materials = [
                gather_material(plan, subset, tracker.id, tracker.uri, keeping, console)
                for subset in range(len(plan.subsets))
            ]
            sweep = choose_ratio(plan, materials[0], tracker.id, tracker.uri, console)
            tasks = study_tasks(plan, materials, sweep.ratio_percent, tracker)
            failures = run_tasks(tasks, run_child, order.jobs, console)
            children = [task.child for task in tasks]
            found = collect(plan, children, failures, tracker)
            write_results(plan, found, children, materials, sweep)
            # What names subjects stays on this disk.
            tracker.artifact(order.folder / CURVES)
            tracker.artifact(order.folder / COMPARISONS)
            tracker.metrics(gains(found.comparisons), step=0)
            tracker.tags(
                {"failed_children": f"{len(failures)} of {len(tasks)}", "ratio_percent": str(sweep.ratio_percent)}
            )
    show(plan, found, console)
    return found


def study_tasks(plan: BenefitPlan, materials: Sequence[Material], ratio: int, tracker: Tracker) -> list[Task]:
    """All segmenters, seed by seed, so that a study that is stopped early has compared all arms."""
    return [
        Task(
            plan,
            child_of(plan, arm, seed=seed, subset=subset, ratio_percent=ratio),
            material,
            tracker.id,
            tracker.uri,
        )
        for seed in plan.order.seeds
        for subset, material in enumerate(materials)
        for arm in plan.arms
    ]


def collect(plan: BenefitPlan, children: Sequence[Child], failures: tuple[Failure, ...], tracker: Tracker) -> Benefit:
    """The figures of all children, and what follows from them."""
    rows = read_figures(children, KEYS)
    return Benefit(
        plan.order.folder,
        rows,
        means(rows),
        compare_arms(rows, plan.config.comparisons, METRICS),
        failures,
        tracker.describe(),
    )


def write_results(
    plan: BenefitPlan, found: Benefit, children: Sequence[Child], materials: Sequence[Material], sweep: Sweep
) -> None:
    """The study's files; ``benefit.json`` comes last."""
    folder = plan.order.folder
    write_csv(folder / ROWS, found.rows)
    write_csv(folder / COMPARISONS, found.comparisons)
    write_csv(folder / CURVES, read_curves(children, ("arm", "seed", "subset")))
    fit = plan.segmenter.fit
    write_json(
        folder / RESULT,
        {
            "pipeline": plan.order.pipeline,
            "phantom": plan.phantom,
            "quick": plan.order.quick,
            "command": plan.order.command,
            "seeds": list(plan.order.seeds),
            "subsets": len(plan.subsets),
            "ratio_percent": sweep.ratio_percent,
            "sweep": {"arm": sweep.arm, "val_dice": {str(ratio): dice for ratio, dice in sweep.val_dice.items()}},
            "budget": {"iterations": fit.epochs * fit.iterations_per_epoch, "batch_size": fit.batch_size},
            "split_hash": plan.subjects.split.hash,
            "subjects": {part: len(getattr(plan.subjects.split, part)) for part in ("train", "validation", "test")},
            "labelled": [plan.labelled_source(subset) for subset in range(len(plan.subsets))],
            "arms": [arm.name for arm in plan.arms],
            "left_out": plan.left_out,
            "organs": {organ: number for number, organ in enumerate(plan.segmenter.labels, start=1)},
            "means": plain(found.means),
            "comparisons": plain(found.comparisons),
            "rejected": rejected(plan, materials),
            "learning_curves": CURVES,
            "worst": worst_cases(plan, children, found.rows),
            "failures": [asdict(failure) for failure in found.failures],
        },
    )


def gains(comparisons: pd.DataFrame) -> dict[str, float]:
    """What translation adds to Dice, by tracking key: ``gain/out/kidney_dice``, of the arm that has all of it."""
    arm = BY_NAME[SWEPT[0]]
    own = comparisons[(comparisons["arm"] == arm.name) & (comparisons["reference"] == arm.reference)]
    own = own[own["metric"] == "dice"]
    keys = "gain/" + own["test_set"] + "/" + own["organ"] + "_dice"
    return dict(zip(keys, own["mean"], strict=True))


def rejected(plan: BenefitPlan, materials: Sequence[Material]) -> dict[str, list[int]]:
    """By arm with translated images, how many were left out and how many were made, over all subsets."""
    made = [material.translated for material in materials if material.translated]
    counts = [sum(len(each.rejected) for each in made), sum(each.made for each in made)]
    return {arm.name: counts for arm in plan.arms if arm.translates}


def announce(plan: BenefitPlan, console: Console) -> None:
    """Say what is about to happen, and what was chosen on the user's behalf."""
    if plan.phantom:
        console.out("no --data: a study of the built-in phantom, which never stands for a patient", highlight=False)
    if plan.order.quick:
        console.out(QUICK_NOTE, highlight=False)
    for arm, reason in plan.left_out.items():
        console.out(f"left out: {arm}: {reason}", highlight=False)
    fit, split = plan.segmenter.fit, plan.subjects.split
    console.out(
        f"{plan.order.folder}: {len(plan.arms)} arms x {len(plan.order.seeds)} seeds x {len(plan.subsets)} subsets, "
        f"{fit.epochs * fit.iterations_per_epoch} iterations of {fit.batch_size} patches each; "
        f"{plan.labelled_source(0)} labelled {plan.pair.source.name} images, {len(split.test)} test subjects",
        highlight=False,
    )


def parent_run(plan: BenefitPlan, before: Mapping[str, Any]) -> Tracker:
    """The study's own MLflow run: a new one, or the one that was begun."""
    order = plan.order
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=order.pipeline,
        run_name=order.name,
        parameters={"arms": [arm.name for arm in plan.arms], "seeds": list(order.seeds), "subsets": len(plan.subsets)},
        tags={
            "pipeline": order.pipeline,
            "study": KIND,
            "split_hash": plan.subjects.split.hash,
            "data_fingerprint": plan.subjects.labelled.fingerprint(),
            "git_revision": code_revision(),
        },
        run_id=before.get("mlflow_run_id"),
    )


def described(plan: BenefitPlan) -> dict[str, Any]:
    """What a study is, before it has results."""
    return {
        "pipeline": plan.order.pipeline,
        "kind": KIND,
        "split_hash": plan.subjects.split.hash,
        "settings": plan.config.model_dump(mode="json"),
        "segmenter": plan.segmenter.model_dump(mode="json"),
    }


def show(plan: BenefitPlan, found: Benefit, console: Console) -> None:
    """The tables, and which children failed."""
    if not found.rows.empty:
        console.print(render(found.means, found.comparisons, [arm.name for arm in plan.arms], plan.pair.names))
    if plan.order.quick:
        console.print(Text(QUICK_NOTE, style="yellow"))
    for failure in found.failures:
        console.print(Text(f"failed: {failure.child}: {failure.reason}", style="red"))
