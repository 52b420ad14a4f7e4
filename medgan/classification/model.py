"""The model folder of a classifier: the same three files as a translator's, see :mod:`medgan.training.model_folder`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from medgan.classification.settings import ClassifierConfig
from medgan.config import Config
from medgan.segmentation.model import Origin
from medgan.training.fit import Fitted
from medgan.training.model_folder import (
    CARD,
    SCHEMA_VERSION,
    described,
    library_versions,
    load_weights,
    write_description,
    write_weights,
)

CLASSIFIER = "classifier"
"""The name of the one network."""


class ClassifierDescription(Config):
    """All that must be known to classify an image with a model."""

    task: Literal["classification"] = "classification"
    schema_version: int = SCHEMA_VERSION
    method: str
    """How it learnt: ``sgan``, with a generator and unlabelled patches, or ``supervised``, from the labels alone."""
    config: ClassifierConfig
    seed: int
    labelled: dict[str, int]
    """Training patches whose class was known, by class."""
    unlabelled: int
    """Training patches whose class was not."""
    origin: Origin
    metrics: dict[str, float]
    """Validation metrics of the network that was kept."""
    epoch: int
    weights_sha256: str
    versions: dict[str, str]


@dataclass(frozen=True)
class ClassifierModel:
    """A loaded classifier: its description and its network, on the CPU and in evaluation mode."""

    description: ClassifierDescription
    network: nn.Module

    @property
    def config(self) -> ClassifierConfig:
        """What it is."""
        return self.description.config

    @property
    def classes(self) -> tuple[str, ...]:
        """What its scores are of, healthy first."""
        return self.config.classes


TEMPLATE = """# Classifier of {names}

Trained by medgan {medgan}. **Not a medical device: for research only, not for diagnosis.**

| | |
|---|---|
| Tells apart | {classes} |
| In | {domain}, {modality}, window {lower:g} to {upper:g}{percentiles} |
| Grid | {spacing} |
| Patch | {shape} voxels |
| Learnt from | {labelled} and {unlabelled} patches without a label, by `{method}`; {data} |
| Split | `{split}` |
| Network kept | average after epoch {epoch} |
{metrics}

Classify images with `medgan classify INPUT OUTPUT --model THIS_FOLDER`. Its probabilities are a softmax and were not
calibrated; the figures above chose the epoch and are no evidence for other subjects.
"""


def load_classifier(folder: Path) -> ClassifierModel:
    """Load and verify a classifier's model folder.

    Raises:
        ModelError: A missing or altered file, a newer schema, or a model that is no classifier.
    """
    description = described(folder, ClassifierDescription)
    network = description.config.build()
    load_weights(folder, {CLASSIFIER: network}, description.weights_sha256)
    return ClassifierModel(description, network)


def write_classifier(
    folder: Path,
    fitted: Fitted,
    config: ClassifierConfig,
    *,
    method: str,
    seed: int,
    labelled: Mapping[str, int],
    unlabelled: int,
    origin: Origin,
) -> ClassifierModel:
    """Write the network that was kept, its description and its card; the model as it would be loaded."""
    description = ClassifierDescription(
        method=method, config=config, seed=seed, labelled=dict(labelled), unlabelled=unlabelled, origin=origin,
        metrics=fitted.metrics, epoch=fitted.epoch,
        weights_sha256=write_weights(folder, {CLASSIFIER: fitted.networks[CLASSIFIER]}), versions=library_versions(),
    )  # fmt: skip
    write_description(folder, description)
    (folder / CARD).write_text(_card(description))
    return load_classifier(folder)


def _card(description: ClassifierDescription) -> str:
    config = description.config
    window = config.domain.window
    return TEMPLATE.format(
        names=", ".join(config.names),
        medgan=description.versions["medgan"],
        classes=", ".join(config.classes),
        domain=config.domain.name,
        modality=config.domain.modality,
        lower=window.lower,
        upper=window.upper,
        percentiles=" percentile" if window.percentiles else f" {config.domain.unit}",
        spacing=" x ".join("own" if size is None else f"{size:g} mm" for size in config.grid.spacing_mm),
        shape=" x ".join(map(str, config.shape)),
        labelled=", ".join(f"{count} {name}" for name, count in description.labelled.items()),
        unlabelled=description.unlabelled,
        method=description.method,
        data="the built-in digital phantom, no patient" if description.origin.phantom else "real studies",
        split=description.origin.split_hash[:12] or "none",
        epoch=description.epoch,
        metrics="\n".join(f"| `{key}` | {value:.4g} |" for key, value in sorted(description.metrics.items())),
    )
