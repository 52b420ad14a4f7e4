"""How each tissue looks in CT, without iodine and with it.

Sources: enhancement by phase after K. T. Bae, Radiology 2010;256:32-61; attenuation as in textbooks of CT, at 120 kV.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from medgan.phantom.tissues import VESSELS, Tissue


@dataclass(frozen=True)
class Material:
    """A tissue's attenuation, HU."""

    hu: float
    """The mean over subjects, without iodine."""
    spread_hu: float
    """How far a subject's mean lies from it, at most."""
    texture_hu: float
    """Standard deviation within a subject."""
    arterial_hu: float = 0.0
    """Gain by iodine in the late arterial phase, about 35 s after injection."""
    portal_hu: float = 0.0
    """Gain by iodine in the portal phase, about 75 s after injection."""

    def gain_hu(self, phase: float) -> float:
        """Gain by iodine between the late arterial phase (0) and the portal phase (1)."""
        return self.arterial_hu + phase * (self.portal_hu - self.arterial_hu)


MATERIALS: Mapping[IntEnum, Material] = {
    Tissue.AIR: Material(-1000, 0, 0),
    Tissue.SKIN: Material(20, 15, 0, 3, 8),
    Tissue.SUBCUTANEOUS_FAT: Material(-104, 6, 4),
    Tissue.VISCERAL_FAT: Material(-98, 7, 6),
    Tissue.MUSCLE: Material(52, 6, 5, 4, 12),
    Tissue.LIVER: Material(56, 9, 2.5, 12, 56),
    Tissue.SPLEEN: Material(48, 4, 2, 78, 68),
    Tissue.KIDNEY_CORTEX: Material(33, 3, 2, 135, 140),
    Tissue.KIDNEY_MEDULLA: Material(30, 3, 2, 25, 110),
    Tissue.AORTA: Material(42, 6, 1, 250, 112),
    Tissue.VENA_CAVA: Material(42, 6, 1, 12, 80),
    Tissue.PORTAL_VEIN: Material(42, 6, 1, 40, 122),
    Tissue.HEPATIC_VEIN: Material(42, 6, 1, 10, 112),
    Tissue.RENAL_VEIN: Material(42, 6, 1, 110, 118),
    Tissue.ARTERY: Material(42, 6, 1, 240, 110),
    Tissue.CORTICAL_BONE: Material(760, 90, 60),
    Tissue.TRABECULAR_BONE: Material(195, 50, 26, 5, 9),
    Tissue.RIB: Material(640, 90, 40),
    Tissue.CARTILAGE: Material(95, 20, 8),
    Tissue.DISC: Material(80, 12, 5),
    Tissue.SPINAL_CANAL: Material(28, 5, 3),
    Tissue.LUNG: Material(-830, 25, 22),
    Tissue.STOMACH_WALL: Material(40, 4, 2, 38, 48),
    Tissue.BOWEL_WALL: Material(40, 4, 2, 42, 46),
    Tissue.CONTENT: Material(24, 8, 9),
    Tissue.GAS: Material(-960, 15, 4),
    Tissue.GALLBLADDER: Material(8, 6, 1),
    Tissue.PANCREAS: Material(41, 5, 4, 62, 52),
    Tissue.URINE: Material(4, 3, 1),
    Tissue.HYPO_LESION: Material(38, 6, 3, 6, 22),
    Tissue.HYPER_LESION: Material(47, 5, 3, 64, 38),
    Tissue.TABLE: Material(20, 60, 0),
}

RENAL_RETURN = Material(42, 6, 1, 78, 105)
"""Blood of the vena cava above the renal veins, which empty into it."""


def materials_of_subject(rng: np.random.Generator) -> dict[IntEnum, Material]:
    """The materials of one subject; all of the blood shares one haematocrit."""
    blood = rng.uniform(-1, 1)
    drawn = {}
    for tissue, material in MATERIALS.items():
        offset = blood if tissue in VESSELS else rng.uniform(-1, 1)
        uptake = rng.uniform(0.92, 1.08)
        drawn[tissue] = replace(
            material,
            hu=material.hu + offset * material.spread_hu,
            arterial_hu=material.arterial_hu * uptake,
            portal_hu=material.portal_hu * uptake,
        )
    return drawn
