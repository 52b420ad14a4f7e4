"""``medgan evaluate --synthesis``: synthetic lesions against real ones, beside what real and broken patches give."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medgan.data.domains import Domain, Window, domain_named
from medgan.data.location import AS_IT_IS, Options
from medgan.data.splits import Split
from medgan.data.streams import write_csv, write_text
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import Failure
from medgan.evaluation.synthesis.controls import blurred, collapsed, copied
from medgan.evaluation.synthesis.figures import MEASURES, Judge
from medgan.evaluation.synthesis.material import Material, gather
from medgan.evaluation.synthesis.memorisation import Nearest, nearest
from medgan.evaluation.synthesis.patches import Patches
from medgan.evaluation.synthesis.rows import Place, Row, divided
from medgan.evaluation.synthesis.sheet import contact_sheet
from medgan.evaluation.synthesis.verdicts import collapse_verdict, memorisation_verdict

SYNTHETIC, REAL = "synthetic", "real"
MOST = 400
"""Patches of a set that are judged, drawn by chance; of what may have been copied all are looked at."""
FEW = 50
"""Patches in a column, below which one comparison says little."""
SMALLEST = 16
"""Voxels of a patch's edge, below which nothing can be said of its structure."""


@dataclass(frozen=True)
class Question:
    """What is asked of which patches."""

    dimensions: Literal["2", "3"] = "2"
    size_voxels: int = 32
    """Edge of the patches that are cut around lesions."""
    modality: Literal["CT", "MR"] = "CT"
    """What the images are, where their domain's name does not tell."""
    window_hu: tuple[float, float] = (-200.0, 300.0)
    """What of a CT becomes -1 and 1."""
    seed: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the patches."""
        return (self.size_voxels,) * int(self.dimensions)


@dataclass(frozen=True, eq=False)
class Synthesis:
    """What was found."""

    figures: pd.DataFrame
    """A row per measure: ``measure``, its full name, and a column per arm, ``synthetic`` and ``real`` first."""
    nearest: pd.DataFrame
    """A row per synthetic patch: its nearest training patch, the distance, and whether it is suspected a copy."""
    memorisation: str
    """One line."""
    collapse: str
    """One line."""
    features: str
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def exit_code(self) -> int:
        """0 if everything was judged, 1 if some images were not; what is found changes nothing."""
        return 1 if self.failures else 0


def evaluate_synthesis(
    synthetic: Place,
    reference: Place | None,
    out: Path,
    question: Question,
    *,
    split: Path | None = None,
    options: Options = AS_IT_IS,
) -> Synthesis:
    """Judge synthetic patches and write ``synthesis.csv``, ``synthesis.json``, ``nearest.csv`` and two sheets.

    Args:
        synthetic: An augmented cohort, whose sidecars say what is synthetic; or synthetic images.
        reference: The real images; by default the unmarked ones of ``synthetic``.
        out: Folder of the files.
        question: Which patches.
        split: The generator's ``split.json``: its training part may have been copied, all others are held out.
        options: How cohorts are read.

    Raises:
        ConfigError: Patches that are too small, an empty window, a domain that is not named or whose modality is not
            known.
        DataError: No or too few patches of a kind, one real subject, or files that cannot be read or written.
    """
    lower, upper = question.window_hu
    if lower >= upper:
        raise ConfigError(f"--window-hu {lower:g} {upper:g} is empty: give the lower end first.")
    if question.size_voxels < SMALLEST:
        raise ConfigError(f"patches of {question.size_voxels} voxels are too small to judge; ask for {SMALLEST}.")
    made, real = divided(synthetic, reference, options)
    parts = Split.load(split) if split else None
    material = gather(made, real, _domain(real, question), question.shape, split=parts, seed=question.seed)
    _make(out)
    return _judged(material, question.seed, out)


def _judged(material: Material, seed: int, out: Path) -> Synthesis:
    training = material.training.drawn(MOST, seed)
    held_out = material.held_out.drawn(MOST, seed)
    made = material.synthetic.drawn(MOST, seed)
    count = min(len(made), len(held_out))
    floor = held_out.drawn(count, seed)
    judge = Judge(training, floor, material.suspected, len(material.names), seed=seed)
    arms = {SYNTHETIC: made.drawn(count, seed), REAL: floor} | {
        "blurred": blurred(floor), "collapsed": collapsed(floor, seed), "copied": copied(training, count, seed)
    }  # fmt: skip
    found = {
        name: nearest(patches, material.suspected, real=name in (REAL, "blurred")) for name, patches in arms.items()
    }
    columns = {name: judge.figures(patches, found[name]) for name, patches in arms.items()}
    whole = nearest(made, material.suspected, real=False)
    suspects = judge.threshold.suspects(whole)
    result = Synthesis(
        figures=pd.DataFrame(
            [{"measure": name, "name": judge.full_name(name)} | {arm: columns[arm][name] for arm in arms}
             for name in MEASURES]
        ),
        nearest=_nearest_table(made, material.suspected, whole, suspects),
        memorisation=memorisation_verdict(whole, judge.threshold),
        collapse=collapse_verdict(columns[SYNTHETIC], columns[REAL], len(judge.modes.centres)),
        features=judge.encoder.name,
        notes=tuple(_notes(material, count, len(training))),
        failures=material.failures,
    )  # fmt: skip
    _write(result, asdict(judge.threshold), out)
    orders = {"nearest": np.argsort(whole.distance), "samples": np.random.default_rng(seed).permutation(len(made))}
    for name, order in orders.items():
        contact_sheet(made, material.suspected, whole, suspects, order.tolist(), out / f"{name}.png")
    return result


def _domain(real: list[Row], question: Question) -> Domain:
    name = real[0].study.domain or "patches"
    try:
        found = domain_named(name)
    except ConfigError:
        found = domain_named(f"{name}:{question.modality}")
    if found.modality == "MR":
        return found
    lower, upper = question.window_hu
    return found.model_copy(update={"window": Window(lower=lower, upper=upper)})


def _nearest_table(made: Patches, suspected: Patches, found: Nearest, suspects: NDArray[np.bool_]) -> pd.DataFrame:
    rows = []
    for number, origin in enumerate(made.origins):
        known = math.isfinite(found.distance[number])
        partner = suspected.origins[found.which[number]]
        rows.append({
            "sample": origin.lesion, "subject": origin.subject, "recipient": origin.recipient or "",
            "nearest": partner.lesion if known else "", "nearest_subject": partner.subject if known else "",
            "distance": found.distance[number], "ratio": found.ratio[number], "suspect": bool(suspects[number]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _notes(material: Material, count: int, training: int) -> list[str]:
    subjects = {
        name: len({origin.subject for origin in patches.origins})
        for name, patches in (("train", material.training), ("held", material.held_out))
    }
    lines = [
        f"Each column: {count} patches against {training} real ones of {subjects['train']} subjects; real: the floor, "
        f"other real patches of {subjects['held']} subjects. blurred, collapsed and copied are broken on purpose."
    ]
    if not material.split_known:
        lines.append(
            "Who trained the generator is not known (no --split, no split column): real subjects are halved by chance, "
            "and any of them may have been copied."
        )
    if count < FEW:
        lines.append(f"{count} patches are few: differences from the floor below its own size are chance.")
    if not material.names:
        lines.append("Without label maps, images are judged as they are: lesions and shapes are not.")
    return lines


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be made a folder ({error.strerror}); give another place.") from None


def _write(found: Synthesis, threshold: Mapping[str, float], out: Path) -> None:
    write_csv(out / "synthesis.csv", found.figures)
    write_csv(out / "nearest.csv", found.nearest)
    arms = list(found.figures.columns[2:])
    content: dict[str, Any] = {
        "memorisation": found.memorisation,
        "collapse": found.collapse,
        "features": found.features,
        "figures": {
            row["name"]: {arm: None if math.isnan(row[arm]) else row[arm] for arm in arms}
            for row in found.figures.to_dict("records")
        },
        "copy_threshold": dict(threshold),
        "notes": found.notes,
        "failures": [asdict(failure) for failure in found.failures],
    }
    write_text(out / "synthesis.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
