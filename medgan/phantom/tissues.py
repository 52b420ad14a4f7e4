"""What a phantom is made of: each tissue with its label, its attenuation in CT and its relaxation in MR.

Attenuation is that at 120 kV, as in textbooks of CT; enhancement by phase after K. T. Bae, Radiology 2010;256:32-61.

Relaxation times are those at 1.5 T. Sources: abdomen, marrow and subcutaneous fat, de Bazelaire et al., Radiology
2004;230:652-659; blood, cord and cartilage, Stanisz et al., Magn Reson Med 2005;54:507-512; brain, plaques, muscle and
the densities of the head, Kwan, Evans & Pike, IEEE Trans Med Imaging 1999;18:1085-1097; relaxivities of gadobutrol in
plasma at 1.5 T, Szomolanyi et al., Invest Radiol 2019;54:559-564 (r1) and Rohrer et al., Invest Radiol 2005;40:715-724
(r2). What they do not list is taken from the nearest tissue that they do; fluids have the long times of water, and
concentrations are those of some minutes after 0.1 mmol/kg.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self

R1_PER_MMOL_S = 4.78  # how much the rate 1/T1 (1/s) rises with each mmol/l of gadobutrol
R2_PER_MMOL_S = 6.1  # the same of 1/T2


@dataclass(frozen=True)
class Attenuation:
    """A tissue in CT, HU."""

    hu: float  # the mean over subjects, without iodine
    spread_hu: float  # how far a subject's mean lies from it, at most
    texture_hu: float  # standard deviation within a subject
    arterial_hu: float = 0.0  # gain by iodine in the late arterial phase, about 35 s after injection
    portal_hu: float = 0.0  # gain by iodine in the portal phase, about 75 s after injection

    def gain_hu(self, phase: float) -> float:
        """Gain by iodine between the late arterial phase (0) and the portal phase (1)."""
        return self.arterial_hu + phase * (self.portal_hu - self.arterial_hu)


@dataclass(frozen=True)
class Relaxation:
    """A tissue in MR."""

    t1_ms: float
    t2_ms: float
    density: float  # mobile protons, relative to water
    spread: float = 0.05  # by what share a subject's T1 and T2 differ from the mean, at most
    texture: float = 0.02  # standard deviation of the density within a subject, as a share
    uptake_mmol: float = 0.0  # gadolinium, mmol/l, after the injection
    flows: bool = False  # blood that has left the slice before a spin echo is read

    def enhanced(self) -> "Relaxation":
        """The tissue after the injection: 1/T1' = 1/T1 + r1 C, and 1/T2' = 1/T2 + r2 C."""
        added_r1, added_r2 = (rate * self.uptake_mmol / 1000.0 for rate in (R1_PER_MMOL_S, R2_PER_MMOL_S))
        return replace(self, t1_ms=1 / (1 / self.t1_ms + added_r1), t2_ms=1 / (1 / self.t2_ms + added_r2))


_NOTHING = Relaxation(1000, 1, 0.0)  # gas and what is not of the body: no protons
_BLOOD = Relaxation(1441, 290, 0.9, flows=True, uptake_mmol=0.7, texture=0.01)
_FLUID = Relaxation(4000, 2000, 1.0, spread=0.02, texture=0.01)
_BONE = Relaxation(400, 0.5, 0.15)  # cortical bone: its protons' signal is gone before it can be read


class Label(IntEnum):
    """A value in label volumes, where every voxel has that of the tissue that fills at least half of it."""

    relaxation: Relaxation
    attenuation: Attenuation

    def __new__(cls, value: int, relaxation: Relaxation, attenuation: Attenuation | None = None) -> Self:
        """A tissue; only those of bodies that CT looks at have an attenuation."""
        label = int.__new__(cls, value)
        label._value_, label.relaxation = value, relaxation
        if attenuation:
            label.attenuation = attenuation
        return label


class Tissue(Label):
    """What is in an abdomen."""

    AIR = 0, _NOTHING, Attenuation(-1000, 0, 0)
    SKIN = 1, Relaxation(800, 35, 0.7), Attenuation(20, 15, 0, 3, 8)
    SUBCUTANEOUS_FAT = 2, Relaxation(343, 58, 1.0), Attenuation(-104, 6, 4)
    VISCERAL_FAT = 3, Relaxation(343, 58, 0.97, texture=0.04), Attenuation(-98, 7, 6)
    MUSCLE = 4, Relaxation(856, 27, 0.85, texture=0.03), Attenuation(52, 6, 5, 4, 12)
    LIVER = 5, Relaxation(586, 46, 0.8), Attenuation(56, 9, 2.5, 12, 56)
    SPLEEN = 6, Relaxation(1057, 79, 0.85), Attenuation(48, 4, 2, 78, 68)
    KIDNEY_CORTEX = 7, Relaxation(966, 87, 0.88), Attenuation(33, 3, 2, 135, 140)
    KIDNEY_MEDULLA = 8, Relaxation(1412, 85, 0.9), Attenuation(30, 3, 2, 25, 110)
    AORTA = 9, _BLOOD, Attenuation(42, 6, 1, 250, 112)
    VENA_CAVA = 10, _BLOOD, Attenuation(42, 6, 1, 12, 80)
    PORTAL_VEIN = 11, _BLOOD, Attenuation(42, 6, 1, 40, 122)
    HEPATIC_VEIN = 12, _BLOOD, Attenuation(42, 6, 1, 10, 112)
    RENAL_VEIN = 13, _BLOOD, Attenuation(42, 6, 1, 110, 118)
    ARTERY = 14, _BLOOD, Attenuation(42, 6, 1, 240, 110)
    CORTICAL_BONE = 15, _BONE, Attenuation(760, 90, 60)
    TRABECULAR_BONE = 16, Relaxation(549, 49, 0.75, spread=0.1, texture=0.06), Attenuation(195, 50, 26, 5, 9)
    RIB = 17, _BONE, Attenuation(640, 90, 40)
    CARTILAGE = 18, Relaxation(1060, 42, 0.6), Attenuation(95, 20, 8)
    DISC = 19, Relaxation(1060, 60, 0.75), Attenuation(80, 12, 5)
    SPINAL_CANAL = 20, Relaxation(2200, 400, 0.95), Attenuation(28, 5, 3)
    LUNG = 21, Relaxation(1000, 2, 0.2, texture=0.1), Attenuation(-830, 25, 22)
    STOMACH_WALL = 22, Relaxation(950, 50, 0.85), Attenuation(40, 4, 2, 38, 48)
    BOWEL_WALL = 23, Relaxation(950, 50, 0.85), Attenuation(40, 4, 2, 42, 46)
    CONTENT = 24, Relaxation(1500, 120, 0.85, spread=0.4, texture=0.08), Attenuation(24, 8, 9)
    GAS = 25, _NOTHING, Attenuation(-960, 15, 4)
    GALLBLADDER = 26, Relaxation(2000, 400, 0.95, spread=0.4), Attenuation(8, 6, 1)
    PANCREAS = 27, Relaxation(584, 46, 0.82, texture=0.04), Attenuation(41, 5, 4, 62, 52)
    URINE = 28, _FLUID, Attenuation(4, 3, 1)
    HYPO_LESION = 29, Relaxation(1050, 90, 0.88, spread=0.1), Attenuation(38, 6, 3, 6, 22)
    HYPER_LESION = 30, Relaxation(900, 75, 0.86, spread=0.1), Attenuation(47, 5, 3, 64, 38)
    TABLE = 31, _NOTHING, Attenuation(20, 60, 0)


LESIONS = (Tissue.HYPO_LESION, Tissue.HYPER_LESION)
"""Liver lesions that take up less, or (in the arterial phase) more iodine than the liver around them."""
RENAL_RETURN = Attenuation(42, 6, 1, 78, 105)  # blood of the vena cava above the renal veins, which empty into it


class HeadTissue(Label):
    """What is in a head."""

    AIR = 0, _NOTHING
    SKIN = 1, Relaxation(900, 47, 0.8, uptake_mmol=0.08)
    FAT = 2, Relaxation(343, 58, 1.0)
    MUSCLE = 3, Relaxation(900, 47, 0.85, texture=0.03, uptake_mmol=0.06)
    OUTER_TABLE = 4, _BONE
    DIPLOE = 5, Relaxation(450, 50, 0.6, spread=0.15, texture=0.08)
    INNER_TABLE = 6, _BONE
    DURA = 7, Relaxation(900, 35, 0.6, uptake_mmol=0.3)
    CSF = 8, _FLUID
    GREY_MATTER = 9, Relaxation(833, 83, 0.86)
    WHITE_MATTER = 10, Relaxation(500, 70, 0.77)
    VENTRICLE = 11, _FLUID
    DEEP_GREY = 12, Relaxation(740, 76, 0.83)
    PALLIDUM = 13, Relaxation(640, 60, 0.78)
    BRAINSTEM = 14, Relaxation(580, 74, 0.79)
    CEREBELLAR_CORTEX = 15, Relaxation(833, 83, 0.86)
    CEREBELLAR_WHITE = 16, Relaxation(520, 71, 0.77)
    CHOROID_PLEXUS = 17, Relaxation(1100, 110, 0.88, uptake_mmol=0.4)
    VENOUS_SINUS = 18, _BLOOD
    VEIN = 19, _BLOOD
    ARTERY = 20, _BLOOD
    PITUITARY = 21, Relaxation(750, 80, 0.85, uptake_mmol=0.5)
    VITREOUS = 22, _FLUID
    OPTIC_NERVE = 23, Relaxation(815, 77, 0.78)
    MUCOSA = 24, Relaxation(1000, 90, 0.85, uptake_mmol=0.4)
    GAS = 25, _NOTHING
    LESION = 26, Relaxation(950, 210, 0.86, spread=0.12)
    ENHANCING_LESION = 27, Relaxation(1050, 210, 0.86, spread=0.12, uptake_mmol=0.35)


HEAD_LESIONS = (HeadTissue.LESION, HeadTissue.ENHANCING_LESION)
"""White-matter lesions; where the barrier between blood and brain is open, gadolinium enters them."""
