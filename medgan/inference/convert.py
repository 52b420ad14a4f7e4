"""``medgan convert``: many studies through one model; a bad one is named and never stops the rest."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console

from medgan.data.hashes import file_hash
from medgan.data.leaks import TRAINING, training_facts, training_of
from medgan.data.sidecars import SUFFIX
from medgan.data.splits import Part, Split
from medgan.data.studies import Data
from medgan.data.volumes import Volume, read_volume
from medgan.errors import ConfigError
from medgan.inference.batch import (
    ConvertSummary,
    Status,
    StudyBatch,
    alone_with,
    conversion_fabric,
    forced_facts,
    is_kept,
    judged,
    local_model,
    show_end,
    shown,
    write_summary,
)
from medgan.inference.jobs import SUMMARY, Job, MapKind, cohort_at, find_jobs
from medgan.inference.sidecar import as_map, model_facts, write_outputs
from medgan.inference.translate import translate
from medgan.inference.uncertainty import seed_of, uncertainty
from medgan.networks.outputs import ChangeOutput
from medgan.training.architecture import Direction, TranslationDescription, TranslationModel
from medgan.training.model_folder import read_model


@dataclass(frozen=True)
class ConvertOrder:
    """What a user asks of ``medgan convert``."""

    input: Data
    """An image, a folder, a DICOM series folder, or a cohort (CSV, folders, BIDS or nnU-Net raw)."""
    output: Path
    """A folder; for one study also a file name that ends in .nii.gz."""
    model: str
    """A model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    direction: Direction = "to_target"
    part: Part | None = None
    """Of a cohort, only the subjects of this part of the model's split."""
    split: Path | None = None
    """Where that split is; None is ``split.json`` in the run folder, beside the model folder."""
    change_map: bool = False
    uncertainty: int | None = None
    """Translations of the varied study from which a map of the standard deviation is made; None makes none."""
    suffix: str = ""
    """What the outputs' names have after their inputs'."""
    overwrite: bool = False
    force: bool = False
    """Take studies that cannot be of the model's domain all the same."""
    jobs: int = 1
    """Studies in memory: one is computed while the others are read or written."""
    tracking: str | None = None
    """The MLflow store of a recorded model."""
    device: str = "auto"

    @property
    def maps(self) -> tuple[MapKind, ...]:
        """What is written beside each output."""
        asked: dict[MapKind, bool] = {"change": self.change_map, "uncertainty": self.uncertainty is not None}
        return tuple(kind for kind, wanted in asked.items() if wanted)


def convert(order: ConvertOrder, console: Console) -> ConvertSummary:
    """Convert all studies of an order.

    Raises:
        ConfigError: Something that was asked for contradicts something else; nothing was written.
        InUseError: Another process writes there.
        DataError: There is nothing to convert, or no place for the records.
        ModelError: The model cannot be used.
    """
    started = time.monotonic()
    if order.uncertainty is not None and order.uncertainty < 2:
        raise ConfigError(f"--uncertainty {order.uncertainty}: a standard deviation needs 2 translations or more.")
    folder = local_model(order.model, order.tracking)
    model = read_model(folder, TranslationDescription)
    generator = model.networks[order.direction]
    if order.change_map and not isinstance(generator, ChangeOutput):
        raise ConfigError(f"model '{model.description.name}' draws the image itself and has no map; drop --change-map.")
    plan = find_jobs(
        order.input,
        order.output,
        model.description.domains(order.direction)[0].name,
        pair=model.description.pair.names,
        subjects=subjects_of_part(order, model, folder, console),
        maps=order.maps,
        suffix=order.suffix,
    )
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    batch = Batch(order, model, conversion_fabric(order.device))
    with alone_with(plan, console):
        outcomes = tuple(shown(batch.run(plan), len(plan.jobs), console))
        seconds = round(time.monotonic() - started, 3)
        summary = ConvertSummary(outcomes, seconds, str(batch.fabric.device), plan.passed_over, batch.seen)
        show_end(summary, order.output, console)
        if plan.folder:
            write_summary(plan.folder / SUMMARY, summary, batch.facts)
    return summary


class Batch(StudyBatch):
    """The conversion of many studies with one model.

    Args:
        order: What was asked.
        model: Loaded once.
        fabric: Device and precision.
    """

    def __init__(self, order: ConvertOrder, model: TranslationModel, fabric: Fabric) -> None:
        super().__init__(order.jobs)
        self.order, self.model, self.fabric = order, model, fabric
        self.facts = model_facts(model, order.direction, change_map=order.change_map, uncertainty=order.uncertainty)
        if order.suffix:
            self.facts[SUFFIX] = order.suffix

    def converted(self, job: Job) -> tuple[Status, Sequence[str]]:
        """Convert one study, unless its output is there already; how it ended, and its warnings."""
        facts = self.facts | {"Sources": [job.name], "SourceSHA256": file_hash(job.source)}
        if is_kept(job, facts, overwrite=self.order.overwrite):
            self.seen[job.name] = training_of(job.output)[0]
            return "kept", ()
        volume = read_volume(job.source)
        description, given = self.model.description, self.model.description.domains(self.order.direction)[0]
        scans = description.scans.get(given.name)
        forced, odd = judged(volume, given, force=self.order.force, scans=scans, grid=description.grid)
        facts[TRAINING] = training_facts(volume, description.origin.trained_on, description.origin.split_hash)
        with self.computing:
            keep, last = self.order.change_map, not self.order.uncertainty
            found = translate(volume, self.model, self.order.direction, self.fabric, keep_change=keep, use_up=last)
            spread = self._spread(volume, facts) if self.order.uncertainty else None
        images = {job.output: found.voxels}
        if found.change is not None:
            images[job.map("change")] = as_map(found.change, self.model, self.order.direction)
        if spread is not None:
            images[job.map("uncertainty")] = spread
        warnings, grid = (*odd, *found.warnings), volume.grid
        del volume, found, spread  # of the study's memory only what is written is still needed
        write_outputs(job, images, grid, facts | {"Warnings": list(warnings), **forced_facts(forced)})
        self.seen[job.name] = training_of(job.output)[0]
        return "done", warnings

    def _spread(self, volume: Volume, facts: dict[str, object]) -> NDArray[np.float32]:
        """How unsure the model is; the same input and model give the same map, whatever else is in the batch."""
        assert self.order.uncertainty
        seed = seed_of(str(facts["SourceSHA256"]), self.model.description.weights_sha256)
        return uncertainty(
            volume, self.model, self.order.direction, self.fabric, samples=self.order.uncertainty, seed=seed
        )


def subjects_of_part(
    order: ConvertOrder, model: TranslationModel, folder: Path, console: Console
) -> tuple[str, ...] | None:
    """Who is converted: the subjects of a part of the split that the model was trained on, or everyone (None).

    Raises:
        ConfigError: A part of what does not say whose its images are, or without the model's own split.
        LeakageError: Of the test part, images that the model was trained on under another subject's name.
    """
    if order.part is None:
        if order.split:
            raise ConfigError("--split says nothing without --part; add --part test, or leave it out.")
        return None
    cohort = cohort_at(order.input, model.description.pair.names)
    if cohort is None:
        raise ConfigError(
            f"--part {order.part} needs to know subjects; give a cohort as INPUT: a CSV, folders of two domains, BIDS "
            "or nnU-Net raw."
        )
    path = order.split or folder.parent / "split.json"
    if not path.is_file():
        raise ConfigError(f"--part {order.part}: there is no split at {path}; give the run's with --split.")
    split = Split.load(path)
    if split.hash != model.description.origin.split_hash:
        raise ConfigError(
            f"{path} is not the split that the model was trained on, so it cannot tell whom the model has never seen; "
            "give the split.json of the model's own run."
        )
    if split.unchecked:
        console.print(split.unchecked, highlight=False, markup=False)
    if order.part == "test":
        domain = model.description.domains(order.direction)[0].name
        split.refuse_twins()
        split.refuse_trained(split.part(cohort, "test").of_domain(domain))
    subjects: tuple[str, ...] = getattr(split, order.part)
    return subjects
