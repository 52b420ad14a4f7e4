"""SGAN: a discriminator that tells the classes apart and fakes from all of them, so that unlabelled patches teach it.

Sources: Odena 2016, arXiv:1606.01583 (C + 1 outputs); Salimans et al. 2016, arXiv:1606.03498, section 5 (the losses in
the form used here) and section 3.1 (feature matching, with which they found unlabelled images to help).
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from medgan.classification.classifier import CLASS, CLASSIFIER, UNLABELLED, ClassifierConfig, ClassifierLearner
from medgan.config import Channels, Config
from medgan.losses import fake_loss, feature_matching, labelled_loss, real_loss
from medgan.networks.latent import LatentGenerator, WholeDiscriminator
from medgan.segmentation.labelled import IMAGE
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.patches import LesionConfig
from medgan.training.learner import Batch, Terms, bare, joined


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
    alone = "it matches the mean features of the whole batch"

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
        labelled, unlabelled, of_fake = joined(self.classifier, [batch[IMAGE], batch[UNLABELLED], fake])
        return {
            "labelled": labelled_loss(labelled, batch[CLASS]),
            "unlabelled": half * real_loss(unlabelled),
            "fake": half * fake_loss(of_fake),
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
