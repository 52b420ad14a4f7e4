"""How much samples differ among themselves, as a share of what real patches do; and mode collapse."""

import math
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.spatial.distance import cdist

from medgan.evaluation.synthesis.distances import Features
from medgan.evaluation.synthesis.patches import Patches, coarse

COLLAPSED = 0.5
"""Of a finished generator: samples that differ less than this share of what real patches do have collapsed. A training
is stopped at far less, by a distance of its own: ``ALL_ALIKE`` of :mod:`medgan.synthesis.generator`."""
TWIN = 0.5
"""Of the 5th percentile of real patches' distances to their nearest other: a sample nearer to another has a twin."""
PARTLY = 0.2
"""Samples of which more than this share have twins have collapsed in part."""
MOST_MODES, PER_MODE = 10, 5
"""Clusters of real samples at most, and samples that there are for each at least."""

Floats = NDArray[np.float64]


def diversity_ratio(samples: Patches, real: Patches) -> float:
    """Mean distance of two images of one class, as a share of real ones'; classes count by their samples.

    The distance is the root mean square of the smoothed, halved patches' difference: noise is no variety. Two patches
    of one subject, or inserted into one, are not compared, unless there is only one; two of one lesion never are. Not
    a number where no class has two such patches on both sides.
    """
    return _ratio(_image_distances, samples, real)


def shape_diversity_ratio(samples: Patches, real: Patches) -> float:
    """The same of label maps: mean of one minus intersection over union of what is labelled.

    Inserted lesions lie in anatomies that differ whatever was drawn; their shapes tell whether that varies, too.
    """
    return _ratio(_shape_distances, samples, real)


def twins_percent(samples: Patches, real: Patches) -> float:
    """Samples that another one resembles much more than any two real patches do; of those, next to none have a twin.

    There must be equally many of both, or the nearest are not comparably near.
    """
    reference, own = (_nearest_other(patches) for patches in (real, samples))
    if not reference.size or not own.size:
        return float("nan")
    return 100 * float((own < TWIN * np.percentile(reference, 5)).mean())


def collapse_verdict(synthetic: Mapping[str, float], real: Mapping[str, float], modes: int) -> str:
    """One line: whether samples vary as real patches do; figures by measure of both, and how many kinds there are."""
    kinds = f"{synthetic['modes']:.0f} of {modes} kinds of patches (held-out real ones: {real['modes']:.0f})"
    shares = {"images": synthetic["diversity"], "labelled shapes": synthetic["shape_diversity"]}
    known = {what: share for what, share in shares.items() if not math.isnan(share)}
    varied = " and ".join(f"{what} {share:.0%}" for what, share in known.items())
    facts = f"{kinds}; diversity as a share of real: {varied or 'not known, they show one place'}"
    if any(share < COLLAPSED for share in known.values()) or synthetic["modes"] < COLLAPSED * real["modes"]:
        return f"Mode collapse: COLLAPSED. Samples come in {facts}."
    if synthetic["twins_percent"] > 100 * PARTLY:
        twins = f"{synthetic['twins_percent']:.0f} % of the samples have a twin"
        return f"Mode collapse: IN PART. {twins}; they come in {facts}."
    return f"Mode collapse: none found. Samples come in {facts}."


def _ratio(distances: Callable[[Patches], Floats], samples: Patches, real: Patches) -> float:
    own, other = (_by_class(patches, distances(patches)) for patches in (samples, real))
    shared = [name for name in own if other.get(name, 0.0) > 0]
    if not shared:
        return float("nan")
    weights = [int((samples.classes == name).sum()) for name in shared]
    return float(np.average([own[name] / other[name] for name in shared], weights=weights))


def _by_class(patches: Patches, distances: Floats) -> dict[int, float]:
    """The mean distance of two patches of each class, of different groups; classes without such two are left out."""
    classes, apart = patches.classes, _apart(patches)
    means = {}
    for name in np.unique(classes):
        pairs = distances[(classes[:, None] == name) & (classes == name) & apart]
        if pairs.size and not np.isnan(pairs).all():
            means[int(name)] = float(np.nanmean(pairs))
    return means


def _image_distances(patches: Patches) -> Floats:
    """(N, N), in units of the images."""
    flat = coarse(patches.images).reshape(len(patches), -1)
    return np.asarray(cdist(flat, flat) / np.sqrt(flat.shape[1]))


def _shape_distances(patches: Patches) -> Floats:
    """(N, N), one minus intersection over union; not a number where neither is labelled."""
    flat = (patches.labels.reshape(len(patches), -1) > 0).astype(np.float64)
    shared = flat @ flat.T
    size = flat.sum(axis=1)
    union = size[:, None] + size - shared
    return np.asarray(np.divide(union - shared, union, out=np.full_like(shared, np.nan), where=union > 0))


def _nearest_other(patches: Patches) -> Floats:
    """(N,), the distance of each to the nearest one of another group; those without one are left out."""
    distances = np.where(_apart(patches), _image_distances(patches), np.inf).min(axis=1)
    return np.asarray(distances[np.isfinite(distances)])


def _apart(patches: Patches) -> NDArray[np.bool_]:
    groups, lesions = patches.groups, patches.lesions
    kinds = groups if len(set(groups)) > 1 else lesions
    return np.asarray(kinds[:, None] != kinds)


def find_modes(real: Features, seed: int) -> Features:
    """Centres (K, D) of clusters of real features (N, D): ten at most, and at least 5 samples for each on average.

    Source: k-means from the seeding of Arthur and Vassilvitskii 2007, as implemented by scipy.
    """
    count = int(np.clip(len(real) // PER_MODE, 1, MOST_MODES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal samples make an empty cluster
        centres, which = kmeans2(real, count, minit="++", rng=np.random.default_rng(seed))
    return np.asarray(centres[np.unique(which)])


def covered_modes(centres: Features, features: Features) -> int:
    """Clusters whose centre is the nearest to some sample (N, D); compare equally many samples."""
    return len(np.unique(vq(features, centres)[0]))
