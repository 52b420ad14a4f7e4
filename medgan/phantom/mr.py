"""MR of a phantom subject by the signal equations of its sequences.

A voxel's signal is the volume-weighted mean of the signals of the tissues in it, signed where an inversion makes it so.
A smooth field of the coil multiplies it, the scanner gives it a scale of its own (MR has no unit), and the magnitude is
taken of a complex number with noise in both parts.

Source: Bernstein, King & Zhou, Handbook of MRI Pulse Sequences, 2004, chapters 14.1 (spoiled gradient echo), 14.3 (spin
echo) and 14.2 (inversion recovery). T2 stands in for T2*, which echo times of a few ms barely show.

Numbers are float64 and rounded to 0.001 before they become integers, as in CT.

Relaxation times are those at 1.5 T. Sources: abdomen, marrow and subcutaneous fat, de Bazelaire et al., Radiology
2004;230:652-659; blood, cord and cartilage, Stanisz et al., Magn Reson Med 2005;54:507-512; brain, plaques, muscle and
the densities of the head, Kwan, Evans & Pike, IEEE Trans Med Imaging 1999;18:1085-1097; relaxivities of gadobutrol in
plasma at 1.5 T, Szomolanyi et al., Invest Radiol 2019;54:559-564 (r1) and Rohrer et al., Invest Radiol 2005;40:715-724
(r2). What they do not list is taken from the nearest tissue that they do; fluids have the long times of water, and
concentrations are those of some minutes after 0.1 mmol/kg.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from math import cos, exp, radians, sin
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.space import Box, Field, Space, Streams, Waves
from medgan.phantom.tissues import VESSELS, HeadTissue, Layer, Tissue

R1_PER_MMOL_S = 4.78
"""How much the rate 1/T1 (1/s) rises with each mmol/l of gadobutrol."""
R2_PER_MMOL_S = 6.1
"""The same of 1/T2."""


@dataclass(frozen=True)
class Relaxation:
    """A tissue in MR."""

    t1_ms: float
    t2_ms: float
    density: float
    """Mobile protons, relative to water."""
    spread: float = 0.05
    """By what share a subject's T1 and T2 differ from the mean, at most."""
    texture: float = 0.02
    """Standard deviation of the density within a subject, as a share."""
    uptake_mmol: float = 0.0
    """Gadolinium, mmol/l, after the injection."""
    flows: bool = False
    """Blood that has left the slice before a spin echo is read."""

    def enhanced(self) -> "Relaxation":
        """The tissue after the injection: 1/T1' = 1/T1 + r1 C, and 1/T2' = 1/T2 + r2 C."""
        added_r1, added_r2 = (rate * self.uptake_mmol / 1000.0 for rate in (R1_PER_MMOL_S, R2_PER_MMOL_S))
        return replace(self, t1_ms=1 / (1 / self.t1_ms + added_r1), t2_ms=1 / (1 / self.t2_ms + added_r2))


NOTHING = Relaxation(1000, 1, 0.0)
"""Gas and what is not of the body: no protons."""
BLOOD = Relaxation(1441, 290, 0.9, flows=True, uptake_mmol=0.7, texture=0.01)
FLUID = Relaxation(4000, 2000, 1.0, spread=0.02, texture=0.01)
BONE = Relaxation(400, 0.5, 0.15)
"""Cortical bone: its protons' signal is gone before it can be read."""

ABDOMEN: Mapping[IntEnum, Relaxation] = {
    Tissue.AIR: NOTHING,
    Tissue.SKIN: Relaxation(800, 35, 0.7),
    Tissue.SUBCUTANEOUS_FAT: Relaxation(343, 58, 1.0),
    Tissue.VISCERAL_FAT: Relaxation(343, 58, 0.97, texture=0.04),
    Tissue.MUSCLE: Relaxation(856, 27, 0.85, texture=0.03),
    Tissue.LIVER: Relaxation(586, 46, 0.8),
    Tissue.SPLEEN: Relaxation(1057, 79, 0.85),
    Tissue.KIDNEY_CORTEX: Relaxation(966, 87, 0.88),
    Tissue.KIDNEY_MEDULLA: Relaxation(1412, 85, 0.9),
    **dict.fromkeys(VESSELS, BLOOD),
    Tissue.CORTICAL_BONE: BONE,
    Tissue.TRABECULAR_BONE: Relaxation(549, 49, 0.75, spread=0.1, texture=0.06),
    Tissue.RIB: BONE,
    Tissue.CARTILAGE: Relaxation(1060, 42, 0.6),
    Tissue.DISC: Relaxation(1060, 60, 0.75),
    Tissue.SPINAL_CANAL: Relaxation(2200, 400, 0.95),
    Tissue.LUNG: Relaxation(1000, 2, 0.2, texture=0.1),
    Tissue.STOMACH_WALL: Relaxation(950, 50, 0.85),
    Tissue.BOWEL_WALL: Relaxation(950, 50, 0.85),
    Tissue.CONTENT: Relaxation(1500, 120, 0.85, spread=0.4, texture=0.08),
    Tissue.GAS: NOTHING,
    Tissue.GALLBLADDER: Relaxation(2000, 400, 0.95, spread=0.4),
    Tissue.PANCREAS: Relaxation(584, 46, 0.82, texture=0.04),
    Tissue.URINE: FLUID,
    Tissue.HYPO_LESION: Relaxation(1050, 90, 0.88, spread=0.1),
    Tissue.HYPER_LESION: Relaxation(900, 75, 0.86, spread=0.1),
    Tissue.TABLE: NOTHING,
}

HEAD: Mapping[IntEnum, Relaxation] = {
    HeadTissue.AIR: NOTHING,
    HeadTissue.SKIN: Relaxation(900, 47, 0.8, uptake_mmol=0.08),
    HeadTissue.FAT: Relaxation(343, 58, 1.0),
    HeadTissue.MUSCLE: Relaxation(900, 47, 0.85, texture=0.03, uptake_mmol=0.06),
    HeadTissue.OUTER_TABLE: BONE,
    HeadTissue.DIPLOE: Relaxation(450, 50, 0.6, spread=0.15, texture=0.08),
    HeadTissue.INNER_TABLE: BONE,
    HeadTissue.DURA: Relaxation(900, 35, 0.6, uptake_mmol=0.3),
    HeadTissue.CSF: FLUID,
    HeadTissue.GREY_MATTER: Relaxation(833, 83, 0.86),
    HeadTissue.WHITE_MATTER: Relaxation(500, 70, 0.77),
    HeadTissue.VENTRICLE: FLUID,
    HeadTissue.DEEP_GREY: Relaxation(740, 76, 0.83),
    HeadTissue.PALLIDUM: Relaxation(640, 60, 0.78),
    HeadTissue.BRAINSTEM: Relaxation(580, 74, 0.79),
    HeadTissue.CEREBELLAR_CORTEX: Relaxation(833, 83, 0.86),
    HeadTissue.CEREBELLAR_WHITE: Relaxation(520, 71, 0.77),
    HeadTissue.CHOROID_PLEXUS: Relaxation(1100, 110, 0.88, uptake_mmol=0.4),
    HeadTissue.VENOUS_SINUS: BLOOD,
    HeadTissue.VEIN: BLOOD,
    HeadTissue.ARTERY: BLOOD,
    HeadTissue.PITUITARY: Relaxation(750, 80, 0.85, uptake_mmol=0.5),
    HeadTissue.VITREOUS: FLUID,
    HeadTissue.OPTIC_NERVE: Relaxation(815, 77, 0.78),
    HeadTissue.MUCOSA: Relaxation(1000, 90, 0.85, uptake_mmol=0.4),
    HeadTissue.GAS: NOTHING,
    HeadTissue.LESION: Relaxation(950, 210, 0.86, spread=0.12),
    HeadTissue.ENHANCING_LESION: Relaxation(1050, 210, 0.86, spread=0.12, uptake_mmol=0.35),
}


def relaxation_of_subject(rng: np.random.Generator, tissues: Mapping[IntEnum, Relaxation]) -> dict[IntEnum, Relaxation]:
    """The tissues of one subject; all of its blood is alike, and the dose goes to all that takes it up."""
    blood, dose = rng.uniform(-1, 1, 2), rng.uniform(0.8, 1.2)
    subject = {}
    for tissue, mean in tissues.items():
        t1, t2 = blood if mean.flows else rng.uniform(-1, 1, 2)
        subject[tissue] = replace(
            mean,
            t1_ms=mean.t1_ms * (1 + float(t1) * mean.spread),
            t2_ms=mean.t2_ms * (1 + float(t2) * mean.spread),
            uptake_mmol=mean.uptake_mmol * dose,
        )
    return subject


FLOW_VOID = 0.1
"""What a spin echo sees of flowing blood: most of what was excited has left the slice."""


@dataclass(frozen=True)
class SpoiledGradientEcho:
    """The steady state of pulses of a small angle: S = PD sin a (1 - E1) / (1 - E1 cos a) exp(-TE/T2)."""

    tr_ms: float
    te_ms: float
    flip_deg: float

    def signal(self, tissue: Relaxation) -> float:
        """With E1 = exp(-TR/T1)."""
        e1, flip = exp(-self.tr_ms / tissue.t1_ms), radians(self.flip_deg)
        steady = sin(flip) * (1 - e1) / (1 - e1 * cos(flip))
        return tissue.density * steady * exp(-self.te_ms / tissue.t2_ms)


@dataclass(frozen=True)
class SpinEcho:
    """S = PD (1 - exp(-TR/T1)) exp(-TE/T2), TE far below TR."""

    tr_ms: float
    te_ms: float

    def signal(self, tissue: Relaxation) -> float:
        """Blood flows away before the echo is read, but for a trace."""
        still = FLOW_VOID if tissue.flows else 1.0
        return still * tissue.density * self._recovered(tissue) * exp(-self.te_ms / tissue.t2_ms)

    def _recovered(self, tissue: Relaxation) -> float:
        return 1 - exp(-self.tr_ms / tissue.t1_ms)


@dataclass(frozen=True)
class InversionRecovery(SpinEcho):
    """A spin echo after an inversion: S = PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2).

    Negative before the tissue has recovered through zero.
    """

    ti_ms: float

    def _recovered(self, tissue: Relaxation) -> float:
        return 1 - 2 * exp(-self.ti_ms / tissue.t1_ms) + exp(-self.tr_ms / tissue.t1_ms)


@dataclass(frozen=True)
class Acquisition:
    """One series of an examination."""

    sequence: SpoiledGradientEcho | SpinEcho
    enhanced: bool = False
    """Whether it is taken after the injection of gadolinium."""

    def signal(self, tissue: Relaxation) -> float:
        """The signal of a tissue of this subject."""
        return self.sequence.signal(tissue.enhanced() if self.enhanced else tissue)


@dataclass(frozen=True)
class MR:
    """One MR examination."""

    tissues: Mapping[IntEnum, Relaxation]
    """The relaxation of each tissue, mean over subjects."""
    series: Mapping[str, Acquisition]
    """By domain."""
    unit: ClassVar[str] = "arbitrary"

    def describe(self, rng: Streams) -> dict[str, dict[str, Any]]:
        """What the sidecar of each series says."""
        session = asdict(_draw_session(rng("session")))
        return {domain: session | asdict(acquisition) for domain, acquisition in self.series.items()}

    def scanner(self, rng: Streams, grid: Space) -> "_Scanner":
        """A scanner with a subject in its coil."""
        return _Scanner(self, rng, grid)


@dataclass(frozen=True)
class _Session:
    """What differs from examination to examination; all of a subject's series share it."""

    scale: float
    """Stored value of a signal of 1."""
    noise: float
    """Standard deviation of the noise in each part of the complex signal, as a share of ``scale``."""
    bias: float
    """Root mean square of the logarithm of the coil's field."""


def _draw_session(rng: np.random.Generator) -> _Session:
    """Scales differ by a factor of up to 8."""
    return _Session(
        scale=round(1500 * 8 ** rng.uniform()),
        noise=round(rng.uniform(0.0022, 0.0042), 5),
        bias=round(rng.uniform(0.06, 0.16), 3),
    )


class _Scanner:
    """The signal of each series."""

    furniture: tuple[Layer, ...] = ()
    """None: the table has no protons and gives no signal."""

    def __init__(self, mr: MR, rng: Streams, grid: Space) -> None:
        self.series, self.rng, self.session = mr.series, rng, _draw_session(rng("session"))
        coil = rng("relaxation")
        self.tissues = relaxation_of_subject(coil, mr.tissues)
        self.texture = Waves.draw(coil, 1.0, (7, 24), 9)(grid)
        # The coil's sensitivity: positive, around 1 and smooth.
        self.sensitivity = np.exp(Waves.draw(coil, self.session.bias, (250, 600))(grid))
        self.signals = {domain: np.zeros(grid.x.shape) for domain in mr.series}

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:  # noqa: ARG002
        """Lay one tissue over what is there."""
        tissue = self.tissues[layer.tissue if layer.filling is None else layer.filling]
        density = 1 + tissue.texture * self.texture[box]
        for domain, acquisition in self.series.items():
            signal = self.signals[domain][box]
            signal += share * (acquisition.signal(tissue) * density - signal)

    def images(self, *, noise: bool) -> dict[str, NDArray[np.int16]]:
        """The magnitude of each series, at the subject's scale."""
        stored = {}
        for domain, signal in self.signals.items():
            magnitude = signal * self.sensitivity
            magnitude = _rician(self.rng(domain), magnitude, self.session.noise) if noise else np.abs(magnitude)
            stored[domain] = np.rint(np.round(np.clip(self.session.scale * magnitude, 0, 32767), 3)).astype(np.int16)
        return stored


def _rician(rng: np.random.Generator, signal: Field, sigma: float) -> Field:
    """The magnitude of a signal with normal noise of ``sigma`` in its real and its imaginary part.

    Source: Gudbjartsson & Patz, Magn Reson Med 1995;34:910-914.
    """
    real, imaginary = sigma * rng.standard_normal((2, *signal.shape))
    return np.asarray(np.sqrt((signal + real) ** 2 + imaginary**2))
