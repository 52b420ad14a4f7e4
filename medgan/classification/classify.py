"""``medgan classify``: many images through one classifier, one table of what each holds.

``classes.csv`` has a row for each image; its sidecar says which model and which files it is of.
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from medgan.classification.classifier import ClassifierDescription, ClassifierModel
from medgan.data.hashes import file_hash
from medgan.data.patches import cut
from medgan.data.preparation import Prepared, normalise, prepare
from medgan.data.splits import TRAINING, ThisImage, this_image
from medgan.data.streams import as_it_was, inert, write_text
from medgan.data.volumes import Volume
from medgan.errors import ConfigError, DataError, ModelError
from medgan.inference.batch import BatchOrder, BatchSummary, StudyBatch, local_model
from medgan.inference.jobs import Facts, Job, Plan, as_json, find_jobs, model_origin, read_sidecar
from medgan.inference.translate import OF_PHANTOM, check_plane
from medgan.synthesis.patches import TISSUE
from medgan.training.model_folder import library_versions, read_model

NOT_FOR_CLINICAL_USE = "Classes by a network, for research. Not for diagnosis."
RULE = "an image is what the patch is that is least likely healthy; patches of the trained size, overlapping by half"
TABLE, SIDECAR = "classes.csv", "classes.json"
SOURCES = "SourceSHA256"
"""In the sidecar: the SHA-256 of each image of the table, by name."""
BATCH = 256
"""Patches at a time."""

Start = tuple[int, int, int]
"""The first voxel of a patch; may lie before the image, which then begins with air."""


def classify(order: BatchOrder, console: Console) -> BatchSummary:
    """Classify all images of an order; the table is written at the end, also of a batch that is stopped.

    Raises:
        InUseError: Another process is in the output folder.
        ConfigError: An output that is no folder or the input's; nothing was written.
        DataError: There is nothing to classify, no place for the table, or another table in its place.
        ModelError: The model cannot be used.
    """
    return _Classification(order, console).complete()


class _Classification(StudyBatch[ClassifierModel]):
    """The classification of many images with one model; all of them end in one table."""

    doing, done, place = "classifying", "classified", TABLE

    def __init__(self, order: BatchOrder, console: Console) -> None:
        super().__init__(order, console)
        model = read_model(local_model(order.model, order.tracking), ClassifierDescription)
        config, origin = model.description.config, model.description.origin
        self.classes, self.domain = config.classes, config.domain
        self.trained_on, self.of_phantom = origin.trained_on, origin.phantom
        self.facts = {
            "Classification": True,
            "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
            "Classes": list(config.classes),
            "Rule": RULE,
            "Model": model_origin(model.description),
            "Versions": library_versions(),
        }
        self.rows: dict[str, list[str]] = {}
        self.hashes: dict[str, str] = {}
        self.known: dict[str, ThisImage] = {}
        """Of the table's images, those of earlier batches as well: whether the model has seen each."""
        self.compute_with(model)

    def plan(self) -> Plan:
        """The images of the domain that is asked for, else of the model's."""
        order = self.order
        if order.output.exists() and not order.output.is_dir():
            raise ConfigError(f"{order.output} is a file and no folder; give a folder for {TABLE} and its records.")
        return find_jobs(order.input, order.output, order.domain or self.domain.name, table=TABLE)

    def begin(self, plan: Plan) -> Plan:
        """Go on with the table of an earlier batch with the same model; another one is never overwritten unasked."""
        table, sidecar = (self.order.output / name for name in (TABLE, SIDECAR))
        there = [path for path in (table, sidecar) if os.path.lexists(path)]
        if self.order.overwrite or not there:
            return plan
        before = read_sidecar(sidecar)
        if before is None or not isinstance(before.get(SOURCES), dict):
            raise DataError(f"{there[0]}: exists and is no output of medgan; give another OUTPUT, or add --overwrite.")
        if before.get("Model") != self.facts["Model"]:
            raise DataError(f"{table}: exists, made with another model; give another OUTPUT, or add --overwrite.")
        if table not in there or before["Outputs"].get(TABLE) != file_hash(table):
            raise DataError(f"{table}: was changed since it was written; move it away, or add --overwrite.")
        with table.open(newline="", encoding="utf-8") as stream:
            self.rows = {as_it_was(row[0]): row for row in list(csv.reader(stream))[1:]}
        self.hashes, self.known = dict(before[SOURCES]), dict(before.get(TRAINING, {}))
        return plan

    def is_kept(self, job: Job, facts: Facts) -> bool:
        """Whether the table has the image; another one of that name is refused."""
        if self.hashes.get(job.name, facts[SOURCES]) != facts[SOURCES]:
            raise DataError(f"{job.name}: {TABLE} has another image of this name; give another OUTPUT, or --overwrite.")
        return job.name in self.hashes

    def make(self, job: Job, facts: Facts) -> Sequence[str]:
        """Classify one image."""
        volume, warnings, _ = self.read(job)
        with self.device() as (model, fabric):
            answer = classify_volume(model, volume, fabric)
        likeliest = self.classes[int(np.argmax(answer.probabilities))]
        shares, place = [f"{share:.6f}" for share in answer.probabilities], [f"{each:.2f}" for each in answer.centre_mm]
        self.rows[job.name] = [job.name, likeliest, *shares, str(answer.patches), *place]
        self.hashes[job.name] = facts[SOURCES]
        self.known[job.name] = this_image(volume, self.trained_on)
        if self.of_phantom:
            warnings.append(OF_PHANTOM)
        if self.domain.window.percentiles and answer.patches == 1:
            warnings.append("a single patch: its intensities were scaled by its own percentiles, not by its study's")
        return warnings

    def training(self, job: Job) -> ThisImage:
        """What the table says."""
        return self.known.get(job.name, "unknown")

    def save(self) -> None:
        """Write sidecar and table, each whole or not at all; nothing where no image was classified.

        A row has the likeliest class, the probability of each, and where the patch that decides lies in RAS+ mm.
        """
        if not self.rows:
            return
        text = io.StringIO(newline="")
        columns = ["image", "class", *(f"p_{name}" for name in self.classes), "patches", "x_mm", "y_mm", "z_mm"]
        rows = [[inert(name), *self.rows[name][1:]] for name in sorted(self.rows)]
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        outputs = {TABLE: hashlib.sha256(text.getvalue().encode()).hexdigest()}
        known = {SOURCES: dict(sorted(self.hashes.items())), TRAINING: dict(sorted(self.known.items()))}
        write_text(self.order.output / SIDECAR, as_json(self.facts | known | {"Outputs": outputs}))
        write_text(self.order.output / TABLE, text.getvalue())


@dataclass(frozen=True, eq=False)
class Classified:
    """What an image holds, by the patch that looks least healthy."""

    probabilities: NDArray[np.float64]
    """(classes,), healthy first; they add up to 1."""
    patches: int
    """How many were looked at."""
    centre_mm: tuple[float, float, float]
    """The middle of the patch that decides, RAS+."""


def classify_volume(model: ClassifierModel, volume: Volume, fabric: Fabric) -> Classified:
    """Classify an image, on its own grid, by its patches: it is what the patch is that is least likely healthy.

    An image of the patch's size is one patch. A larger one is cut into patches that overlap by half, in every slice for
    a classifier of slices. One lesion makes an image abnormal however much of it is healthy: therefore the least
    healthy patch and no mean.
    """
    config = model.description.config
    prepared = prepare(volume, config.domain, config.grid)
    check_plane(volume, prepared)
    extent = (*config.shape, 1)[:3]
    starts = list(_patch_starts(prepared, extent))
    if not starts:
        raise DataError(f"{volume.path}: nothing in it is brighter than air; check what image it is.")
    shares = _probabilities(fabric.to_device(model.network), prepared, starts, config.shape, fabric)
    if not np.isfinite(shares).all():
        raise ModelError(f"{volume.path}: the classifier answers with values that are no numbers; train it anew.")
    least = int(np.argmin(shares[:, 0]))
    middle = np.array(starts[least]) + (np.array(extent) - 1) / 2
    x, y, z = (prepared.affine @ [*middle, 1.0])[:3].tolist()
    return Classified(shares[least], len(starts), (x, y, z))


@torch.no_grad()
def _probabilities(
    network: nn.Module, study: Prepared, starts: Sequence[Start], shape: Sequence[int], fabric: Fabric
) -> NDArray[np.float64]:
    """The classes (patches, classes) of patches of a shape (X, Y) or (X, Y, Z), by a network in evaluation mode."""
    results = []
    for first in range(0, len(starts), BATCH):
        patches = np.stack([cut(study, start, (*shape, 1)[:3]) for start in starts[first : first + BATCH]])
        batch = fabric.to_device(torch.from_numpy(patches.reshape(len(patches), 1, *shape)))
        with fabric.autocast():
            scores = network(batch)
        results.append(torch.softmax(scores.double(), dim=1).cpu().numpy())
    return np.concatenate(results)


def _patch_starts(study: Prepared, extent: Sequence[int]) -> Iterator[Start]:
    """Where the patches of an image (X, Y, Z) begin: over the body, overlapping by half, their middle on tissue.

    Along an axis on which the image is no larger than a patch there is one, in the middle. Where that holds for all
    axes of a patch (one voxel along z for slices), it is looked at whatever its middle shows.
    """
    size = study.voxels.shape
    x, y, z = (_along(*each) for each in zip(size, study.body, extent, strict=True))
    one_patch = all(whole <= length for whole, length in zip(size, extent, strict=True) if length > 1)
    for start in product(x, y, z):
        middle = tuple(
            min(max(first + length // 2, 0), whole - 1)
            for first, length, whole in zip(start, extent, size, strict=True)
        )
        if one_patch or normalise(study.voxels[middle], study.bounds) > TISSUE:
            yield start


def _along(size: int, body: tuple[int, int], extent: int) -> list[int]:
    """First voxels along one axis: from the body's first voxel in steps of half a patch, the last one flush."""
    if size <= extent:
        return [(size - extent) // 2]
    first, last = body
    if last - first <= extent:
        return [(first + last - extent) // 2]
    return sorted({*range(first, last - extent, max(extent // 2, 1)), last - extent})
