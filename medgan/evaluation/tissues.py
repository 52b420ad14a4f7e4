"""Where figures are measured: body, core and tissues; how right the HU of each are, and what a translation changed.

A misregistered pair differs most at its rim, where air meets skin; over the whole body such voxels decide which
translation looks best. In the core, where source and reference agree on the body, they do not count.

Tissues of a change are read from the *source*, so that a translator cannot hide a voxel by moving it into another
tissue. They are bands of Hounsfield units, not a segmentation: the marrow of spongy bone counts as enhancing, a vessel
above 450 HU as bone.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data import masks as network_body
from medgan.data.domains import Domain, Window
from medgan.data.preparation import MARGIN_VOXELS, eroded_in_plane
from medgan.evaluation.fidelity import BODY_HU, IN_PLANE, Array, Mask, body_mask, closed_in_plane

Modality = Literal["CT", "MR"]
TissueMap = NDArray[np.uint8]
"""0 for no tissue, else 1 + the tissue's place in ``TISSUES``."""

BONE_SEED_HU = 450.0
"""Denser than contrast medium in most vessels: cortical bone, calcifications, metal, the first pass of iodine."""
BANDS_HU: Mapping[str, tuple[float, float]] = {
    "air": (-np.inf, -900.0),
    "lung": (-900.0, -500.0),
    "fat": (-150.0, -30.0),
    "soft_tissue": (-30.0, 100.0),
    "enhancing": (100.0, BONE_SEED_HU),
    "bone": (BONE_SEED_HU, np.inf),
}
"""Lower and upper bound by tissue; -500 to -150 HU is partial volume and belongs to none."""
TISSUES = tuple(BANDS_HU)
CODES = {tissue: 1 + place for place, tissue in enumerate(TISSUES)}
PERCENTILES = (5, 50, 95)
AROUND_VOXELS = 5
"""How far from the body air still counts as around it, in each slice."""
BONE_HU = 200.0
"""Above it a voxel of a CT without contrast medium is bone."""

_MR = Domain(
    name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.5, upper=99.5, percentiles=True)
)  # fmt: skip


def body(volume: Array, modality: Modality) -> Mask:
    """The patient, (X, Y, Z): from -300 HU in a CT, above the noise of the background in an MR."""
    return body_mask(volume) if modality == "CT" else network_body.body_mask(volume.astype(np.float32), _MR)


def core(one: Mask, other: Mask) -> Mask:
    """Where two bodies overlap and no voxel up to 3 rows and columns away in the slice lies outside, (X, Y, Z).

    Where the edge of the image cuts the body there is no rim, so nothing is taken off there.
    """
    return eroded_in_plane(one & other, MARGIN_VOXELS)


def true_tissues(reference: Array, where: Mask) -> Mapping[str, Mask]:
    """The tissues of a true CT in a region: bone above 200 HU, air below -300 HU, soft tissue between them."""
    bone, air = reference > BONE_HU, reference < BODY_HU
    return {"soft_tissue": where & ~bone & ~air, "bone": where & bone, "air_inside": where & air}


def air_around(reference: Array, inside: Mask) -> Mask:
    """True air up to 5 voxels outside the body in its slice: where a body that is drawn too large shows, (X, Y, Z)."""
    near = ndimage.binary_dilation(inside, IN_PLANE, iterations=AROUND_VOXELS)
    return np.asarray(near & ~inside & (reference < BODY_HU))


def overlap(one: Mask, other: Mask) -> float:
    """Dice's coefficient, twice the shared voxels over the sum of both; not a number where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else float("nan")


def tissue_map(hu: Array, body: Mask | None = None) -> TissueMap:
    """The tissue of each voxel of a CT (X, Y, Z).

    Bone is what exceeds 450 HU, with what is denser than 100 HU within three voxels of it or enclosed by it in a slice.
    Outside the body, where one is given, only air counts, so that the table is no tissue.
    """
    tissues = np.zeros(hu.shape, dtype=np.uint8)
    for name, (lower, upper) in BANDS_HU.items():
        tissues[(hu >= lower) & (hu < upper)] = CODES[name]
    seeds = tissues == CODES["bone"]
    if seeds.any():
        near = closed_in_plane(ndimage.binary_dilation(seeds, IN_PLANE, iterations=3), 3)
        tissues[near & (hu >= 100)] = CODES["bone"]
    if body is not None:
        tissues[~body & (tissues != CODES["air"])] = 0
    return tissues


def soft_tissue(tissues: TissueMap) -> Mask:
    """Where iodine can be: soft tissue and what enhances, one region, so that iodine moves no voxel out of it."""
    return np.isin(tissues, [CODES["soft_tissue"], CODES["enhancing"]])


def change_by_tissue(source: Array, synthetic: Array, tissues: TissueMap) -> dict[str, float]:
    """Mean absolute change in HU by tissue of the source, (X, Y, Z); not a number for an absent tissue."""
    change = np.abs(np.subtract(synthetic, source, dtype=np.float64))
    total = np.bincount(tissues.ravel(), weights=change.ravel(), minlength=1 + len(TISSUES))[1:]
    voxels = np.bincount(tissues.ravel(), minlength=1 + len(TISSUES))[1:]
    mean = np.divide(total, voxels, out=np.full(len(TISSUES), np.nan), where=voxels > 0)
    return dict(zip(TISSUES, mean.tolist(), strict=True))


def intensities(volume: Array, tissues: TissueMap) -> dict[str, float]:
    """``TISSUE_mean_hu``, ``_sd_hu``, ``_p5_hu``, ``_p50_hu`` and ``_p95_hu``; not a number for an absent tissue."""
    figures: dict[str, float] = {}
    names = ("mean_hu", "sd_hu", *(f"p{percentile}_hu" for percentile in PERCENTILES))
    for tissue, code in CODES.items():
        values = volume[tissues == code]
        own = [float("nan")] * len(names)
        if values.size:
            moments = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
            own = [*moments, *np.percentile(values, PERCENTILES).tolist()]
        figures |= {f"{tissue}_{name}": value for name, value in zip(names, own, strict=True)}
    return figures


def errors_in(synthetic: Array, reference: Array, where: Mask) -> tuple[float, float]:
    """Mean absolute and mean error in a region, in HU; not a number where it is empty."""
    error = np.subtract(synthetic[where], reference[where], dtype=np.float64)
    return (float(np.abs(error).mean()), float(error.mean())) if error.size else (np.nan, np.nan)


def calibration(synthetic: Array, reference: Array, where: Mask) -> dict[str, float]:
    """``mae_TISSUE_hu``, ``bias_TISSUE_hu``, ``slope_TISSUE`` in a region's true tissues; no number for absent ones.

    The slope is that of the least-squares line of synthetic on true HU, over voxels: 1 is right, 0 tells nothing apart,
    and it is not a number where the true CT does not vary. Noise and misregistration of the true CT lower it as well,
    since they are in the regressor: compare it with the slope of the true CT shifted by a voxel, not with 1 alone.
    """
    figures = {}
    for name, own in true_tissues(reference, where).items():
        figures[f"mae_{name}_hu"], figures[f"bias_{name}_hu"] = errors_in(synthetic, reference, own)
        fake, real = synthetic[own].astype(np.float64), reference[own].astype(np.float64)
        apart = real - real.mean() if real.size else real
        spread = float(np.square(apart).sum())
        figures[f"slope_{name}"] = float((apart * fake).sum() / spread) if spread > 0 else np.nan
    return figures


def clipped_percent(synthetic: Array, reference: Array, where: Mask) -> float:
    """Share of a region whose true HU lie beyond the lowest or highest value that the synthetic volume has anywhere.

    A network with a window cannot reach them, however well it is trained.
    """
    real = reference[where]
    return float(100 * ((real < synthetic.min()) | (real > synthetic.max())).mean()) if real.size else np.nan


def distribution_distance_hu(fake_values: Array, real_values: Array) -> float:
    """How far intensities must move on average to turn one sample into the other: the Wasserstein-1 distance, in HU.

    Order, shape and size of the samples do not matter; not a number if one is empty.
    """
    if fake_values.size == 0 or real_values.size == 0:
        return float("nan")
    from scipy.stats import wasserstein_distance  # takes a quarter of a second, which few need

    return float(wasserstein_distance(fake_values.ravel(), real_values.ravel()))


def quantile_sample(values: Array, size: int = 1000) -> NDArray[np.float64]:
    """A sample reduced to evenly spaced quantiles, so that pooled subjects weigh the same whatever their size."""
    if values.size == 0:
        return np.empty(0)
    return np.asarray(np.quantile(values, (np.arange(size) + 0.5) / size), dtype=np.float64)
