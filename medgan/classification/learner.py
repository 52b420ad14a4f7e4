"""What learners of patch classes share, and the plain one among them: from the labels alone."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from medgan.classification.few_labels import CLASS, ClassPatches, cut_labelled
from medgan.classification.settings import CLASSIFIER, ClassifierConfig
from medgan.config import Config
from medgan.losses import labelled_loss
from medgan.segmentation.labelled import IMAGE, LabelledHeldOut
from medgan.synthesis.generator import volume
from medgan.synthesis.patches import LesionConfig
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms, panel

JUDGED, SHOWN = 256, 6
"""Patches that a validation looks at, and those of its panel, by class."""


class ClassifierLearner(Learner):
    """A learner whose kept network scores the classes of a patch; ``lesions`` says on which patches it is judged."""

    trained: tuple[str, ...] = (CLASSIFIER,)
    optimized: tuple[str, ...] = (CLASSIFIER,)
    kept = (CLASSIFIER,)
    best = "val/cross_entropy"

    def __init__(self, classifier: ClassifierConfig, lesions: LesionConfig, rate: float) -> None:
        super().__init__()
        self.lesions, self.classes = lesions, classifier.classes
        # Radford et al. 2016, section 3: momentum .5 keeps the game stable; both learners have it, to be comparable.
        self.classifier = classifier.build()
        self.classifier_optimizer = self.adam(self.classifier, rate)
        self._judged: ClassPatches | None = None

    def adam(self, network: nn.Module, rate: float) -> Optimizer:
        """The optimiser of a network."""
        return Adam(network.parameters(), rate, betas=(0.5, 0.999))

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
        if self._judged is None:
            patches = cut_labelled(held_out.subjects(), self.lesions, JUDGED, seed=0)
            self._judged = ClassPatches(self.attached.to_device(patches.images), patches.classes)
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
