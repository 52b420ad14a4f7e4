"""The translator of a study and the labelled images that it draws: training and validation subjects only."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from medgan.benefit.plan import BenefitPlan
from medgan.config import Config, flattened, load
from medgan.data.splits import Split
from medgan.data.studies import Study
from medgan.errors import ConfigError, DataError
from medgan.inference.batch import Outcome, conversion_fabric
from medgan.inference.convert import Batch, ConvertOrder
from medgan.inference.jobs import find_jobs
from medgan.studies.subjects import refuse_other_split
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import CARD, read_description, read_model
from medgan.training.run import Order, train
from medgan.training.run_folder import RunFolder, changed_settings

LabelKeeping = Callable[[Study, Study], float]
"""From a labelled image and its translation, which has the same mask, to how well the labels still fit: 0 to 1."""


@dataclass(frozen=True)
class Translated:
    """Labelled images of the target domain that a translator drew."""

    model: Path
    weights_sha256: str
    train: tuple[Study, ...]
    validation: tuple[Study, ...]
    rejected: Mapping[str, str]
    """Training images that were left out since their labels no longer fit: why, by file name."""

    @property
    def made(self) -> int:
        """Training images before any was left out."""
        return len(self.train) + len(self.rejected)


def translator_run(plan: BenefitPlan, subset: int, parent: str, tracking: str, console: Console) -> Path:
    """The model folder of a subset's translator: the given one, or one that the study trains or goes on training.

    Raises:
        LeakageError: It has seen a test subject.
        MedganError: Whatever keeps the training from its end.
        KeyboardInterrupt: Asked to stop.
    """
    order = plan.order
    if order.model:
        return order.model
    name = f"translator,subset={subset}" if plan.config.retrain_translator else "translator"
    run = RunFolder(order.folder / name)
    seen = plan.subsets[subset] if plan.config.retrain_translator else plan.subjects.split.train
    split = order.folder / f"{name}.split.json"
    plan.subjects.translator_split(seen).save(split)
    started = run.config.exists()
    if started:
        _check_begun(plan, run, Split.load(split))
    if not (run.model / CARD).exists():
        console.out(f"{name}: {'goes on' if started else 'starts'}", highlight=False)
        try:
            train(_training(plan, run, split, started, parent, tracking), console)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"stopped in {name}; the same command goes on from there.") from None
    plan.guard.check_model(Split.load(run.split), run.path)
    return run.model


def _check_begun(plan: BenefitPlan, run: RunFolder, split: Split) -> None:
    """Keep a translator of another study from being taken for this one's."""
    before = Split.load(run.split)
    plan.guard.check_model(before, run.path)
    refuse_other_split(before, split, run.split, plan.guard.tested)
    refuse_other_settings(run, plan.translator.config)


def _training(plan: BenefitPlan, run: RunFolder, split: Path, resume: bool, parent: str, tracking: str) -> Order:
    order = plan.order
    settings = [f"{key}={json.dumps(value)}" for key, value in flattened(plan.config.translator).items()]
    return Order(
        order.pipeline,
        data=plan.subjects.translator_table,
        overrides=() if resume else settings,
        out=order.out,
        name=f"{order.name}/{run.name}",
        resume=resume,
        tracking=tracking,
        device=order.device,
        split=split,
        phantom=plan.phantom,
        parent=parent,
    )


def translate_labelled(
    plan: BenefitPlan, subset: int, model: Path, keeping: LabelKeeping | None, console: Console
) -> Translated:
    """Translate the labelled source images of a subset's training subjects and of the validation subjects.

    Images that are there already are kept, as ``medgan convert`` does.

    Args:
        plan: What the study does.
        subset: Whose subjects.
        model: The translator's model folder.
        keeping: By what training images are judged where the settings have a threshold.
        console: Where is told what was left out.

    Raises:
        DataError: An image that could not be translated, or all of them left out.
        LeakageError: A test subject among them.
    """
    source, target = plan.pair.names
    own = set(plan.subsets[subset])
    sources = [study for study in plan.subjects.with_labels("train", source) if study.subject in own]
    validation = plan.subjects.with_labels("validation", source)
    plan.guard.admit([*sources, *validation], "the translation of training images")
    folder = plan.order.folder / "synthetic" / (f"subset={subset}" if plan.config.retrain_translator else "all")
    made = _converted(plan, [*sources, *validation], model, folder)
    drawn = [Study(each.subject, target, made[each.image], each.mask) for each in (*sources, *validation)]
    kept, rejected = sifted(sources, drawn[: len(sources)], keeping, plan.config.keep_labels_above)
    for name, why in rejected.items():
        console.out(f"left out: the translation of {name}: {why}", highlight=False)
    weights = read_description(model, TranslationDescription).weights_sha256
    return Translated(model, weights, kept, tuple(drawn[len(sources) :]), rejected)


def sifted(
    sources: Sequence[Study], translations: Sequence[Study], keeping: LabelKeeping | None, threshold: float | None
) -> tuple[tuple[Study, ...], dict[str, str]]:
    """The translations that keep their labels, and why the others do not, by file name.

    Args:
        sources: Labelled images.
        translations: Of each its translation.
        keeping: How well labels are kept.
        threshold: Below it a translation is left out; None keeps all.

    Raises:
        DataError: None is left.
    """
    kept: list[Study] = []
    rejected: dict[str, str] = {}
    for source, translation in zip(sources, translations, strict=True):
        score = keeping(source, translation) if keeping and threshold is not None else None
        # Not a number is no label kept, either.
        if score is None or threshold is None or score >= threshold:
            kept.append(translation)
        else:
            rejected[translation.image.name] = f"label-keeping {score:.2f} is below {threshold:g}"
    if not kept:
        raise DataError(
            f"no translation keeps its labels, so there is nothing to train on ({'; '.join(rejected.values())}). "
            "Train a better translator, or ask for less."
        )
    return tuple(kept), rejected


def _converted(plan: BenefitPlan, studies: Sequence[Study], model: Path, folder: Path) -> dict[Path, Path]:
    """From each source image to its translation on disk."""
    order = ConvertOrder(plan.subjects.table, folder, str(model), overwrite=True, device=plan.order.device)
    wanted = {study.image for study in studies}
    found = find_jobs(
        order.input, folder, plan.pair.source.name, pair=plan.pair.names, subjects={study.subject for study in studies}
    )
    jobs = replace(found, jobs=tuple(job for job in found.jobs if job.source in wanted))
    batch = Batch(order, read_model(model, TranslationDescription), conversion_fabric(order.device))
    failed: list[Outcome] = [outcome for outcome in batch.run(jobs) if outcome.status == "failed"]
    if failed:
        reasons = "; ".join(f"{each.input}: {each.message}" for each in failed)
        raise DataError(f"{len(failed)} of {len(jobs.jobs)} images were not translated: {reasons}")
    return {job.source: job.output for job in jobs.jobs}


def refuse_other_settings(run: RunFolder, config: Config) -> None:
    """Keep a run of another study from being taken for this one's.

    Raises:
        ConfigError: The run was begun with other settings than ``config``.
    """
    if not run.config.exists():
        return
    if changed := changed_settings(load(type(config), run.config), config):
        raise ConfigError(
            f"{run.path} was trained with other settings: {changed}. Choose another --name, or put that folder away."
        )
