"""A classifier's settings: which classes, in patches of which images, by which network."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator
from torch import nn

from medgan.config import Channels, Config, Voxels, check_size
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig
from medgan.networks.blocks import Norm
from medgan.networks.latent import WholeDiscriminator, halvings
from medgan.segmentation.settings import MOST_LABELS, Name
from medgan.training.model_folder import Description, Model, input_rows

CLASSIFIER = "classifier"
"""The name of the one network."""

HEALTHY = "healthy"
"""The class of patches in which nothing is labelled; always the first."""


class ClassifierNetworkConfig(Config):
    """The discriminator of DCGAN with a score for each class."""

    channels: Channels = 32
    """At the finest inner map; they double with each coarser one, up to eight times."""
    norm: Norm = "group"
    """Not ``batch`` where generated images are judged, too: its statistics would be theirs as well."""

    def build(self, shape: tuple[int, ...], classes: int) -> WholeDiscriminator:
        """The network: patches (B, 1, *shape) in [-1, 1] to raw scores (B, classes)."""
        return WholeDiscriminator(shape, 1, classes, channels=self.channels, norm=self.norm)


class ClassifierConfig(Config):
    """What a classifier is: all that its network is built from, and how it is shown an image."""

    names: tuple[Name, ...] = Field(min_length=1, max_length=MOST_LABELS)
    """What a patch may hold; one that holds none of it is healthy."""
    domain: Domain
    grid: GridConfig
    shape: tuple[Voxels, ...] = Field(min_length=2, max_length=3)
    """Of a patch in voxels of the grid: (X, Y) in an axial slice, or (X, Y, Z)."""
    network: ClassifierNetworkConfig = ClassifierNetworkConfig()

    @model_validator(mode="after")
    def _a_network_can_be_built(self) -> Self:
        if HEALTHY in self.names:
            raise ValueError(f"'{HEALTHY}' is what a patch is that holds none of the names; choose another name")
        check_size(self.shape)
        halvings(self.shape)
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """All classes in the order of the scores, healthy first."""
        return (HEALTHY, *self.names)

    def build(self) -> nn.Module:
        """A fresh network: (B, 1, *shape) in [-1, 1] to raw scores (B, classes)."""
        return self.network.build(self.shape, len(self.classes))


class ClassifierDescription(Description):
    """All that must be known to classify an image with a model."""

    use = (
        "Classify images with `medgan classify INPUT OUTPUT --model THIS_FOLDER`. Its probabilities are a softmax and "
        "were not\ncalibrated; the figures above chose the epoch and are no evidence for other subjects."
    )

    called = CLASSIFIER

    task: Literal["classification"] = "classification"
    method: str
    """How it learnt: ``sgan``, with a generator and unlabelled patches, or ``supervised``, from the labels alone."""
    config: ClassifierConfig
    labelled: dict[str, int]
    """Training patches whose class was known, by class."""
    unlabelled: int
    """Training patches whose class was not."""

    def build(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {CLASSIFIER: self.config.build()}

    def card(self) -> tuple[str, str, dict[str, str]]:
        """Which classes, in which images, and from how many labels."""
        config = self.config
        labelled = ", ".join(f"{count} {name}" for name, count in self.labelled.items())
        learnt = f"{labelled} and {self.unlabelled} patches without a label, by `{self.method}`"
        rows = {"Tells apart": ", ".join(config.classes)} | input_rows(config.domain, config.grid)
        rows |= {
            "Patch": f"{' x '.join(map(str, config.shape))} voxels",
            "Learnt from": f"{learnt}; {self.origin.data}",
        }
        return f"Classifier of {', '.join(config.names)}", "", rows


ClassifierModel = Model[ClassifierDescription]
