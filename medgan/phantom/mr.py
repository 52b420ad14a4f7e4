"""MR of a phantom subject by the signal equations of its sequences.

A voxel's signal is the volume-weighted mean of the signals of the tissues in it, signed where an inversion makes it so.
A smooth field of the coil multiplies it, the scanner gives it a scale of its own (MR has no unit), and the magnitude is
taken of a complex number with noise in both parts.

Source: Bernstein, King & Zhou, Handbook of MRI Pulse Sequences, 2004, chapters 14.1 (spoiled gradient echo), 14.3 (spin
echo) and 14.2 (inversion recovery). T2 stands in for T2*, which echo times of a few ms barely show.

Numbers are float64 and rounded to 0.001 before they become integers, as in CT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import cos, exp, radians, sin
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.canvas import Footprint
from medgan.phantom.relaxation import Relaxation, relaxation_of_subject
from medgan.phantom.space import Field, Space, Waves
from medgan.phantom.streams import stream
from medgan.phantom.tissues import Layer

FLOW_VOID = 0.1
"""What a spin echo sees of flowing blood: most of what was excited has left the slice."""


class Sequence(Protocol):
    """How the scanner excites and listens."""

    def signal(self, tissue: Relaxation) -> float:
        """The transverse magnetisation at the echo, as a share of that of water at rest; may be negative."""


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
    """S = PD (1 - exp(-TR/T1)) exp(-TE/T2)."""

    tr_ms: float
    te_ms: float

    def signal(self, tissue: Relaxation) -> float:
        """TE far below TR."""
        recovered = 1 - exp(-self.tr_ms / tissue.t1_ms)
        return _still(tissue) * tissue.density * recovered * exp(-self.te_ms / tissue.t2_ms)


@dataclass(frozen=True)
class InversionRecovery:
    """A spin echo after an inversion: S = PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2)."""

    tr_ms: float
    te_ms: float
    ti_ms: float

    def signal(self, tissue: Relaxation) -> float:
        """Negative before the tissue has recovered through zero."""
        recovered = 1 - 2 * exp(-self.ti_ms / tissue.t1_ms) + exp(-self.tr_ms / tissue.t1_ms)
        return _still(tissue) * tissue.density * recovered * exp(-self.te_ms / tissue.t2_ms)


@dataclass(frozen=True)
class Acquisition:
    """One series of an examination."""

    sequence: Sequence
    enhanced: bool = False
    """Whether it is taken after the injection of gadolinium."""

    def signal(self, tissue: Relaxation) -> float:
        """The signal of a tissue of this subject."""
        return self.sequence.signal(tissue.enhanced() if self.enhanced else tissue)


@dataclass(frozen=True)
class Session:
    """What differs from examination to examination; all of a subject's series share it."""

    scale: float
    """Stored value of a signal of 1."""
    noise: float
    """Standard deviation of the noise in each part of the complex signal, as a share of ``scale``."""
    bias: float
    """Root mean square of the logarithm of the coil's field."""


def draw_session(seed: int, subject: int) -> Session:
    """The examination of a subject; scales differ by a factor of up to 8."""
    rng = stream(seed, subject, "session")
    return Session(
        scale=round(1500 * 8 ** rng.uniform()),
        noise=round(rng.uniform(0.0022, 0.0042), 5),
        bias=round(rng.uniform(0.06, 0.16), 3),
    )


class Magnetisation:
    """What each series sees of the tissues.

    Args:
        rng: Draws the subject's tissues and their texture.
        grid: The voxels.
        tissues: The relaxation of each tissue, mean over subjects.
        acquisitions: The series, by domain.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        grid: Space,
        tissues: Mapping[IntEnum, Relaxation],
        acquisitions: Mapping[str, Acquisition],
    ) -> None:
        self.tissues = relaxation_of_subject(rng, tissues)
        self.acquisitions = acquisitions
        self.texture = Waves.draw(rng, 1.0, (7, 24), 9)(grid)
        self.signals = {domain: np.zeros(grid.x.shape) for domain in acquisitions}

    def lay(self, layer: Layer, place: Footprint) -> None:
        """Lay one tissue over what is there."""
        tissue = self.tissues[layer.tissue if layer.filling is None else layer.filling]
        density = 1 + tissue.texture * self.texture[place.box]
        for domain, acquisition in self.acquisitions.items():
            seen = self.signals[domain][place.box]
            seen += place.share * (acquisition.signal(tissue) * density - seen)

    def scanned(self, domain: str, session: Session, bias: Field, rng: np.random.Generator | None) -> NDArray[np.int16]:
        """A series as it is stored; without random numbers it has no noise."""
        signal = self.signals[domain] * bias
        noisy = rician(rng, signal, session.noise) if rng else np.abs(signal)
        return np.rint(np.round(np.clip(session.scale * noisy, 0, 32767), 3)).astype(np.int16)


def bias_field(rng: np.random.Generator, grid: Space, rms: float) -> Field:
    """The coil's sensitivity: positive, around 1 and smooth; its logarithm has root mean square ``rms``."""
    return np.exp(Waves.draw(rng, rms, (250, 600))(grid))


def rician(rng: np.random.Generator, signal: Field, sigma: float) -> Field:
    """The magnitude of a signal with normal noise of ``sigma`` in its real and its imaginary part.

    Source: Gudbjartsson & Patz, Magn Reson Med 1995;34:910-914.
    """
    real, imaginary = sigma * rng.standard_normal((2, *signal.shape))
    return np.asarray(np.sqrt((signal + real) ** 2 + imaginary**2))


def _still(tissue: Relaxation) -> float:
    """The share of a tissue that is still there when a spin echo is read."""
    return FLOW_VOID if tissue.flows else 1.0
