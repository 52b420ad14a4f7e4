"""Labelled images of every kind for one subset, all on disk, so that each segmenter reads the same in any process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from medgan.benefit.arms import Arm, Kind
from medgan.benefit.plan import BenefitPlan
from medgan.benefit.translated import LabelKeeping, Translated, translate_labelled, translator_run
from medgan.data.studies import Study
from medgan.studies.copies import matched_copies, shuffled_masks


@dataclass(frozen=True)
class Material:
    """What the segmenters of a subset are trained and validated on."""

    train: Mapping[Kind, tuple[Study, ...]]
    """Labelled training images; kinds that no arm needs are not there."""
    validation: tuple[Study, ...]
    """Of every arm that learns from source labels: source images, and their translations where there is a translator.
    No target label chooses anything."""
    target_validation: tuple[Study, ...]
    """Of the oracle: labelled target images."""
    translated: Translated | None

    def validates(self, arm: Arm) -> tuple[Study, ...]:
        """What chooses the epoch of an arm."""
        return self.target_validation if arm.images == "target" else self.validation


def gather_material(
    plan: BenefitPlan, subset: int, parent: str, tracking: str, keeping: LabelKeeping | None, console: Console
) -> Material:
    """Make what is not made yet: the translator, its images, the matched ones, the masks of others.

    Args:
        plan: What the study does.
        subset: Which training subjects.
        parent: The MLflow run of the study.
        tracking: Where that is.
        keeping: By what translations are judged; see ``translate_labelled``.
        console: Where it is told what happens.

    Raises:
        LeakageError: A test subject among any of them.
        MedganError: Whatever keeps them from being made.
    """
    own, kinds = set(plan.subsets[subset]), {kind for arm in plan.arms for kind in arm.kinds}
    real, other = (
        tuple(each for each in plan.subjects.with_labels("train", name) if each.subject in own)
        for name in plan.pair.names
    )
    train: dict[Kind, tuple[Study, ...]] = {"source": real, "target": other}
    translated = None
    if any(arm.translates for arm in plan.arms):
        model = translator_run(plan, subset, parent, tracking, console)
        translated = translate_labelled(plan, subset, model, keeping, console)
        train["synthetic"] = translated.train
    folder = plan.order.folder / "copies" / f"subset={subset}"
    if "shuffled" in kinds and translated:
        train["shuffled"] = shuffled_masks(translated.train, folder / "shuffled")
    if "matched" in kinds:
        train["matched"] = _matched(plan, subset, real, folder / "matched")
    for kind, studies in train.items():
        plan.guard.admit(studies, f"the {kind} training images")
    validation, target_validation = (plan.subjects.with_labels("validation", name) for name in plan.pair.names)
    validation += translated.validation if translated else ()
    plan.guard.admit([*validation, *target_validation], "the validation")
    needed = {kind: studies for kind, studies in train.items() if kind in kinds}
    return Material(needed, validation, target_validation, translated)


def _matched(plan: BenefitPlan, subset: int, real: tuple[Study, ...], folder: Path) -> tuple[Study, ...]:
    """Copies of the labelled images; references are the target images that a translator would see, labelled or not."""
    own = set(plan.subsets[subset] if plan.config.retrain_translator else plan.subjects.split.train)
    targets = plan.subjects.translated.of_domain(plan.pair.target.name).studies
    references = plan.guard.admit([each for each in targets if each.subject in own], "histogram matching")
    return matched_copies(real, references, plan.pair.source, plan.pair.target, folder)
