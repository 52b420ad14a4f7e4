"""What translators share: their generators, how held-out subjects are translated, and how panels look."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan import losses
from medgan.data.domains import DomainPair
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, denormalise
from medgan.inference.apply import apply
from medgan.training.architecture import Direction, GeneratorConfig
from medgan.training.learner import Learner, bare
from medgan.training.panel import panel

__all__ = [
    "Translator",
    "attached",
    "bare",
    "collapse_advice",
    "panel",
    "shown_bounds",
    "shown_source",
    "target_bounds",
]

PANEL_CASES = 4
SOFT_TISSUE_HU = (-160.0, 240.0)
"""Width 400, level 40: the window in which a CT of chest or abdomen is read, and iodine shows."""
BONE_HU = (-450.0, 1050.0)
"""Width 1500, level 300: the window in which bone is read; muscle, fat and air still differ in it."""
COLLAPSED = 0.005
"""An epoch's mean least-squares or cross-entropy loss below which a discriminator tells every patch apart."""


class Translator(Learner):
    """A learner whose kept networks are generators, named by direction."""

    def __init__(self, pair: DomainPair, patch: PatchConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.pair, self.patch, self.generator = pair, patch, generator

    @property
    def same_unit(self) -> bool:
        """Whether both sides measure the same thing, so that their difference means something."""
        return self.pair.source.unit == self.pair.target.unit

    def build_generator(self, direction: Direction) -> nn.Module:
        """A fresh generator."""
        return self.generator.build(self.pair, self.patch, direction)

    def translate(self, network: nn.Module, study: Prepared) -> NDArray[np.float32]:
        """``study`` in the target domain: (X, Y, Z) in the target's unit.

        With a change map the change is added to the untouched voxels, so what lies outside the window keeps its value.
        """
        fabric = attached(self)
        output = apply(network, study, self.patch, self.generator.network.multiple, fabric)
        if self.generator.change == "none":
            return denormalise(output, target_bounds(self.pair, study))
        lower, upper = study.bounds
        return np.asarray(study.voxels + (output - study.normalised()) * (upper - lower) / 2, dtype=np.float32)

    def around(self, image: Tensor, centre: Tensor) -> Tensor:
        """A stack like ``image`` (B, C, *shape) for a generator to see, with a generated ``centre`` (B, 1, *shape).

        The neighbouring slices stay as they were where both domains measure the same. Where they do not, those would
        be in another unit, and show what the generator is asked to restore: the generated slice is repeated.
        """
        if image.shape[1] == 1:
            return centre
        if not self.same_unit:
            return centre.repeat_interleave(image.shape[1], dim=1)
        channels = list(image.split(1, dim=1))
        channels[len(channels) // 2] = centre
        return torch.cat(channels, dim=1)

    def unpaired_panel(self, studies: Sequence[Prepared], fakes: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
        """Cases as rows: source, translation and, where both measure the same, the amount of change."""
        lower, upper = shown_bounds(self.pair, studies[0])
        rows = []
        for study, fake in list(zip(studies, fakes, strict=True))[:PANEL_CASES]:
            row = [shown_source(self.pair, study, (lower, upper)), fake]
            rows.append([*row, lower + np.abs(study.voxels - fake)] if self.same_unit else row)
        return panel(rows, lower, upper)


def attached(learner: Learner) -> Fabric:
    """The learner's device and precision."""
    assert learner.fabric is not None, "attach comes first"
    return learner.fabric


def target_bounds(pair: DomainPair, study: Prepared) -> tuple[float, float]:
    """Intensities of the target for -1 and +1: its window, or the study's own bounds where units are arbitrary."""
    window = pair.target.window
    return study.bounds if window.percentiles else (window.lower, window.upper)


def shown_bounds(pair: DomainPair, study: Prepared) -> tuple[float, float]:
    """The intensities shown black and white in panels: the same in every epoch.

    Where the source is no CT the whole range is drawn anew, and is shown more widely than iodine asks for.
    """
    if pair.target.unit != "HU":
        return target_bounds(pair, study)
    return SOFT_TISSUE_HU if pair.one_unit else BONE_HU


def shown_source(pair: DomainPair, study: Prepared, bounds: tuple[float, float]) -> NDArray[np.float32]:
    """A source volume (X, Y, Z) for a panel of ``bounds``: as it is, or from its own window where units differ."""
    return study.voxels if pair.source.unit == pair.target.unit else denormalise(study.normalised(), bounds)


def collapse_advice(game: losses.Adversarial, means: Mapping[str, float], domain: str, settings: str) -> str | None:
    """Advice where an epoch's mean loss shows that a discriminator is always right, and gives no gradient to follow.

    Args:
        game: Hinge and Wasserstein losses have no floor that would tell.
        means: Mean terms by tracking key.
        domain: Whose discriminator.
        settings: The section of the settings that holds its learning rate.
    """
    mean = means.get(f"train/{domain}_discriminator", float("inf"))
    if game not in ("vanilla", "least_squares") or mean >= COLLAPSED:
        return None
    return (
        f"the {domain} discriminator tells every patch apart (mean loss {mean:.4f}); lower "
        f"{settings}.discriminator_rate, choose a smaller discriminator.receptive_field, or look for a "
        "trivial difference between the domains (window, spacing, table) with `medgan data check`."
    )
