"""Which generators there are, what one learns from, and what its model folder says of it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from medgan.config import Config
from medgan.data.cache import Cache
from medgan.data.splits import Part, Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut, read_all
from medgan.synthesis.acgan import ACGAN, ACGANConfig
from medgan.synthesis.conditional import ConditionalConfig, ConditionalGAN
from medgan.synthesis.dcgan import DCGAN, DCGANConfig
from medgan.synthesis.generator import GENERATOR, LesionGenerator
from medgan.synthesis.painting import Inpainting, InpaintingConfig, MaskToLesion, MaskToLesionConfig
from medgan.synthesis.patches import LesionConfig, LesionPatches
from medgan.synthesis.progressive import Progressive, ProgressiveConfig
from medgan.training.fit import FitConfig, Training
from medgan.training.model_folder import Description, Model, input_rows

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


class GeneratorDescription(Description):
    """All that must be known to draw lesions with a model."""

    use = (
        "Write an augmented cohort with `medgan augment DATA OUT --model THIS_FOLDER`, and see whether it helps with\n"
        "`medgan benefit --study augmentation`: the figures above chose the epoch and are no evidence of benefit."
    )

    task: Literal["synthesis"] = "synthesis"
    config: SynthesisConfig
    subjects: tuple[str, ...]
    """Who it learnt from, each with a mask; whoever is not among them may not receive its lesions for training."""
    healthy: tuple[str, ...] = ()
    """Those of them whose masks mark nothing: they teach healthy patches alone."""
    without_mask: int = 0
    """Training subjects of the split that taught nothing, since they have no mask."""
    validated: int
    """Subjects with a mask that judged the epochs."""

    def build(self) -> Mapping[str, nn.Module]:
        """The network."""
        return {GENERATOR: self.config.generator.build(self.config)}

    def model_name(self) -> str:
        """The kind of generator."""
        return self.config.generator.kind

    def card(self) -> tuple[str, str, dict[str, str]]:
        """What is drawn in which images, and how many subjects taught lesions, healthy patches alone, or nothing."""
        config, patch, healthy = self.config, self.config.patch, len(self.healthy)
        learnt = f"training subjects: {len(self.subjects) - healthy} with a lesion"
        if healthy:
            learnt += f", {healthy} healthy" + ("" if config.lesion_share < 1 else " (no patch of these is shown)")
        if self.without_mask:
            learnt += f"; left out: {self.without_mask} without a mask"
        rows = {"Draws": ", ".join(config.names)} | input_rows(config.domain, config.grid)
        rows |= {"Patches": f"{patch.dimensions}D, {' x '.join(map(str, config.shape))} voxels"}
        rows |= {"Conditions": ", ".join(config.condition.blocks(config.names)) or "none"}
        rows |= {"Learnt from": f"{learnt}; {self.origin.data}", "Validation subjects": str(self.validated)}
        return f"Generator of {', '.join(config.names)}", config.generator.kind, rows


GeneratorModel = Model[GeneratorDescription]


def read_cases(cohort: Cohort, split: Split, part: Part, config: LesionConfig, cache: Cache) -> list[Labelled]:
    """The labelled images of a part, on the networks' grid; images without a mask teach nothing and are left out."""
    studies = [study for study in split.part(cohort, part).of_domain(config.domain.name).studies if study.mask]
    return read_all(studies, config.domain, config.grid, config.labels, cache)


def read_training(
    cohort: Cohort, split: Split, config: LesionConfig, keep: str, cache: Cache
) -> tuple[list[Labelled], list[Labelled]]:
    """The labelled images that a pipeline trains on, and those that choose the epoch.

    Raises:
        DataError: No training subject has a mask, or no validation subject where one must choose the epoch.
    """
    train, validation = (read_cases(cohort, split, part, config, cache) for part in ("train", "validation"))
    if not train or (keep == "best" and not validation):
        raise DataError(
            f"{cohort.root}: no {'validation' if train else 'training'} subject has a {config.domain.name} image "
            "with a mask; name masks in the cohort's `mask` column, or set domain.name."
        )
    return train, validation


def generator_task(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SynthesisConfig,
    *,
    seed: int,
    in_training: Sequence[str] = (),
) -> Training[GeneratorDescription]:
    """Learning to draw lesions; ``in_training`` are all training subjects of the split, also those without a mask."""
    if not train:
        raise DataError("there is no labelled case to learn from; check the split and the `mask` column.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled case to choose the epoch; add one, or set fit.keep=last.")
    subjects = tuple(dict.fromkeys(case.subject for case in train))
    ill = {case.subject for case in train if case.labels.any()}
    # A pipeline's settings are more than a generator's: its model keeps what drawing needs.
    own = SynthesisConfig(**{name: getattr(config, name) for name in SynthesisConfig.model_fields})
    facts = {
        "config": own,
        "subjects": subjects,
        "healthy": tuple(subject for subject in subjects if subject not in ill),
        "without_mask": len(set(in_training) - set(subjects)),
        "validated": len({case.subject for case in validation}),
    }
    patches = LesionPatches(train, config, seed=seed)
    held_out = LabelledHeldOut.of(validation)
    return Training(
        config, config.fit, seed, lambda: learner_of(config), patches, held_out, GeneratorDescription, facts
    )
