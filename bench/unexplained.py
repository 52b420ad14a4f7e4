"""How many erased and invented lesions the unexplained places of ``medgan faithfulness --converted`` find.

Phantom subjects are translated from contrast to plain CT in two ways: by a known look-up with noise of its own, and by
their true plain scan, in which every organ loses iodine of its own. Then lesions are drawn into the translation
(invented) or into the input alone (erased), and the phantom's own lesions are taken out of one of the two. A lesion is
found if a place lies within its radius plus 5 mm. The score from which a place counts is the one that leaves one false
alarm a study in the untouched translations of the *other* subjects.

    python bench/unexplained.py
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medgan.data.masks import components
from medgan.evaluation.fidelity import body_mask
from medgan.evaluation.statistics import interval_text, t_interval
from medgan.faithfulness.residual import Blob, unexplained
from medgan.phantom.kinds import KINDS

KIND, SEED = KINDS["abdomen_ct"], 3
RADII_MM, CONTRASTS_HU = (5.0, 8.0, 12.0), (20.0, 40.0, 80.0)
APART_MM, MARGIN_MM, AT_ONCE = 50.0, 5.0, 4
LOOKUP = ((-1000, 0, 50, 200, 300, 1000), (-1000, 0, 35, 60, 200, 900))
NOISE_HU = 8.0
WAYS = ("look-up", "plain scan")
Array = NDArray[np.float32]


@dataclass
class Trial:
    """One input and translation, and the lesions that one of them lacks."""

    what: str
    source: Array
    synthetic: Array
    places: list[tuple[NDArray[np.float64], float]] = field(default_factory=list)
    """Middle as a voxel index, and radius in mm."""


@dataclass
class Subject:
    """A phantom subject with lesions, translated in one way."""

    source: Array
    synthetic: Array
    lesions: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    spacing_mm: NDArray[np.float64]

    def blobs(self, trial: Trial) -> list[Blob]:
        """What is not explained."""
        return unexplained(trial.source, trial.synthetic, self.inside, self.spacing_mm.tolist())


def subject(number: int, way: str) -> Subject:
    """Rendered and translated."""
    scans = KIND.render(SEED, number, lesions=1.0)
    source, plain = (scans[name].astype(np.float32) for name in ("contrast", "plain"))
    noise = np.random.default_rng(number).normal(0, NOISE_HU, source.shape)
    looked_up = np.interp(source, *LOOKUP).astype(np.float32) + noise.astype(np.float32)
    spacing = np.array(KIND.spacing_mm(source.shape))
    return Subject(source, plain if way == WAYS[1] else looked_up, scans["lesions"], body_mask(source), spacing)


def ball(own: Subject, middle: NDArray[np.float64], radius_mm: float) -> Array:
    """1 inside, 0 outside, half at the rim."""
    index = np.moveaxis(np.indices(own.source.shape), 0, -1)
    distance = np.linalg.norm((index - middle) * own.spacing_mm, axis=-1)
    edge = float(own.spacing_mm[:2].mean())
    return np.clip((radius_mm - distance) / edge + 0.5, 0, 1).astype(np.float32)


def drawn(own: Subject, random: np.random.Generator) -> Iterator[Trial]:
    """Balls of every size and contrast in soft tissue, in the translation or in the input alone."""
    smooth = ndimage.uniform_filter(own.source, 3)
    soft = np.argwhere(ndimage.binary_erosion(own.inside, iterations=3) & (smooth > 20) & (smooth < 160))
    for radius in RADII_MM:
        for contrast in CONTRASTS_HU:
            for what in ("invented", "erased"):
                middles: list[NDArray[np.int64]] = []
                while len(middles) < AT_ONCE:
                    middle = soft[random.integers(len(soft))]
                    if all(np.linalg.norm((middle - each) * own.spacing_mm) > APART_MM for each in middles):
                        middles.append(middle)
                lesions = sum(
                    random.choice((-1, 1)) * contrast * ball(own, each, radius) for each in middles
                )  # fmt: skip
                changed = (own.source, own.synthetic + lesions) if what == "invented" else (
                    own.source + lesions, own.synthetic
                )  # fmt: skip
                name = f"{what}, {radius:g} mm, {contrast:g} HU"
                yield Trial(name, *changed, [(each.astype(np.float64), radius) for each in middles])


def without(image: Array, mask: NDArray[np.bool_]) -> Array:
    """An image without a lesion: its contrast to the ring around it is taken away, and its noise stays."""
    ring = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask, iterations=1)
    contrast = image[mask].mean() - np.median(image[ring])
    return image - np.float32(contrast) * ndimage.gaussian_filter(mask.astype(np.float32), (0.4, 0.4, 0))


def own_lesions(own: Subject) -> Iterator[Trial]:
    """The phantom's lesions, taken out of the translation (erased) or of the input (invented)."""
    parts, count = components(own.lesions)
    ml = float(np.prod(own.spacing_mm)) / 1000
    masks = [mask for mask in (parts == number for number in range(1, count + 1)) if mask.sum() * ml >= 0.5]
    places = [(np.argwhere(mask).mean(axis=0), float(np.cbrt(mask.sum() * ml * 750 / np.pi))) for mask in masks]
    for what in ("erased", "invented"):
        image = own.synthetic if what == "erased" else own.source
        for mask in masks:
            image = without(image, mask)
        changed = (own.source, image) if what == "erased" else (image, own.synthetic)
        yield Trial(f"{what}, the phantom's own", *changed, places)


def found(blobs: list[Blob], own: Subject, middle: NDArray[np.float64], radius: float) -> tuple[float, float]:
    """The score of the best place at a lesion, 0 for none, and how far its middle is from the lesion's, in mm."""
    best = (0.0, float("nan"))
    for blob in blobs:
        apart = float(np.linalg.norm((blob.voxels.mean(axis=0) - middle) * own.spacing_mm))
        if apart <= radius + MARGIN_MM and blob.score > best[0]:
            best = blob.score, apart
    return best


def measured(way: str, subjects: int) -> pd.DataFrame:
    """A row per lesion: what, whether it was found, and how far away; and a row a subject for false alarms."""
    cases = [subject(number, way) for number in range(subjects)]
    untouched = [[blob.score for blob in own.blobs(Trial("", own.source, own.synthetic))] for own in cases]
    rows = []
    for number, own in enumerate(cases):
        others = [scores for other, scores in enumerate(untouched) if other != number]
        every = sorted((score for scores in others for score in scores), reverse=True)
        threshold = every[len(others)] if len(every) > len(others) else 0.0  # one a study is left above it
        alarms = sum(score > threshold for score in untouched[number])
        rows.append({"what": "false alarms a study", "subject": number, "value": alarms, "apart_mm": np.nan})
        for trial in (*drawn(own, np.random.default_rng(number)), *own_lesions(own)):
            blobs = own.blobs(trial)
            for place in trial.places:
                score, apart = found(blobs, own, *place)
                hit = score > threshold
                rows.append({"what": trial.what, "subject": number, "value": float(hit),
                             "apart_mm": apart if hit else np.nan})  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    """Print the share of lesions found, over subjects, and false alarms a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=6)
    subjects = parser.parse_args().subjects
    table: dict[str, dict[str, str]] = defaultdict(dict)
    for way in WAYS:
        for what, own in measured(way, subjects).groupby("what", sort=False):
            mean = t_interval(own.groupby("subject")["value"].mean())
            lower, upper = (max(mean.lower, 0), mean.upper if "alarms" in str(what) else min(mean.upper, 1))
            table[str(what)][way] = interval_text(mean.mean, lower, upper, ".2f")
            table[str(what)][f"{way}, mm off"] = f"{own['apart_mm'].median():.1f}"
    print(pd.DataFrame(table).T.to_string())


if __name__ == "__main__":
    main()
