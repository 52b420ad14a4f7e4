"""``medgan segment``: studies through one segmenter, each label map on its study's voxel grid."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from rich.console import Console

from medgan.data.streams import write_text
from medgan.data.volumes import Volume
from medgan.inference.batch import BatchOrder, BatchSummary, ImageBatch, local_model
from medgan.inference.jobs import MANIFEST, SUMMARY, Job, Plan, as_json, find_jobs, model_origin
from medgan.inference.translate import OF_PHANTOM
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import LABELS_JSON
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.training.model_folder import library_versions, read_model

NOT_FOR_CLINICAL_USE = "Label map by a network, for research. Not for diagnosis."


def segment(order: BatchOrder, console: Console) -> BatchSummary:
    """Segment all studies of an order.

    Raises:
        ConfigError: An output that would overwrite an input or another output; nothing was written.
        InUseError: Another process writes there.
        DataError: There is nothing to segment, or no place for the records.
        ModelError: The model cannot be used.
    """
    return _Segmentation(order, console).complete()


class _Segmentation(ImageBatch[SegmenterModel]):
    """The segmentation of many studies with one model."""

    doing, done = "segmenting", "segmented"

    def __init__(self, order: BatchOrder, console: Console) -> None:
        super().__init__(order, console)
        model = read_model(local_model(order.model, order.tracking), SegmenterDescription)
        origin, self.domain = model.description.origin, model.description.config.domain
        self.trained_on, self.split_hash = origin.trained_on, origin.split_hash
        self.warnings = [OF_PHANTOM] if origin.phantom else []
        self.facts = {
            "Segmentation": True,
            "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
            "Labels": {str(value): name for value, name in model.description.names.items()},
            "Model": model_origin(model.description),
            "Versions": library_versions(),
        }
        self.compute_with(model)

    def plan(self) -> Plan:
        """The studies of the domain that is asked for, else of the model's."""
        order = self.order
        own = (MANIFEST, SUMMARY, LABELS_JSON)
        return find_jobs(order.input, order.output, order.domain or self.domain.name, own=own)

    def images(self, job: Job, volume: Volume) -> tuple[dict[Path, NDArray[Any]], Sequence[str]]:
        """The label map."""
        with self.device() as (model, fabric):
            return {job.output: segment_study(model, volume, fabric)}, self.warnings

    def finish(self, folder: Path) -> None:
        """Say what the values of the label maps mean."""
        write_text(folder / LABELS_JSON, as_json({"labels": self.facts["Labels"]}))
