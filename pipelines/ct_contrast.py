"""Contrast-enhanced CT to non-contrast CT and back, unpaired, with CycleGAN and one-sided change maps."""

from typing import Literal, Self

from pydantic import model_validator

from medgan.data.domains import Domain, DomainPair, Window
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig
from medgan.translators.pipeline import TranslationConfig, TranslationPipeline
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
from medgan.translators.translator import Translator


class CTContrastConfig(TranslationConfig):
    """Settings of ``ct_contrast``."""

    translator: Literal["cyclegan", "pix2pix"] = "cyclegan"
    """cyclegan learns from unpaired subjects; pix2pix from subjects who have both scans on one grid."""
    window: Window = Window(lower=-300.0, upper=700.0)
    """HU that the networks see; what lies beyond is lung, air, cortical bone and metal, and passes through."""
    cyclegan: CycleGANConfig = CycleGANConfig()
    pix2pix: Pix2PixConfig = Pix2PixConfig()

    @model_validator(mode="after")
    def _anchors_exist(self) -> Self:
        if self.cyclegan.anchor and not self.phantom_pairs.subjects:
            raise ValueError(
                f"cyclegan.anchor={self.cyclegan.anchor:g} needs simulated pairs: set phantom_pairs.subjects, "
                "or cyclegan.anchor=0 and cyclegan.anchor_iterations=0"
            )
        return self


class CTContrast(TranslationPipeline[CTContrastConfig]):
    """Contrast CT is the source, non-contrast CT the target."""

    settings = CTContrastConfig
    phantom = "abdomen_ct"

    @property
    def pair(self) -> DomainPair:
        """Both domains in HU, at one window: the change between them is iodine."""
        contrast, plain = (
            Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=self.config.window)
            for name in ("contrast", "plain")
        )
        return DomainPair(source=contrast, target=plain, paired=self.config.translator == "pix2pix")

    def learner(self) -> Translator:
        """CycleGAN, or pix2pix where true pairs exist."""
        config = self.config
        if config.translator == "pix2pix":
            return Pix2Pix(config.pix2pix, **self.parts)
        return CycleGAN(config.cyclegan, **self.parts, seed=config.seed, grid=config.grid)
