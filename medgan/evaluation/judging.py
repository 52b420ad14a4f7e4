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
from scipy import stats

from medgan.data.grid import apart, same_grid
from medgan.data.layouts import map_beside
from medgan.data.masks import LABELS_JSON
from medgan.data.volumes import Volume, read_volume
from medgan.documents import read_json
from medgan.errors import DataError, GeometryError
from medgan.evaluation import tissues
from medgan.evaluation.bone import Bone, bone_figures
from medgan.evaluation.enhancement import Enhancement, in_one_scale, mr_fidelity
from medgan.evaluation.fidelity import Array, Mask, fidelity, high_frequency_power, ms_ssim, taper
from medgan.evaluation.matching import Case
from medgan.evaluation.tissues import errors_in

LabelNames = Mapping[str, int | list[int]]
"""The value of each label, or several values that are judged as one."""
Figures = dict[str, str | float]
"""Part of a row: figures by name."""
IN_LABELS, OVER_LABELS = re.compile("mae_in_(.*)_hu"), "mae_over_labels_hu"
"""The error in each label, and the mean of these over the labels that an image has."""
UNSURE_PERCENT = 90
LONGEST_NAME = 100
"""Characters of a label's name."""


@dataclass(frozen=True)
class Modalities:
    """What the sources are, and what the references and synthetic images are."""

    source: tissues.Modality = "CT"
    reference: tissues.Modality = "CT"

    @property
    def hounsfield(self) -> bool:
        """Whether all images are CT, so that a source can be compared with them voxel by voxel."""
        return self.source == self.reference == "CT"


ALL_CT = Modalities()


class CaseScans:
    """The volumes of a case, all (X, Y, Z) on the grid of the synthetic one; CT in HU."""

    def __init__(self, case: Case, names: LabelNames | None, modalities: Modalities = ALL_CT) -> None:
        synthetic = read_volume(case.synthetic)
        voxels = {role: _on_grid_of(synthetic, path, role) for role, path in case.partners.items()}
        self.synthetic, self.grid, self.modalities = synthetic.voxels, synthetic.grid, modalities
        self.source, self.reference = voxels.get("source"), voxels.get("reference")
        if "mask" in voxels:
            self.inside: Mask = voxels["mask"] > 0
        elif self.reference is None and self.source is not None:
            self.inside = tissues.body(self.source, modalities.source)
        else:
            true = self.synthetic if self.reference is None else self.reference
            self.inside = tissues.body(true, modalities.reference)
        """Where fidelity is measured: the given mask, else the body in the reference, source or synthetic volume."""
        self.regions = _regions(case.partners["labels"], voxels["labels"], names) if "labels" in voxels else {}
        """Where each named label is."""
        beside = map_beside(case.synthetic, "uncertainty")
        self.uncertainty = _on_grid_of(synthetic, beside, "uncertainty map") if beside.is_file() else None

    @property
    def truth(self) -> NDArray[np.float32]:
        """The reference, where there must be one."""
        assert self.reference is not None
        return self.reference

    @cached_property
    def core(self) -> Mask:
        """Where the bodies of source and reference agree, without their rim; without a source, all that is inside."""
        if self.source is None or self.reference is None:
            return self.inside
        source = tissues.body(self.source, self.modalities.source)
        return tissues.core(source, tissues.body(self.reference, self.modalities.reference)) & self.inside

    @cached_property
    def tissue_map(self) -> tissues.TissueMap:
        """Of the source; without one, of the synthetic volume itself."""
        foreign = self.source is None or self.modalities.source != "CT"
        return tissues.tissue_map(self.synthetic if foreign or self.source is None else self.source, self.inside)

    def errors(self, volume: Array, in_core: Array | None = None) -> Figures:
        """Every error of a volume against the reference; of a CT in HU, by tissue and label, of an MR in percent.

        Figures in the core begin with ``core_``; there is a core if there is a source. Bone and sharpness are measured
        in the core only, if there is one. ``in_core`` is what is judged in the core instead, of an arm that is fitted
        to each region by itself.
        """
        if self.modalities.reference == "MR":
            # What contrast medium did can be judged where the source is an MR, too.
            enhancement = {} if self._enhancement is None else self._enhancement.figures(volume)
            return {**mr_fidelity(volume, self.truth, self.inside), **enhancement}
        reference, inside = self.truth, self.inside
        mae_around, bias_around = errors_in(volume, reference, tissues.air_around(reference, inside))
        by_label = {f"mae_in_{name}_hu": errors_in(volume, reference, at)[0] for name, at in self.regions.items()}
        found = [error for error in by_label.values() if not math.isnan(error)]
        return {
            **fidelity(volume, reference, inside),
            "ms_ssim": ms_ssim(volume, reference, inside),
            **tissues.calibration(volume, reference, inside),
            "mae_air_around_hu": mae_around,
            "bias_air_around_hu": bias_around,
            "clipped_percent": tissues.clipped_percent(volume, reference, inside),
            **self._core_errors(volume if in_core is None else in_core),
            **by_label,
            **({OVER_LABELS: float(np.mean(found)) if found else math.nan} if by_label else {}),
        }

    def _core_errors(self, volume: Array) -> Figures:
        true_bone, weights, true_power = self._true_core
        figures: dict[str, float] = {}
        if self.source is not None:
            figures["mae_hu"], figures["bias_hu"] = errors_in(volume, self.truth, self.core)
            figures |= tissues.calibration(volume, self.truth, self.core)
        figures |= bone_figures(Bone.of(volume, self.grid.spacing_mm), true_bone, self.core)
        power = high_frequency_power(volume, weights)
        figures["high_frequency_power_ratio"] = power / true_power if true_power else np.nan
        return {f"{'' if self.source is None else 'core_'}{name}": value for name, value in figures.items()}

    @cached_property
    def _true_core(self) -> tuple[Bone, NDArray[np.float32], float]:
        """The reference's bone, the weights with which high frequencies are measured in the core, and their power."""
        weights = taper(self.core)
        return Bone.of(self.truth, self.grid.spacing_mm), weights, high_frequency_power(self.truth, weights)

    @cached_property
    def _enhancement(self) -> Enhancement | None:
        if self.source is None or self.modalities.source == "CT":
            return None
        return Enhancement(self.source, self.truth, self.core)

    def map_figures(self) -> Figures:
        """Whether the uncertainty map tells where the synthetic image is wrong; empty where there is none."""
        if self.uncertainty is None:
            return {}
        synthetic, reference = self.synthetic, self.truth
        if self.modalities.reference == "MR":
            synthetic, reference = in_one_scale(synthetic, reference, self.inside)
        return {**uncertainty_figures(self.uncertainty, np.abs(synthetic - reference), self.inside)}

    def changes(self, volume: Array) -> Figures:
        """Mean absolute change from the source in each tissue and label; empty without one, or between modalities."""
        if self.source is None or not self.modalities.hounsfield:
            return {}
        by_tissue = tissues.change_by_tissue(self.source, volume, self.tissue_map)
        by_label = {f"change_in_{n}_hu": errors_in(volume, self.source, where)[0] for n, where in self.regions.items()}
        return {**{f"change_{tissue}_hu": change for tissue, change in by_tissue.items()}, **by_label}


def uncertainty_figures(unsure: Array, error: Array, inside: Mask) -> dict[str, float]:
    """What an uncertainty map (X, Y, Z) is worth inside a region, where the absolute error is known.

    Returns:
        ``uncertainty_spearman``, the rank correlation of both; ``uncertainty_spearman_where_unsure``, the same only
        where the map is not 0, since it is known without a map that air, fat and bone do not change; and
        ``error_in_most_unsure_tenth``, the mean error there as a multiple of the mean over all.
    """
    moving = inside & (unsure > 0)
    most = inside & (unsure >= np.percentile(unsure[inside], UNSURE_PERCENT)) if inside.any() else inside
    mean = error[inside].mean(dtype=np.float64) if inside.any() else 0.0
    return {
        "uncertainty_spearman": spearman(unsure[inside], error[inside]),
        "uncertainty_spearman_where_unsure": spearman(unsure[moving], error[moving]),
        "error_in_most_unsure_tenth": float(error[most].mean(dtype=np.float64) / mean) if mean else np.nan,
    }


def spearman(one: Array, other: Array) -> float:
    """Spearman's rank correlation; not a number where either does not vary."""
    return float(stats.spearmanr(one, other).statistic) if one.size and np.ptp(one) and np.ptp(other) else np.nan


def _on_grid_of(synthetic: Volume, path: Path, role: str) -> NDArray[np.float32]:
    partner = read_volume(path)
    if not same_grid(synthetic.grid, partner.grid):
        raise GeometryError(
            f"{synthetic.path} and its {role} {partner.path} are not on one grid: "
            f"{apart(synthetic.grid, partner.grid)}; compare images on one grid, resampled to it if need be."
        )
    return partner.voxels


def _regions(path: Path, labels: NDArray[np.float32], names: LabelNames | None) -> dict[str, Mask]:
    values = np.unique(labels)
    if (values != np.rint(values)).any():
        raise DataError(f"{path}: label values are not whole numbers; resample label maps by nearest neighbour.")
    names = {f"label_{int(value)}": int(value) for value in values if value} if names is None else names
    return {name: np.isin(labels, value) for name, value in names.items()}


def label_names_of(names: LabelNames | None, folder: Path | None, file: str = LABELS_JSON) -> LabelNames | None:
    """The names that were given, else those in ``labels.json`` beside the label maps; nothing without such a file.

    The file holds ``{"liver": 5, "kidneys": [7, 8]}`` or ``{"5": "liver"}``, alone or under the key ``labels``.
    """
    path = folder / file if folder and names is None else None
    if path and path.exists():
        try:
            content = read_json(path)
            names = dict(_named(*entry) for entry in content.get("labels", content).items())
        except (ValueError, TypeError, AttributeError):
            raise DataError(f'{path} names no labels; write `{{"liver": 5, "kidneys": [7, 8]}}`.') from None
    for name in names or ():
        if not name.isprintable() or name.strip() != name or not 0 < len(name) <= LONGEST_NAME:
            raise DataError(
                f"the label name {name[:50]!r} cannot stand in a table; name labels by at most {LONGEST_NAME} "
                "characters that can be printed, without blanks at the ends."
            )
    return names


def _named(key: str, value: str | int | list[int]) -> tuple[str, int | list[int]]:
    if isinstance(value, str):
        return value, int(key)
    return key, [int(v) for v in value] if isinstance(value, list) else int(value)


@dataclass(frozen=True)
class _Measure:
    """What is known of a figure by its name: which value is right, how many digits it has, whether it is shown."""

    pattern: str
    """Of its names, with or without ``core_`` before them."""
    ideal: float | None = None
    """The best value; infinite where more is better, nothing where none is best."""
    digits: int = 1
    shown: bool = True
    """In the terminal; the files hold everything."""


MEASURES = (
    _Measure("mae_hu|mae_bone_hu|mae_percent|enhancing_mae_percent", 0),
    _Measure("mae_(soft_tissue|air_inside|air_around)_hu", 0, shown=False),
    _Measure("mae_in_.*_hu|mae_over_labels_hu|.*_distance_hu|score_hu", 0),
    _Measure("bias_hu", 0),
    _Measure("bias_.*_hu", 0, shown=False),
    _Measure("psnr_db", math.inf),
    _Measure("ssim", 1, digits=3),
    _Measure("ms_ssim", 1, digits=3, shown=False),
    _Measure("slope_bone|high_frequency_power_ratio", 1, digits=2),
    _Measure("slope_.*", 1, digits=2, shown=False),
    _Measure("bone_dice|bone_surface_dice|enhancing_dice|dice|dice_(?!loss).*|accuracy", 1, digits=3),
    _Measure("dice_loss|cross_entropy|sliced_wasserstein", 0, digits=3),
    _Measure("false_bone_percent", 0, digits=2),
    _Measure("false_enhancement_percent_of_voxels", 0),
    _Measure("enhancement_percent|true_enhancement_percent"),
    _Measure("false_bone_ml|clipped_percent|false_enhancement_percent|elsewhere_mae_percent", 0, shown=False),
    _Measure("uncertainty_spearman", math.inf, digits=2),
    _Measure("uncertainty_spearman_where_unsure", math.inf, digits=2, shown=False),
    _Measure("error_in_most_unsure_tenth", math.inf, digits=2),
    _Measure(".*_(sd|p5|p50|p95)_hu|enhancing_percent_of_voxels", shown=False),
)

_ANY = _Measure(".*")


def measure(name: str) -> _Measure:
    """The kind of a figure; the first whose pattern is its whole name, else one that is shown and has no best value."""
    plain = name.removeprefix("core_")
    return next((known for known in MEASURES if re.fullmatch(known.pattern, plain)), _ANY)


def distance_to_ideal(name: str, values: pd.Series) -> pd.Series | None:
    """How far values are from the best one; less is better. Nothing for figures of which none is best."""
    ideal = measure(name).ideal
    if ideal is None:
        return None
    return -values if math.isinf(ideal) else np.abs(values - ideal)
