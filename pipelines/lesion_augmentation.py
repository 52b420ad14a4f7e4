"""Lesions, or small organs, that few subjects have: learnt from these, drawn anew into labelled cases."""

from collections.abc import Mapping
from pathlib import Path

from medgan.config import Settings
from medgan.data.cache import Cache
from medgan.data.domains import DomainPair
from medgan.data.sidecars import left_out, without_augmented
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.phantom.cohort import PAIRED
from medgan.pipeline import Pipeline, PipelineConfig, Seen, TrainingData
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis.generator import LesionGenerator
from medgan.synthesis.generators import SynthesisConfig, learner_of
from medgan.synthesis.model import write_generator
from medgan.synthesis.patches import LesionPatches
from medgan.synthesis.training import healthy_of, read_cases, subjects_of
from medgan.training.description import Origin
from medgan.training.fit import Fitted


class LesionAugmentationConfig(SynthesisConfig, PipelineConfig):
    """Settings of ``lesion_augmentation``."""


class LesionAugmentation(Pipeline[LesionAugmentationConfig]):
    """One domain, whose labelled images teach a generator."""

    settings = LesionAugmentationConfig
    phantom = "head_mr"
    phantom_table = PAIRED
    used_by = "medgan augment COHORT OUTPUT"

    @classmethod
    def variant(cls, asked: Settings) -> str | None:
        """The generator."""
        generator = asked.get("generator")
        # What is no mapping is refused with the other settings.
        return generator.get("kind") if isinstance(generator, Mapping) else None

    @property
    def pair(self) -> DomainPair:
        """The one domain, on both sides."""
        return DomainPair(source=self.config.domain, target=self.config.domain, paired=False)

    def cohort(self, data: Path | None) -> Cohort:
        """The real studies: a generator that learnt from what others made would copy their mistakes."""
        found, made = without_augmented(super().cohort(data))
        self.left_out = left_out(made)
        return found

    def learner(self) -> LesionGenerator:
        """The generator that the settings name."""
        return learner_of(self.config)

    def training_data(self, cohort: Cohort, split: Split, cache: Cache) -> TrainingData:
        """Patches of the training subjects' lesions, and the validation subjects whole.

        Raises:
            DataError: Nobody has a mask, or a lesion, to learn from or to be judged by.
        """
        config = self.config
        train, validation = (read_cases(cohort, split, part, config, cache) for part in ("train", "validation"))
        if not train or (config.fit.keep == "best" and not validation):
            raise DataError(
                f"{cohort.root}: no {'validation' if train else 'training'} subject has a {config.domain.name} image "
                "with a mask; name masks in the cohort's `mask` column, or set domain.name."
            )
        self.learnt, self.healthy, self.judges = subjects_of(train), healthy_of(train), subjects_of(validation)
        patches = LesionPatches(train, config, seed=config.seed)
        return TrainingData(patches, LabelledHeldOut.of(validation))

    def write_model(self, folder: Path, fitted: Fitted, split: Split, seen: Seen, facts: Settings) -> None:
        """Write the generator that was kept, and all that drawing with it must know."""
        del seen
        origin = Origin.of(split, data_fingerprint=facts["data_fingerprint"], phantom=facts["phantom"])
        write_generator(
            folder, fitted, self.config, seed=self.config.seed, subjects=self.learnt, validated=len(self.judges),
            origin=origin, healthy=self.healthy, without_mask=len(set(split.train) - set(self.learnt)),
        )  # fmt: skip
