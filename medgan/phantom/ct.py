"""CT of a phantom subject, with iodine and without: one anatomy, one grid, two scans.

A voxel's attenuation is the volume-weighted mean of the tissues in it. The scan with iodine adds each tissue's uptake
at one moment between the late arterial and the portal phase. Both are blurred alike, and each has its own noise, as two
real scans have; there is no motion between them.

Every number is computed in float64 from elementary operations and rounded to 0.001 HU before it is rounded to 1 HU, so
that the last bits, in which machines may differ, do not reach the voxels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom.anatomy import Layer, lay
from medgan.phantom.shapes import TALL, Ellipsoid
from medgan.phantom.space import Box, Field, Space, Streams, Waves
from medgan.phantom.tissues import RENAL_RETURN, Attenuation, Label, Tissue


@dataclass(frozen=True)
class CT:
    """One CT examination."""

    series: Mapping[str, bool]  # by domain, whether the scan is taken after the injection of iodine
    unit: ClassVar[str] = "HU"

    def describe(self, rng: Streams) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says."""
        note = asdict(_Scan.draw(rng("scan")))
        if not any(self.series.values()):  # without iodine there is no phase
            del note["phase"], note["iodine"]
        return dict.fromkeys(self.series, note)

    def scanner(self, rng: Streams, grid: Space) -> "_Scanner":
        """A scanner with a subject on its table."""
        return _Scanner(self.series, rng, grid)


@dataclass(frozen=True)
class _Scan:
    """What differs from scan to scan: how the scanner was set, and how far the iodine had come."""

    phase: float  # 0 late arterial, 1 portal
    iodine: float  # dose by body weight, relative to the usual one
    noise_hu: float  # standard deviation of the noise in mid-body
    blur_mm: float  # standard deviation of the point-spread function within a slice
    table: bool  # whether the field of view reaches the table

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """A random one."""
        phase, iodine = round(rng.uniform(), 3), round(rng.uniform(0.8, 1.2), 3)
        noise_hu, blur_mm = round(rng.uniform(9, 16), 1), round(rng.uniform(0.6, 0.9), 2)
        return cls(phase, iodine, noise_hu, blur_mm, table=bool(rng.uniform() < 0.7))


class _Scanner:
    """Attenuation without iodine, and what iodine adds to it, HU."""

    def __init__(self, series: Mapping[str, bool], rng: Streams, grid: Space) -> None:
        self.series, self.rng, self.grid, self.scan = series, rng, grid, _Scan.draw(rng("scan"))
        materials = rng("materials")
        self.tissues = _tissues_of_subject(materials)
        self.texture = Waves.draw(materials, 1.0, (9, 26), 9)(grid)
        self.patches = Waves.draw(materials, 0.22, (14, 30), 5)(grid)
        self.hu = np.full(grid.x.shape, float(Tissue.AIR.attenuation.hu))
        self.gain_hu = np.zeros(grid.x.shape)
        if self.scan.table:  # a thin shell, a little hollow
            hollow = Ellipsoid((0.0, 572.0, 0.0), (700.0, 700.0, TALL))
            lay([Layer(Tissue.TABLE, hollow.grown(2.5).without(hollow))], grid, self)

    def lay(self, layer: Layer, box: Box, near: Space, share: Field) -> None:
        """Lay one tissue over what is there."""
        tissue = self.tissues[layer.tissue]
        hu = tissue.hu + layer.offset_hu + tissue.texture_hu * self.texture[box]
        self.hu[box] += share * (hu - self.hu[box])
        self.gain_hu[box] += share * (self._gain_hu(layer.tissue, box, near) - self.gain_hu[box])

    def _gain_hu(self, tissue: Label, box: Box, near: Space) -> Field | float:
        """What iodine adds: mostly one number for a tissue."""
        phase, iodine = self.scan.phase, self.scan.iodine
        enhancement_hu = self.tissues[tissue].gain_hu(phase) * iodine
        if tissue is Tissue.VENA_CAVA:  # renal blood mixes in over 40 mm
            mixed = np.clip((near.z + 30.0) / 40.0, 0.0, 1.0)
            return np.asarray(enhancement_hu + mixed * (RENAL_RETURN.gain_hu(phase) * iodine - enhancement_hu))
        if tissue is Tissue.SPLEEN:  # the pulp fills unevenly at first
            return np.asarray(enhancement_hu * (1.0 + max(0.0, 1.0 - 2.5 * phase) * self.patches[box]))
        return enhancement_hu

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


def _tissues_of_subject(rng: np.random.Generator) -> dict[Label, Attenuation]:
    """The attenuation of one subject's tissues; all of the blood shares one haematocrit."""
    blood = rng.uniform(-1, 1)
    subject: dict[Label, Attenuation] = {}
    for tissue in Tissue:
        mean, offset = tissue.attenuation, blood if tissue.relaxation.flows else rng.uniform(-1, 1)
        uptake, hu = rng.uniform(0.92, 1.08), mean.hu + offset * mean.spread_hu
        arterial_hu, portal_hu = mean.arterial_hu * uptake, mean.portal_hu * uptake
        subject[tissue] = replace(mean, hu=hu, arterial_hu=arterial_hu, portal_hu=portal_hu)
    return subject


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
