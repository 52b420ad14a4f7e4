"""MR to synthetic CT, from registered pairs, with a weighted L1 regression or pix2pix."""

from typing import Literal

from medgan.data.domains import Domain, DomainPair, Window
from medgan.pipeline import Pipeline, TranslationConfig
from medgan.translators.cyclegan import CycleGAN, CycleGANConfig
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
from medgan.translators.translator import Translator


class MRToCTConfig(TranslationConfig):
    """Settings of ``mr_to_ct``."""

    translator: Literal["pix2pix", "cyclegan"] = "pix2pix"
    """pix2pix learns from registered pairs, and with ``pix2pix.adversarial=none`` is the L1 regression; cyclegan
    learns from unpaired subjects."""
    mr_window: Window = Window(lower=0.5, upper=99.5, percentiles=True)
    """Percentiles of each MR study that the networks see as -1 and +1."""
    ct_window: Window = Window(lower=-1000.0, upper=1500.0)
    """HU that the networks draw."""
    pix2pix: Pix2PixConfig = Pix2PixConfig()
    cyclegan: CycleGANConfig = CycleGANConfig()


class MRToCT(Pipeline[MRToCTConfig]):
    """MR is the source, CT the target."""

    settings = MRToCTConfig
    phantom = "abdomen_mr_ct"

    @property
    def pair(self) -> DomainPair:
        """MR in arbitrary units, CT in HU."""
        config = self.config
        mr = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=config.mr_window)
        ct = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=config.ct_window)
        return DomainPair(source=mr, target=ct, paired=config.translator != "cyclegan")

    def learner(self) -> Translator:
        """The regression or pix2pix; CycleGAN where there are no pairs."""
        config = self.config
        if config.translator == "cyclegan":
            return CycleGAN(
                config.cyclegan,
                pair=self.pair,
                patch=config.patch,
                generator=config.generator,
                discriminator=config.discriminator,
                seed=config.seed,
            )
        return Pix2Pix(
            config.pix2pix,
            pair=self.pair,
            patch=config.patch,
            generator=config.generator,
            discriminator=config.discriminator,
        )
