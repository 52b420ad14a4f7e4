"""A segmenter of a benefit study and all that a process must know to bring it to its end."""

from dataclasses import dataclass
from pathlib import Path

from medgan.benefit.arms import Arm
from medgan.benefit.material import Material
from medgan.benefit.plan import BenefitPlan
from medgan.benefit.segmenters import SegmenterChild
from medgan.data.studies import Study
from medgan.segmentation.settings import SegmenterConfig


@dataclass(frozen=True)
class Child(SegmenterChild):
    """One segmenter: an arm with a seed, a subset of subjects and a ratio."""

    arm: Arm
    seed: int
    subset: int
    ratio_percent: int
    """Extra images for a hundred real ones; 0 where the arm has none."""
    folder: Path

    @property
    def facts(self) -> dict[str, str | int]:
        """Its arm, seed, subset and ratio."""
        return {"arm": self.arm.name, "seed": self.seed, "subset": self.subset, "ratio_percent": self.ratio_percent}


def child_of(plan: BenefitPlan, arm: Arm, *, seed: int, subset: int, ratio_percent: int) -> Child:
    """The child of a plan, and its folder."""
    ratio = ratio_percent if arm.extra else 0
    parts = [arm.name, *([f"ratio={ratio}"] if ratio else []), f"seed={seed}", f"subset={subset}"]
    return Child(arm, seed, subset, ratio, plan.order.folder / ",".join(parts))


@dataclass(frozen=True)
class Task:
    """All that a process must know to bring a child to its end."""

    plan: BenefitPlan
    child: Child
    material: Material
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
        return self.material.train[self.child.arm.images]

    @property
    def extra(self) -> tuple[Study, ...]:
        """Labelled images for the extra share of patches."""
        return self.material.train[self.child.arm.extra] if self.child.arm.extra else ()

    @property
    def validation(self) -> tuple[Study, ...]:
        """What chooses the epoch."""
        return self.material.validates(self.child.arm)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.child.finished or (self.child.trained and not self.test)
