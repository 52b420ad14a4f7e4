"""Lesions, or small organs, that few subjects have: learnt from these, drawn anew into labelled cases."""

from collections.abc import Mapping

from medgan.config import Settings
from medgan.data.cache import Cache
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Data, augmented_left_out, without_augmented
from medgan.pipeline import OneDomain, PipelineConfig
from medgan.synthesis.generators import GeneratorDescription, SynthesisConfig, generator_task, read_training
from medgan.training.fit import Training


class LesionAugmentationConfig(SynthesisConfig, PipelineConfig):
    """Settings of ``lesion_augmentation``."""


class LesionAugmentation(OneDomain[LesionAugmentationConfig]):
    """Labelled images teach a generator."""

    settings = LesionAugmentationConfig
    phantom = "head_mr"
    used_by = "medgan augment COHORT OUTPUT"

    @classmethod
    def variant(cls, settings: Settings) -> str | None:
        """The generator."""
        generator = settings.get("generator")
        # What is no mapping is refused with the other settings.
        return generator.get("kind") if isinstance(generator, Mapping) else None

    def cohort(self, data: Data | None) -> Cohort:
        """The real studies: a generator that learnt from what others made would copy their mistakes."""
        real, synthetic = without_augmented(super().cohort(data))
        self.left_out = augmented_left_out(synthetic)
        return real

    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Training[GeneratorDescription]:
        """Patches of the training subjects' lesions, and the validation subjects whole."""
        train, validation = read_training(cohort, split, self.config, self.config.fit.keep, cache)
        return generator_task(train, validation, self.config, seed=self.config.seed, in_training=split.train)
