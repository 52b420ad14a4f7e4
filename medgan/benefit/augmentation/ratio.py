"""How many synthetic cases for a real one: swept for each size and method, and chosen by validation subjects alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from medgan.benefit.augmentation.arms import BY_NAME, Arm, ArmName, Method, swept
from medgan.benefit.augmentation.children import check_identity, run_child
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.benefit.augmentation.tasks import Task, child_of
from medgan.benefit.failures import Failure
from medgan.benefit.pool import run_tasks
from medgan.benefit.ratio import best


@dataclass(frozen=True)
class Sweep:
    """The chosen ratio of a method at a size, and what it was chosen by."""

    size: int
    method: Method
    ratio_percent: int
    arm: ArmName | None
    """The arm that was swept; None where there was nothing to choose."""
    val_dice: Mapping[int, float]
    """Mean validation Dice over seeds by ratio; 0 is the arm without anything synthetic."""


def choose_ratios(
    plan: AugmentationPlan,
    size: int,
    ready: Mapping[Method, Sequence[Draw]],
    parent: str,
    tracking: str,
    console: Console,
) -> tuple[list[Sweep], tuple[Failure, ...]]:
    """Train each method's swept arm with every ratio and seed, and take the best mean; no test subject is touched.

    The children with the chosen ratio are the study's own: they are trained once.

    Args:
        plan: What the study does.
        size: Training subjects.
        ready: The draws of which each method's cases are there.
        parent: The MLflow run of the study.
        tracking: Where that is.
        console: Where it is told what was chosen.

    Returns:
        What was chosen, and which methods have no choice because none of their ratios could be trained.

    Raises:
        KeyboardInterrupt: Asked to stop.
    """
    if len(plan.config.ratios_percent) < 2:
        return [Sweep(size, method, plan.config.ratios[0], None, {}) for method in ready], ()
    tried = {
        method: _tried(plan, swept(method, plan.config.arms), draws, parent, tracking)
        for method, draws in ready.items()
    }
    # The arm without synthetic cases is the same for several methods, and is trained once.
    once = {task.child.folder: task for ratios in tried.values() for tasks in ratios.values() for task in tasks}
    for task in once.values():
        check_identity(task)
    failures = run_tasks(list(once.values()), run_child, plan.order.jobs, console)
    reasons = "; ".join(f"{failure.child}: {failure.reason}" for failure in failures)
    sweeps = {method: _chosen(plan, size, method, ratios, console) for method, ratios in tried.items()}
    lost = tuple(
        Failure(f"{method},n={size}", f"none of its ratios could be trained: {reasons}")
        for method, sweep in sweeps.items()
        if sweep is None
    )
    return [sweep for sweep in sweeps.values() if sweep], lost


def _tried(
    plan: AugmentationPlan, arm: Arm, draws: Sequence[Draw], parent: str, tracking: str
) -> dict[int, list[Task]]:
    """The children of each ratio, one a seed."""
    arms = dict.fromkeys(plan.config.ratios, arm)
    if 0 in plan.config.ratios_percent and arm.reference in plan.config.arms:
        arms = {0: BY_NAME[arm.reference]} | arms
    return {
        ratio: [Task(plan, child_of(plan, one, draw, ratio), parent, tracking, test=False) for draw in draws]
        for ratio, one in arms.items()
    }


def _chosen(
    plan: AugmentationPlan,
    size: int,
    method: Method,
    tried: Mapping[int, Sequence[Task]],
    console: Console,
) -> Sweep | None:
    """The ratio above 0 with the best mean over seeds; one that failed with a seed is no choice. None where all did."""
    scores = {
        ratio: float(np.mean([task.child.score for task in tasks]))
        for ratio, tasks in tried.items()
        if all(task.child.trained for task in tasks)
    }
    if not any(scores):
        return None
    ratio = best(scores)
    told = ", ".join(f"{each} % {score:.4f}" for each, score in scores.items())
    console.out(f"n={size} {method}: ratio {ratio} %, by validation Dice ({told})", highlight=False)
    return Sweep(size, method, ratio, swept(method, plan.config.arms).name, scores)
