"""The tissues of a phantom, by their values in label volumes, and how layers of them are laid on a grid."""

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
    *(Tissue.AORTA, Tissue.VENA_CAVA, Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN, Tissue.RENAL_VEIN),
    Tissue.ARTERY,
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


class Scanner(Protocol):
    """One examination of a subject in the making: attenuation, or magnetisation."""

    furniture: tuple[Layer, ...]
    """What lies below the patient, in the scanner's coordinates."""

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:
        """Lay one tissue over the voxels of a box, their points and the share of each that it fills."""

    def images(self, *, noise: bool) -> dict[str, NDArray[np.int16]]:
        """The volumes as they are stored, by domain."""


def lay(layers: Iterable[Layer], at: Space, *scanners: Scanner) -> NDArray[np.uint8]:
    """Lay layers over each other, the lowest first, before all scanners, which see the same share of each voxel.

    ``at`` holds the grid's points in the layers' coordinates. The result is the label of the tissue that last filled
    half of a voxel or more, (X, Y, Z); 0 where none did.
    """
    labels = np.zeros(at.x.shape, dtype=np.uint8)
    for layer in layers:
        box = at.box(layer.shape.low, layer.shape.high)
        near = at[box]
        if not near.x.size:
            continue
        share = coverage(layer.shape.distance(near), near.spacing_mm)
        for scanner in scanners:
            scanner.lay(layer, box, near, share)
        labels[box][share >= 0.5] = layer.tissue
    return labels
