"""CT of a phantom subject, with iodine and without: one anatomy, one grid, two scans.

A voxel's attenuation is the volume-weighted mean of the tissues in it. The scan with iodine adds each tissue's uptake
at one moment between the late arterial and the portal phase. Both are blurred alike, and each has its own noise, as two
real scans have; there is no motion between them.

Every number is computed in float64 from elementary operations and rounded to 0.001 HU before it is rounded to 1 HU, so
that the last bits, in which machines may differ, do not reach the voxels.

Sources: enhancement by phase after K. T. Bae, Radiology 2010;256:32-61; attenuation as in textbooks of CT, at 120 kV.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom.shapes import TALL, Ellipsoid
from medgan.phantom.space import Box, Field, Space, Streams, Waves
from medgan.phantom.tissues import VESSELS, Layer, Tissue


@dataclass(frozen=True)
class Attenuation:
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


ATTENUATION: Mapping[IntEnum, Attenuation] = {
    Tissue.AIR: Attenuation(-1000, 0, 0),
    Tissue.SKIN: Attenuation(20, 15, 0, 3, 8),
    Tissue.SUBCUTANEOUS_FAT: Attenuation(-104, 6, 4),
    Tissue.VISCERAL_FAT: Attenuation(-98, 7, 6),
    Tissue.MUSCLE: Attenuation(52, 6, 5, 4, 12),
    Tissue.LIVER: Attenuation(56, 9, 2.5, 12, 56),
    Tissue.SPLEEN: Attenuation(48, 4, 2, 78, 68),
    Tissue.KIDNEY_CORTEX: Attenuation(33, 3, 2, 135, 140),
    Tissue.KIDNEY_MEDULLA: Attenuation(30, 3, 2, 25, 110),
    Tissue.AORTA: Attenuation(42, 6, 1, 250, 112),
    Tissue.VENA_CAVA: Attenuation(42, 6, 1, 12, 80),
    Tissue.PORTAL_VEIN: Attenuation(42, 6, 1, 40, 122),
    Tissue.HEPATIC_VEIN: Attenuation(42, 6, 1, 10, 112),
    Tissue.RENAL_VEIN: Attenuation(42, 6, 1, 110, 118),
    Tissue.ARTERY: Attenuation(42, 6, 1, 240, 110),
    Tissue.CORTICAL_BONE: Attenuation(760, 90, 60),
    Tissue.TRABECULAR_BONE: Attenuation(195, 50, 26, 5, 9),
    Tissue.RIB: Attenuation(640, 90, 40),
    Tissue.CARTILAGE: Attenuation(95, 20, 8),
    Tissue.DISC: Attenuation(80, 12, 5),
    Tissue.SPINAL_CANAL: Attenuation(28, 5, 3),
    Tissue.LUNG: Attenuation(-830, 25, 22),
    Tissue.STOMACH_WALL: Attenuation(40, 4, 2, 38, 48),
    Tissue.BOWEL_WALL: Attenuation(40, 4, 2, 42, 46),
    Tissue.CONTENT: Attenuation(24, 8, 9),
    Tissue.GAS: Attenuation(-960, 15, 4),
    Tissue.GALLBLADDER: Attenuation(8, 6, 1),
    Tissue.PANCREAS: Attenuation(41, 5, 4, 62, 52),
    Tissue.URINE: Attenuation(4, 3, 1),
    Tissue.HYPO_LESION: Attenuation(38, 6, 3, 6, 22),
    Tissue.HYPER_LESION: Attenuation(47, 5, 3, 64, 38),
    Tissue.TABLE: Attenuation(20, 60, 0),
}

RENAL_RETURN = Attenuation(42, 6, 1, 78, 105)
"""Blood of the vena cava above the renal veins, which empty into it."""


def attenuation_of_subject(rng: np.random.Generator) -> dict[IntEnum, Attenuation]:
    """The tissues of one subject; all of the blood shares one haematocrit."""
    blood = rng.uniform(-1, 1)
    subject = {}
    for tissue, mean in ATTENUATION.items():
        offset = blood if tissue in VESSELS else rng.uniform(-1, 1)
        uptake = rng.uniform(0.92, 1.08)
        subject[tissue] = replace(
            mean,
            hu=mean.hu + offset * mean.spread_hu,
            arterial_hu=mean.arterial_hu * uptake,
            portal_hu=mean.portal_hu * uptake,
        )
    return subject


@dataclass(frozen=True)
class CT:
    """One CT examination."""

    series: Mapping[str, bool]
    """By domain, whether the scan is taken after the injection of iodine."""
    unit: ClassVar[str] = "HU"

    def describe(self, rng: Streams) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says."""
        note = asdict(_draw_scan(rng("scan")))
        if not any(self.series.values()):  # without iodine there is no phase
            del note["phase"], note["iodine"]
        return dict.fromkeys(self.series, note)

    def scanner(self, rng: Streams, grid: Space) -> "_Scanner":
        """A scanner with a subject on its table."""
        return _Scanner(self.series, rng, grid)


@dataclass(frozen=True)
class _Scan:
    """What differs from scan to scan: how the scanner was set, and how far the iodine had come."""

    phase: float
    """0 late arterial, 1 portal."""
    iodine: float
    """Dose by body weight, relative to the usual one."""
    noise_hu: float
    """Standard deviation of the noise in mid-body."""
    blur_mm: float
    """Standard deviation of the point-spread function within a slice."""
    table: bool
    """Whether the field of view reaches the table."""


def _draw_scan(rng: np.random.Generator) -> _Scan:
    return _Scan(
        phase=round(rng.uniform(), 3),
        iodine=round(rng.uniform(0.8, 1.2), 3),
        noise_hu=round(rng.uniform(9, 16), 1),
        blur_mm=round(rng.uniform(0.6, 0.9), 2),
        table=bool(rng.uniform() < 0.7),
    )


class _Scanner:
    """Attenuation without iodine, and what iodine adds to it, HU."""

    def __init__(self, series: Mapping[str, bool], rng: Streams, grid: Space) -> None:
        self.series, self.rng, self.grid, self.scan = series, rng, grid, _draw_scan(rng("scan"))
        # The table is a thin shell, a little hollow.
        hollow = Ellipsoid((0.0, 572.0, 0.0), (700.0, 700.0, TALL))
        table = Layer(Tissue.TABLE, hollow.grown(2.5).without(hollow))
        self.furniture: tuple[Layer, ...] = (table,) if self.scan.table else ()
        materials = rng("materials")
        self.tissues = attenuation_of_subject(materials)
        self.texture = Waves.draw(materials, 1.0, (9, 26), 9)(grid)
        self.patches = Waves.draw(materials, 0.22, (14, 30), 5)(grid)
        self.hu = np.full(grid.x.shape, float(ATTENUATION[Tissue.AIR].hu))
        self.gain_hu = np.zeros(grid.x.shape)

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:
        """Lay one tissue over what is there."""
        tissue = self.tissues[layer.tissue]
        hu = tissue.hu + layer.offset_hu + tissue.texture_hu * self.texture[box]
        self.hu[box] += share * (hu - self.hu[box])
        self.gain_hu[box] += share * (self._gain_hu(layer.tissue, box, near) - self.gain_hu[box])

    def _gain_hu(self, tissue: IntEnum, box: Box, near: Space) -> Field | float:
        """What iodine adds: mostly one number for a tissue."""
        phase, iodine = self.scan.phase, self.scan.iodine
        gain = self.tissues[tissue].gain_hu(phase) * iodine
        if tissue is Tissue.VENA_CAVA:  # renal blood mixes in over 40 mm
            mixed = np.clip((near.z + 30.0) / 40.0, 0.0, 1.0)
            return np.asarray(gain + mixed * (RENAL_RETURN.gain_hu(phase) * iodine - gain))
        if tissue is Tissue.SPLEEN:  # the pulp fills unevenly at first
            return np.asarray(gain * (1.0 + max(0.0, 1.0 - 2.5 * phase) * self.patches[box]))
        return gain

    def images(self, *, noise: bool) -> dict[str, NDArray[np.int16]]:
        """The scans in whole HU, in the range of a 12-bit scanner."""
        stored = {}
        for domain, enhanced in self.series.items():
            sigma = (*(self.scan.blur_mm / step for step in self.grid.spacing_mm[:2]), 0.0)
            hu = ndimage.gaussian_filter(self.hu + self.gain_hu if enhanced else self.hu, sigma, mode="nearest")
            if noise:
                hu += self.scan.noise_hu * _quantum_noise(self.rng("contrast" if enhanced else "plain"), self.grid)
            stored[domain] = np.rint(np.round(np.clip(hu, -1024, 3071), 3)).astype(np.int16)
        return stored


def _quantum_noise(rng: np.random.Generator, grid: Space) -> Field:
    """Noise with the texture of filtered back-projection: standard deviation 1 in mid-body, less towards the skin.

    The power rises with the frequency and is cut off by the soft-tissue kernel; slices are independent.

    Source: Riederer, Pelc & Chesler, Phys Med Biol 1978;23:446-454.
    """
    shape = grid.x.shape
    frequency = np.sqrt(np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1]) ** 2)
    transfer = np.sqrt((frequency + 0.03) * np.exp(-((frequency / 0.33) ** 2)))
    transfer /= np.sqrt((transfer**2).mean())
    spectrum = np.fft.fft2(rng.standard_normal(shape), axes=(0, 1)) * transfer[..., None]
    path = np.maximum(1.0 - (grid.x / 190.0) ** 2 - (grid.y / 130.0) ** 2, 0.0)
    return np.asarray((0.35 + 0.65 * path) * np.fft.ifft2(spectrum, axes=(0, 1)).real)
