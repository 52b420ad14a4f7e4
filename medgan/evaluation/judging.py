"""One case in memory, on one grid, and every figure about it that needs no other case."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.grid import apart, same_grid
from medgan.data.volumes import Grid, Volume, read_volume
from medgan.documents import read_json
from medgan.errors import DataError, GeometryError
from medgan.evaluation.bone import Bone, bone_figures
from medgan.evaluation.calibration import calibration, clipped_percent, map_beside, uncertainty_figures
from medgan.evaluation.enhancement import Enhancement, in_scale_of, mr_fidelity, unit
from medgan.evaluation.fidelity import Array, Mask, bias_hu, fidelity, high_frequency_power, mae_hu, ms_ssim, taper
from medgan.evaluation.matching import Case, Role
from medgan.evaluation.tissues import (
    TISSUES,
    Modality,
    TissueMap,
    air_around,
    body,
    change_by_tissue,
    code,
    core,
    distribution,
    tissue_map,
    true_tissues,
)

LabelNames = Mapping[str, int | list[int]]
"""The value of each label, or several values that are judged as one."""

LONGEST_NAME = 100
"""Characters of a label's name."""

Figures = dict[str, str | float]
"""Part of a row: figures by name."""


@dataclass(frozen=True)
class Modalities:
    """What the sources are, and what the references and synthetic images are."""

    source: Modality = "CT"
    reference: Modality = "CT"

    @property
    def hounsfield(self) -> bool:
        """Whether all images are CT, so that a source can be compared with them voxel by voxel."""
        return self.source == self.reference == "CT"


@dataclass(frozen=True, eq=False)
class Scans:
    """The volumes of a case, all (X, Y, Z) on one grid; CT in HU."""

    synthetic: NDArray[np.float32]
    source: NDArray[np.float32] | None
    reference: NDArray[np.float32] | None
    inside: Mask
    """Where fidelity is measured: the given mask, else the body in the reference, source or synthetic volume."""
    regions: Mapping[str, Mask]
    """Where each named label is."""
    grid: Grid
    modalities: Modalities = Modalities()
    uncertainty: NDArray[np.float32] | None = None
    """The map that lies beside the synthetic image, if there is one."""

    @cached_property
    def core(self) -> Mask:
        """Where the bodies of source and reference agree, without their rim; without a source, all that is inside."""
        if self.source is None or self.reference is None:
            return self.inside
        bodies = body(self.source, self.modalities.source), body(self.reference, self.modalities.reference)
        return core(*bodies) & self.inside

    @cached_property
    def true_bone(self) -> Bone:
        """Of the reference, a CT."""
        assert self.reference is not None
        return Bone.of(self.reference, self.grid.spacing_mm)

    @cached_property
    def sharpness(self) -> tuple[NDArray[np.float32], float]:
        """The weights with which high frequencies are measured in the core, and the reference's power there."""
        assert self.reference is not None
        weights = taper(self.core)
        return weights, high_frequency_power(self.reference, weights)

    @cached_property
    def enhancement(self) -> Enhancement:
        """What contrast medium did from source to reference, both MR."""
        assert self.source is not None
        assert self.reference is not None
        return Enhancement.between(self.source, self.reference, self.core)

    @cached_property
    def tissues(self) -> TissueMap:
        """Of the source; without one, of the synthetic volume itself."""
        own = self.source is None or self.modalities.source != "CT"
        return tissue_map(self.synthetic if own or self.source is None else self.source, self.inside)


def read_scans(case: Case, label_names: LabelNames | None, modalities: Modalities | None = None) -> Scans:
    """The volumes of a case.

    Raises:
        DataError: One cannot be read, or the labels are not whole numbers.
        GeometryError: One lies on another grid than the synthetic volume.
    """
    synthetic = read_volume(case.synthetic)
    found: dict[Role, NDArray[np.float32]] = {}
    for role, path in case.partners.items():
        partner = read_volume(path)
        _check_grid(synthetic, partner, role)
        found[role] = partner.voxels
    reference, source, mask = found.get("reference"), found.get("source"), found.get("mask")
    modalities = modalities or Modalities()
    inside = _body(synthetic.voxels, source, reference, modalities) if mask is None else mask > 0
    regions = _regions(case.partners["labels"], found["labels"], label_names) if "labels" in found else {}
    unsure = _uncertainty(synthetic, case.synthetic)
    return Scans(synthetic.voxels, source, reference, inside, regions, synthetic.grid, modalities, unsure)


def read_label_names(folder: Path) -> LabelNames | None:
    """The names in ``labels.json`` beside the label maps; nothing if there is no such file.

    They are ``{"liver": 5, "kidneys": [7, 8]}`` or ``{"5": "liver"}``, alone or under the key ``labels``.

    Raises:
        DataError: It holds something else.
    """
    path = folder / "labels.json"
    if not path.exists():
        return None
    try:
        content = read_json(path)
        return dict(_named(*entry) for entry in content.get("labels", content).items())
    except (ValueError, TypeError, AttributeError):
        raise DataError(f'{path} names no labels; write `{{"liver": 5, "kidneys": [7, 8]}}`.') from None


def check_names(names: LabelNames) -> None:
    """Refuse names of labels that would break a table, or whoever reads it in a terminal.

    Raises:
        DataError: A name that is empty or long, or holds what cannot be printed.
    """
    for name in names:
        if not name.isprintable() or name.strip() != name or not 0 < len(name) <= LONGEST_NAME:
            raise DataError(
                f"the label name {name[:50]!r} cannot stand in a table; name labels by at most {LONGEST_NAME} "
                "characters that can be printed, without blanks at the ends."
            )


def _named(key: str, value: str | int | list[int]) -> tuple[str, int | list[int]]:
    if isinstance(value, str):
        return value, int(key)
    return key, [int(v) for v in value] if isinstance(value, list) else int(value)


def errors(volume: Array, scans: Scans, in_core: Array | None = None) -> Figures:
    """Every error of an arm's volume against the reference; of a CT in HU, by tissue and label, of an MR in percent.

    Figures in the core begin with ``core_``; there is a core if there is a source. Bone and sharpness are measured in
    the core only, if there is one.

    Args:
        volume: The arm's volume, (X, Y, Z).
        scans: The case.
        in_core: What is judged in the core instead, of an arm that is fitted to each region by itself.
    """
    assert scans.reference is not None
    if scans.modalities.reference == "MR":
        return _mr_errors(volume, scans)
    reference, inside = scans.reference, scans.inside
    tissues = true_tissues(reference, inside)
    by_label = {f"mae_in_{name}_hu": _mae(volume, reference, where) for name, where in scans.regions.items()}
    around = {"air_around": air_around(reference, inside)}
    return {
        **fidelity(volume, reference, inside),
        "ms_ssim": ms_ssim(volume, reference, inside),
        **calibration(volume, reference, tissues),
        **{name: value for name, value in calibration(volume, reference, around).items() if "slope" not in name},
        "clipped_percent": clipped_percent(volume, reference, inside),
        **_core_errors(volume if in_core is None else in_core, scans),
        **by_label,
    }


def _core_errors(volume: Array, scans: Scans) -> Figures:
    assert scans.reference is not None
    reference, where = scans.reference, scans.core
    weights, true_power = scans.sharpness
    own: dict[str, float] = {}
    if scans.source is not None:
        empty = not where.any()
        own["mae_hu"] = float("nan") if empty else mae_hu(volume, reference, where)
        own["bias_hu"] = float("nan") if empty else bias_hu(volume, reference, where)
        own |= calibration(volume, reference, true_tissues(reference, where))
    own |= bone_figures(Bone.of(volume, scans.grid.spacing_mm), scans.true_bone, where)
    own["high_frequency_power_ratio"] = high_frequency_power(volume, weights) / true_power if true_power else np.nan
    return {f"{'' if scans.source is None else 'core_'}{name}": value for name, value in own.items()}


def _mr_errors(volume: Array, scans: Scans) -> Figures:
    """Of a synthetic MR; what contrast medium did is judged if the source is an MR, too."""
    assert scans.reference is not None
    found = mr_fidelity(volume, scans.reference, scans.inside)
    if scans.source is None or scans.modalities.source == "CT":
        return {**found}
    return {**found, **scans.enhancement.figures(volume)}


def worth_of_map(scans: Scans) -> Figures:
    """Whether the uncertainty map tells where the synthetic image is wrong; empty where there is none."""
    if scans.uncertainty is None:
        return {}
    assert scans.reference is not None
    reference, synthetic = scans.reference, scans.synthetic
    if scans.modalities.reference == "MR":
        reference = reference * (100 / unit(reference, scans.inside))
        synthetic = in_scale_of(reference, synthetic, scans.inside)
    return {**uncertainty_figures(scans.uncertainty, np.abs(synthetic - reference), scans.inside)}


def changes(volume: Array, scans: Scans) -> Figures:
    """Mean absolute change from the source in each tissue and label; empty without a source, or between modalities."""
    if scans.source is None or not scans.modalities.hounsfield:
        return {}
    by_tissue = change_by_tissue(scans.source, volume, scans.tissues)
    by_label = {f"change_in_{name}_hu": _mae(volume, scans.source, where) for name, where in scans.regions.items()}
    return {**{f"change_{tissue}_hu": change for tissue, change in by_tissue.items()}, **by_label}


def intensities(volume: Array, tissues: TissueMap) -> Figures:
    """Mean, spread and percentiles of a volume in each tissue."""
    return {
        f"{tissue}_{figure}": value
        for tissue in TISSUES
        for figure, value in distribution(volume[tissues == code(tissue)]).items()
    }


def _uncertainty(synthetic: Volume, path: Path) -> NDArray[np.float32] | None:
    beside = map_beside(path)
    if not beside.is_file():
        return None
    found = read_volume(beside)
    _check_grid(synthetic, found, "uncertainty map")
    return found.voxels


def _body(synthetic: Array, source: Array | None, reference: Array | None, modalities: Modalities) -> Mask:
    """The body in the reference, else in the source, else in the synthetic volume."""
    if reference is not None or source is None:
        return body(synthetic if reference is None else reference, modalities.reference)
    return body(source, modalities.source)


def _mae(volume: Array, other: Array, where: Mask) -> float:
    return (
        float(np.abs(np.subtract(volume[where], other[where], dtype=np.float64)).mean())
        if where.any()
        else float("nan")
    )


def _regions(path: Path, labels: NDArray[np.float32], names: LabelNames | None) -> dict[str, Mask]:
    values = np.unique(labels)
    if (values != np.rint(values)).any():
        raise DataError(f"{path}: label values are not whole numbers; resample label maps by nearest neighbour.")
    names = {f"label_{int(value)}": int(value) for value in values if value} if names is None else names
    return {name: np.isin(labels, value) for name, value in names.items()}


def _check_grid(synthetic: Volume, partner: Volume, role: str) -> None:
    if not same_grid(synthetic.grid, partner.grid):
        raise GeometryError(
            f"{synthetic.path} and its {role} {partner.path} are not on one grid: "
            f"{apart(synthetic.grid, partner.grid)}; compare images on one grid, resampled to it if need be."
        )


@dataclass(frozen=True)
class Measure:
    """A kind of figure."""

    pattern: str
    """Of its names, with or without ``core_`` before them."""
    ideal: float | None = None
    """The best value; infinite where more is better, nothing where none is best."""
    digits: int = 1
    shown: bool = True
    """In the terminal; the files hold everything."""


MEASURES = (
    Measure("mae_hu|mae_bone_hu|mae_percent|enhancing_mae_percent", 0),
    Measure("mae_(soft_tissue|air_inside|air_around)_hu", 0, shown=False),
    Measure("mae_in_.*_hu|.*_distance_hu", 0),
    Measure("bias_hu", 0),
    Measure("bias_.*_hu", 0, shown=False),
    Measure("psnr_db", math.inf),
    Measure("ssim", 1, digits=3),
    Measure("ms_ssim", 1, digits=3, shown=False),
    Measure("slope_bone|high_frequency_power_ratio", 1, digits=2),
    Measure("slope_.*", 1, digits=2, shown=False),
    Measure("bone_dice|bone_surface_dice|enhancing_dice", 1, digits=3),
    Measure("false_bone_percent", 0, digits=2),
    Measure("false_enhancement_percent_of_voxels", 0),
    Measure("enhancement_percent|true_enhancement_percent"),
    Measure("false_bone_ml|clipped_percent|false_enhancement_percent|elsewhere_mae_percent", 0, shown=False),
    Measure("uncertainty_spearman", math.inf, digits=2),
    Measure("uncertainty_spearman_where_unsure", math.inf, digits=2, shown=False),
    Measure("error_in_most_unsure_tenth", math.inf, digits=2),
    Measure(".*_(sd|p5|p50|p95)_hu|enhancing_percent_of_voxels", shown=False),
)

_ANY = Measure(".*")


def measure(name: str) -> Measure:
    """The kind of a figure; the first whose pattern is its whole name, else one that is shown and has no best value."""
    plain = name.removeprefix("core_")
    return next((known for known in MEASURES if re.fullmatch(known.pattern, plain)), _ANY)


def distance_to_ideal(name: str, values: pd.Series) -> pd.Series | None:
    """How far values are from the best one; less is better. Nothing for figures of which none is best."""
    ideal = measure(name).ideal
    if ideal is None:
        return None
    return -values if math.isinf(ideal) else np.abs(values - ideal)
