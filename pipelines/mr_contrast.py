"""T1 MR to T1 with gadolinium, or back, from registered pairs, as a one-sided change of signal."""

from typing import Literal, Self

from pydantic import model_validator

from medgan.data.domains import Domain, DomainPair, Window
from medgan.translators.pipeline import TranslationConfig, TranslationPipeline
from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
from medgan.translators.translator import Translator


class MRContrastConfig(TranslationConfig):
    """Settings of ``mr_contrast``."""

    agent: Literal["add", "remove"] = "add"
    """add makes T1 with gadolinium (``t1_gd``) of T1 (``t1``); remove makes T1 of T1 with gadolinium."""
    window: Window = Window(lower=0.5, upper=99.5, percentiles=True, headroom=0.6)
    """Percentiles of the source study that the networks see; the headroom is for what gadolinium makes brighter."""
    pix2pix: Pix2PixConfig = Pix2PixConfig()

    @model_validator(mode="after")
    def _signal_goes_the_right_way(self) -> Self:
        giver = "target" if self.agent == "add" else "source"
        if self.generator.change == "one-sided" and self.generator.added_by != giver:
            raise ValueError(f"with agent={self.agent} gadolinium is in the {giver}: set generator.added_by={giver}")
        return self


class MRContrast(TranslationPipeline[MRContrastConfig]):
    """T1 before and after gadolinium."""

    settings = MRContrastConfig
    phantom = "head_mr"

    @property
    def pair(self) -> DomainPair:
        """Both sides in arbitrary units; a pair is brought onto the source's scale."""
        before, after = (
            Domain(name=name, modality="MR", unit="arbitrary", air=0.0, window=self.config.window)
            for name in ("t1", "t1_gd")
        )
        source, target = (before, after) if self.config.agent == "add" else (after, before)
        return DomainPair(source=source, target=target, paired=True)

    def learner(self) -> Translator:
        """The regression, or pix2pix where ``pix2pix.adversarial`` is set."""
        return Pix2Pix(self.config.pix2pix, **self.parts)
