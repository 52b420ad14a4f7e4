"""A segmenter of a benefit study and all that a process must know to bring it to its end."""

from dataclasses import dataclass
from pathlib import Path

from medgan.benefit.arms import Arm
from medgan.benefit.material import Material
from medgan.benefit.plan import BenefitPlan
from medgan.data.studies import Study
from medgan.evaluation.segmentation import METRICS
from medgan.segmentation.settings import SegmenterConfig
from medgan.study.records import read_json

IDENTITY, SCORE, FIGURES = "child.json", "validation.json", "rows.csv"
"""In a child's folder: what it is, from its beginning; what validation said, when it is trained; what it found in the
test subjects, when it is finished."""


def has_figures(folder: Path) -> bool:
    """Whether a child's test subjects were judged by every metric there is; if not, they are to be judged again.

    A study that goes on may have been begun when there were fewer.
    """
    path = folder / FIGURES
    if not path.is_file():
        return False
    with path.open(encoding="utf-8") as stream:
        return set(METRICS) <= set(stream.readline().rstrip("\n").split(","))


@dataclass(frozen=True)
class Child:
    """One segmenter: an arm with a seed, a subset of subjects and a ratio."""

    arm: Arm
    seed: int
    subset: int
    ratio_percent: int
    """Extra images for a hundred real ones; 0 where the arm has none."""
    folder: Path

    @property
    def name(self) -> str:
        """How people and folders call it."""
        return self.folder.name

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return (self.folder / SCORE).is_file()

    @property
    def finished(self) -> bool:
        """Whether its figures are there."""
        return has_figures(self.folder)

    @property
    def score(self) -> float:
        """Mean Dice of the validation subjects, of a child that is trained."""
        return float(read_json(self.folder / SCORE)["val_dice"])

    @property
    def outcome(self) -> str:
        """What is said of it when it has ended."""
        return f"validation Dice {self.score:.3f}"


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
