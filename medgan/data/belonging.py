"""Whether a study can be what a model takes it for, and what is unusual about it.

What cannot be of a domain is refused by name: a file that says that it is something else, or intensities that are not
in the domain's unit. All else that is unusual is a warning. Training asks the same of a study as conversion.
"""

import re
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig, Scan, scan_of
from medgan.data.studies import AUGMENTATION, damage, sidecar
from medgan.data.volumes import Volume
from medgan.errors import DataError

Range = tuple[NonNegativeFloat, NonNegativeFloat]
"""Lowest and highest."""
MODALITY = r"^[A-Z0-9_]{1,16}$"

NARROWEST_HU = 50.0
"""A CT spans more, from the .1 to the 99.9 percentile: noise alone does."""
AIR_ONLY_HU = -900.0
"""A slice beside the body holds nothing brighter; it is in HU, and there is nothing to convert."""
TISSUE_HU = -300.0
"""Where the body begins in CT."""
FAR_SPACING, FAR_FIELD = 4.0, 5.0
"""How many times beyond the training's range a voxel size or a field of view is far outside: slices of 1 and of 4 mm,
or a thigh and a whole abdomen, are one kind of scan; a mouse, or centimetres read as millimetres, are not."""
MOST_LABELS, FLATTEST = 512, 0.75
"""A label map has so few values at most, and this share of its marked neighbours are equal: .97 and more in maps of
organs and tumours, .25 and less in CT and MR, which have noise."""
SAMPLE_VOXELS = 1 << 22
"""Of a larger volume every n-th slice is looked at, so that no copy of it is made."""

OTHERS = frozenset(
    ("CR", "DX", "ES", "IO", "IVOCT", "KO", "MG", "NM", "OCT", "OP", "OPT", "PR", "PT", "REG", "RF", "RTDOSE")
) | {"RTIMAGE", "RTPLAN", "RTSTRUCT", "RWV", "SEG", "SM", "SR", "US", "XC"}
"""DICOM's words for what is neither CT nor MR. Others tell nothing (OT), or may be in HU (XA of a cone beam)."""
OTHER_UNITS = frozenset(("BQML", "BQ/ML", "KBQ/ML", "SUV", "G/ML", "CNTS", "CPS", "HZ", "RAD", "RAD/S", "GY", "CGY"))
"""The units of PET, field maps and doses, in capitals."""


class Scans(Config):
    """How the studies of a domain were scanned that a model was trained on, along right, anterior and superior."""

    spacing_mm: tuple[Range, Range, Range]
    field_mm: tuple[Range, Range, Range]
    """Field of view: voxels times their size."""
    modalities: tuple[Annotated[str, Field(pattern=MODALITY)], ...] = ()
    """What the files themselves said that they are; empty for formats without such a word."""

    @classmethod
    def of(cls, scans: list[Scan]) -> "Scans":
        """The ranges of at least one scan."""
        words = {scan.modality or "" for scan in scans}
        ranges = {
            name: tuple((min(axis), max(axis)) for axis in zip(*(getattr(scan, name) for scan in scans), strict=True))
            for name in ("spacing_mm", "field_mm")
        }
        modalities = sorted(word for word in words if re.fullmatch(MODALITY, word))
        return cls.model_validate({**ranges, "modalities": tuple(modalities)})


def check_belongs(volume: Volume, domain: Domain, *, force: bool = False, advice: str = "") -> tuple[str, ...]:
    """Refuse a study that cannot be of a domain; if forced, tell why it cannot be, each as a sentence part."""
    reasons = tuple(contradictions(volume, domain))
    if reasons and not force:
        raise DataError(
            f"{volume.path}: {cannot_be(domain)}: {'; '.join(reasons)}; give the study itself, "
            f"in {'HU' if domain.unit == 'HU' else 'the intensities of its scanner'}{advice}."
        )
    return reasons


def assessed(
    volume: Volume,
    domain: Domain,
    scans: Scans | None = None,
    grid: GridConfig | None = None,
    *,
    force: bool = False,
    advice: str = "",
) -> tuple[list[str], list[str]]:
    """All that is odd about a study that a model is to take, and why it is only taken because that is forced.

    Raises:
        DataError: It cannot be of the domain; ``advice`` says what else can be done.
    """
    forced = check_belongs(volume, domain, force=force, advice=advice)
    warnings = [f"forced, although it {cannot_be(domain)}: {reason}" for reason in forced]
    odd = [] if forced else oddities(volume, domain, scans, grid)
    return [*warnings, *volume.notes, *odd], list(forced)


def cannot_be(domain: Domain) -> str:
    """How a study is refused that is none of a domain."""
    return f"cannot be {'an MR' if domain.modality == 'MR' else 'a CT'} of domain '{domain.name}'"


def contradictions(volume: Volume, domain: Domain) -> Iterator[str]:
    """Why a study cannot be of a domain; nothing for what can be."""
    beside = sidecar(volume.path)
    modality = _modality(volume, beside)
    voxels = _sample(volume.voxels)
    if modality == "SEG" or beside.get("Segmentation") is True:
        yield "it says that it is a label map"
        return
    if modality in (OTHERS | {"CT", "MR"}) - {domain.modality}:
        yield f"it says that its modality is {modality}"
    unit = beside.get("Units", beside.get("Unit"))
    other_units = OTHER_UNITS | {"ARBITRARY" if domain.unit == "HU" else "HU"}
    if isinstance(unit, str) and unit.strip().upper() in other_units:
        yield f"it says that its unit is {unit[:20]!r}"
    if _is_label_map(voxels):
        yield f"its values are {np.unique(voxels).size} whole numbers in flat patches, as in a label map"
    elif domain.unit == "HU":
        low, high = np.percentile(voxels, [0.1, 99.9])
        if high - low < NARROWEST_HU and voxels.max() > AIR_ONLY_HU:
            yield f"its values span {high - low:.3g} ({low:.3g} to {high:.3g}, .1 to 99.9 percentile) and are no HU"


def oddities(volume: Volume, domain: Domain, scans: Scans | None = None, grid: GridConfig | None = None) -> list[str]:
    """What is unusual about a study that can be of a domain, each as a sentence part.

    ``scans`` are how the model's training studies of the domain were scanned, ``grid`` is that on which it sees them.
    """
    beside = sidecar(volume.path)
    modality = _modality(volume, beside)
    odd = [f"{reason}: what it says of the image is not known"] if (reason := damage(volume.path)) else []
    if modality and modality not in OTHERS | {"CT", "MR"}:
        odd.append(f"its modality {modality!r} does not say that it is {domain.modality}")
    if beside.get("Synthetic") is True and ("Direction" in beside or AUGMENTATION in beside):
        odd.append("it is synthetic itself: its sidecar says so")
    if domain.unit == "HU":
        odd += odd_hu(volume.voxels)
    else:
        low, high = np.percentile(_sample(volume.voxels), [1, 99])
        if low < -0.05 * max(high, 0):
            odd.append(f"negative intensities, 1 % below {low:.3g}: z scores, or a CT")
    if scans is not None:
        odd += _far_outside(scan_of(volume), scans, grid or GridConfig(spacing_mm=(None, None, None)))
    return odd


def odd_hu(voxels: NDArray[np.float32]) -> Iterator[str]:
    """What is unusual about intensities (X, Y, Z) that may be HU, each as a sentence part; nothing for air alone."""
    voxels = _sample(voxels)
    if voxels.max() <= AIR_ONLY_HU:
        return
    if not ((voxels > -1024) & (voxels < 0)).any():
        yield "no value between -1024 and 0 HU, where air and fat are: an offset of 1024 may be lost"
    tissue = voxels[voxels > TISSUE_HU]
    if tissue.size and (span := float(np.ptp(np.percentile(tissue, [0.1, 99.9])))) < NARROWEST_HU:
        yield f"all that is no air spans {span:.3g} HU: a mask, or intensities that were scaled"


def _is_label_map(voxels: NDArray[np.float32]) -> bool:
    """Whether intensities (X, Y, Z) are labels: few whole numbers from 0, and neighbours along X mostly equal."""
    marked = voxels != 0
    if not marked.any() or voxels.min() < 0 or not np.array_equal(voxels, np.rint(voxels)):
        return False
    both = marked[1:] & marked[:-1]
    flat = np.count_nonzero((voxels[1:] == voxels[:-1]) & both) >= FLATTEST * np.count_nonzero(both)
    return bool(flat and 2 <= np.unique(voxels).size <= MOST_LABELS)


def _sample(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every n-th slice (X, Y, slices) along Z, as a view: all of a small volume, 4 million voxels of a large one."""
    return voxels[..., :: -(-voxels.size // SAMPLE_VOXELS)]


def _modality(volume: Volume, beside: dict[str, object]) -> str | None:
    """In DICOM's words and capitals: the file's own, else that of the JSON that converters of DICOM write beside it."""
    word = volume.modality or beside.get("Modality")
    return word.strip().upper()[:20] or None if isinstance(word, str) else None


def _far_outside(scan: Scan, scans: Scans, grid: GridConfig) -> Iterator[str]:
    """Spacings and fields of view far outside of the training's.

    Along axes that are resampled for the network finer voxels are averaged, so that only coarser ones matter. The
    field of view counts in plane, where a limb may be narrow in one direction; a single slice has no spacing across.
    """
    axes = ("right", "anterior", "superior")
    far = []
    for axis, size, (low, high), wanted in zip(axes, scan.spacing_mm, scans.spacing_mm, grid.spacing_mm, strict=True):
        alone = axis == "superior" and scan.slices == 1
        if not alone and (size > FAR_SPACING * high or (wanted is None and size < low / FAR_SPACING)):
            far.append(f"{size:.3g} mm along {axis}, {low:.3g} to {high:.3g} mm in training")
    if far:
        yield f"voxel size far outside what the model saw: {', '.join(far)}"
    fields = list(zip(axes, scan.field_mm, scans.field_mm, strict=True))[:2]
    if all(size > FAR_FIELD * high or size < low / FAR_FIELD for _, size, (low, high) in fields):
        shown = [
            f"{size:.0f} mm along {axis}, {low:.0f} to {high:.0f} mm in training" for axis, size, (low, high) in fields
        ]
        yield f"field of view far outside what the model saw: {', '.join(shown)}"
