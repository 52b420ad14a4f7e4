"""``medgan evaluate --synthesis``: synthetic lesions against real ones, beside what real and broken patches give."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from medgan.data.domains import Domain, Window, domain_named
from medgan.data.splits import Split
from medgan.data.streams import write_csv, write_json
from medgan.data.studies import AS_IT_IS, Options
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import Failure
from medgan.evaluation.statistics import plain
from medgan.evaluation.synthesis.distances import (
    Features,
    frechet_distance,
    kernel_distance,
    neighbourhoods,
    sliced_wasserstein,
)
from medgan.evaluation.synthesis.diversity import (
    COLLAPSED,
    PARTLY,
    Modes,
    diversity_ratio,
    shape_diversity_ratio,
    twins_percent,
)
from medgan.evaluation.synthesis.encoder import Encoder, train_encoder
from medgan.evaluation.synthesis.material import Material, Place, Row, divided, gather
from medgan.evaluation.synthesis.memorisation import PERCENTILE, Nearest, Threshold, nearest
from medgan.evaluation.synthesis.patches import Floats, Patches, blurred, collapsed, copied, smooth
from medgan.evaluation.synthesis.sheet import contact_sheet

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
        "figures": {row["name"]: {arm: row[arm] for arm in arms} for row in found.figures.to_dict("records")},
        "copy_threshold": dict(threshold),
        "notes": found.notes,
        "failures": [asdict(failure) for failure in found.failures],
    }
    write_json(out / "synthesis.json", plain(content))


PROJECTIONS = 256


@dataclass(frozen=True)
class Measure:
    """How a figure is read."""

    right: Literal["0", "1", "high"]
    digits: int
    featured: bool = False
    """Whether it depends on the features, whose name it then carries."""


MEASURES = {
    "frechet": Measure("0", 2, featured=True),
    "kernel": Measure("0", 3, featured=True),
    "sliced_wasserstein": Measure("0", 3),
    "fine_wasserstein": Measure("0", 3),
    "precision": Measure("high", 2, featured=True),
    "recall": Measure("high", 2, featured=True),
    "density": Measure("1", 2, featured=True),
    "coverage": Measure("high", 2, featured=True),
    "modes": Measure("high", 0, featured=True),
    "diversity": Measure("1", 2),
    "shape_diversity": Measure("1", 2),
    "twins_percent": Measure("0", 0),
    "copies_percent": Measure("0", 0),
}


class Judge:
    """Figures of patches against real training patches.

    Args:
        training: Real patches that all others are compared with; the encoder is trained on them.
        held_out: Real patches of other subjects: the floor of every distance.
        suspected: Real patches that a generator may have copied.
        names: How many label names there are.
        seed: Of the encoder, the clusters and the projections.
    """

    def __init__(self, training: Patches, held_out: Patches, suspected: Patches, names: int, *, seed: int) -> None:
        self.training, self.held_out, self.suspected, self.seed = training, held_out, suspected, seed
        self.encoder: Encoder = train_encoder(training, names, seed=seed)
        self.real: Features = self.encoder.features(training)
        self.modes = Modes.of(self.real, seed)
        # Whoever may have been copied is no copy himself: each real patch against those of other subjects.
        self.threshold = Threshold.of(nearest(held_out, suspected, real=True))

    def figures(self, patches: Patches, found: Nearest) -> dict[str, float]:
        """By the names in ``MEASURES``; as many patches as there are held-out ones, or fewer, are comparable.

        Args:
            patches: What is judged.
            found: Its nearest suspected patches.
        """
        features = self.encoder.features(patches)
        return {
            "frechet": frechet_distance(features, self.real),
            "kernel": kernel_distance(features, self.real),
            "sliced_wasserstein": self._sliced(patches, lambda images: images),
            "fine_wasserstein": self._sliced(patches, lambda images: images - smooth(images)),
            **asdict(neighbourhoods(features, self.real)),
            "modes": float(self.modes.covered(features)),
            "diversity": diversity_ratio(patches, self.training),
            "shape_diversity": shape_diversity_ratio(patches, self.training),
            "twins_percent": twins_percent(patches, self.held_out),
            "copies_percent": 100 * float(self.threshold.suspects(found).mean()),
        }

    def full_name(self, measure: str) -> str:
        """A measure's name with that of the features that it was made with."""
        return f"{measure}[{self.encoder.name}]" if MEASURES[measure].featured else measure

    def _sliced(self, patches: Patches, view: Callable[[Floats], Floats]) -> float:
        return sliced_wasserstein(
            view(patches.images), view(self.training.images), projections=PROJECTIONS, seed=self.seed
        )


def memorisation_verdict(found: Nearest, threshold: Threshold) -> str:
    """One line: whether more samples lie at training patches than real patches of other subjects do.

    Args:
        found: The samples' nearest training patches.
        threshold: From real patches.
    """
    suspects, certain = int(threshold.suspects(found).sum()), int(threshold.certainly(found).sum())
    share = f"{suspects} of {len(found.distance)} samples ({suspects / len(found.distance):.0%})"
    if threshold.exceeded(found):
        beyond = f", {certain} of them beyond doubt" if certain else ""
        return f"Memorisation: COPIES. {share} are copies of training patches{beyond}; see nearest.png and nearest.csv."
    return (
        f"Memorisation: none found. {share} lie nearer to a training patch than {100 - PERCENTILE:.0f} % of other "
        f"subjects' real patches do; by chance up to {PERCENTILE:.0f} % would."
    )


def collapse_verdict(synthetic: Mapping[str, float], real: Mapping[str, float], modes: int) -> str:
    """One line: whether samples vary as real patches do.

    Args:
        synthetic: Its figures by measure.
        real: Those of as many held-out real patches.
        modes: How many kinds of real patches there are.
    """
    seen = f"{synthetic['modes']:.0f} of {modes} kinds of patches (held-out real ones: {real['modes']:.0f})"
    shares = {"images": synthetic["diversity"], "labelled shapes": synthetic["shape_diversity"]}
    known = {what: share for what, share in shares.items() if not math.isnan(share)}
    varied = " and ".join(f"{what} {share:.0%}" for what, share in known.items())
    facts = f"{seen}; diversity as a share of real: {varied or 'not known, they show one place'}"
    if any(share < COLLAPSED for share in known.values()) or synthetic["modes"] < COLLAPSED * real["modes"]:
        return f"Mode collapse: COLLAPSED. Samples come in {facts}."
    if synthetic["twins_percent"] > 100 * PARTLY:
        twins = f"{synthetic['twins_percent']:.0f} % of the samples have a twin"
        return f"Mode collapse: IN PART. {twins}; they come in {facts}."
    return f"Mode collapse: none found. Samples come in {facts}."


MAX_FAILURES = 10
NAME_WIDTH = 18
"""Characters of a measure's name on one line."""
ALARMS = ("COPIES", "COLLAPSED", "IN PART")


def render(found: Synthesis) -> Group:
    """Each measure of the synthetic patches beside real and broken ones, the two verdicts, notes and failures."""
    arms = list(found.figures.columns[2:])
    table = Table(Column("measure", overflow="fold", min_width=NAME_WIDTH), "right", pad_edge=False)
    for arm in arms:
        table.add_column(arm, justify="right")
    for row in found.figures.to_dict("records"):
        measure = MEASURES[row["measure"]]
        name = f"{row['measure']} *" if measure.featured else row["measure"]
        table.add_row(name, measure.right, *(_number(row[arm], measure.digits) for arm in arms))
    verdicts = [
        Text(line, style="bold red" if any(word in line for word in ALARMS) else "bold")
        for line in (found.memorisation, found.collapse)
    ]
    notes = [Text(line, style="dim") for line in (f"* on features of {found.features}.", *found.notes)]
    failures = [Text(f"not judged: {f.image}: {f.reason}", style="red") for f in found.failures[:MAX_FAILURES]]
    if len(found.failures) > MAX_FAILURES:
        failures.append(Text(f"and {len(found.failures) - MAX_FAILURES} more, in synthesis.json", style="red"))
    return Group(table, *notes, *failures, *verdicts)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"
