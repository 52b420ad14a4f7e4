"""CT of a phantom subject, with iodine and without: one anatomy, one grid, two scans.

A voxel's attenuation is the volume-weighted mean of the tissues in it. The scan with iodine adds each tissue's uptake
at one moment between the late arterial and the portal phase. Both are blurred alike, and each has its own noise, as two
real scans have; there is no motion between them.

Every number is computed in float64 from elementary operations and rounded to 0.001 HU before it is rounded to 1 HU, so
that the last bits, in which machines may differ, do not reach the voxels.

Sources: enhancement by phase after K. T. Bae, Radiology 2010;256:32-61; attenuation as in textbooks of CT, at 120 kV.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.phantom.anatomy import Anatomy, draw_abdomen
from medgan.phantom.shapes import TALL, Ellipsoid
from medgan.phantom.space import Box, Field, Point, Size, Space, Waves, has_lesions, stream
from medgan.phantom.tissues import LESIONS, VESSELS, Footprint, Layer, Piece, Tissue, laid


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


DOMAINS = ("contrast", "plain")
FIELD_OF_VIEW_MM = (365.0, 365.0, 120.0)


@dataclass(frozen=True)
class Scan:
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


def draw_scan(seed: int, subject: int) -> Scan:
    """The settings of a subject's two scans."""
    rng = stream(seed, subject, "scan")
    return Scan(
        phase=round(rng.uniform(), 3),
        iodine=round(rng.uniform(0.8, 1.2), 3),
        noise_hu=round(rng.uniform(9, 16), 1),
        blur_mm=round(rng.uniform(0.6, 0.9), 2),
        table=bool(rng.uniform() < 0.7),
    )


def describe(seed: int, subject: int, *, lesions: float) -> dict[str, dict[str, Any]]:
    """What a subject's sidecars say, by domain."""
    note = asdict(draw_scan(seed, subject)) | {"lesions": has_lesions(seed, subject, lesions)}
    return dict.fromkeys(DOMAINS, note)


def render_subject(
    seed: int,
    subject: int,
    *,
    shape: Size = (96, 96, 24),
    spacing_mm: Point | None = None,
    lesions: float = 0.3,
    noise: bool = True,
) -> dict[str, NDArray[Any]]:
    """Both scans of one subject and the truth about it, (X, Y, Z) in RAS+ order.

    Args:
        seed: The cohort's.
        subject: The subject's number in it, from 0.
        shape: Voxels along x, y and z.
        spacing_mm: The voxels' size; by default 365 x 365 x 120 mm are in view, whatever the shape.
        lesions: Share of subjects with liver lesions.
        noise: Whether the scans have noise; without it they differ by iodine alone.

    Returns:
        ``contrast`` and ``plain`` (int16, HU), ``labels`` (uint8, ``Tissue``), ``lesions`` (uint8, 0 or 1).
    """
    scan, scanner = draw_scan(seed, subject), Space.regular(shape, spacing_mm or default_spacing_mm(shape))
    attenuation = Attenuation(stream(seed, subject, "materials"), scanner, scan)
    anatomy = draw_abdomen(stream(seed, subject, "anatomy"), lesions=has_lesions(seed, subject, lesions))
    labels = laid(scanner, abdomen_pieces(anatomy, scanner, table=scan.table), attenuation)
    rendered: dict[str, NDArray[Any]] = {}
    for domain, hu in (("contrast", attenuation.hu + attenuation.gain_hu), ("plain", attenuation.hu)):
        rendered[domain] = scanned(hu, scan, scanner, stream(seed, subject, domain) if noise else None)
    return rendered | truth(labels)


def abdomen_pieces(anatomy: Anatomy, scanner: Space, *, table: bool) -> Iterator[Piece]:
    """The table, where it is in view, and the anatomy on it, each with the points in its own coordinates."""
    if table:
        yield table_top(), scanner
    coordinates = anatomy.coordinates(scanner)
    for layer in anatomy.layers:
        yield layer, coordinates


def scanned(hu: Field, scan: Scan, scanner: Space, rng: np.random.Generator | None) -> NDArray[np.int16]:
    """An attenuation as the scanner shows it; without random numbers it has no noise."""
    seen = blurred(hu, scan.blur_mm, scanner.spacing_mm)
    if rng:
        seen += scan.noise_hu * quantum_noise(rng, scanner)
    return stored(seen)


def truth(labels: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """``labels`` without the table, and the mask ``lesions``, of an abdomen."""
    tissues = np.where(labels == Tissue.TABLE, Tissue.AIR, labels).astype(np.uint8)
    return {"labels": tissues, "lesions": np.isin(tissues, LESIONS).astype(np.uint8)}


def default_spacing_mm(shape: Size) -> Point:
    """The voxel size at which the whole field of view is covered."""
    x, y, z = FIELD_OF_VIEW_MM
    return x / shape[0], y / shape[1], z / shape[2]


class Attenuation:
    """What CT sees: attenuation without iodine, and what iodine adds to it, HU."""

    def __init__(self, rng: np.random.Generator, scanner: Space, scan: Scan) -> None:
        self.scan = scan
        self.materials = materials_of_subject(rng)
        self.texture = Waves.draw(rng, 1.0, (9, 26), 9)(scanner)
        self.patches = Waves.draw(rng, 0.22, (14, 30), 5)(scanner)
        self.hu = np.full(scanner.x.shape, float(MATERIALS[Tissue.AIR].hu))
        self.gain_hu = np.zeros(scanner.x.shape)

    def lay(self, layer: Layer, place: Footprint) -> None:
        """Lay one tissue over what is there."""
        box, share = place.box, place.share
        material = self.materials[layer.tissue]
        hu = material.hu + layer.offset_hu + material.texture_hu * self.texture[box]
        self.hu[box] += share * (hu - self.hu[box])
        self.gain_hu[box] += share * (self._gain_hu(layer.tissue, box, place.near) - self.gain_hu[box])

    def _gain_hu(self, tissue: IntEnum, box: Box, near: Space) -> Field | float:
        """What iodine adds: mostly one number for a tissue."""
        phase, iodine = self.scan.phase, self.scan.iodine
        gain = self.materials[tissue].gain_hu(phase) * iodine
        if tissue is Tissue.VENA_CAVA:  # renal blood mixes in over 40 mm
            mixed = np.clip((near.z + 30.0) / 40.0, 0.0, 1.0)
            return np.asarray(gain + mixed * (RENAL_RETURN.gain_hu(phase) * iodine - gain))
        if tissue is Tissue.SPLEEN:  # the pulp fills unevenly at first
            return np.asarray(gain * (1.0 + max(0.0, 1.0 - 2.5 * phase) * self.patches[box]))
        return gain


def blurred(hu: Field, sigma_mm: float, spacing_mm: Point) -> Field:
    """A volume as the scanner's point-spread function passes it, slice by slice."""
    sigma = (sigma_mm / spacing_mm[0], sigma_mm / spacing_mm[1], 0.0)
    return np.asarray(ndimage.gaussian_filter(hu, sigma, mode="nearest"))


def stored(hu: Field) -> NDArray[np.int16]:
    """Whole HU in the range of a 12-bit scanner; bits in which machines differ are rounded away before."""
    return np.rint(np.round(np.clip(hu, -1024, 3071), 3)).astype(np.int16)


def quantum_noise(rng: np.random.Generator, scanner: Space) -> Field:
    """Noise with the texture of filtered back-projection: standard deviation 1 in mid-body, less towards the skin.

    The power rises with the frequency and is cut off by the soft-tissue kernel; slices are independent.

    Source: Riederer, Pelc & Chesler, Phys Med Biol 1978;23:446-454.
    """
    shape = scanner.x.shape
    frequency = np.sqrt(np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1]) ** 2)
    transfer = np.sqrt((frequency + 0.03) * np.exp(-((frequency / 0.33) ** 2)))
    transfer /= np.sqrt((transfer**2).mean())
    spectrum = np.fft.fft2(rng.standard_normal(shape), axes=(0, 1)) * transfer[..., None]
    path = np.maximum(1.0 - (scanner.x / 190.0) ** 2 - (scanner.y / 130.0) ** 2, 0.0)
    return np.asarray((0.35 + 0.65 * path) * np.fft.ifft2(spectrum, axes=(0, 1)).real)


def table_top() -> Layer:
    """The thin shell on which the patient lies, a little hollow."""
    hollow = Ellipsoid((0.0, 572.0, 0.0), (700.0, 700.0, TALL))
    return Layer(Tissue.TABLE, hollow.grown(2.5).without(hollow))
