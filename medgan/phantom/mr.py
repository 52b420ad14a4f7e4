"""MR of a phantom subject by the signal equations of its sequences.

A voxel's signal is the volume-weighted mean of the signals of the tissues in it, signed where an inversion makes it so.
A smooth field of the coil multiplies it, the scanner gives it a scale of its own (MR has no unit), and the magnitude is
taken of a complex number with noise in both parts.

Source: Bernstein, King & Zhou, Handbook of MRI Pulse Sequences, 2004, chapters 14.1 (spoiled gradient echo), 14.3 (spin
echo) and 14.2 (inversion recovery). T2 stands in for T2*, which echo times of a few ms barely show.

Numbers are float64 and rounded to 0.001 before they become integers, as in CT.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import cos, exp, radians, sin
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.anatomy import Layer
from medgan.phantom.space import Box, Field, Space, Streams, Waves
from medgan.phantom.tissues import Label, Relaxation

FLOW_VOID = 0.1  # what a spin echo sees of flowing blood: most of what was excited has left the slice


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
    enhanced: bool = False  # whether it is taken after the injection of gadolinium

    def signal(self, tissue: Relaxation) -> float:
        """The signal of a tissue of this subject."""
        return self.sequence.signal(tissue.enhanced() if self.enhanced else tissue)


@dataclass(frozen=True)
class MR:
    """One MR examination."""

    tissues: type[Label]  # what is in the body
    series: Mapping[str, Acquisition]  # by domain
    unit: ClassVar[str] = "arbitrary"

    def describe(self, rng: Streams) -> dict[str, dict[str, Any]]:
        """What the sidecar of each series says."""
        session = asdict(_Session.draw(rng("session")))
        return {domain: session | asdict(acquisition) for domain, acquisition in self.series.items()}

    def scanner(self, rng: Streams, grid: Space) -> "_Scanner":
        """A scanner with a subject in its coil."""
        return _Scanner(self, rng, grid)


@dataclass(frozen=True)
class _Session:
    """What differs from examination to examination; all of a subject's series share it."""

    scale: float  # stored value of a signal of 1
    noise: float  # standard deviation of the noise in each part of the complex signal, as a share of ``scale``
    bias: float  # root mean square of the logarithm of the coil's field

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """A random one; scales differ by a factor of up to 8."""
        scale = round(1500 * 8 ** rng.uniform())
        return cls(scale, round(rng.uniform(0.0022, 0.0042), 5), round(rng.uniform(0.06, 0.16), 3))


class _Scanner:
    """The signal of each series; a table has no protons and gives none."""

    def __init__(self, mr: MR, rng: Streams, grid: Space) -> None:
        self.series, self.rng, self.session = mr.series, rng, _Session.draw(rng("session"))
        coil = rng("relaxation")
        self.tissues = _tissues_of_subject(coil, mr.tissues)
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


def _tissues_of_subject(rng: np.random.Generator, tissues: type[Label]) -> dict[Label, Relaxation]:
    """The relaxation of one subject's tissues; all blood is alike, and the dose goes to all that takes it up."""
    blood, dose = rng.uniform(-1, 1, 2), rng.uniform(0.8, 1.2)
    subject: dict[Label, Relaxation] = {}
    for tissue in tissues:
        mean = tissue.relaxation
        t1, t2 = 1 + mean.spread * (blood if mean.flows else rng.uniform(-1, 1, 2))
        t1_ms, t2_ms = mean.t1_ms * float(t1), mean.t2_ms * float(t2)
        subject[tissue] = replace(mean, t1_ms=t1_ms, t2_ms=t2_ms, uptake_mmol=mean.uptake_mmol * dose)
    return subject


def _rician(rng: np.random.Generator, signal: Field, sigma: float) -> Field:
    """The magnitude of a signal with normal noise of ``sigma`` in its real and its imaginary part.

    Source: Gudbjartsson & Patz, Magn Reson Med 1995;34:910-914.
    """
    real, imaginary = sigma * rng.standard_normal((2, *signal.shape))
    return np.asarray(np.sqrt((signal + real) ** 2 + imaginary**2))
