"""Which generators there are, and the learner that trains each."""

from typing import Annotated

from pydantic import Field

from medgan.synthesis.generator import LesionGenerator
from medgan.synthesis.inpainting import Inpainting, InpaintingConfig
from medgan.synthesis.mask_to_lesion import MaskToLesion, MaskToLesionConfig
from medgan.synthesis.settings import LesionConfig
from medgan.training.fit import FitConfig


class SynthesisConfig(LesionConfig):
    """Settings of a generator: what it learns from, which one it is, and how long it is trained."""

    generator: Annotated[MaskToLesionConfig | InpaintingConfig, Field(discriminator="kind")] = MaskToLesionConfig()
    fit: FitConfig = FitConfig(epochs=20, iterations_per_epoch=100, batch_size=8)


def learner_of(config: SynthesisConfig) -> LesionGenerator:
    """A fresh learner of the generator that the settings name."""
    generator = config.generator
    if isinstance(generator, MaskToLesionConfig):
        return MaskToLesion(generator, config)
    return Inpainting(generator, config)
