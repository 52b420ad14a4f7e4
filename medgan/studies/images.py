"""Labelled images that segmenters learn from beside real ones: translated, matched in histogram, with others' masks."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from skimage.exposure import match_histograms

from medgan.data.domains import Domain, DomainPair
from medgan.data.hashes import file_hash
from medgan.data.masks import body_mask
from medgan.data.studies import Data, Study
from medgan.data.volumes import Volume, read_volume, write_volume
from medgan.errors import DataError
from medgan.inference.batch import conversion_fabric
from medgan.inference.convert import Conversion, ConvertOrder
from medgan.inference.jobs import Facts, Job, find_jobs, strength_fact
from medgan.segmentation.apply import LabelKeeper
from medgan.segmentation.settings import SegmenterDescription
from medgan.studies.base import Context
from medgan.training.model_folder import read_model

COPIES = 3
"""Copies of an image that are matched, each to another target image and with another gamma, or translated, each at
another strength, so that they vary as scans do."""
LARGEST_GAMMA = 1.25
"""The exponent lies between its inverse and this."""
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class LabelRule:
    """By what translations are judged whose labels are to be learnt from."""

    threshold: float | None
    """Of label-keeping, the lowest Dice of an organ; None keeps all."""
    source: Path | None
    """Model folder of the frozen segmenter that finds the labels in images."""
    target: Path | None
    """Of that which finds them in translations; None is the same."""
    lesions: tuple[str, ...]
    """Labels that are counted in pieces."""

    def keeper(self, device: str) -> LabelKeeper | None:
        """The two segmenters, which must find the same labels; None where nothing is judged."""
        if self.threshold is None or self.source is None:
            return None
        source, target = (read_model(path, SegmenterDescription) for path in (self.source, self.target or self.source))
        return LabelKeeper(source, target, conversion_fabric(device), self.lesions)

    def lost(self, keeper: LabelKeeper | None, scan: Study, translation: Study) -> str:
        """Why a translation is not learnt from; empty where it keeps its labels, or nobody asks."""
        if keeper is None or self.threshold is None:
            return ""
        dice = keeper(scan, translation)
        # Not a number is no label kept, either.
        return "" if dice >= self.threshold else f"label-keeping {dice:.2f} is below {self.threshold:g}"


@dataclass(frozen=True)
class ImageRecipe:
    """What a process needs to make the images of the arms of some subsets."""

    table: Data
    """The cohort."""
    pair: DomainPair
    label_rule: LabelRule
    kinds: AbstractSet[str]
    """What the arms need."""
    strengths: tuple[float, float]
    """Between which each copy's is drawn that is translated in part."""
    model: Path | None
    """The translator's model folder, if an arm translates."""
    labelled: Mapping[int, tuple[Study, ...]]
    """Source images to translate or to match, by subset."""
    validation: tuple[Study, ...]
    """Source images whose translations choose epochs, too."""
    references: Mapping[int, tuple[Study, ...]]
    """By subset, target images that a translator would see, labelled or not, to match histograms to."""


def make_images(context: Context, recipe: ImageRecipe) -> pd.DataFrame:
    """Translate, match histograms, exchange masks.

    Returns:
        ``subset, kind, subject, domain, image, mask, rejected``: the last is why a translation is not trained on.

    Raises:
        DataError: An image that could not be translated.
    """
    pair, target, folder = recipe.pair, recipe.pair.target, context.folder
    sources = list(dict.fromkeys(scan for own in recipe.labelled.values() for scan in own))
    outputs: Mapping[Path, Path] = {}
    if recipe.model:
        outputs = _translated(recipe, [*sources, *recipe.validation], folder / "synthetic", context.device)
    copies = range(COPIES if "strengths" in recipe.kinds else 0)
    dialled = [_translated(recipe, sources, folder / "strengths" / f"{copy}", context.device, copy) for copy in copies]
    keeper, rows = recipe.label_rule.keeper(context.device), list[dict[str, Any]]()

    def add(subset: int, kind: str, scans: Iterable[Study], reasons: Iterable[str] = repeat("")) -> None:
        for scan, reason in zip(scans, reasons, strict=False):
            own = {"subject": scan.subject, "domain": scan.domain, "image": str(scan.image), "mask": str(scan.mask)}
            rows.append({"subset": subset, "kind": kind, **own, "rejected": reason})

    def translations(scans: Iterable[Study], outputs: Mapping[Path, Path] = outputs) -> list[Study]:
        return [Study(scan.subject, target.name, outputs[scan.image], scan.mask) for scan in scans]

    for subset, own in recipe.labelled.items():
        if outputs:
            drawn = translations(own)
            reasons = [recipe.label_rule.lost(keeper, *each) for each in zip(own, drawn, strict=True)]
            add(subset, "synthetic", drawn, reasons)
            for copy in dialled:
                add(subset, "strengths", translations(own, copy), reasons)
            add(subset, "validation", translations(recipe.validation))
            usable = [scan for scan, reason in zip(drawn, reasons, strict=True) if not reason]
            if "shuffled" in recipe.kinds and usable:
                add(subset, "shuffled", shuffled_masks(usable, folder / "shuffled"))
        if "matched" in recipe.kinds:
            references = recipe.references[subset]
            add(subset, "matched", matched_copies(own, references, pair.source, target, folder / "matched"))
    return pd.DataFrame(rows, columns=["subset", "kind", "subject", "domain", "image", "mask", "rejected"])


class _AtStrengths(Conversion):
    """Translates each study at a strength of its own, a function of its file and of the number of the copy."""

    def __init__(self, order: ConvertOrder, console: Console, between: tuple[float, float], copy: int) -> None:
        super().__init__(order, console)
        self.between, self.copy = between, copy

    def strength(self, job: Job) -> float:
        """Drawn uniformly."""
        return drawn_strength(job.source, self.copy, self.between)

    def sources(self, job: Job) -> Facts:
        """And the strength."""
        return super().sources(job) | strength_fact(self.strength(job))


def drawn_strength(source: Path, copy: int, between: tuple[float, float]) -> float:
    """That of a numbered copy of an image, the same for the same file."""
    return float(np.random.default_rng([copy, int(file_hash(source)[:16], 16)]).uniform(*between))


def _translated(
    recipe: ImageRecipe, scans: Sequence[Study], folder: Path, device: str, copy: int | None = None
) -> dict[Path, Path]:
    """From each source image to its translation on disk: to the whole, or to that copy of it at a drawn strength."""
    assert recipe.model is not None
    order = ConvertOrder(recipe.table, folder, str(recipe.model), overwrite=True, device=device)
    wanted, subjects = {scan.image for scan in scans}, {scan.subject for scan in scans}
    plan = find_jobs(order.input, folder, recipe.pair.source.name, pair=recipe.pair.names, subjects=subjects)
    jobs = replace(plan, jobs=tuple(job for job in plan.jobs if job.source in wanted))
    quiet = Console(quiet=True)
    batch = Conversion(order, quiet) if copy is None else _AtStrengths(order, quiet, recipe.strengths, copy)
    if failed := [outcome for outcome in batch.run(jobs) if outcome.status == "failed"]:
        reasons = "; ".join(f"{each.input}: {each.message}" for each in failed)
        raise DataError(f"{len(failed)} of {len(jobs.jobs)} images were not translated: {reasons}")
    return {job.source: job.output for job in jobs.jobs}


def together(*kinds: tuple[Study, ...]) -> tuple[Study, ...]:
    """Images of several kinds, of which each is drawn about equally often: the fewer are named several times."""
    most = max(map(len, kinds))
    return tuple(scan for own in kinds if own for scan in own * round(most / len(own)))


def matched_copies(
    sources: Sequence[Study], references: Sequence[Study], source: Domain, target: Domain, folder: Path
) -> tuple[Study, ...]:
    """Each labelled source image with the histogram of a target image, and a gamma; its mask stays.

    Copies are written to ``folder``, where what is there is kept, and count as of the target domain.
    """
    random = np.random.default_rng(0)
    place = folder / _key([*sources, *references])
    copies = []
    for index, study in enumerate(sources):
        for number in range(COPIES):
            reference = references[int(random.integers(len(references)))]
            gamma = float(LARGEST_GAMMA ** random.uniform(-1, 1))
            path = place / f"{index:04d}_{number}.nii.gz"
            if not path.exists():
                volume = read_volume(study.image)
                image = matched(volume, read_volume(reference.image), source, target, gamma)
                is_ct = target.modality == "CT"
                write_volume(np.rint(image) if is_ct else image, volume.grid, path, np.int16 if is_ct else np.float32)
            copies.append(Study(study.subject, target.name, path, study.mask))
    return tuple(copies)


def matched(
    volume: Volume, reference: Volume, source: Domain, target: Domain, gamma: float = 1.0
) -> NDArray[np.float32]:
    """A body with the histogram of another body, then contrast by a gamma on [0, 1] of the target's window.

    Intensities outside of the window stay, and what is not body becomes the target's air.

    Returns:
        (X, Y, Z) as the volume, in the unit of the reference, which may be of any shape.
    """
    inside, other = body_mask(volume.voxels, source), body_mask(reference.voxels, target)
    result = np.full(volume.voxels.shape, target.air, dtype=np.float32)
    if not inside.any() or not other.any():
        return result
    values = match_histograms(volume.voxels[inside], reference.voxels[other])
    lower, upper = target.window.bounds(reference.voxels)
    share = (values - lower) / (upper - lower)
    inner = (share > 0) & (share < 1)
    values[inner] = lower + share[inner] ** gamma * (upper - lower)
    result[inside] = np.clip(values, INT16.min, INT16.max) if target.modality == "CT" else values
    return result


def shuffled_masks(studies: Sequence[Study], folder: Path) -> tuple[Study, ...]:
    """The same images, each with the mask of the next subject in a drawn round; no subject keeps its own.

    Where grids differ, the mask is stretched over the image: that it does not fit is the point. Masks are written to
    ``folder``.

    Raises:
        DataError: One subject only.
    """
    subjects = sorted({study.subject for study in studies})
    if len(subjects) < 2:
        raise DataError(f"masks of {len(subjects)} subject(s) cannot be exchanged; leave the arm real+shuffled out.")
    drawn = np.random.default_rng(0).permutation(subjects).tolist()
    following = dict(zip(drawn, [*drawn[1:], drawn[0]], strict=True))
    first = {study.subject: study for study in reversed(studies)}
    place = folder / _key(studies)
    result = []
    for index, study in enumerate(studies):
        path = place / f"{index:04d}.nii.gz"
        wrong = first[following[study.subject]].mask
        assert wrong is not None
        if not path.exists():
            image, mask = read_volume(study.image), read_volume(wrong)
            write_volume(stretched(mask.voxels, image.grid.size), image.grid, path, np.uint8)
        result.append(Study(study.subject, study.domain, study.image, path))
    return tuple(result)


def _key(studies: Sequence[Study]) -> str:
    """A name for what is made of these images and masks: of other ones, nothing that is there is taken for theirs."""
    files = ((study.subject, study.image, study.mask) for study in studies)
    lines = ["\t".join([subject, *(file_hash(path) for path in paths if path)]) for subject, *paths in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def stretched(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) of any shape over another, by nearest index; the same where the shapes are equal."""
    index = [
        np.rint(np.linspace(0, before - 1, after)).astype(int)
        for before, after in zip(labels.shape, shape, strict=True)
    ]
    return np.asarray(labels[np.ix_(*index)], dtype=np.uint8)
