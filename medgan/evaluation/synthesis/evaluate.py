"""``medgan evaluate --synthesis``: synthetic lesions against real ones, beside what real and broken patches give."""

import math
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
from medgan.errors import ConfigError
from medgan.evaluation.evaluate import make_folder
from medgan.evaluation.matching import Failure, Place
from medgan.evaluation.statistics import plain
from medgan.evaluation.synthesis import distances, diversity
from medgan.evaluation.synthesis.memorisation import Nearest, Threshold, contact_sheet, nearest
from medgan.evaluation.synthesis.patches import Patches, PatchSets, blurred, collapsed, copied, divided, gather, smooth
from medgan.evaluation.terminal import NAME_WIDTH, failure_lines

SYNTHETIC, REAL = "synthetic", "real"
MOST = 400
"""Patches of a set that are judged, drawn by chance; of what may have been copied all are looked at."""
FEW = 50
"""Patches in a column, below which one comparison says little."""
PROJECTIONS = 256
ALARMS = ("COPIES", "COLLAPSED", "IN PART")
"""Words of verdicts that are shown in red."""
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
    """The figures of synthetic patches beside those of real and broken ones."""

    figures: pd.DataFrame
    """A row per measure: ``measure``, its full name, and a column per arm, ``synthetic`` and ``real`` first."""
    nearest: pd.DataFrame
    """A row per synthetic patch: its nearest training patch, the distance, and whether it is suspected a copy."""
    memorisation: str
    collapse: str
    features: str
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def exit_code(self) -> int:
        """0 if everything was judged, 1 if some images were not; what is found changes nothing."""
        return 1 if self.failures else 0


@dataclass(frozen=True)
class _Measure:
    right: Literal["0", "1", "high"]
    digits: int
    featured: bool = False
    """Whether it depends on the features, whose name it then carries."""


MEASURES = {
    "frechet": _Measure("0", 2, featured=True),
    "kernel": _Measure("0", 3, featured=True),
    "sliced_wasserstein": _Measure("0", 3),
    "fine_wasserstein": _Measure("0", 3),
    "precision": _Measure("high", 2, featured=True),
    "recall": _Measure("high", 2, featured=True),
    "density": _Measure("1", 2, featured=True),
    "coverage": _Measure("high", 2, featured=True),
    "modes": _Measure("high", 0, featured=True),
    "diversity": _Measure("1", 2),
    "shape_diversity": _Measure("1", 2),
    "twins_percent": _Measure("0", 0),
    "copies_percent": _Measure("0", 0),
}


class Judge:
    """Figures of patches against real ``training`` patches, on which the encoder is trained.

    ``held_out`` are real patches of other subjects, the floor of every distance, and ``suspected`` those that a
    generator may have copied; ``names`` is how many label names there are.
    """

    def __init__(self, training: Patches, held_out: Patches, suspected: Patches, names: int, *, seed: int) -> None:
        self.training, self.held_out, self.suspected, self.seed = training, held_out, suspected, seed
        self.encoder = distances.Encoder.train(training, names, seed=seed)
        self.real = self.encoder.features(training)
        self.modes = diversity.find_modes(self.real, seed)
        # Whoever may have been copied is no copy himself: each real patch against those of other subjects.
        self.threshold = Threshold.of(nearest(held_out, suspected, real=True))

    def figures(self, patches: Patches, *, real: bool) -> dict[str, float]:
        """By the names in ``MEASURES``; as many patches as there are held-out ones, or fewer, are comparable."""
        features = self.encoder.features(patches)
        copies = self.threshold.suspects(nearest(patches, self.suspected, real=real))
        sets = patches.images, self.training.images
        fine = [images - smooth(images) for images in sets]
        sliced, fine_sliced = (
            distances.sliced_wasserstein(one, other, projections=PROJECTIONS, seed=self.seed)
            for one, other in (sets, fine)
        )
        return {
            "frechet": distances.frechet_distance(features, self.real),
            "kernel": distances.kernel_distance(features, self.real),
            "sliced_wasserstein": sliced,
            "fine_wasserstein": fine_sliced,
            **distances.neighbourhoods(features, self.real),
            "modes": float(diversity.covered_modes(self.modes, features)),
            "diversity": diversity.diversity_ratio(patches, self.training),
            "shape_diversity": diversity.shape_diversity_ratio(patches, self.training),
            "twins_percent": diversity.twins_percent(patches, self.held_out),
            "copies_percent": 100 * float(copies.mean()),
        }


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

    ``synthetic`` is an augmented cohort, whose sidecars say what is synthetic, or synthetic images; ``reference`` the
    real images, by default the unmarked ones of ``synthetic``. Of the generator's ``split.json`` the training part may
    have been copied, and all others are held out.
    """
    lower, upper = question.window_hu
    if lower >= upper:
        raise ConfigError(f"--window-hu {lower:g} {upper:g} is empty: give the lower end first.")
    if question.size_voxels < SMALLEST:
        raise ConfigError(f"patches of {question.size_voxels} voxels are too small to judge; ask for {SMALLEST}.")
    synthetic_rows, real_rows = divided(synthetic, reference, options)
    parts = Split.load(split) if split else None
    domain = _domain(real_rows[0].study.domain, question)
    material = gather(synthetic_rows, real_rows, domain, question.shape, split=parts, seed=question.seed)
    make_folder(out)
    return _judged(material, question.seed, out)


def _judged(material: PatchSets, seed: int, out: Path) -> Synthesis:
    training = material.training.drawn(MOST, seed)
    held_out = material.held_out.drawn(MOST, seed)
    synthetic = material.synthetic.drawn(MOST, seed)
    count = min(len(synthetic), len(held_out))
    floor = held_out.drawn(count, seed)
    judge = Judge(training, floor, material.suspected, len(material.names), seed=seed)
    arms = {SYNTHETIC: synthetic.drawn(count, seed), REAL: floor} | {
        "blurred": blurred(floor), "collapsed": collapsed(floor, seed), "copied": copied(training, count, seed)
    }  # fmt: skip
    columns = {name: judge.figures(patches, real=name in (REAL, "blurred")) for name, patches in arms.items()}
    features = judge.encoder.name
    rows = [
        {"measure": name, "name": f"{name}[{features}]" if measure.featured else name}
        | {arm: columns[arm][name] for arm in arms}
        for name, measure in MEASURES.items()
    ]
    pairs = nearest(synthetic, material.suspected, real=False)
    suspects = judge.threshold.suspects(pairs)
    result = Synthesis(
        figures=pd.DataFrame(rows),
        nearest=_nearest_table(synthetic, material.suspected, pairs, suspects),
        memorisation=judge.threshold.verdict(pairs),
        collapse=diversity.collapse_verdict(columns[SYNTHETIC], columns[REAL], len(judge.modes)),
        features=features,
        notes=tuple(_notes(material, count, len(training))),
        failures=material.failures,
    )
    _write(result, judge.threshold, out)
    orders = {"nearest": np.argsort(pairs.distance), "samples": np.random.default_rng(seed).permutation(len(synthetic))}
    for name, order in orders.items():
        contact_sheet(synthetic, material.suspected, pairs, suspects, order.tolist(), out / f"{name}.png")
    return result


def _domain(name: str, question: Question) -> Domain:
    name = name or "patches"
    try:
        domain = domain_named(name)
    except ConfigError:
        domain = domain_named(f"{name}:{question.modality}")
    lower, upper = question.window_hu
    return domain if domain.modality == "MR" else domain.model_copy(update={"window": Window(lower=lower, upper=upper)})


def _nearest_table(synthetic: Patches, suspected: Patches, pairs: Nearest, suspects: NDArray[np.bool_]) -> pd.DataFrame:
    rows = []
    for number, origin in enumerate(synthetic.origins):
        known = math.isfinite(pairs.distance[number])
        partner = suspected.origins[pairs.which[number]]
        rows.append({
            "sample": origin.lesion, "subject": origin.subject, "recipient": origin.recipient or "",
            "nearest": partner.lesion if known else "", "nearest_subject": partner.subject if known else "",
            "distance": pairs.distance[number], "ratio": pairs.ratio[number], "suspect": bool(suspects[number]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _notes(material: PatchSets, count: int, training: int) -> list[str]:
    trained, held = (
        len({origin.subject for origin in patches.origins}) for patches in (material.training, material.held_out)
    )
    lines = [
        f"Each column: {count} patches against {training} real ones of {trained} subjects; real: the floor, other real "
        f"patches of {held} subjects. blurred, collapsed and copied are broken on purpose."
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


def _write(synthesis: Synthesis, threshold: Threshold, out: Path) -> None:
    write_csv(out / "synthesis.csv", synthesis.figures)
    write_csv(out / "nearest.csv", synthesis.nearest)
    content: dict[str, Any] = {
        "memorisation": synthesis.memorisation,
        "collapse": synthesis.collapse,
        "features": synthesis.features,
        "figures": synthesis.figures.drop(columns="measure").set_index("name").to_dict("index"),
        "copy_threshold": asdict(threshold),
        "notes": synthesis.notes,
        "failures": [asdict(failure) for failure in synthesis.failures],
    }
    write_json(out / "synthesis.json", plain(content))


def render(synthesis: Synthesis) -> Group:
    """Each measure of the synthetic patches beside real and broken ones, the two verdicts, notes and failures."""
    arms = list(synthesis.figures.columns[2:])
    table = Table(Column("measure", overflow="fold", width=NAME_WIDTH), "right", pad_edge=False)
    for arm in arms:
        table.add_column(arm, justify="right")
    for row in synthesis.figures.to_dict("records"):
        measure = MEASURES[row["measure"]]
        cells = ["" if math.isnan(row[arm]) else f"{row[arm]:.{measure.digits}f}" for arm in arms]
        table.add_row(f"{row['measure']} *" if measure.featured else row["measure"], measure.right, *cells)
    verdicts = [
        Text(line, style="bold red" if any(word in line for word in ALARMS) else "bold")
        for line in (synthesis.memorisation, synthesis.collapse)
    ]
    notes = [Text(line, style="dim") for line in (f"* on features of {synthesis.features}.", *synthesis.notes)]
    return Group(table, *notes, *failure_lines(synthesis.failures, "synthesis.json"), *verdicts)
