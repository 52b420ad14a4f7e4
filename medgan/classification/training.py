"""One training of one classifier of patches, from a few labels to a model folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from lightning_fabric import Fabric, seed_everything
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from torch import Tensor

from medgan.classification.few_labels import ClassPatches, FewLabels, VariationConfig
from medgan.classification.learner import SupervisedConfig
from medgan.classification.model import ClassifierModel, write_classifier
from medgan.classification.settings import ClassifierConfig, ClassifierNetworkConfig
from medgan.classification.sgan import SGANConfig
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.synthesis.settings import LesionConfig
from medgan.training.description import Origin
from medgan.training.fit import Fit, FitConfig, Fitted
from medgan.training.recorder import Recorder
from medgan.training.run_folder import note_settings

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


def train_classifier(
    labelled: ClassPatches,
    unlabelled: Tensor,
    config: FewLabelsConfig,
    *,
    seed: int,
    folder: Path,
    fabric: Fabric,
    validation: Sequence[Labelled] = (),
    recorder: Recorder | None = None,
    resume: bool = False,
    origin: Origin | None = None,
) -> ClassifierModel:
    """Train a classifier of patches and write its model folder.

    Whatever the method, it takes ``fit.epochs`` x ``fit.iterations_per_epoch`` steps of ``fit.batch_size`` labelled
    patches.

    Args:
        labelled: Patches whose class is shown.
        unlabelled: (M, 1, *shape) in [-1, 1], whose class is not; the supervised method does not look at them.
        config: The settings.
        seed: Of weights, noise and order; equal seeds give equal models on one device.
        folder: Holds ``model/``, the state to resume from and what the recorder writes.
        fabric: Device and precision, launched.
        validation: Subjects that choose the epoch where ``fit.keep`` is best.
        recorder: Where metrics and panels go; by default to ``folder`` alone.
        resume: Go on from the state in ``folder``, where there is one.
        origin: Where the patches come from.

    Raises:
        ConfigError: A resumed training with other settings.
        DataError: Nothing to learn from, or nobody to choose the epoch.
        TrainingError: A training that broke down; with advice.
    """
    patches = patches_of(labelled, unlabelled, config, seed=seed)
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
    note_settings(folder, config, resume)
    seed_everything(seed, verbose=False)
    loop = Fit(
        config.method.learner(config.classifier, config),
        patches,
        LabelledHeldOut.of(validation),
        config.fit,
        fabric=fabric,
        folder=folder / "state",
        recorder=recorder or Recorder(folder, None, Console(quiet=True)),
    )
    fitted = loop.run(resume=resume)
    return write_trained(folder / "model", fitted, config, patches, seed=seed, origin=origin or Origin())


def patches_of(labelled: ClassPatches, unlabelled: Tensor, config: FewLabelsConfig, *, seed: int) -> FewLabels:
    """What a training of these settings sees of the patches; the supervised method nothing of the unlabelled ones.

    Raises:
        DataError: Nothing to learn from.
    """
    shown = unlabelled if config.method.kind == "sgan" else unlabelled[:0]
    if not len(labelled):
        raise DataError("there is no labelled patch to learn from; check the split and the `mask` column.")
    if config.method.kind == "sgan" and not len(shown):
        raise DataError("sgan learns from unlabelled patches; give some, or set method.kind=supervised.")
    return FewLabels(labelled, shown, config.variation, seed=seed)


def write_trained(
    folder: Path, fitted: Fitted, config: FewLabelsConfig, patches: FewLabels, *, seed: int, origin: Origin
) -> ClassifierModel:
    """Write the classifier that was kept, and what it learnt from."""
    return write_classifier(
        folder, fitted, config.classifier, method=config.method.kind, seed=seed, origin=origin,
        labelled=patches.labelled.counts(config.classifier.classes), unlabelled=len(patches.unlabelled),
    )  # fmt: skip
