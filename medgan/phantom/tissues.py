"""The tissues that a phantom knows, by the value they have in its label volumes."""

from dataclasses import dataclass
from enum import IntEnum

from medgan.phantom.shapes import Shape


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


@dataclass(frozen=True)
class Layer:
    """A tissue laid over whatever was there before."""

    tissue: IntEnum
    """A label of the anatomy that the layer belongs to."""
    shape: Shape
    offset_hu: float = 0.0
    """How much denser this piece is than its tissue is in this subject."""
