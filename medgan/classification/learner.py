"""What learners of patch classes share, and the plain one among them: from the labels alone."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.classification.few_labels import CLASS, ClassPatches, cut_labelled
from medgan.classification.model import CLASSIFIER
from medgan.classification.settings import ClassifierConfig
from medgan.config import Config
from medgan.losses import labelled_loss
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.segmentation.patches import IMAGE
from medgan.synthesis.generator import volume
from medgan.synthesis.settings import LesionConfig
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms
from medgan.training.panel import panel

JUDGED, SHOWN = 256, 6
"""Patches that a validation looks at, and those of its panel, by class."""


class ClassifierLearner(Learner):
    """A learner whose kept network scores the classes of a patch.

    Args:
        classifier: The network, and what it is shown.
        lesions: Which patches of the held-out subjects it is judged on.
        rate: Of the classifier's optimiser.
    """

    kept = (CLASSIFIER,)
    best = "val/cross_entropy"

    def __init__(self, classifier: ClassifierConfig, lesions: LesionConfig, rate: float) -> None:
        super().__init__()
        self.lesions, self.classes = lesions, classifier.classes
        self.classifier = classifier.build()
        # Radford et al. 2016, section 3: momentum .5 keeps the game stable; both learners have it, to be comparable.
        self.classifier_optimizer: Optimizer = Adam(self.classifier.parameters(), rate, betas=(0.5, 0.999))
        self._judged: ClassPatches | None = None

    def networks(self) -> dict[str, nn.Module]:
        """The classifier."""
        return {CLASSIFIER: self.classifier}

    def optimizers(self) -> dict[str, Optimizer]:
        """Its optimiser."""
        return {CLASSIFIER: self.classifier_optimizer}

    def attach(self, fabric: Fabric, networks: Networks, optimizers: Mapping[str, Optimizer]) -> None:
        """Take over the placed ones."""
        self.fabric = fabric
        self.classifier, self.classifier_optimizer = networks[CLASSIFIER], optimizers[CLASSIFIER]

    @torch.no_grad()
    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Mean cross-entropy and accuracy over ``JUDGED`` patches of the held-out subjects, always the same."""
        patches = self._held_out_patches(held_out)
        scores = torch.cat([kept[CLASSIFIER](part).float() for part in patches.images.split(64)]).cpu()
        metrics = {
            "val/cross_entropy": float(labelled_loss(scores, patches.classes)),
            "val/accuracy": float((scores.argmax(dim=1) == patches.classes).float().mean()),
        }
        return Judgement(metrics, _shown(patches, scores.argmax(dim=1), len(self.classes)))

    def _held_out_patches(self, held_out: HeldOut) -> ClassPatches:
        assert isinstance(held_out, LabelledHeldOut), "a classifier is judged on labelled subjects"
        assert self.fabric is not None, "attach comes first"
        if self._judged is None:
            couples = enumerate(zip(held_out.source, held_out.labels, strict=True))
            cases = [Labelled(f"held out {number}", image, labels) for number, (image, labels) in couples]
            found = cut_labelled(cases, self.lesions, JUDGED, seed=0)
            self._judged = ClassPatches(self.fabric.to_device(found.images), found.classes)
        return self._judged


class SupervisedConfig(Config):
    """Learning from the labels alone: what a generator must be better than."""

    kind: Literal["supervised"] = "supervised"
    rate: PositiveFloat = 5e-4

    def learner(self, classifier: ClassifierConfig, lesions: LesionConfig) -> "Supervised":
        """A fresh learner."""
        return Supervised(self, classifier, lesions)


class Supervised(ClassifierLearner):
    """The classifier by cross-entropy on its labelled patches."""

    def __init__(self, config: SupervisedConfig, classifier: ClassifierConfig, lesions: LesionConfig) -> None:
        super().__init__(classifier, lesions, config.rate)

    def training_step(self, batch: Batch) -> Terms:
        """One step down the cross-entropy."""
        terms = {"labelled": labelled_loss(self.classifier(batch[IMAGE]), batch[CLASS])}
        self.descend(self.classifier_optimizer, terms)
        return {name: term.detach() for name, term in terms.items()}


def _shown(patches: ClassPatches, found: Tensor, classes: int) -> NDArray[np.uint8]:
    """A row for each class that was found: patches of which it was said, the middle slice of blocks."""
    rows = []
    for number in range(classes):
        tiles = [volume(image) for image in patches.images[found.to(patches.images.device) == number][:SHOWN]]
        rows.append(tiles or [np.full_like(volume(patches.images[0]), -1.0)])
    width = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], -1.0)
    return panel([row + [blank] * (width - len(row)) for row in rows], -1.0, 1.0)
