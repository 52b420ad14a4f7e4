"""One case in memory, on one grid, and every figure about it that needs no other case."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.volumes import Volume, read_volume
from medgan.errors import DataError, GeometryError
from medgan.evaluation.fidelity import Array, Mask, body_mask, fidelity
from medgan.evaluation.matching import Case, Role
from medgan.evaluation.tissues import TISSUES, TissueMap, change_by_tissue, code, distribution, tissue_map

LabelNames = Mapping[str, int | list[int]]
"""The value of each label, or several values that are judged as one."""

Figures = dict[str, str | float]
"""Part of a row: figures by name."""

GRID_TOLERANCE_MM = 1e-3
"""How far apart two affines may be and still be one grid: the rounding of float32 coordinates."""


@dataclass(frozen=True, eq=False)
class Scans:
    """The volumes of a case, all (X, Y, Z) in HU on one grid."""

    synthetic: NDArray[np.float32]
    source: NDArray[np.float32] | None
    reference: NDArray[np.float32] | None
    inside: Mask
    """Where fidelity is measured: the given mask, else the body in the reference, source or synthetic volume."""
    regions: Mapping[str, Mask]
    """Where each named label is."""

    @cached_property
    def tissues(self) -> TissueMap:
        """Of the source; without one, of the synthetic volume itself."""
        return tissue_map(self.synthetic if self.source is None else self.source, self.inside)


def read_scans(case: Case, label_names: LabelNames | None) -> Scans:
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
    if mask is None:
        inside = body_mask(next(v for v in (reference, source, synthetic.voxels) if v is not None))
    else:
        inside = mask > 0
    regions = _regions(case.partners["labels"], found["labels"], label_names) if "labels" in found else {}
    return Scans(synthetic.voxels, source, reference, inside, regions)


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
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(_named(*entry) for entry in content.get("labels", content).items())
    except (ValueError, TypeError, AttributeError):
        raise DataError(f'{path} names no labels; write `{{"liver": 5, "kidneys": [7, 8]}}`.') from None


def _named(key: str, value: str | int | list[int]) -> tuple[str, int | list[int]]:
    if isinstance(value, str):
        return value, int(key)
    return key, [int(v) for v in value] if isinstance(value, list) else int(value)


def errors(volume: Array, scans: Scans) -> Figures:
    """Fidelity of an arm's volume to the reference, and its mean absolute error in each label."""
    assert scans.reference is not None
    by_label = {f"mae_in_{name}_hu": _mae(volume, scans.reference, where) for name, where in scans.regions.items()}
    return {**fidelity(volume, scans.reference, scans.inside), **by_label}


def changes(volume: Array, scans: Scans) -> Figures:
    """Mean absolute change from the source in each tissue and label; empty without a source."""
    if scans.source is None:
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


def _check_grid(synthetic: Volume, partner: Volume, role: Role) -> None:
    if synthetic.grid.size != partner.grid.size:
        what = f"has {synthetic.grid.size} voxels and its {role} {partner.path} {partner.grid.size}"
    elif not np.allclose(synthetic.grid.affine, partner.grid.affine, rtol=0, atol=GRID_TOLERANCE_MM):
        apart = np.abs(synthetic.grid.affine - partner.grid.affine).max()
        what = f"and its {role} {partner.path} have the same shape but affines that differ by up to {apart:.3g} mm"
    else:
        return
    raise GeometryError(f"{synthetic.path} {what}; compare images on one grid, resampled to it if need be.")
