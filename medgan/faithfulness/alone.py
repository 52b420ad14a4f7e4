"""What a translation tells without labels and without its model: geometry, change map, uncertainty and fingerprint."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import same_grid
from medgan.data.layouts import map_beside
from medgan.data.masks import boxes, components
from medgan.data.preparation import scan_of
from medgan.data.studies import sidecar
from medgan.data.volumes import Volume, read_volume
from medgan.evaluation.fidelity import Array, Mask
from medgan.evaluation.tissues import Modality, body
from medgan.faithfulness.places import Place, place_of
from medgan.faithfulness.residual import SMALLEST_ML

CT_AIR = -200.0
"""An image with darker voxels is in HU; MR has none."""
LEVELS = 64
"""Into which intensities are ranked before they are counted together."""
ROUNDING = 2.0
"""How far output and input plus change map may be apart: each is rounded to whole numbers."""
HOT = 6.0
"""Robust standard deviations above the median from which on uncertainty is a hot spot."""
MOST_SPOTS = 5
"""Of one kind in one study."""
FEWEST_OTHERS = 5
"""Studies beside one's own from which on a fingerprint can be odd."""
ODD = 6.0
"""Robust standard deviations from the other studies from which on a figure is odd."""
LEAST_SPREAD = 0.05
"""Of the median, below which studies are taken to be alike."""


def modality_of(volume: Volume) -> Modality:
    """CT where anything is darker than -200, else MR: what the file says counts, if it is one of these."""
    return "CT" if (volume.modality or "") == "CT" or float(volume.voxels.min()) < CT_AIR else "MR"


def patient(volume: Volume) -> Mask:
    """The body in a volume, or all of it where none is found."""
    inside = body(volume.voxels, modality_of(volume))
    return inside if inside.any() else np.ones_like(inside)


def scaled(volume: Volume, inside: Mask) -> NDArray[np.float32]:
    """HU as they are, MR in percent of the range from the 1st to the 99th percentile of the body, (X, Y, Z)."""
    if modality_of(volume) == "CT":
        return np.asarray(volume.voxels, dtype=np.float32)
    lower, upper = np.percentile(volume.voxels[inside], (1, 99))
    share = (volume.voxels - lower) / max(upper - lower, np.finfo(np.float32).tiny)
    return np.asarray(100 * share, dtype=np.float32)


def geometry_scores(source: Array, synthetic: Array, inside: Mask, other: Array | None) -> dict[str, float]:
    """Normalised mutual information of a translation with its input inside the body: 1 is nothing shared, 2 all.

    Returns:
        ``nmi``; ``nmi_shifted``, the highest after a shift of the translation by one voxel along any axis, which is
        lower where the geometry is kept; and ``nmi_other_subject``, with the input of another subject, which is what
        bodies share anyway; not a number without one.

    Source: Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0.
    """
    box = boxes(inside.astype(np.int32))[0]
    ranks = _ranks(source[box], inside[box]), _ranks(synthetic[box], inside[box])
    scores = {"nmi": _nmi(*ranks), "nmi_shifted": np.nan, "nmi_other_subject": np.nan}
    shifted = []
    for axis, step in product(range(3), (1, -1)):
        if (size := ranks[0].shape[axis]) > 1:
            here, there = (np.arange(size - 1) + (start == step) for start in (1, -1))
            shifted.append(_nmi(ranks[0].take(here, axis), ranks[1].take(there, axis)))
    if shifted:
        scores["nmi_shifted"] = max(shifted)
    if other is not None:
        common = tuple(slice(0, min(pair)) for pair in zip(other.shape, ranks[1].shape, strict=True))
        scores["nmi_other_subject"] = _nmi(other[common].astype(np.intp), ranks[1][common])
    return scores


def ranked_body(volume: Volume) -> NDArray[np.uint8]:
    """The input of another subject as :func:`geometry_scores` takes it: ranks within its body's box, 0 outside."""
    inside = patient(volume)
    box = boxes(inside.astype(np.int32))[0]
    return _ranks(volume.voxels[box], inside[box]).astype(np.uint8)


def _ranks(image: Array, inside: Mask) -> NDArray[np.intp]:
    """Each voxel's rank among those of the body, 1 to ``LEVELS`` with equally many each; 0 outside."""
    edges = np.unique(np.quantile(image[inside], np.linspace(0, 1, LEVELS + 1)[1:-1]))
    return np.where(inside, 1 + np.digitize(image, edges), 0)


def _nmi(one: NDArray[np.intp], other: NDArray[np.intp]) -> float:
    """(H(A) + H(B)) / H(A, B) where both are in the body."""
    both = (one > 0) & (other > 0)
    counts = np.bincount(one[both] * (LEVELS + 1) + other[both], minlength=(LEVELS + 1) ** 2)
    joint = counts.reshape(LEVELS + 1, LEVELS + 1) / max(both.sum(), 1)

    def entropy(shares: NDArray[np.float64]) -> float:
        return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())

    whole = entropy(joint)
    return (entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1))) / whole if whole else float("nan")


def beyond_change_map(source: Volume, synthetic: Volume) -> list[Place] | None:
    """Where a translation is not its input and the change map beside it; None without such a map on its grid.

    Whoever drew into the output, or took something out, after the map was made is found here.
    """
    path = map_beside(synthetic.path, "change")
    if not path.is_file() or not same_grid((change := read_volume(path)).grid, source.grid):
        return None
    difference = synthetic.voxels - source.voxels
    said = str(sidecar(synthetic.path).get("ChangeMap", ""))
    sign = -1 if said.endswith("input minus output") else 1
    rest = difference - sign * change.voxels
    return list(_spots(np.abs(rest) > ROUNDING, rest, source, "beyond_change_map"))


def hot_spots(source: Volume, synthetic: Volume, inside: Mask) -> list[Place] | None:
    """Where the uncertainty map beside a translation is far above what it is elsewhere; None without such a map."""
    path = map_beside(synthetic.path, "uncertainty")
    if not path.is_file() or not same_grid((unsure := read_volume(path)).grid, source.grid):
        return None
    known = unsure.voxels[inside & (unsure.voxels > 0)]
    if not known.size:
        return []
    median, spread = _median_and_spread(known)
    score = (unsure.voxels - median) / max(spread, float(np.finfo(np.float32).tiny))
    return list(_spots(inside & (score > HOT), unsure.voxels, source, "uncertain", score))


def _median_and_spread(values: Array) -> tuple[float, float]:
    """The median, and the robust standard deviation: of normal values 1.4826 times the median distance to it."""
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(values - median)))


def _spots(mask: Mask, contrast: Array, volume: Volume, kind: str, score: Array | None = None) -> Iterator[Place]:
    """The largest connected parts of a mask that are large enough, with their mean contrast."""
    parts, _ = components(mask)
    sizes = np.bincount(parts.ravel())[1:] * float(np.prod(volume.grid.spacing_mm)) / 1000
    for number in (1 + np.argsort(-sizes))[:MOST_SPOTS]:
        if sizes[number - 1] < SMALLEST_ML:
            return
        voxels = np.argwhere(parts == number)
        at = tuple(voxels.T)
        figures = {"contrast": float(contrast[at].mean())} | (
            {} if score is None else {"score": float(score[at].max())}
        )
        yield place_of(voxels, volume.grid, structure="", kind=kind, **figures)


def warnings_of(synthetic: Path) -> str:
    """What the sidecar of a translation warned of: inputs unlike those of the training, forced ones, clipped ones."""
    beside = sidecar(synthetic)
    told = [each for key in ("Forced", "Warnings") if isinstance(own := beside.get(key), list) for each in own]
    return "; ".join(dict.fromkeys(map(str, told)))


def fingerprint(source: Volume, inside: Mask) -> dict[str, float]:
    """How a study was scanned and how bright it is, to be compared with other studies."""
    scan = scan_of(source)
    axes = ("right", "anterior", "superior")
    voxel = {f"voxel along {axis}, mm": size for axis, size in zip(axes, scan.spacing_mm, strict=True)}
    field = {f"field along {axis}, mm": size for axis, size in zip(axes, scan.field_mm, strict=True)}
    percents = np.percentile(source.voxels[inside], (5, 50, 95)).tolist()
    return voxel | field | {f"{p} % of intensities": value for p, value in zip((5, 50, 95), percents, strict=True)}


def odd_fingerprints(prints: Mapping[str, Mapping[str, float]], subjects: Mapping[str, str]) -> dict[str, str]:
    """By image, what of its fingerprint is far from that of other subjects, in words; empty where nothing is."""
    odd = {}
    for image, own in prints.items():
        others = [each for name, each in prints.items() if subjects[name] != subjects[image]]
        told = _unlike(own, others) if len(others) >= FEWEST_OTHERS else ()
        odd[image] = "; ".join(told)
    return odd


def _unlike(own: Mapping[str, float], others: Sequence[Mapping[str, float]]) -> Iterator[str]:
    scale = max(abs(value) for each in (own, *others) for name, value in each.items() if name.endswith("intensities"))
    for name, value in own.items():
        values = np.array([each[name] for each in others])
        median, spread = _median_and_spread(values)
        least = LEAST_SPREAD * (scale if name.endswith("intensities") else abs(median))
        if abs(value - median) > ODD * max(spread, least):
            yield f"{re.sub(', mm$', '', name)} is {value:.4g}, of others {values.min():.4g} to {values.max():.4g}"
