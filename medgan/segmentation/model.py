"""The model folder of a segmenter: the same three files as a translator's, see :mod:`medgan.training.model_folder`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from medgan.data.streams import write_text
from medgan.segmentation.settings import SegmenterConfig
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

SEGMENTER = "segmenter"
"""The name of the one network."""


class SegmenterDescription(TrainedDescription):
    """All that must be known to segment a study with a model."""

    task: Literal["segmentation"] = "segmentation"
    config: SegmenterConfig
    trained: int
    """Subjects that it learnt from."""
    extra: int
    """Synthetic or other additional subjects among its training."""
    extra_share: float
    """The share of training patches that were drawn from these."""
    validated: int
    """Subjects that chose the epoch."""


@dataclass(frozen=True)
class SegmenterModel:
    """A loaded segmenter: its description and its network, on the CPU and in evaluation mode."""

    description: SegmenterDescription
    network: nn.Module

    @property
    def config(self) -> SegmenterConfig:
        """The settings it was trained with."""
        return self.description.config

    @property
    def names(self) -> dict[int, str]:
        """What the values of its label maps mean."""
        return dict(enumerate(self.config.labels, start=1))


TEMPLATE = """# Segmenter of {names}

Trained by medgan {medgan}. **Not a medical device: for research only, not for diagnosis.**

| | |
|---|---|
| Segments | {labels} |
| In | {domain}, {modality}, window {lower:g} to {upper:g}{percentiles} |
| Grid | {spacing} |
| Input | {dimensions}D, trained on {shape} voxels, augmentation {augmentation} |
| Training subjects | {trained} train and {extra} extra, {validated} validation; {data} |
| Split | `{split}` |
| Network kept | average after epoch {epoch} |
{metrics}

Segment studies with `medgan segment INPUT OUTPUT --model THIS_FOLDER`. The figures above chose the epoch; they are no
evidence for other subjects.
"""


def load_segmenter(folder: Path) -> SegmenterModel:
    """Load and verify a segmenter's model folder.

    Raises:
        ModelError: A missing or altered file, a newer schema, or a model that is no segmenter.
    """
    description = described(folder, SegmenterDescription)
    networks = load_networks(folder, lambda: {SEGMENTER: description.config.build()}, description.weights_sha256)
    return SegmenterModel(description, networks[SEGMENTER])


def write_segmenter(
    folder: Path,
    fitted: Fitted,
    config: SegmenterConfig,
    *,
    seed: int,
    trained: int,
    validated: int,
    extra: int,
    extra_share: float,
    origin: Origin,
) -> SegmenterModel:
    """Write the network that was kept, its description and its card; the model as it would be loaded."""
    description = SegmenterDescription(
        config=config, seed=seed, trained=trained, validated=validated, extra=extra, extra_share=extra_share,
        origin=origin, metrics=fitted.metrics, epoch=fitted.epoch,
        weights_sha256=write_weights(folder, fitted.networks), versions=library_versions(),
    )  # fmt: skip
    write_description(folder, description)
    write_text(folder / CARD, _card(description))
    return load_segmenter(folder)


def _card(description: SegmenterDescription) -> str:
    config = description.config
    return TEMPLATE.format(
        **card_facts(description, config.domain, config.grid),
        names=", ".join(config.labels),
        labels=", ".join(f"{number} {name}" for number, name in enumerate(config.labels, start=1)),
        dimensions=config.patch.dimensions,
        shape=" x ".join(map(str, config.patch.shape)),
        augmentation=config.augmentation,
        trained=description.trained,
        extra=description.extra,
        validated=description.validated,
    )
