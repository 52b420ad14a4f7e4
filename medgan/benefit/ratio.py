"""How many extra images for a real one: swept with one seed, and chosen by validation subjects alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from medgan.benefit.arms import BY_NAME, ArmName
from medgan.benefit.children import run_child
from medgan.benefit.failures import Failure
from medgan.benefit.material import Material
from medgan.benefit.plan import BenefitPlan
from medgan.benefit.pool import run_tasks
from medgan.benefit.tasks import Task, child_of
from medgan.errors import TrainingError


@dataclass(frozen=True)
class Sweep:
    """The chosen ratio and what it was chosen by."""

    ratio_percent: int
    arm: ArmName | None
    """The arm that was swept; None where there was nothing to choose."""
    val_dice: Mapping[int, float]
    """Mean validation Dice by ratio; 0 is the arm without anything extra."""


def choose_ratio(plan: BenefitPlan, material: Material, parent: str, tracking: str, console: Console) -> Sweep:
    """Train the swept arm with every ratio, look at validation, and take the best above 0; no test subject is touched.

    The child with the chosen ratio is the study's own: it is trained once.

    Raises:
        TrainingError: No ratio could be trained.
        KeyboardInterrupt: Asked to stop.
    """
    ratios, swept = plan.config.ratios, plan.swept
    if swept is None:
        return Sweep(ratios[0], None, {})
    tasks = {ratio: _task(plan, material, swept.name, ratio, parent, tracking) for ratio in ratios}
    if 0 in plan.config.ratios_percent and swept.reference in {arm.name for arm in plan.arms}:
        tasks[0] = _task(plan, material, swept.reference, 0, parent, tracking)
    console.out(f"ratio of extra to real images: trying {_listed(sorted(tasks))} with {swept.name}", highlight=False)
    failures = run_tasks([tasks[ratio] for ratio in sorted(tasks)], run_child, plan.order.jobs, console)
    scores = {ratio: task.child.score for ratio, task in sorted(tasks.items()) if task.child.trained}
    if not any(scores):
        raise TrainingError(f"no ratio could be trained: {_reasons(failures)}")
    chosen = best(scores)
    told = ", ".join(f"{ratio} % {score:.4f}" for ratio, score in scores.items())
    console.out(f"ratio: {chosen} %, by validation Dice ({told})", highlight=False)
    return Sweep(chosen, swept.name, scores)


def best(scores: Mapping[int, float]) -> int:
    """The ratio above 0 with the highest score; of equal ones the lowest."""
    return min((ratio for ratio in scores if ratio), key=lambda ratio: (-scores[ratio], ratio))


def _task(plan: BenefitPlan, material: Material, arm: ArmName | None, ratio: int, parent: str, tracking: str) -> Task:
    assert arm is not None
    child = child_of(plan, BY_NAME[arm], seed=plan.order.seeds[0], subset=0, ratio_percent=ratio)
    return Task(plan, child, material, parent, tracking, test=False)


def _listed(ratios: Sequence[int]) -> str:
    return ", ".join(f"{ratio} %" for ratio in ratios)


def _reasons(failures: Sequence[Failure]) -> str:
    return "; ".join(f"{failure.child}: {failure.reason}" for failure in failures)
