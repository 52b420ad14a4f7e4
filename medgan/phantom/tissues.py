"""The tissues that a phantom knows, by the value they have in its label volumes."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.shapes import Shape, coverage
from medgan.phantom.space import Box, Field, Space


class Tissue(IntEnum):
    """A label value; every voxel has the label of the tissue that fills at least half of it."""

    AIR = 0
    SKIN = 1
    SUBCUTANEOUS_FAT = 2
    VISCERAL_FAT = 3
    MUSCLE = 4
    LIVER = 5
    SPLEEN = 6
    KIDNEY_CORTEX = 7
    KIDNEY_MEDULLA = 8
    AORTA = 9
    VENA_CAVA = 10
    PORTAL_VEIN = 11
    HEPATIC_VEIN = 12
    RENAL_VEIN = 13
    ARTERY = 14
    CORTICAL_BONE = 15
    TRABECULAR_BONE = 16
    RIB = 17
    CARTILAGE = 18
    DISC = 19
    SPINAL_CANAL = 20
    LUNG = 21
    STOMACH_WALL = 22
    BOWEL_WALL = 23
    CONTENT = 24
    GAS = 25
    GALLBLADDER = 26
    PANCREAS = 27
    URINE = 28
    HYPO_LESION = 29
    HYPER_LESION = 30
    TABLE = 31


LESIONS = (Tissue.HYPO_LESION, Tissue.HYPER_LESION)
"""Liver lesions that take up less, or (in the arterial phase) more iodine than the liver around them."""

VESSELS = (
    *(Tissue.AORTA, Tissue.ARTERY),
    *(Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.RENAL_VEIN),
)
"""What blood flows in."""


class HeadTissue(IntEnum):
    """A label value of the head; every voxel has the label of the tissue that fills at least half of it."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    OUTER_TABLE = 4
    DIPLOE = 5
    INNER_TABLE = 6
    DURA = 7
    CSF = 8
    GREY_MATTER = 9
    WHITE_MATTER = 10
    VENTRICLE = 11
    DEEP_GREY = 12
    PALLIDUM = 13
    BRAINSTEM = 14
    CEREBELLAR_CORTEX = 15
    CEREBELLAR_WHITE = 16
    CHOROID_PLEXUS = 17
    VENOUS_SINUS = 18
    VEIN = 19
    ARTERY = 20
    PITUITARY = 21
    VITREOUS = 22
    OPTIC_NERVE = 23
    MUCOSA = 24
    GAS = 25
    LESION = 26
    ENHANCING_LESION = 27


HEAD_LESIONS = (HeadTissue.LESION, HeadTissue.ENHANCING_LESION)
"""White-matter lesions; where the barrier between blood and brain is open, gadolinium enters them."""


@dataclass(frozen=True)
class Layer:
    """A tissue laid over whatever was there before."""

    tissue: IntEnum
    """A label of the anatomy that the layer belongs to."""
    shape: Shape
    offset_hu: float = 0.0
    """How much denser this piece is than its tissue is in this subject."""
    filling: IntEnum | None = None
    """What MR finds in it, where that is not the tissue of its label: the marrow of a rib."""


Piece = tuple[Layer, Space]
"""A layer, and the grid's points in its coordinates."""


@dataclass(frozen=True, eq=False)
class Footprint:
    """Where a layer comes to lie."""

    box: Box
    """The voxels that it may touch."""
    near: Space
    """Their points."""
    share: Field
    """The share of each that it fills, 0 to 1."""


class Scanner(Protocol):
    """What a kind of scanner sees of the tissues: attenuation, or magnetisation."""

    def lay(self, layer: Layer, place: Footprint) -> None:
        """Lay one tissue over what is there."""


def laid(grid: Space, pieces: Iterable[Piece], *scanners: Scanner) -> NDArray[np.uint8]:
    """Lay pieces over each other before all of the scanners.

    Args:
        grid: The voxels.
        pieces: The lowest first.
        scanners: See the same shares of the same tissues in each voxel.

    Returns:
        The label of the tissue that last filled half of a voxel or more, (X, Y, Z); 0 where none did.
    """
    labels = np.zeros(grid.x.shape, dtype=np.uint8)
    for layer, space in pieces:
        box = space.box(layer.shape.low, layer.shape.high)
        near = space[box]
        if not near.x.size:
            continue
        share = coverage(layer.shape.distance(near), near.spacing_mm)
        for scanner in scanners:
            scanner.lay(layer, Footprint(box, near, share))
        labels[box][share >= 0.5] = layer.tissue
    return labels
