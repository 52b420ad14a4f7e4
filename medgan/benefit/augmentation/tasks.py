"""A segmenter of a study of augmentation and all that a process must know to bring it to its end."""

from dataclasses import dataclass
from pathlib import Path

from medgan.benefit.augmentation.arms import Arm, Method
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.benefit.segmenters import SegmenterChild
from medgan.data.studies import Study
from medgan.segmentation.settings import SegmenterConfig

SEGMENTERS, GENERATORS, CASES = "segmenters", "generators", "cases"
"""Folders of a study."""


@dataclass(frozen=True)
class Child(SegmenterChild):
    """One segmenter: an arm on a draw of subjects with a ratio."""

    arm: Arm
    draw: Draw
    ratio_percent: int
    """Synthetic cases for a hundred real ones; 0 where the arm has none."""
    folder: Path

    @property
    def facts(self) -> dict[str, str | int]:
        """Its arm, size, seed and ratio."""
        size, seed = self.draw.size, self.draw.seed
        return {"arm": self.arm.name, "size": size, "seed": seed, "ratio_percent": self.ratio_percent}


def child_of(plan: AugmentationPlan, arm: Arm, draw: Draw, ratio_percent: int) -> Child:
    """The child of a plan, and its folder."""
    ratio = ratio_percent if arm.method else 0
    parts = [arm.name, *([f"ratio={ratio}"] if ratio else []), draw.name]
    return Child(arm, draw, ratio, plan.order.folder / SEGMENTERS / ",".join(parts))


def cases_folder(plan: AugmentationPlan, method: Method, draw: Draw) -> Path:
    """Where the synthetic cases of a method and a draw lie."""
    return plan.order.folder / CASES / f"{method},{draw.name}"


def generator_folder(plan: AugmentationPlan, draw: Draw) -> Path:
    """Where the generator of a draw is trained."""
    return plan.order.folder / GENERATORS / draw.name


@dataclass(frozen=True)
class Task:
    """All that a process must know to bring a child to its end."""

    plan: AugmentationPlan
    child: Child
    parent: str
    """The MLflow run of the study."""
    tracking: str
    test: bool = True
    """Whether the test subjects are segmented, too; the ratio is chosen without them."""

    @property
    def config(self) -> SegmenterConfig:
        """The segmenter's settings in this arm."""
        augmentation = "standard" if self.child.arm.standard else "none"
        return self.plan.segmenter.model_copy(update={"augmentation": augmentation})

    @property
    def studies(self) -> tuple[Study, ...]:
        """Labelled images to learn from."""
        return self.plan.studies(self.child.draw)

    @property
    def extra(self) -> Path | None:
        """Where the synthetic cases lie; None where the arm has none."""
        arm = self.child.arm
        return cases_folder(self.plan, arm.method, self.child.draw) if arm.method else None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.child.finished or (self.child.trained and not self.test)
