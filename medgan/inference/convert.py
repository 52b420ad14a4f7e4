"""``medgan convert``: studies translated, each output on its input's voxel grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from medgan.data.hashes import file_hash
from medgan.data.sidecars import SUFFIX
from medgan.data.splits import Part, Split
from medgan.data.volumes import Volume
from medgan.errors import ConfigError
from medgan.inference.batch import BatchOrder, ImageBatch, Summary, local_model
from medgan.inference.jobs import Job, MapKind, Plan, cohort_at, find_jobs
from medgan.inference.sidecar import NOT_FOR_CLINICAL_USE, model_origin
from medgan.inference.translate import translate
from medgan.inference.uncertainty import uncertainty, uncertainty_in_words
from medgan.networks.outputs import ChangeOutput
from medgan.training.architecture import Direction, TranslationDescription, TranslationModel
from medgan.training.model_folder import library_versions, read_model


@dataclass(frozen=True)
class ConvertOrder(BatchOrder):
    """What a user asks of ``medgan convert``; the domain follows from the direction."""

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


def convert(order: ConvertOrder, console: Console) -> Summary:
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
        self.scans, self.grid = description.scans.get(self.domain.name), description.grid
        self.trained_on, self.split_hash = description.origin.trained_on, description.origin.split_hash
        samples = order.uncertainty
        self.facts = {
            "Synthetic": True,
            "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
            "Direction": order.direction,
            "Domain": wanted.name,
            "Unit": wanted.unit,
            "Model": model_origin(description),
            "ChangeMap": self._map_in_words() if order.change_map else None,
            "Uncertainty": uncertainty_in_words(self.model, order.direction, samples) if samples else None,
            "Versions": library_versions(),
        } | ({SUFFIX: order.suffix} if order.suffix else {})
        self.compute_with(self.model)

    def plan(self) -> Plan:
        """The studies of INPUT, or of the part of the model's split that is asked for."""
        order = self.order
        maps: dict[MapKind, bool] = {"change": order.change_map, "uncertainty": order.uncertainty is not None}
        return find_jobs(
            order.input,
            order.output,
            self.domain.name,
            pair=self.description.pair.names,
            subjects=subjects_of_part(order, self.model, self.folder, self.console),
            maps=[kind for kind, wanted in maps.items() if wanted],
            suffix=order.suffix,
        )

    def images(self, job: Job, volume: Volume) -> tuple[dict[Path, NDArray[Any]], Sequence[str]]:
        """The translation, and the maps that are asked for."""
        order, samples = self.order, self.order.uncertainty
        spread = None
        with self.device() as (model, fabric):
            found = translate(volume, model, order.direction, fabric, keep_change=order.change_map, use_up=not samples)
            if samples:
                # The same input and model give the same map, whatever else is in the batch.
                seed = (file_hash(job.source), self.description.weights_sha256)
                spread = uncertainty(volume, model, order.direction, fabric, samples=samples, seed=seed)
        images: dict[Path, NDArray[Any]] = {job.output: found.voxels}
        if found.change is not None:  # one that goes only one way is stored as an amount, in the change's own memory
            images[job.map("change")] = np.abs(found.change, out=found.change) if self._one_sided() else found.change
        if spread is not None:
            images[job.map("uncertainty")] = spread
        return images, found.warnings

    def _one_sided(self) -> bool:
        return isinstance(self.generator, ChangeOutput) and self.generator.one_sided

    def _map_in_words(self) -> str:
        """The sign of the change map."""
        if not self._one_sided():
            return "HU, output minus input"
        assert isinstance(self.generator, ChangeOutput)
        return "HU removed, input minus output" if self.generator.sign < 0 else "HU added, output minus input"


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
