"""A classifier of patches: what it learns from, its learners (supervised, SGAN), and what its model folder says.

It learns from a few patches whose class is known, and SGAN also from many whose class is not: a discriminator that
tells the classes apart and fakes from all of them. Sources: Odena 2016, arXiv:1606.01583 (C + 1 outputs); Salimans et
al. 2016, arXiv:1606.03498, section 5 (the losses in the form used here) and section 3.1 (feature matching, with which
they found unlabelled images to help).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from medgan.config import Channels, Config, Voxels, check_size
from medgan.data.cache import Cache
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.losses import fake_loss, feature_matching, labelled_loss, real_loss
from medgan.networks.blocks import Norm
from medgan.networks.latent import LatentGenerator, WholeDiscriminator, halvings
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled, LabelledHeldOut
from medgan.segmentation.settings import MOST_LABELS, Name
from medgan.synthesis.patches import GENERATOR, LesionConfig, LesionPatches, class_of, volume
from medgan.training.fit import FitConfig, Task
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms, bare, panel
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
    drawn = [patches[number] for number in range(count)]
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
    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Mean cross-entropy and accuracy over ``JUDGED`` patches of the held-out subjects, always the same.

        The panel has a row for each class: patches that were taken for it, the middle slice of blocks.
        """
        assert isinstance(held_out, LabelledHeldOut), "a classifier is judged on labelled subjects"
        if self._held_out is None:
            patches = cut_labelled(held_out.subjects(), self.lesions, JUDGED, seed=0)
            self._held_out = ClassPatches(self.attached.to_device(patches.images), patches.classes)
        images, classes = self._held_out.images, self._held_out.classes
        scores = torch.cat([kept[CLASSIFIER](part).float() for part in images.split(64)]).cpu()
        found = scores.argmax(dim=1)
        metrics = {
            "val/cross_entropy": float(labelled_loss(scores, classes)),
            "val/accuracy": float((found == classes).float().mean()),
        }
        blank = np.full_like(volume(images[0]), -1.0)
        rows = [
            [volume(image) for image in images.cpu()[found == number][:SHOWN]] for number in range(len(self.classes))
        ]
        width = max(map(len, rows))
        return Judgement(metrics, panel([row + [blank] * (width - len(row)) for row in rows], -1.0, 1.0))


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


class SGANConfig(Config):
    """The game: what the discriminator learns beside the labels, and what the generator wants."""

    kind: Literal["sgan"] = "sgan"
    generator_wants: Literal["feature_matching", "real"] = "feature_matching"
    """feature_matching: the mean features of real patches (Salimans et al.). real: to be taken for one (Odena)."""
    game_weight: NonNegativeFloat = 1.0
    """Of telling unlabelled patches from generated ones, beside the labels; 1 is Salimans et al.'s."""
    latent: Channels = 64
    """The length of z."""
    channels: Channels = 32
    """Of the generator at its finest inner map."""
    rate: PositiveFloat = 5e-4
    generator_rate: PositiveFloat = 5e-4

    def learner(self, classifier: ClassifierConfig, lesions: LesionConfig) -> "SGAN":
        """A fresh learner."""
        return SGAN(self, classifier, lesions)


class SGAN(ClassifierLearner):
    """A classifier that is at the same time the discriminator of a generator.

    The score of "fake" is fixed at 0 (see :mod:`medgan.losses`): the C scores of the discriminator are the
    classifier, and nothing must be cut off to use it.
    """

    trained = optimized = (CLASSIFIER, GENERATOR)

    def __init__(self, config: SGANConfig, classifier: ClassifierConfig, lesions: LesionConfig) -> None:
        super().__init__(classifier, lesions, config.rate)
        self.config = config
        self.generator: nn.Module = LatentGenerator(classifier.shape, 1, latent=config.latent, channels=config.channels)
        self.generator_optimizer = self.adam(self.generator, config.generator_rate)

    def training_step(self, batch: Batch) -> Terms:
        """One step of the discriminator, then one of the generator."""
        fake = self.drawn(batch)
        discriminator = self.discriminator_terms(batch, fake.detach())
        self.descend(self.classifier_optimizer, discriminator)
        self.classifier.requires_grad_(False)
        generator = self.generator_terms(batch, fake)
        self.descend(self.generator_optimizer, generator)
        self.classifier.requires_grad_(True)
        return {name: term.detach() for name, term in (discriminator | generator).items()}

    def drawn(self, batch: Batch) -> Tensor:
        """As many generated patches as the batch has unlabelled ones, (B, 1, *shape)."""
        real = batch[UNLABELLED]
        fake: Tensor = self.generator(torch.randn(len(real), self.config.latent, device=real.device))
        return fake

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """Salimans et al., L_supervised and half of L_unsupervised: as much for real patches as for generated ones."""
        half = self.config.game_weight / 2
        return {
            "labelled": labelled_loss(self.classifier(batch[IMAGE]), batch[CLASS]),
            "unlabelled": half * real_loss(self.classifier(batch[UNLABELLED])),
            "fake": half * fake_loss(self.classifier(fake)),
        }

    def generator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        """What the generator minimises."""
        if self.config.generator_wants == "real":
            return {"generator": real_loss(self.classifier(fake))}
        with torch.no_grad():
            real = self.features(batch[UNLABELLED])
        return {"generator": feature_matching(real, self.features(fake))}

    def features(self, image: Tensor) -> Tensor:
        """The discriminator's last inner layer for (B, 1, *shape), as (B, F)."""
        network = bare(self.classifier)
        assert isinstance(network, WholeDiscriminator)
        with self.attached.autocast():
            return network.features(image).float().flatten(1)


Method = Annotated[SGANConfig | SupervisedConfig, Field(discriminator="kind")]


class VariationConfig(Config):
    """How patches are varied in training, labelled and unlabelled ones alike; intensities by shares of the window.

    The few patches are cut once and varied here: MONAI's chain takes 20 times as long, longer than a small network
    takes to learn from one.
    """

    mirroring: bool = True
    """Mirror along each axis of the plane in half of the patches, and swap the two axes of a square one."""
    contrast: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of the distances to the patch's mean."""
    brightness: NonNegativeFloat = 0.1
    """Largest shift of all intensities."""
    noise: NonNegativeFloat = 0.05
    """Largest standard deviation of added noise."""


class FewLabelsConfig(LesionConfig):
    """Settings of a classifier of patches and of how it learns.

    Of ``patch`` its size counts; the few patches are cut unvaried, and varied in training as ``variation`` says.
    """

    lesion_share: float = Field(default=0.5, ge=0, le=1)
    """The share of patches with a lesion in their middle; the others are healthy: nothing in them is labelled."""
    labelled_patches: PositiveInt = 100
    """How many patches show their class."""
    unlabelled_patches: NonNegativeInt = 2000
    """How many do not; from subjects with masks, and from those without where there are any."""
    method: Method = SupervisedConfig()
    """supervised learns from the labels alone; sgan from unlabelled patches, too. Which is better was measured: see
    decision record 32."""
    network: ClassifierNetworkConfig = ClassifierNetworkConfig()
    variation: VariationConfig = VariationConfig()
    """Of patches in training, whatever the method."""
    fit: FitConfig = FitConfig(
        epochs=10, iterations_per_epoch=100, batch_size=32, average_decay=0.99, keep="last", channels_last=False
    )

    @property
    def classifier(self) -> ClassifierConfig:
        """What a model folder keeps of it."""
        return ClassifierConfig(
            names=self.names, domain=self.domain, grid=self.grid, shape=self.shape, network=self.network
        )


class FewLabels(Dataset[Batch]):
    """A labelled and an unlabelled patch by number, each varied; a pure function of the seed and the number.

    ``unlabelled`` (M, 1, *shape) in [-1, 1] may be empty; no batch has any then.
    """

    def __init__(self, labelled: ClassPatches, unlabelled: Tensor, variation: VariationConfig, *, seed: int) -> None:
        self.labelled, self.unlabelled, self.variation, self.seed = labelled, unlabelled, variation, seed

    def __getitem__(self, number: int) -> Batch:
        """Number ``number``: "image" (1, *shape) with its "class" (), and "unlabelled" (1, *shape)."""
        random = np.random.default_rng([self.seed, number])
        drawn = int(random.integers(len(self.labelled.images)))
        image = _vary(self.labelled.images[drawn], self.variation, random)
        item = {IMAGE: image, CLASS: self.labelled.classes[drawn]}
        if len(self.unlabelled):
            other = int(random.integers(len(self.unlabelled)))
            item[UNLABELLED] = _vary(self.unlabelled[other], self.variation, random)
        return item


def _vary(patch: Tensor, config: VariationConfig, random: np.random.Generator) -> Tensor:
    """A patch (1, *shape) in [-1, 1], turned over and changed in contrast, brightness and noise."""
    if config.mirroring:
        patch = patch.flip([axis for axis in (1, 2) if random.random() < 0.5])
        if patch.shape[1] == patch.shape[2] and random.random() < 0.5:
            patch = patch.transpose(1, 2)
    mean = patch.mean()
    # [-1, 1] is the whole window: a share of it is twice as much.
    factor, shift = 1 + config.contrast * random.uniform(-1, 1), 2 * config.brightness * random.uniform(-1, 1)
    deviation = 2 * config.noise * random.uniform()
    noise = torch.from_numpy(random.standard_normal(patch.shape, dtype=np.float32))
    return ((patch - mean) * factor + mean + shift + deviation * noise).clamp(-1, 1)


def cut_unlabelled(
    cases: Sequence[Labelled], unmasked: Sequence[Labelled], lesions: LesionConfig, count: int, *, seed: int
) -> Tensor:
    """Unvaried patches whose class is not shown, (count, 1, *shape) in [-1, 1]; each case as often as any other.

    The labels of ``cases`` only say where to cut, as for labelled patches; ``unmasked`` are cut anywhere on tissue.
    """
    anywhere = lesions.model_copy(update={"lesion_share": 0.0})
    from_unmasked = round(count * len(unmasked) / max(len(cases) + len(unmasked), 1))
    drawn = []
    for own, places, number in ((cases, lesions, count - from_unmasked), (unmasked, anywhere, from_unmasked)):
        if number:  # Not the seed of the labelled ones: theirs would be the same patches.
            patches = LesionPatches(own, places.still(), seed=seed + 1)
            drawn += [patches[each][IMAGE] for each in range(number)]
    return torch.stack(drawn) if drawn else torch.zeros(0, 1, *lesions.shape)


def read_unmasked(cohort: Cohort, split: Split, lesions: LesionConfig, cache: Cache) -> list[Labelled]:
    """The training subjects' images without a mask, on the networks' grid; their label maps are empty."""
    domain, studies = lesions.domain, split.part(cohort, "train").of_domain(lesions.domain.name).studies
    images = [(each.subject, cache.prepared(each, domain, lesions.grid)) for each in studies if not each.mask]
    return [Labelled(subject, image, np.zeros(image.voxels.shape, np.uint8)) for subject, image in images]


def classifier_task(
    labelled: ClassPatches, unlabelled: Tensor, validation: Sequence[Labelled], config: FewLabelsConfig, *, seed: int
) -> Task[ClassifierDescription]:
    """Learning to classify; whatever the method, each step takes ``fit.batch_size`` labelled patches.

    The supervised method does not look at ``unlabelled``, (M, 1, *shape) in [-1, 1]; ``validation`` chooses the epoch.
    """
    method, classifier = config.method, config.classifier
    shown = unlabelled if method.kind == "sgan" else unlabelled[:0]
    if not len(labelled.images):
        raise DataError("there is no labelled patch to learn from; check the split and the `mask` column.")
    if method.kind == "sgan" and not len(shown):
        raise DataError("sgan learns from unlabelled patches; give some, or set method.kind=supervised.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
    counts = torch.bincount(labelled.classes, minlength=len(classifier.classes)).tolist()
    facts = {
        "method": method.kind,
        "config": classifier,
        "labelled": dict(zip(classifier.classes, counts, strict=True)),
        "unlabelled": len(shown),
    }
    patches = FewLabels(labelled, shown, config.variation, seed=seed)
    learner, held_out = partial(method.learner, classifier, config), LabelledHeldOut.of(validation)
    return Task(config, config.fit, seed, learner, patches, held_out, ClassifierDescription, facts)
