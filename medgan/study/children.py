"""One child of a study from wherever it was left to its figures: trained, converted, judged, each step once."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console

from medgan.data.studies import Location
from medgan.errors import DataError, LeakageError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import KEYS, Evaluation, evaluate
from medgan.evaluation.judging import Modalities
from medgan.evaluation.seen import named_briefly
from medgan.inference.convert import ConvertOrder, convert
from medgan.study.failures import Failure, failure_of
from medgan.study.plan import Child, Plan, StudyOrder
from medgan.tracking import add_metrics
from medgan.training.run import Order, train

CONVERTED, JUDGED = "test", "evaluation"
"""Folders in a child's run folder; the second appears when the child is finished."""


def run_children(order: StudyOrder, plan: Plan, parent: str, tracking: str, console: Console) -> tuple[Failure, ...]:
    """Bring every child to its end; one that fails is named, and does not stop the others.

    Args:
        order: What was asked.
        plan: What that means.
        parent: The MLflow run of the study.
        tracking: Where that is.
        console: Where it is told how far the study is.

    Raises:
        LeakageError: A child has seen, or would see, who is tested.
        KeyboardInterrupt: Asked to stop.
    """
    failures = []
    for number, child in enumerate(plan.children, 1):
        place = f"{number}/{len(plan.children)} {child.name}"
        if is_finished(child):
            console.out(f"{place}: finished before", highlight=False)
            continue
        console.out(f"{place}: {'goes on' if child.run.config.exists() else 'starts'}", highlight=False)
        try:
            finish(order, plan, child, parent, tracking, console)
        except (Exception, KeyboardInterrupt) as error:
            failures.append(failure_of(child.name, error))
            console.out(f"{place}: failed: {failures[-1].reason}", highlight=False)
    return tuple(failures)


def is_finished(child: Child) -> bool:
    """Whether its figures are there; the plan has made sure that they are of these settings and this split."""
    return (child.run.path / JUDGED / "evaluation.csv").is_file()


def finish(order: StudyOrder, plan: Plan, child: Child, parent: str, tracking: str, console: Console) -> None:
    """Train, convert the test subjects and judge them against the cohort.

    Raises:
        LeakageError: It was trained on another split, or is judged on whom it was trained on.
        MedganError: Whatever else keeps the child from its figures.
        KeyboardInterrupt: Asked to stop.
    """
    train(child_order(order, plan, child, parent, tracking), console)
    facts = child.run.facts()
    if facts["split_hash"] != plan.split_hash:
        raise LeakageError(
            f"{child.run.path} was trained on another split than the study's and may have seen who is tested now; put "
            "that folder away."
        )
    asked = ConvertOrder(
        plan.table, child.run.path / CONVERTED, str(child.run.model), part="test", overwrite=True, device=order.device
    )
    done = convert(asked, Console(quiet=True))
    if done.failed:
        failed = "; ".join(f"{each.input}: {each.message}" for each in done.outcomes if each.status == "failed")
        raise DataError(f"{done.failed} of {len(done.outcomes)} test images were not converted: {failed}")
    found = judged(plan, child)
    for failure in found.failures:
        console.out(f"{child.name}: not judged: {failure.image}: {failure.reason}", highlight=False)
    own = found.summary[found.summary["arm"] == SYNTHETIC]
    means = {f"test/{metric}": mean for metric, mean in zip(own["metric"], own["mean"], strict=True)}
    add_metrics(tracking, facts["mlflow_run_id"], means)
    # The folder of figures comes last: a child that has it is finished.
    _unfinished(child).rename(child.run.path / JUDGED)


def child_order(order: StudyOrder, plan: Plan, child: Child, parent: str, tracking: str) -> Order:
    """The training of a child: a new one, or the one that was begun, as it was configured then."""
    resume = child.run.config.exists()
    return Order(
        order.pipeline,
        data=plan.table,
        config=None if resume else order.config,
        overrides=() if resume else [*order.overrides, *child.cell.settings, f"seed={child.seed}"],
        out=order.out,
        name=f"{order.name}/{child.run.name}",
        resume=resume,
        tracking=tracking,
        device=order.device,
        split=plan.split,
        phantom=plan.phantom,
        parent=parent,
    )


def judged(plan: Plan, child: Child) -> Evaluation:
    """The converted test subjects against the cohort: their own target images where it has them, else others'.

    Raises:
        LeakageError: The child's model has seen one of them, as the outputs say.
        DataError: None of them could be judged.
    """
    pair = child.pipeline.pair
    source, target = pair.names
    found = evaluate(
        child.run.path / CONVERTED,
        f"{plan.table}:{target}",
        _unfinished(child),
        source=f"{plan.table}:{source}",
        options=Location.of(plan.table).options,
        modalities=Modalities(pair.source.modality, pair.target.modality),
    )
    if found.who.subjects:
        raise LeakageError(
            f"{child.run.path} has seen who is tested: {named_briefly(sorted(found.who.subjects))}. Correct the cohort "
            "or its split."
        )
    if found.rows.empty:
        raise DataError("; ".join(failure.reason for failure in found.failures))
    return found


def _unfinished(child: Child) -> Path:
    return child.run.path / f".{JUDGED}.part"


def read_rows(children: tuple[Child, ...]) -> pd.DataFrame:
    """The figures of all finished children: ``cell, seed``, ``KEYS``, then the metrics, a row an image and arm."""
    frames = list(_frames(children))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["cell", "seed", *KEYS])


def _frames(children: tuple[Child, ...]) -> Iterator[pd.DataFrame]:
    for child in filter(is_finished, children):
        # Text first: a subject called NA or 007 stays one.
        frame = pd.read_csv(child.run.path / JUDGED / "evaluation.csv", dtype=str, keep_default_na=False)
        figures = frame.columns.difference(KEYS, sort=False)
        frame[figures] = frame[figures].apply(pd.to_numeric)
        frame.insert(0, "cell", child.cell.name)
        frame.insert(1, "seed", child.seed)
        yield frame
