"""What CycleGAN and pix2pix share: their generators, how held-out subjects are translated, and how panels look."""

from collections.abc import Sequence

import numpy as np
from lightning_fabric import Fabric, is_wrapped
from numpy.typing import NDArray
from torch import nn

from medgan.data.domains import DomainPair
from medgan.data.preparation import Prepared, denormalise
from medgan.data.transforms import PatchConfig
from medgan.inference.apply import apply
from medgan.training.architecture import Direction, GeneratorConfig
from medgan.training.learner import Learner

PANEL_CASES = 4
SOFT_TISSUE_HU = (-160.0, 240.0)
"""Width 400, level 40: the window in which a CT of chest or abdomen is read, and iodine shows."""


class Translator(Learner):
    """A learner whose kept networks are generators, named by direction."""

    def __init__(self, pair: DomainPair, patch: PatchConfig, generator: GeneratorConfig) -> None:
        super().__init__()
        self.pair, self.patch, self.generator = pair, patch, generator

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


def attached(learner: Learner) -> Fabric:
    """The learner's device and precision."""
    assert learner.fabric is not None, "attach comes first"
    return learner.fabric


def bare(network: nn.Module) -> nn.Module:
    """A network without Fabric's wrapper, for a gradient of its input: in 32 bits, and outside Fabric's backward."""
    module: nn.Module = network.module if is_wrapped(network) else network  # type: ignore[assignment]
    return module


def target_bounds(pair: DomainPair, study: Prepared) -> tuple[float, float]:
    """Intensities of the target for -1 and +1: its window, or the study's own bounds where units are arbitrary."""
    window = pair.target.window
    return study.bounds if window.percentiles else (window.lower, window.upper)


def shown_bounds(pair: DomainPair, study: Prepared) -> tuple[float, float]:
    """The intensities shown black and white in panels: the same in every epoch."""
    return SOFT_TISSUE_HU if pair.target.unit == "HU" else target_bounds(pair, study)


def panel(rows: Sequence[Sequence[NDArray[np.floating]]], lower: float, upper: float) -> NDArray[np.uint8]:
    """Pictures of fixed cases: one row a case, one column an image, all at one fixed window.

    Args:
        rows: For each case its (X, Y, Z) images; the middle slice is shown, seen from the feet (radiological).
        lower: Shown black.
        upper: Shown white.
    """
    tiles = [[_picture(image, lower, upper) for image in row] for row in rows]
    height = max(tile.shape[0] for row in tiles for tile in row)
    width = max(tile.shape[1] for row in tiles for tile in row)
    return np.vstack([np.hstack([_framed(tile, height, width) for tile in row]) for row in tiles])


def _picture(image: NDArray[np.floating], lower: float, upper: float) -> NDArray[np.uint8]:
    # RAS+ to a picture: rows from anterior to posterior, columns from the patient's right to left.
    middle = image[::-1, ::-1, image.shape[2] // 2].T
    grey = np.clip((middle - lower) / (upper - lower), 0, 1) * 255
    return np.asarray(np.rint(grey), dtype=np.uint8)


def _framed(tile: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    missing = (height - tile.shape[0], width - tile.shape[1])
    return np.pad(tile, [(0, missing[0]), (0, missing[1])])
