"""A classifier of patches: its settings, what its model folder says of it, and the learner that all methods share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.config import Channels, Config, Voxels, check_size
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig
from medgan.losses import labelled_loss
from medgan.networks.blocks import Norm
from medgan.networks.latent import WholeDiscriminator, halvings
from medgan.pictures.panels import Panel
from medgan.pictures.tiles import Row
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled, LabelledHeldOut
from medgan.segmentation.settings import MOST_LABELS, Name
from medgan.synthesis.generator import patch_tile
from medgan.synthesis.patches import LesionConfig, LesionPatches, class_of
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms
from medgan.training.model_folder import Description, Model, input_rows

CLASSIFIER = "classifier"
"""The name of the one network."""
HEALTHY = "healthy"
"""The class of patches in which nothing is labelled; always the first."""
CLASS, UNLABELLED = "class", "unlabelled"
JUDGED, SHOWN = 256, 6
"""Patches that a validation looks at, and those of its panel, by class."""


class ClassifierNetworkConfig(Config):
    """The discriminator of DCGAN with a score for each class."""

    channels: Channels = 32
    """At the finest inner map; they double with each coarser one, up to eight times."""
    norm: Norm = "group"
    """Not ``batch`` where generated images are judged, too: its statistics would be theirs as well."""


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

    def build(self) -> WholeDiscriminator:
        """A fresh network: (B, 1, *shape) in [-1, 1] to raw scores (B, classes)."""
        return WholeDiscriminator(self.shape, 1, len(self.classes), **self.network.model_dump())


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
        rows |= {"Patch": f"{' x '.join(map(str, config.shape))} voxels"}
        rows |= {"Learnt from": f"{learnt}; {self.origin.data}"}
        return f"Classifier of {', '.join(config.names)}", "", rows


ClassifierModel = Model[ClassifierDescription]


@dataclass(frozen=True, eq=False)
class ClassPatches:
    """Patches and what they are."""

    images: Tensor
    """(N, 1, *shape) in [-1, 1]."""
    classes: Tensor
    """(N,) of whole numbers: 0 is healthy, n the n-th name."""


def cut_labelled(cases: Sequence[Labelled], lesions: LesionConfig, count: int, *, seed: int) -> ClassPatches:
    """Unvaried patches of cases with their classes, by the masks; ``lesions`` says which patches."""
    patches = LesionPatches(cases, lesions.still(), seed=seed)
    drawn = [patches.patch(number) for number in range(count)]
    classes = [class_of(patch[LABELS].numpy(), len(lesions.names)) for patch in drawn]
    return ClassPatches(torch.stack([patch[IMAGE] for patch in drawn]), torch.tensor(classes))


class ClassifierLearner(Learner):
    """A learner whose kept network scores the classes of a patch; ``lesions`` says on which patches it is judged."""

    trained: tuple[str, ...] = (CLASSIFIER,)
    optimized: tuple[str, ...] = (CLASSIFIER,)
    kept = (CLASSIFIER,)
    best = "val/cross_entropy"

    def __init__(self, classifier: ClassifierConfig, lesions: LesionConfig, rate: float) -> None:
        super().__init__()
        self.lesions, self.classes = lesions, classifier.classes
        self.classifier: nn.Module = classifier.build()
        self.classifier_optimizer = self.adam(self.classifier, rate)
        self._held_out: ClassPatches | None = None

    def adam(self, network: nn.Module, rate: float) -> Optimizer:
        """The optimiser of a network."""
        # Radford et al. 2016, section 3: momentum .5 keeps the game stable; both learners have it, to be comparable.
        return Adam(network.parameters(), rate, betas=(0.5, 0.999))

    @torch.no_grad()
    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Mean cross-entropy and accuracy over ``JUDGED`` patches of the held-out subjects, always the same.

        The panel has a row for each class: patches that were taken for it, the middle slice of blocks.
        """
        assert isinstance(held_out, LabelledHeldOut), "a classifier is judged on labelled subjects"
        if self._held_out is None:
            patches = cut_labelled(held_out.subjects(), self.lesions, JUDGED, seed=0)
            self._held_out = ClassPatches(self.attached.to_device(patches.images), patches.classes)
        images, classes = self._held_out.images, self._held_out.classes
        scores = torch.cat([networks[CLASSIFIER](part).float() for part in images.split(64)]).cpu()
        predictions = scores.argmax(dim=1)
        metrics = {
            "val/cross_entropy": float(labelled_loss(scores, classes)),
            "val/accuracy": float((predictions == classes).float().mean()),
        }
        taken = [(predictions == number).nonzero().flatten().tolist()[:SHOWN] for number in range(len(self.classes))]
        rows = [
            Row(
                [
                    patch_tile(images[place].cpu(), self.lesions, title=f"is {self.classes[int(classes[place])]}")
                    for place in places
                ] or [None],
                f"taken for {name}",
            )
            for name, places in zip(self.classes, taken, strict=True)
        ]  # fmt: skip
        return Judgement(
            metrics, Panel(rows, f"held-out patches by the class they were taken for: {', '.join(self.classes)}")
        )


class SupervisedConfig(Config):
    """Learning from the labels alone: what a generator must be better than."""

    kind: Literal["supervised"] = "supervised"
    rate: PositiveFloat = 5e-4

    def learner(self, classifier: ClassifierConfig, lesions: LesionConfig) -> "Supervised":
        """A fresh learner."""
        return Supervised(classifier, lesions, self.rate)


class Supervised(ClassifierLearner):
    """The classifier by cross-entropy on its labelled patches."""

    def training_step(self, batch: Batch) -> Terms:
        """One step down the cross-entropy."""
        terms = {"labelled": labelled_loss(self.classifier(batch[IMAGE]), batch[CLASS])}
        self.descend(self.classifier_optimizer, terms)
        return {name: term.detach() for name, term in terms.items()}
