"""The model folder of a lesion generator: the three files that :mod:`medgan.training.model_folder` describes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from medgan.data.streams import write_text
from medgan.synthesis.generator import GENERATOR
from medgan.synthesis.generators import SynthesisConfig
from medgan.training.description import Origin, TrainedDescription, card_facts
from medgan.training.fit import Fitted
from medgan.training.model_folder import (
    CARD,
    described,
    library_versions,
    load_networks,
    write_description,
    write_weights,
)


class GeneratorDescription(TrainedDescription):
    """All that must be known to draw lesions with a model."""

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


@dataclass(frozen=True)
class GeneratorModel:
    """A loaded generator: its description and its network, on the CPU and in evaluation mode."""

    description: GeneratorDescription
    network: nn.Module

    @property
    def config(self) -> SynthesisConfig:
        """The settings it was trained with."""
        return self.description.config


TEMPLATE = """# Generator of {names}

{kind}, trained by medgan {medgan}. **Not a medical device: for research only, not for diagnosis.**

| | |
|---|---|
| Draws | {names} |
| In | {domain}, {modality}, window {lower:g} to {upper:g}{percentiles} |
| Grid | {spacing} |
| Patches | {dimensions}D, {shape} voxels |
| Conditions | {condition} |
| Learnt from | {learnt}; {data} |
| Validation subjects | {validated} |
| Split | `{split}` |
| Network kept | average after epoch {epoch} |
{metrics}

Write an augmented cohort with `medgan augment DATA OUT --model THIS_FOLDER`, and see whether it helps with
`medgan benefit --study augmentation`: the figures above chose the epoch and are no evidence of benefit.
"""


def load_generator(folder: Path) -> GeneratorModel:
    """Load and verify a generator's model folder.

    Raises:
        ModelError: A missing or altered file, a newer schema, or a model that is no lesion generator.
    """
    description = described(folder, GeneratorDescription)
    config = description.config
    networks = load_networks(folder, lambda: {GENERATOR: config.generator.build(config)}, description.weights_sha256)
    return GeneratorModel(description, networks[GENERATOR])


def write_generator(
    folder: Path,
    fitted: Fitted,
    config: SynthesisConfig,
    *,
    seed: int,
    subjects: tuple[str, ...],
    validated: int,
    origin: Origin,
    healthy: tuple[str, ...] = (),
    without_mask: int = 0,
) -> GeneratorModel:
    """Write the network that was kept, its description and its card; the model as it would be loaded.

    Arguments are those of :class:`GeneratorDescription`.
    """
    # A pipeline's settings are more than a generator's: its folder holds what drawing needs.
    own = {name: getattr(config, name) for name in SynthesisConfig.model_fields}
    description = GeneratorDescription(
        config=SynthesisConfig(**own), seed=seed, subjects=subjects, validated=validated, origin=origin,
        healthy=healthy, without_mask=without_mask,
        metrics=fitted.metrics, epoch=fitted.epoch,
        weights_sha256=write_weights(folder, fitted.networks), versions=library_versions(),
    )  # fmt: skip
    write_description(folder, description)
    write_text(folder / CARD, _card(description))
    return load_generator(folder)


def _learnt(description: GeneratorDescription) -> str:
    """How many subjects taught lesions, how many healthy patches alone, and how many nothing."""
    healthy, without = len(description.healthy), description.without_mask
    told = f"training subjects: {len(description.subjects) - healthy} with a lesion"
    if healthy:
        told += f", {healthy} healthy" + (
            "" if description.config.lesion_share < 1 else " (no patch of these is shown)"
        )
    return told + (f"; left out: {without} without a mask" if without else "")


def _card(description: GeneratorDescription) -> str:
    config = description.config
    return TEMPLATE.format(
        **card_facts(description, config.domain, config.grid),
        names=", ".join(config.names),
        kind=config.generator.kind,
        dimensions=config.patch.dimensions,
        shape=" x ".join(map(str, config.shape)),
        condition=", ".join(config.condition.blocks(config.names)) or "none",
        learnt=_learnt(description),
        validated=description.validated,
    )
