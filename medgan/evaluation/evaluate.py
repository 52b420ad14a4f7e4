"""``medgan evaluate``: synthetic images against real ones, beside doing nothing and a look-up, by subject."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medgan.errors import DataError
from medgan.evaluation.arms import DO_NOTHING, Pairs, Unpaired, judge_each
from medgan.evaluation.judging import LabelNames, read_label_names
from medgan.evaluation.matching import Failure, ImageSet, Matching, Role, match, read_images
from medgan.evaluation.statistics import LEVEL, summarise

KEYS = ["subject", "image", "arm"]
COLUMNS: dict[Role, Literal["image", "mask"]] = {"source": "image", "mask": "mask", "labels": "mask"}
"""The column that is meant where the place is a cohort: masks and labels are named beside their images."""

Place = str | Path


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was found."""

    rows: pd.DataFrame
    """A row per image and arm: ``KEYS``, then the metrics."""
    summary: pd.DataFrame
    """A row per arm and metric; see ``medgan.evaluation.statistics.summarise``."""
    paired: bool
    pooled_distance_hu: dict[str, float]
    """Unpaired: by arm, the distance of all its subjects together to all real ones, within soft tissue."""
    notes: tuple[str, ...]
    """How to read the figures."""
    failures: tuple[Failure, ...]

    @property
    def exit_code(self) -> int:
        """0 if everything was judged, 1 if some images were not, 2 if none was."""
        if self.rows.empty:
            return 2
        return 1 if self.failures else 0


def evaluate(
    synthetic: Place,
    reference: Place,
    out: Path,
    *,
    source: Place | None = None,
    masks: Place | None = None,
    labels: Place | None = None,
    label_names: LabelNames | None = None,
    paired: bool | None = None,
) -> Evaluation:
    """Judge synthetic CT images and write ``evaluation.csv`` and ``summary.json``; what cannot be judged is listed.

    Every place is a folder, ``cohort.csv:DOMAIN`` or ``FOLDER:NAME``; see ``medgan.evaluation.matching``.

    Args:
        synthetic: The images to judge, in HU.
        reference: Real images of the target domain: of the same subjects on the same grids (fidelity is measured), or
            of others (intensities by tissue are compared).
        out: Folder of the two files.
        source: The translated images; they add the arms do-nothing and intensity look-up, and the change by tissue.
        masks: Where to measure, non-zero inside; by default the body.
        labels: Integer label maps; error and change are measured in each label too.
        label_names: The labels' values; by default ``labels.json`` beside the maps, else every value for itself.
        paired: Whether images have references of their own; by default, whether at least half have one.

    Raises:
        DataError: A place holds no images, ``labels.json`` no labels, or ``out`` cannot be made.
    """
    places: dict[Role, Place | None] = {"source": source, "mask": masks, "labels": labels}
    others = {role: read_images(place, COLUMNS[role]) for role, place in places.items() if place is not None}
    if "labels" in others and label_names is None:
        label_names = read_label_names(others["labels"].folder)
    references = read_images(reference)
    matching = match(read_images(synthetic), references, others, paired)
    _make(out)
    found = _judged(matching, references, label_names, has_source=source is not None)
    _write(found, out, {"synthetic": synthetic, "reference": reference} | {str(k): v for k, v in places.items()})
    return found


def _judged(matching: Matching, references: ImageSet, names: LabelNames | None, *, has_source: bool) -> Evaluation:
    failures = list(matching.failures)
    pooled: dict[str, float] = {}
    judge = Pairs(names) if matching.paired else Unpaired(names)
    real = judge_each(references.images, judge.real, failures)[0] if isinstance(judge, Unpaired) else []
    rows, judged = judge_each(matching.cases, judge.without_training, failures)
    subjects = {case.subject for case in judged}
    if has_source and len(subjects) > 1:
        rows += judge_each(judged, judge.looked_up, failures)[0]
    rows += real
    if isinstance(judge, Unpaired):
        pooled = judge.add_distances(rows)
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*KEYS, *(key for row in rows for key in row)])))
    return Evaluation(
        rows=frame,
        summary=summarise(frame, list(frame.columns[len(KEYS) :]), baseline=DO_NOTHING if has_source else None),
        paired=matching.paired,
        pooled_distance_hu=pooled,
        notes=tuple(_notes(matching, has_source, len(subjects))),
        failures=tuple(failures),
    )


def _notes(matching: Matching, has_source: bool, subjects: int) -> Iterator[str]:
    yield f"{matching.own_references} of the synthetic images have a reference of their own name or subject."
    if matching.paired:
        yield "Paired: each is compared with its own reference, inside the body or mask."
    else:
        yield "Unpaired: intensities are compared with those of real images of other subjects."
        yield "Tissues are the source's (without sources, each image's own); those of real images are their own."
    yield f"Means and {LEVEL:.0%} bootstrap intervals are over {subjects} subjects; images of one subject are averaged."
    if not has_source:
        yield "Without the source images there is neither do_nothing nor intensity_lookup to compare with."
    elif subjects < 2:
        yield "An intensity_lookup is fitted on other subjects, and there is none."
    else:
        kind = "the pairs" if matching.paired else "the histograms"
        yield f"intensity_lookup is fitted for each subject on {kind} of the other evaluated subjects."


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be made a folder ({error.strerror}); give another place for the results."
        ) from None


def _write(found: Evaluation, out: Path, places: Mapping[str, Place | None]) -> None:
    found.rows.to_csv(out / "evaluation.csv", index=False, float_format="%.6g")
    arms: dict[str, dict[str, Any]] = {}
    for row in found.summary.to_dict("records"):
        arm, metric = row.pop("arm"), row.pop("metric")
        arms.setdefault(arm, {})[metric] = {str(key): _plain(value) for key, value in row.items()}
    content = {
        "places": {role: None if place is None else str(place) for role, place in places.items()},
        "paired": found.paired,
        "arms": arms,
        "pooled_soft_tissue_distance_hu": {arm: _plain(value) for arm, value in found.pooled_distance_hu.items()},
        "notes": found.notes,
        "failures": [asdict(failure) for failure in found.failures],
    }
    (out / "summary.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: float) -> float | str | None:
    """JSON has neither: a missing figure is null, an infinite one the text "inf" or "-inf"."""
    if math.isnan(value):
        return None
    return str(value) if math.isinf(value) else value
