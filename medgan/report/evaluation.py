"""What an evaluation says, for people: the verdict in words, then figures, subjects and calibration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medgan.data.splits import training_of
from medgan.data.streams import read_texts
from medgan.data.studies import sidecar
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.evaluation.arms import CONSTANT, DISTANCE, DO_NOTHING, LOOKUP, LOOKUP_MEDIAN, SHIFTED, SYNTHETIC
from medgan.evaluation.evaluate import CASES, KEYS, ROWS, SUMMARY
from medgan.evaluation.judging import OVER_LABELS, measure
from medgan.evaluation.statistics import LEVEL, Interval, verdict
from medgan.report.charts import MOST_SUBJECTS, bias_by_tissue, subject_dots
from medgan.report.figures import embedded
from medgan.report.html import Plot, Section, Table, cells

ROLES = ("synthetic", "reference", "source", "mask", "labels")
HEADLINES: Mapping[str, tuple[str, str]] = {
    OVER_LABELS: ("mean absolute error in the labels", "HU"),
    "core_mae_hu": ("mean absolute error where both bodies agree", "HU"),
    "mae_hu": ("mean absolute error in the body", "HU"),
    "enhancing_mae_percent": ("mean absolute error where the truth enhances", "%"),
    "mae_percent": ("mean absolute error in the body", "%"),
    DISTANCE: ("distance of soft tissue to real images of other subjects", "HU"),
}
"""What the verdict is about: the first that was measured, in words, and its unit; 0 is right, and less is better."""
RIVALS: Mapping[str, str] = {
    DO_NOTHING: "doing nothing",
    LOOKUP: "an intensity look-up",
    LOOKUP_MEDIAN: "an intensity look-up by medians",
    CONSTANT: "one constant",
}
"""What needs no network, and must be beaten."""
ARMS = {SYNTHETIC: "translation", SHIFTED: "truth, moved by a voxel", "real": "real images"} | dict(RIVALS)
TISSUES = ("soft_tissue", "bone", "air_inside", "air_around")
FEW_SUBJECTS = 6
"""Below so many Wilcoxon's test cannot reach 0.05, whatever the effect."""
Outcome = Literal["better", "worse", "not shown", "unknown"]
OPENINGS: Mapping[Outcome, str] = {
    "better": "Better than", "worse": "Worse than", "not shown": "Not shown to differ from",
}  # fmt: skip
OUTCOMES: Mapping[str, Outcome] = {"lower": "better", "higher": "worse", "not shown": "not shown", "unknown": "unknown"}


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, as its folder holds it."""

    folder: Path
    summary: Mapping[str, Any]
    """The content of ``summary.json``."""
    rows: pd.DataFrame
    """``subject, image, arm`` and the metrics."""
    cases: pd.DataFrame
    """``subject, image`` and the absolute paths of its files; empty where an earlier medgan wrote it."""

    @cached_property
    def headline(self) -> str | None:
        """The metric that the verdict is about."""
        own = self.arms.get(SYNTHETIC, {})
        return next((key for key in HEADLINES if key in own and not math.isnan(own[key].mean)), None)

    @cached_property
    def arms(self) -> dict[str, dict[str, Interval]]:
        """The mean of each metric by arm."""
        return {arm: {key: Interval.of(row) for key, row in own.items()} for arm, own in self.summary["arms"].items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how to read it."""
        return tuple(self.summary["notes"])

    @property
    def labels(self) -> dict[str, list[int]]:
        """The values of each organ that was judged."""
        names = self.summary.get("label_names") or {}
        return {name: values if isinstance(values, list) else [values] for name, values in names.items()}

    @property
    def subjects(self) -> int:
        """Who was judged, and not seen by the model."""
        return int(self.rows.loc[self.rows["arm"] == SYNTHETIC, "subject"].nunique())

    @property
    def hounsfield(self) -> bool:
        """Whether the figures are in HU."""
        return any(key.endswith("_hu") for key in self.arms.get(SYNTHETIC, {}))

    @property
    def units(self) -> dict[str, str]:
        """What intensities of sources and of all other images are in."""
        own = "HU" if self.hounsfield else "arbitrary"
        source = (self.summary.get("modalities") or {}).get("source", "CT" if self.hounsfield else "MR")
        return {"source": "HU" if source == "CT" else "arbitrary", "synthetic": own, "truth": own, "change": own}

    @cached_property
    def phantom(self) -> bool:
        """Whether the real images are the built-in phantom's, as their own files say."""
        real = [path for role in ("reference", "source") for path in self.cases[role] if path]
        if not real and (place := self.summary["places"].get("reference")):
            table = Path(str(place).rpartition(":")[0] or str(place))
            return bool(_json(table.parent / "labels.json").get("phantom"))
        return any(bool(sidecar(Path(path)).get("phantom")) for path in real[:1])

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The sidecar of the first translation; empty where there is none."""
        paths = self.cases["synthetic"]
        return sidecar(Path(paths.iloc[0])) if len(paths) else {}

    @property
    def model(self) -> Mapping[str, Any]:
        """Which model made the images, as the first one's sidecar says."""
        model = self.facts.get("Model")
        return model if isinstance(model, dict) else {}

    @cached_property
    def split_hash(self) -> str:
        """Of the split that the model was trained on, as the sidecar of the first image says; else empty."""
        paths = self.cases["synthetic"]
        return training_of(Path(paths.iloc[0]))[1] if len(paths) else ""

    def by_subject(self, metric: str) -> pd.DataFrame:
        """A row a subject, a column an arm, the translation first; the worst subject first."""
        means = self.rows.groupby(["subject", "arm"], sort=False)[metric].mean().unstack("arm")
        means = means[means[SYNTHETIC].notna()]  # real images of others have rows, too
        order = [arm for arm in ARMS if arm in means and means[arm].notna().any()]
        ideal = measure(metric).ideal or 0.0
        own = means[SYNTHETIC]
        distance = -own if math.isinf(ideal) else (own - ideal).abs()
        return means.loc[distance.sort_values(ascending=False, kind="stable").index, order]


def read_evaluation(folder: Path, names: Mapping[str, str] | None = None) -> Evaluation:
    """An evaluation folder; with ``names`` subjects are called by these.

    Raises:
        DataError: A file of it is missing or damaged.
    """
    try:
        summary = read_json(folder / SUMMARY)
        rows = read_texts(folder / ROWS)
        figures = [column for column in rows if column not in KEYS]
        rows[figures] = rows[figures].apply(pd.to_numeric)
        missing = {"arms", "places", "notes", "failures", "synthetic_against"} - summary.keys()
        if missing or list(rows.columns[: len(KEYS)]) != KEYS:
            raise ValueError(f"it lacks {', '.join(sorted(missing)) or 'its columns'}")
        cases = _cases(folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: is no evaluation that can be read ({error}); evaluate again.") from None
    if names is not None:
        rows, cases = (table.assign(subject=table["subject"].map(lambda who: names.get(who, "a subject")))
                       for table in (rows, cases))  # fmt: skip
        cases = cases.assign(image=cases["subject"])
    return Evaluation(folder, summary, rows, cases)


def _cases(folder: Path) -> pd.DataFrame:
    try:
        cases = read_texts(folder / CASES)
    except FileNotFoundError:
        return pd.DataFrame(columns=["subject", "image", *ROLES])
    paths = {role: cases[role].map(lambda path: str((folder / path).resolve()) if path else "") for role in ROLES}
    return cases.assign(**paths)


def verdict_of(evaluation: Evaluation) -> tuple[str, list[str], list[str]]:
    """The question, its answer in sentences, and what else must be known.

    An answer needs an interval that leaves out 0. What was not compared, or has too few subjects, is said.
    """
    metric = evaluation.headline
    if metric is None:
        return "Is it any good?", ["That cannot be said: no subject that the model has not seen was judged."], []
    words, unit = HEADLINES[metric]
    paired = bool(evaluation.summary["paired"])
    question = "Is the translation nearer to the truth than what needs no network?"
    if not paired:
        question = "Are its intensities nearer to real images than those of what needs no network?"
    outcomes: dict[str, Outcome] = {}
    lines, unknown = [], []
    for arm, name in RIVALS.items():
        row = evaluation.summary["synthetic_against"].get(arm, {}).get(metric)
        if row is None and arm in (DO_NOTHING, LOOKUP):
            unknown.append(f"Against {name} nothing can be said: {_why_not(evaluation.notes, arm)}")
        elif row is not None:
            outcomes[arm], line = _against(name, row, words, unit)
            lines.append(line)
    n = evaluation.subjects
    caveats = [
        f"{_whom(n)} Intervals are Student's {LEVEL:.0%} intervals over subjects, differences paired by subject."
    ]
    return question, [_overall(outcomes), *lines, *unknown], caveats


def organ_lines(evaluation: Evaluation) -> Iterator[str]:
    """In which organs the translation is better and worse than doing nothing, and where neither is shown."""
    against = evaluation.summary["synthetic_against"].get(DO_NOTHING, {})
    organs: dict[Outcome, list[str]] = {outcome: [] for outcome in OUTCOMES.values()}
    for metric, row in against.items():
        if metric.startswith("mae_in_") and row["n"]:
            difference = Interval.of(row, "difference")
            organs[OUTCOMES[verdict(vars(difference))]].append(f"{_organ(metric)} ({difference.text('+.1f')} HU)")
    said = {"better": "Better", "worse": "Worse", "not shown": "Not shown to differ"}
    for outcome, words in said.items():
        if names := organs[outcome]:  # type: ignore[index]
            yield f"{words} than doing nothing, organ by organ: {', '.join(names)}.".replace(
                "differ than", "differ from"
            )


def _against(name: str, row: Mapping[str, Any], words: str, unit: str) -> tuple[Outcome, str]:
    """Whether the translation beats a rival, and the sentence with the figures."""
    difference = Interval.of(row, "difference")
    outcome = OUTCOMES[verdict(vars(difference))]
    count = "" if row["better_in"] is None else f", better in {row['better_in']:.0f} of {difference.n}"
    text = difference.text("+.3g", missing="not defined")
    evidence = f"the {words} differs by {text} {unit}{count} subjects"
    if outcome == "unknown":
        return outcome, f"Against {name} nothing can be said: {difference.n} subject has no interval ({evidence})."
    return outcome, f"{OPENINGS[outcome]} {name}: {evidence}."


def _overall(outcomes: Mapping[str, Outcome]) -> str:
    """The first sentence, from the outcome against each rival."""
    by = {outcome: [RIVALS[arm] for arm, own in outcomes.items() if own == outcome] for outcome in OUTCOMES.values()}
    if by["worse"]:
        return f"No: it is worse than {_and(by['worse'])}."
    if by["better"] and not by["not shown"] and not by["unknown"]:
        return f"Yes: it is better than {_and(by['better'])}."
    if by["better"]:
        others = _and(by["not shown"] + by["unknown"])
        return f"In part: it is better than {_and(by['better'])}; against {others} that is not shown."
    if by["not shown"]:
        return f"That is not shown: it may be no better than {_and(by['not shown'])}."
    return "That cannot be said."


def _whom(subjects: int) -> str:
    if subjects >= FEW_SUBJECTS:
        return f"{subjects} subjects, none of whom the model has seen."
    least = f"; Wilcoxon's p cannot be below {2.0 ** (1 - subjects):.2g}" if subjects > 1 else ""
    return f"Only {subjects} {'subjects' if subjects != 1 else 'subject'}: too few to be sure of much{least}."


def _why_not(notes: Sequence[str], arm: str) -> str:
    said = [note for note in notes if arm in note or (arm == LOOKUP and "look-up is fitted" in note)]
    return said[0] if said else "it was not compared."


def figure_sections(evaluation: Evaluation) -> Iterator[Section]:
    """Figures beside the baselines, and subjects, where any was judged."""
    if evaluation.headline:
        yield _fidelity(evaluation)
        yield _subjects(evaluation)


def detail_sections(evaluation: Evaluation) -> Iterator[Section]:
    """Organs, calibration and uncertainty, each where there is something."""
    if evaluation.headline:
        yield from _organs(evaluation)
        yield from _calibration(evaluation)
    yield from _uncertainty(evaluation)


def _fidelity(evaluation: Evaluation) -> Section:
    metrics = [key for key in evaluation.arms[SYNTHETIC] if not key.startswith(("mae_in_", "change_", "uncertainty_"))]
    headlines = [key for key in metrics if measure(key).shown]
    first = [key for key in headlines if key == evaluation.headline]
    table = _beside(
        evaluation, [*first, *(key for key in headlines if key not in first)], "Beside what needs no network"
    )
    facts = {
        "Subjects": f"{evaluation.subjects}, none seen by the model",
        "Images": str(evaluation.rows.loc[evaluation.rows["arm"] == SYNTHETIC, "image"].nunique()),
        "Not judged": str(len(evaluation.summary["failures"])),
        "Model (SHA-256 of model.json)": str(evaluation.model.get("DescriptionSHA256", "not told by the images")),
        "Split of the model": evaluation.split_hash or "not told by the images",
    }
    note = "Means with their intervals over subjects. A difference is shown only where its interval leaves out 0."
    every = _beside(evaluation, list(evaluation.arms[SYNTHETIC]), "All figures")
    lines = [note for note in evaluation.notes if note.startswith(("Paired", "Unpaired", "core:", "Left out", "Of "))]
    return Section("Figures", "figures", note=note, lines=lines, facts=facts, tables=[table], folded=[every])


def _beside(evaluation: Evaluation, metrics: Sequence[str], title: str) -> Table:
    """A row a metric: each arm, and how much the translation differs from each rival."""
    arms, against = evaluation.arms, evaluation.summary["synthetic_against"]
    shown = [arm for arm in ARMS if arm in arms]
    rivals = [arm for arm in RIVALS if arm in against]
    columns = [
        "figure",
        "right",
        *(ARMS[arm] for arm in shown),
        *(f"minus {RIVALS[arm]} (better in)" for arm in rivals),
    ]
    rows = []
    for metric in metrics:
        known, form = measure(metric), f".{max(1, measure(metric).digits)}f"
        values = [arms[arm].get(metric) for arm in shown]
        if all(value is None or math.isnan(value.mean) for value in values):
            continue
        right = "" if known.ideal is None else "high" if math.isinf(known.ideal) else f"{known.ideal:g}"
        means = ["" if value is None else value.text(form) for value in values]
        differences = [_difference(against[arm].get(metric, {}), form) for arm in rivals]
        rows.append([metric, right, *means, *differences])
    return Table(title, columns, 1, rows)


def _difference(row: Mapping[str, Any], form: str) -> str:
    text, better = Interval.of(row, "difference").text(f"+{form}"), row.get("better_in")
    return text if not text or better is None else f"{text} ({better:.0f} of {row['n']:.0f})"


def _subjects(evaluation: Evaluation) -> Section:
    metric = str(evaluation.headline)
    words, unit = HEADLINES[metric]
    values = evaluation.by_subject(metric)
    named = values.rename(columns=ARMS)
    figure = subject_dots(named, f"{words}, {unit}")
    alt = f"{words} of each subject in {unit}: {', '.join(named.columns)}"
    left_out = f" The worst {MOST_SUBJECTS} of {len(values)} are plotted." if len(values) > MOST_SUBJECTS else ""
    table = cells(f"{words} by subject, {unit}", named.reset_index().rename_axis(columns=None))
    note = f"A line a subject, the worst first: {words}, {unit}; left is better.{left_out}"
    return Section("Subject by subject", "subjects", note=note, plots=[Plot(embedded(figure), alt)], folded=[table])


def _organs(evaluation: Evaluation) -> Iterator[Section]:
    metrics = [key for key in evaluation.arms[SYNTHETIC] if key.startswith("mae_in_")]
    if metrics:
        table = _beside(evaluation, metrics, "Organ by organ")
        rows = [[_organ(str(row[0])), *row[1:]] for row in table.rows]
        note = "Mean absolute error in HU. No interval is corrected for how many organs are looked at."
        table = Table(table.title, ["organ", *table.columns[1:]], 1, rows)
        yield Section("Organ by organ", "organs", note=note, tables=[table])


def _organ(metric: str) -> str:
    return metric.removeprefix("mae_in_").removesuffix("_hu").replace("_", " ")


def _calibration(evaluation: Evaluation) -> Iterator[Section]:
    """Bias and slope by true tissue, and the share of true HU that the window clips."""
    own = evaluation.arms[SYNTHETIC]
    prefix = "core_" if "core_bias_soft_tissue_hu" in own else ""
    shown = [arm for arm in ARMS if arm in evaluation.arms and arm != SHIFTED]
    estimates = {
        ARMS[arm]: {
            tissue: evaluation.arms[arm][key]
            for tissue in TISSUES
            if (key := f"{prefix}bias_{tissue}_hu") in evaluation.arms[arm]
            and not math.isnan(evaluation.arms[arm][key].mean)
        }
        for arm in shown
    }
    if not any(estimates.values()):
        return
    kinds = {"bias": "_hu", "mae": "_hu", "slope": ""}
    keys = [f"{prefix}{kind}_{tissue}{unit}" for tissue in TISSUES for kind, unit in kinds.items()]
    keys += ["mae_air_around_hu", "bias_air_around_hu"]
    table = _beside(evaluation, [key for key in dict.fromkeys(keys) if key in own], "Bias, error and slope by tissue")
    note = (
        "By tissue of the true CT: bone above 200 HU, air below −300 HU, soft tissue between them. A slope of 1 tells "
        "intensities apart as the truth does; noise of the truth lowers it."
    )
    lines = []
    if (clipped := own.get("clipped_percent")) and not math.isnan(clipped.mean):
        lines.append(
            f"Clipped: {clipped.text('.2g')} % of the body has true HU beyond all that the translation has anywhere."
        )
    plot = Plot(embedded(bias_by_tissue(estimates)), f"Mean error by tissue in HU: {', '.join(estimates)}")
    yield Section("Are the HU right?", "calibration", note=note, lines=lines, plots=[plot], tables=[table])


def _uncertainty(evaluation: Evaluation) -> Iterator[Section]:
    own = evaluation.arms.get(SYNTHETIC, {})
    keys = [key for key in own if key.startswith("uncertainty_") or key == "error_in_most_unsure_tenth"]
    if not any(not math.isnan(own[key].mean) for key in keys):
        line = "There are no uncertainty maps; medgan convert --uncertainty 8 makes them."
        yield Section("Uncertainty", "uncertainty", lines=[line])
        return
    told = {
        "uncertainty_spearman": "rank correlation of map and error, voxel by voxel",
        "uncertainty_spearman_where_unsure": "the same where the map is not 0",
        "error_in_most_unsure_tenth": "error of the most unsure tenth, as a multiple of the mean error",
    }
    rows = [[told.get(key, key), own[key].text(".2f")] for key in keys]
    yield Section("Uncertainty", "uncertainty", note="Does the map tell where the image is wrong? High is right.",
                  tables=[Table("Uncertainty", ["figure", "mean"], 1, rows)])  # fmt: skip


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
