"""``medgan segment``: many studies through one segmenter, each label map on its study's voxel grid."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console

from medgan.data.hashes import file_hash
from medgan.data.leaks import TRAINING, training_facts, training_of
from medgan.data.streams import write_text
from medgan.data.studies import Data
from medgan.data.volumes import read_volume
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
from medgan.inference.jobs import MANIFEST, SUMMARY, Job, find_jobs
from medgan.inference.sidecar import as_json, model_origin, write_outputs
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import LABELS_JSON
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.training.model_folder import library_versions, read_model

NOT_FOR_CLINICAL_USE = "Label map by a network, for research. Not for diagnosis."


@dataclass(frozen=True)
class SegmentOrder:
    """What a user asks of ``medgan segment``."""

    input: Data
    """An image, a folder, a DICOM series folder, or a cohort (CSV, folders, BIDS or nnU-Net raw)."""
    output: Path
    """A folder; for one study also a file name that ends in .nii.gz."""
    model: str
    """A segmenter's model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    domain: str | None = None
    """Of a cohort, the domain whose images are segmented; None is the one that the model was trained on."""
    overwrite: bool = False
    force: bool = False
    """Take studies that cannot be of the model's domain all the same."""
    jobs: int = 1
    tracking: str | None = None
    """The MLflow store of a recorded model."""
    device: str = "auto"


def segment(order: SegmentOrder, console: Console) -> ConvertSummary:
    """Segment all studies of an order.

    Raises:
        ConfigError: An output that would overwrite an input or another output; nothing was written.
        InUseError: Another process writes there.
        DataError: There is nothing to segment, or no place for the records.
        ModelError: The model cannot be used.
    """
    started = time.monotonic()
    model = read_model(local_model(order.model, order.tracking), SegmenterDescription)
    domain = order.domain or model.description.config.domain.name
    plan = find_jobs(order.input, order.output, domain, own=(MANIFEST, SUMMARY, LABELS_JSON))
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    batch = SegmentBatch(order, model, conversion_fabric(order.device))
    with alone_with(plan, console):
        outcomes = tuple(shown(batch.run(plan), len(plan.jobs), console, "segmenting"))
        seconds = round(time.monotonic() - started, 3)
        summary = ConvertSummary(outcomes, seconds, str(batch.fabric.device), plan.passed_over, batch.seen)
        show_end(summary, order.output, console, "segmented")
        if plan.folder:
            write_summary(plan.folder / SUMMARY, summary, batch.facts)
            write_text(plan.folder / LABELS_JSON, as_json({"labels": batch.facts["Labels"]}))
    return summary


class SegmentBatch(StudyBatch):
    """The segmentation of many studies with one model.

    Args:
        order: What was asked.
        model: Loaded once.
        fabric: Device and precision.
    """

    def __init__(self, order: SegmentOrder, model: SegmenterModel, fabric: Fabric) -> None:
        super().__init__(order.jobs)
        self.order, self.model, self.fabric = order, model, fabric
        self.facts = segmenter_facts(model)

    def converted(self, job: Job) -> tuple[Status, Sequence[str]]:
        """Segment one study, unless its output is there already; how it ended, and its warnings."""
        facts = self.facts | {"Sources": [job.name], "SourceSHA256": file_hash(job.source)}
        if is_kept(job, facts, overwrite=self.order.overwrite):
            self.seen[job.name] = training_of(job.output)[0]
            return "kept", ()
        volume = read_volume(job.source)
        forced, odd = judged(volume, self.model.description.config.domain, force=self.order.force)
        origin = self.model.description.origin
        facts[TRAINING] = training_facts(volume, origin.trained_on, origin.split_hash)
        with self.computing:
            labels = segment_study(self.model, volume, self.fabric)
        warnings = [*odd, *self._warnings()]
        facts |= {"Warnings": warnings, **forced_facts(forced)}
        write_outputs(job, {job.output: labels}, volume.grid, facts)
        self.seen[job.name] = training_of(job.output)[0]
        return "done", warnings

    def _warnings(self) -> list[str]:
        phantom = self.model.description.origin.phantom
        return ["the model was trained on the built-in phantom, not on patients"] if phantom else []


def segmenter_facts(model: SegmenterModel) -> dict[str, Any]:
    """What the sidecars of one batch share."""
    return {
        "Segmentation": True,
        "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
        "Labels": {str(value): name for value, name in model.description.names.items()},
        "Model": model_origin(model.description),
        "Versions": library_versions(),
    }
