"""MR to synthetic CT, by regression or pix2pix from registered pairs, or unpaired by CycleGAN or CUT."""

from typing import Literal

from medgan.data.domains import Domain, DomainPair, Window
from medgan.translators.cut import CUT, CUTConfig
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig
from medgan.translators.pipeline import TranslationConfig, TranslationPipeline
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
from medgan.translators.registered import RegisteredPix2Pix, RegisteredPix2PixConfig
from medgan.translators.translator import Translator


class MRToCTConfig(TranslationConfig):
    """Settings of ``mr_to_ct``."""

    translator: Literal["pix2pix", "registered", "cyclegan", "cut"] = "pix2pix"
    """pix2pix learns from registered pairs, and with ``pix2pix.adversarial=none`` is the L1 regression; registered also
    absorbs what the pairs' registration left. cyclegan and cut learn from unpaired subjects."""
    mr_window: Window = Window(lower=0.5, upper=99.5, percentiles=True)
    """Percentiles of each MR study that the networks see as -1 and +1."""
    ct_window: Window = Window(lower=-1000.0, upper=1500.0)
    """HU that the networks draw."""
    pix2pix: Pix2PixConfig = Pix2PixConfig()
    registered: RegisteredPix2PixConfig = RegisteredPix2PixConfig()
    cyclegan: CycleGANConfig = CycleGANConfig()
    cut: CUTConfig = CUTConfig()


class MRToCT(TranslationPipeline[MRToCTConfig]):
    """MR is the source, CT the target."""

    settings = MRToCTConfig
    phantom = "abdomen_mr_ct"

    @property
    def pair(self) -> DomainPair:
        """MR in arbitrary units, CT in HU."""
        config = self.config
        mr = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=config.mr_window)
        ct = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=config.ct_window)
        return DomainPair(source=mr, target=ct, paired=config.translator in ("pix2pix", "registered"))

    def learner(self) -> Translator:
        """The translator that the settings name."""
        config, parts = self.config, self.parts
        if config.translator == "cyclegan":
            return CycleGAN(config.cyclegan, **parts, seed=config.seed, grid=config.grid)
        if config.translator == "cut":
            return CUT(config.cut, **parts)
        if config.translator == "registered":
            return RegisteredPix2Pix(config.registered, **parts)
        return Pix2Pix(config.pix2pix, **parts)
