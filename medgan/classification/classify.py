"""``medgan classify``: many images through one classifier, one table of what each holds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from rich.console import Console

from medgan.classification.apply import Classified, classify_volume
from medgan.classification.settings import ClassifierDescription, ClassifierModel
from medgan.classification.table import TABLE, ClassTable
from medgan.data.hashes import file_hash
from medgan.data.leaks import this_image
from medgan.data.studies import Data
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError
from medgan.inference.batch import (
    ConvertSummary,
    Status,
    StudyBatch,
    conversion_fabric,
    judged,
    local_model,
    show_end,
    shown,
    write_summary,
)
from medgan.inference.jobs import SUMMARY, Job, Plan, find_inputs
from medgan.inference.sidecar import model_origin
from medgan.text import record_name
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import library_versions, read_model

NOT_FOR_CLINICAL_USE = "Classes by a network, for research. Not for diagnosis."
RULE = "an image is what the patch is that is least likely healthy; patches of the trained size, overlapping by half"


@dataclass(frozen=True)
class ClassifyOrder:
    """What a user asks of ``medgan classify``."""

    input: Data
    """An image, a folder, a DICOM series folder, or a cohort (CSV, folders, BIDS or nnU-Net raw)."""
    output: Path
    """A folder."""
    model: str
    """A classifier's model folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``."""
    domain: str | None = None
    """Of a cohort, the domain whose images are classified; None is the one that the model was trained on."""
    overwrite: bool = False
    force: bool = False
    """Take studies that cannot be of the model's domain all the same."""
    jobs: int = 1
    tracking: str | None = None
    """The MLflow store of a recorded model."""
    device: str = "auto"


def classify(order: ClassifyOrder, console: Console) -> ConvertSummary:
    """Classify all images of an order; the table is written at the end, also of a batch that is stopped.

    Raises:
        InUseError: Another process is in the output folder.
        ConfigError: An output that is no folder or the input's; nothing was written.
        DataError: There is nothing to classify, no place for the table, or another table in its place.
        ModelError: The model cannot be used.
    """
    started = time.monotonic()
    model = read_model(local_model(order.model, order.tracking), ClassifierDescription)
    plan = _plan(order, model)
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    facts = classifier_facts(model)
    with alone_in(order.output, console):
        table = ClassTable(order.output, model.description.config.classes, facts, overwrite=order.overwrite)
        batch = ClassifyBatch(order, model, conversion_fabric(order.device), table)
        try:
            outcomes = tuple(shown(batch.run(plan), len(plan.jobs), console, "classifying"))
        finally:
            table.write()
        seconds = round(time.monotonic() - started, 3)
        summary = ConvertSummary(outcomes, seconds, str(batch.fabric.device), plan.passed_over, batch.seen)
        show_end(summary, order.output / TABLE, console, "classified")
        write_summary(order.output / SUMMARY, summary, facts)
    return summary


class ClassifyBatch(StudyBatch):
    """The classification of many images with one model.

    Args:
        order: What was asked.
        model: Loaded once.
        fabric: Device and precision.
        table: Where the classes go.
    """

    def __init__(self, order: ClassifyOrder, model: ClassifierModel, fabric: Fabric, table: ClassTable) -> None:
        super().__init__(order.jobs)
        self.order, self.model, self.fabric, self.table = order, model, fabric, table

    def converted(self, job: Job) -> tuple[Status, Sequence[str]]:
        """Classify one image, unless the table has it already; how it ended, and its warnings."""
        source = file_hash(job.source)
        if self.table.knows(job.name, source):
            self.seen[job.name] = self.table.seen.get(job.name, "unknown")
            return "kept", ()
        volume = read_volume(job.source)
        _, odd = judged(volume, self.model.description.config.domain, force=self.order.force)
        with self.computing:
            found = classify_volume(self.model, volume, self.fabric)
        self.seen[job.name] = this_image(volume, self.model.description.origin.trained_on)
        self.table.add(job.name, source, found, self.seen[job.name])
        return "done", [*odd, *self._warnings(found)]

    def _warnings(self, found: Classified) -> list[str]:
        warnings = []
        if self.model.description.origin.phantom:
            warnings.append("the model was trained on the built-in phantom, not on patients")
        if self.model.description.config.domain.window.percentiles and found.patches == 1:
            warnings.append("a single patch: its intensities were scaled by its own percentiles, not by its study's")
        return warnings


def classifier_facts(model: ClassifierModel) -> dict[str, Any]:
    """What the table's sidecar says of its origin."""
    return {
        "Classification": True,
        "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
        "Classes": list(model.description.config.classes),
        "Rule": RULE,
        "Model": model_origin(model.description),
        "Versions": library_versions(),
    }


def _plan(order: ClassifyOrder, model: ClassifierModel) -> Plan:
    """The images; all of them end in one table."""
    if order.output.exists() and not order.output.is_dir():
        raise ConfigError(f"{order.output} is a file and no folder; give a folder for {TABLE} and its records.")
    inputs = find_inputs(order.input, order.output, order.domain or model.description.config.domain.name)
    jobs = tuple(Job(path, record_name(name), order.output / TABLE) for name, path in inputs.named)
    return Plan(jobs, order.output, inputs.notes, inputs.passed_over)
