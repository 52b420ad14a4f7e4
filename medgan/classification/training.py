"""What a classifier of patches learns from: a few labels, and patches without one."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from medgan.classification.few_labels import ClassPatches, FewLabels, VariationConfig
from medgan.classification.learner import SupervisedConfig
from medgan.classification.settings import ClassifierConfig, ClassifierDescription, ClassifierNetworkConfig
from medgan.classification.sgan import SGANConfig
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.synthesis.patches import LesionConfig
from medgan.training.fit import FitConfig
from medgan.training.task import Task

Method = Annotated[SGANConfig | SupervisedConfig, Field(discriminator="kind")]


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


def classifier_task(
    labelled: ClassPatches, unlabelled: Tensor, validation: Sequence[Labelled], config: FewLabelsConfig, *, seed: int
) -> Task[ClassifierDescription]:
    """Learning to classify; whatever the method, each step takes ``fit.batch_size`` labelled patches.

    Args:
        labelled: Patches whose class is shown.
        unlabelled: (M, 1, *shape) in [-1, 1], whose class is not; the supervised method does not look at them.
        validation: Subjects that choose the epoch.
        config: The settings.
        seed: Of weights, noise and order.

    Raises:
        DataError: Nothing to learn from, or nobody to choose the epoch.
    """
    method, classifier = config.method, config.classifier
    shown = unlabelled if method.kind == "sgan" else unlabelled[:0]
    if not len(labelled):
        raise DataError("there is no labelled patch to learn from; check the split and the `mask` column.")
    if method.kind == "sgan" and not len(shown):
        raise DataError("sgan learns from unlabelled patches; give some, or set method.kind=supervised.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
    facts = {
        "method": method.kind,
        "config": classifier,
        "labelled": labelled.counts(classifier.classes),
        "unlabelled": len(shown),
    }
    patches = FewLabels(labelled, shown, config.variation, seed=seed)
    learner, held_out = partial(method.learner, classifier, config), LabelledHeldOut.of(validation)
    return Task(config, config.fit, seed, learner, patches, held_out, ClassifierDescription, facts)
