"""The model folder of a classifier: the same three files as a translator's, see :mod:`medgan.training.model_folder`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from medgan.classification.settings import ClassifierConfig
from medgan.data.streams import write_text
from medgan.training.description import Origin, TrainedDescription, card_facts
from medgan.training.fit import Fitted
from medgan.training.model_folder import (
    CARD,
    described,
    library_versions,
    load_networks,
    write_description,
    write_weights,
)

CLASSIFIER = "classifier"
"""The name of the one network."""


class ClassifierDescription(TrainedDescription):
    """All that must be known to classify an image with a model."""

    task: Literal["classification"] = "classification"
    method: str
    """How it learnt: ``sgan``, with a generator and unlabelled patches, or ``supervised``, from the labels alone."""
    config: ClassifierConfig
    labelled: dict[str, int]
    """Training patches whose class was known, by class."""
    unlabelled: int
    """Training patches whose class was not."""


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
    networks = load_networks(folder, lambda: {CLASSIFIER: description.config.build()}, description.weights_sha256)
    return ClassifierModel(description, networks[CLASSIFIER])


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
    write_text(folder / CARD, _card(description))
    return load_classifier(folder)


def _card(description: ClassifierDescription) -> str:
    config = description.config
    return TEMPLATE.format(
        **card_facts(description, config.domain, config.grid),
        names=", ".join(config.names),
        classes=", ".join(config.classes),
        shape=" x ".join(map(str, config.shape)),
        labelled=", ".join(f"{count} {name}" for name, count in description.labelled.items()),
        unlabelled=description.unlabelled,
        method=description.method,
    )
