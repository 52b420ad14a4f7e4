"""What a classifier of patches learns from: a few whose class is known, and many whose class is not."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from medgan.classification.classifier import (
    CLASS,
    UNLABELLED,
    ClassifierConfig,
    ClassifierDescription,
    ClassifierNetworkConfig,
    ClassPatches,
    SupervisedConfig,
)
from medgan.classification.sgan import SGANConfig
from medgan.config import Config
from medgan.data.augmentation import Batch
from medgan.data.cache import Cache
from medgan.data.patches import Patches
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.segmentation.labelled import IMAGE, Labelled, LabelledHeldOut
from medgan.synthesis.patches import LesionConfig, LesionPatches
from medgan.training.fit import FitConfig, Training

Method = Annotated[SGANConfig | SupervisedConfig, Field(discriminator="kind")]


class VariationConfig(Config):
    """How patches are varied in training, labelled and unlabelled ones alike; intensities by shares of the window.

    The few patches are cut once and varied here.
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


class FewLabels(Patches):
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
            drawn += [patches.patch(each)[IMAGE] for each in range(number)]
    return torch.stack(drawn) if drawn else torch.zeros(0, 1, *lesions.shape)


def read_unmasked(cohort: Cohort, split: Split, lesions: LesionConfig, cache: Cache) -> list[Labelled]:
    """The training subjects' images without a mask, on the networks' grid; their label maps are empty."""
    domain, studies = lesions.domain, split.part(cohort, "train").of_domain(lesions.domain.name).studies
    images = [(each.subject, cache.prepared(each, domain, lesions.grid)) for each in studies if not each.mask]
    return [Labelled(subject, image, np.zeros(image.voxels.shape, np.uint8)) for subject, image in images]


def classifier_task(
    labelled: ClassPatches, unlabelled: Tensor, validation: Sequence[Labelled], config: FewLabelsConfig, *, seed: int
) -> Training[ClassifierDescription]:
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
    return Training(config, config.fit, seed, learner, patches, held_out, ClassifierDescription, facts)
