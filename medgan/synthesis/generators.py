"""Which generators there are, and the learner that trains each."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from medgan.config import Config
from medgan.synthesis.acgan import ACGAN, ACGANConfig
from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN
from medgan.synthesis.dcgan import DCGAN, DCGANConfig
from medgan.synthesis.generator import LesionGenerator
from medgan.synthesis.painting import Inpainting, InpaintingConfig, MaskToLesion, MaskToLesionConfig
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.progressive import Progressive, ProgressiveConfig
from medgan.training.fit import FitConfig

Generator = Annotated[
    MaskToLesionConfig | InpaintingConfig | DCGANConfig | ConditionalConfig | ACGANConfig | ProgressiveConfig,
    Field(discriminator="kind"),
]
LEARNERS: Mapping[type[Config], Any] = {
    MaskToLesionConfig: MaskToLesion,
    InpaintingConfig: Inpainting,
    DCGANConfig: DCGAN,
    ConditionalConfig: ConditionalGAN,
    ACGANConfig: ACGAN,
    ProgressiveConfig: Progressive,
}
"""By the settings of each generator, the learner that is made from them and from what is learnt from."""


class SynthesisConfig(LesionConfig):
    """Settings of a generator: what it learns from, which one it is, and how long it is trained."""

    generator: Generator = MaskToLesionConfig()
    fit: FitConfig = FitConfig(epochs=20, iterations_per_epoch=100, batch_size=8)


def learner_of(config: SynthesisConfig) -> LesionGenerator:
    """A fresh learner of the generator that the settings name."""
    learner: LesionGenerator = LEARNERS[type(config.generator)](config.generator, config)
    return learner
