"""``medgan convert``: studies translated, each output on its input's voxel grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from medgan.data.hashes import file_hash
from medgan.data.splits import Part, Split
from medgan.data.studies import SUFFIX_KEY, Cohort
from medgan.data.volumes import Volume
from medgan.errors import ConfigError
from medgan.inference.batch import BatchOrder, BatchSummary, ImageBatch, local_model
from medgan.inference.jobs import (
    NOT_FOR_CLINICAL_USE,
    Job,
    MapKind,
    Plan,
    cohort_at,
    find_jobs,
    model_origin,
    strength_fact,
)
from medgan.inference.translate import check_strength, translate
from medgan.inference.uncertainty import uncertainty, uncertainty_in_words
from medgan.networks.outputs import ChangeOutput
from medgan.training.architecture import Direction, TranslationDescription, TranslationModel
from medgan.training.model_folder import library_versions, read_model

SIGNS = {0: "HU, output minus input", -1: "HU removed, input minus output", 1: "HU added, output minus input"}
"""What a change map holds, by the way that all changes go."""


@dataclass(frozen=True)
class ConvertOrder(BatchOrder):
    """What a user asks of ``medgan convert``; the domain follows from the direction."""

    direction: Direction = "to_target"
    part: Part | None = None
    """Of a cohort, only the subjects of this part of the model's split."""
    split: Path | None = None
    """Where that split is; None is ``split.json`` in the run folder, beside the model folder."""
    strength: float = 1.0
    """Share of a one-sided change that is added, 0 (the input) to 1.2."""
    change_map: bool = False
    uncertainty: int | None = None
    """Translations of the varied study from which a map of the standard deviation is made; None makes none."""
    suffix: str = ""
    """What the outputs' names have after their inputs'."""


def convert(order: ConvertOrder, console: Console) -> BatchSummary:
    """Convert all studies of an order.

    Raises:
        ConfigError: Something that was asked for contradicts something else; nothing was written.
        InUseError: Another process writes there.
        DataError: There is nothing to convert, or no place for the records.
        ModelError: The model cannot be used.
    """
    return Conversion(order, console).complete()


class Conversion(ImageBatch[TranslationModel]):
    """The conversion of many studies with one model; raises what :func:`convert` raises."""

    order: ConvertOrder

    def __init__(self, order: ConvertOrder, console: Console) -> None:
        super().__init__(order, console)
        if order.uncertainty is not None and order.uncertainty < 2:
            raise ConfigError(f"--uncertainty {order.uncertainty}: a standard deviation needs 2 translations or more.")
        self.folder = local_model(order.model, order.tracking)
        self.model = read_model(self.folder, TranslationDescription)
        self.description = description = self.model.description
        self.domain, wanted = description.domains(order.direction)
        self.generator = self.model.networks[order.direction]
        if order.change_map and not isinstance(self.generator, ChangeOutput):
            raise ConfigError(f"model '{description.name}' draws the image itself and has no map; drop --change-map.")
        check_strength(order.strength, self.model, order.direction)
        self.scans, self.grid = description.scans.get(self.domain.name), description.grid
        self.trained_on, self.split_hash = description.origin.trained_on, description.origin.split_hash
        samples = order.uncertainty
        self.facts = (
            {
                "Synthetic": True,
                "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
                "Direction": order.direction,
                "Domain": wanted.name,
                "Unit": wanted.unit,
                "Model": model_origin(description),
                "ChangeMap": SIGNS[self._sign] if order.change_map else None,
                "Uncertainty": uncertainty_in_words(self.model, order.direction, samples) if samples else None,
                "Versions": library_versions(),
            }
            | ({SUFFIX_KEY: order.suffix} if order.suffix else {})
            | strength_fact(order.strength)
        )
        self.compute_with(self.model)

    def plan(self) -> Plan:
        """The studies of INPUT, or of the part of the model's split that is asked for."""
        order, names = self.order, self.description.pair.names
        if order.split and order.part is None:
            raise ConfigError("--split says nothing without --part; add --part test, or leave it out.")
        cohort = cohort_at(order.input, names) if order.part else None
        maps: dict[MapKind, bool] = {"change": order.change_map, "uncertainty": order.uncertainty is not None}
        return find_jobs(
            order.input,
            order.output,
            self.domain.name,
            pair=names,
            subjects=self._subjects(order.part, cohort) if order.part else None,
            cohort=cohort,
            maps=[kind for kind, wanted in maps.items() if wanted],
            suffix=order.suffix,
        )

    def _subjects(self, part: Part, cohort: Cohort | None) -> tuple[str, ...]:
        """Who is in a part of the split that the model was trained on.

        Raises:
            ConfigError: INPUT does not say whose its images are, or there is no split of the model's own.
            LeakageError: Of the test part, images that the model was trained on under another subject's name.
        """
        if cohort is None:
            raise ConfigError(
                f"--part {part} needs to know subjects; give a cohort as INPUT: a CSV, folders of two domains, BIDS "
                "or nnU-Net raw."
            )
        path = self.order.split or self.folder.parent / "split.json"
        if not path.is_file():
            raise ConfigError(f"--part {part}: there is no split at {path}; give the run's with --split.")
        split = Split.load(path)
        if split.hash != self.split_hash:
            raise ConfigError(
                f"{path} is not the split that the model was trained on, so it cannot tell whom the model has never "
                "seen; give the split.json of the model's own run."
            )
        if split.unchecked:
            self.console.print(split.unchecked, highlight=False, markup=False)
        if part == "test":
            split.refuse_twins()
            split.refuse_trained(split.part(cohort, "test").of_domain(self.domain.name))
        subjects: tuple[str, ...] = getattr(split, part)
        return subjects

    def images(self, job: Job, volume: Volume) -> tuple[dict[Path, NDArray[Any]], Sequence[str]]:
        """The translation, and the maps that are asked for."""
        order, samples, strength = self.order, self.order.uncertainty, self.strength(job)
        spread = None
        with self.device() as (model, fabric):
            translation = translate(
                volume, model, order.direction, fabric,
                strength=strength, keep_change=order.change_map, use_up=not samples,
            )  # fmt: skip
            if samples:
                # The same input and model give the same map, whatever else is in the batch.
                seed = (file_hash(job.source), self.description.weights_sha256)
                spread = uncertainty(
                    volume, model, order.direction, fabric, samples=samples, seed=seed, strength=strength
                )
        images: dict[Path, NDArray[Any]] = {job.output: translation.voxels}
        if (
            translation.change is not None
        ):  # one that goes only one way is stored as an amount, in the change's own memory
            images[job.map("change")] = (
                np.abs(translation.change, out=translation.change) if self._sign else translation.change
            )
        if spread is not None:
            images[job.map("uncertainty")] = spread
        return images, translation.warnings

    def strength(self, job: Job) -> float:
        """The share of the change that a study gets."""
        del job
        return self.order.strength

    @property
    def _sign(self) -> int:
        """Which way all changes go; 0 where they may go either way."""
        generator = self.generator
        return generator.sign if isinstance(generator, ChangeOutput) and generator.one_sided else 0
