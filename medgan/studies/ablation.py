"""The pix2pix paper's ablations: losses, discriminators, generators, each against L1 + cGAN.

Isola et al. 2017, arXiv:1611.07004, sections 4.2 to 4.4. The reference is L1 + cGAN as configured. Every other cell
changes one thing: the losses, the discriminator's receptive field, or the generator.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from medgan.config import Config
from medgan.data.patches import PatchConfig
from medgan.errors import ConfigError
from medgan.studies.sweep import Sweep
from medgan.studies.translator import Cell, adversarial_game, check_translators, configured
from medgan.training.architecture import ResNetConfig, UNetConfig
from medgan.translators.pipeline import TranslationConfig

Group = Literal["losses", "discriminators", "generators"]
SHARED = ("translator=pix2pix",)
"""What every cell has."""
RECEPTIVE_FIELDS = (1, 16, 70, 286)
"""The paper's: PixelGAN, two PatchGANs, ImageGAN."""
GENERATORS = ("unet", "encoder-decoder", "resnet")
MOST_DOWNS = 8


class Ablation(Sweep):
    """One thing changed at a time; ``--only`` takes one group: losses, discriminators or generators."""

    heeds = ("data", "only")

    def cells(self) -> tuple[Sequence[str], Sequence[Cell]]:
        """What all cells share, and those of the groups that are asked for."""
        order = self.order
        check_translators(order.pipeline, ["pix2pix"])
        config = configured(order, [*order.overrides, *SHARED]).config
        # The configured kind in front: a cell of another kind then drops what was asked of this one.
        kind = f"generator.network.kind={config.generator.network.kind}"
        only = order.options.get("only")
        groups = [only] if only else get_args(Group)
        return [kind, *order.overrides, *SHARED], _ablation_cells(config, groups)


def _ablation_cells(config: TranslationConfig, groups: Sequence[str] = get_args(Group)) -> list[Cell]:
    """The cells of some groups, of the settings of a pipeline with ``translator=pix2pix``."""
    settings = config.model_dump(mode="json")
    if not settings["pix2pix"]["l1"]:
        raise ConfigError("pix2pix.l1=0 leaves no L1 term to take away; leave it out, or give it a weight.")
    game = (f"pix2pix.adversarial={adversarial_game(settings)}",)
    cells = [Cell("l1+cgan", game)]
    if "losses" in groups:
        cells += [Cell("l1", ("pix2pix.adversarial=none",)), Cell("cgan", (*game, "pix2pix.l1=0"))]
    if "discriminators" in groups:
        cells += [
            Cell(f"discriminator={field}", (*game, f"discriminator.receptive_field={field}"), optional=True)
            for field in RECEPTIVE_FIELDS
        ]
    if "generators" in groups:
        networks = zip(GENERATORS, _generators(config.generator.network, config.patch), strict=True)
        cells += [Cell(name, (*game, *_settings(network)), optional=True) for name, network in networks]
    return cells


def _settings(network: Config) -> list[str]:
    """All of them, since those of shipped files lie below."""
    return [f"generator.network.{key}={json.dumps(value)}" for key, value in network.model_dump(mode="json").items()]


def _generators(configured: ResNetConfig | UNetConfig, patch: PatchConfig) -> Iterator[ResNetConfig | UNetConfig]:
    """The U-Net with and without skips, and the ResNet: one is the configured one, all are as wide and of its norm."""
    alike = {"channels": configured.channels, "norm": configured.norm}
    unet = configured if isinstance(configured, UNetConfig) else UNetConfig(downs=_deepest(patch.shape), **alike)
    yield unet.model_copy(update={"skips": True})
    yield unet.model_copy(update={"skips": False})
    yield configured if isinstance(configured, ResNetConfig) else ResNetConfig(**alike)


def _deepest(shape: Sequence[int]) -> int:
    """How often every axis of a patch can be halved, at most 8 times as in the paper and at least 2."""
    halvings = min((size & -size).bit_length() - 1 for size in shape)
    return max(2, min(MOST_DOWNS, halvings))
