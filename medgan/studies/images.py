"""Labelled images that segmenters learn from beside real ones: translated, matched in histogram, with others' masks."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medgan.data.domains import DomainPair
from medgan.data.studies import Data
from medgan.data.studies import Study as Scan
from medgan.errors import DataError
from medgan.inference.batch import conversion_fabric
from medgan.inference.convert import Conversion, ConvertOrder
from medgan.inference.jobs import find_jobs
from medgan.segmentation.apply import LabelKeeper
from medgan.segmentation.settings import SegmenterDescription
from medgan.studies.base import Context
from medgan.studies.copies import matched_copies, shuffled_masks
from medgan.training.model_folder import read_model


@dataclass(frozen=True)
class Keeping:
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

    def lost(self, keeper: LabelKeeper | None, scan: Scan, translation: Scan) -> str:
        """Why a translation is not learnt from; empty where it keeps its labels, or nobody asks."""
        if keeper is None or self.threshold is None:
            return ""
        kept = keeper(scan, translation)
        # Not a number is no label kept, either.
        return "" if kept >= self.threshold else f"label-keeping {kept:.2f} is below {self.threshold:g}"


@dataclass(frozen=True)
class Making:
    """What a process needs to make the images of the arms of some subsets."""

    table: Data
    """The cohort."""
    pair: DomainPair
    keeping: Keeping
    kinds: AbstractSet[str]
    """What the arms need."""
    model: Path | None
    """The translator's model folder, if an arm translates."""
    labelled: Mapping[int, tuple[Scan, ...]]
    """Source images to translate or to match, by subset."""
    validation: tuple[Scan, ...]
    """Source images whose translations choose epochs, too."""
    references: Mapping[int, tuple[Scan, ...]]
    """By subset, target images that a translator would see, labelled or not, to match histograms to."""


def make_images(context: Context, making: Making) -> pd.DataFrame:
    """Translate, match histograms, exchange masks.

    Returns:
        ``subset, kind, subject, domain, image, mask, rejected``: the last is why a translation is not trained on.

    Raises:
        DataError: An image that could not be translated.
    """
    pair, target, folder = making.pair, making.pair.target, context.folder
    sources = list(dict.fromkeys(scan for own in making.labelled.values() for scan in own))
    outputs: Mapping[Path, Path] = {}
    if making.model:
        outputs = _translated(making, [*sources, *making.validation], folder / "synthetic", context.device)
    keeper, rows = making.keeping.keeper(context.device), list[dict[str, Any]]()

    def add(subset: int, kind: str, scans: Iterable[Scan], reasons: Iterable[str] = repeat("")) -> None:
        for scan, reason in zip(scans, reasons, strict=False):
            own = {"subject": scan.subject, "domain": scan.domain, "image": str(scan.image), "mask": str(scan.mask)}
            rows.append({"subset": subset, "kind": kind, **own, "rejected": reason})

    def translations(scans: Iterable[Scan]) -> list[Scan]:
        return [Scan(scan.subject, target.name, outputs[scan.image], scan.mask) for scan in scans]

    for subset, own in making.labelled.items():
        if outputs:
            drawn = translations(own)
            reasons = [making.keeping.lost(keeper, *each) for each in zip(own, drawn, strict=True)]
            add(subset, "synthetic", drawn, reasons)
            add(subset, "validation", translations(making.validation))
            kept = [scan for scan, reason in zip(drawn, reasons, strict=True) if not reason]
            if "shuffled" in making.kinds and kept:
                add(subset, "shuffled", shuffled_masks(kept, folder / "shuffled"))
        if "matched" in making.kinds:
            references = making.references[subset]
            add(subset, "matched", matched_copies(own, references, pair.source, target, folder / "matched"))
    return pd.DataFrame(rows, columns=["subset", "kind", "subject", "domain", "image", "mask", "rejected"])


def scan_of(row: Mapping[Any, str]) -> Scan:
    """The labelled image of a row of ``make_images``."""
    return Scan(row["subject"], row["domain"], Path(row["image"]), Path(row["mask"]))


def _translated(making: Making, scans: Sequence[Scan], folder: Path, device: str) -> dict[Path, Path]:
    """From each source image to its translation on disk."""
    assert making.model is not None
    order = ConvertOrder(making.table, folder, str(making.model), overwrite=True, device=device)
    wanted, subjects = {scan.image for scan in scans}, {scan.subject for scan in scans}
    found = find_jobs(order.input, folder, making.pair.source.name, pair=making.pair.names, subjects=subjects)
    jobs = replace(found, jobs=tuple(job for job in found.jobs if job.source in wanted))
    batch = Conversion(order, Console(quiet=True))
    if failed := [outcome for outcome in batch.run(jobs) if outcome.status == "failed"]:
        reasons = "; ".join(f"{each.input}: {each.message}" for each in failed)
        raise DataError(f"{len(failed)} of {len(jobs.jobs)} images were not translated: {reasons}")
    return {job.source: job.output for job in jobs.jobs}
