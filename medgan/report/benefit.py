"""``benefit.html``: does translation help a segmenter? Gains, harm, and plainly where nothing is shown."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.documents import read_json
from medgan.errors import DataError, MedganError
from medgan.evaluation.statistics import EFFECT, LEVEL, SIGNIFICANT, interval_text, verdict
from medgan.report.figures import common_limits, embedded, forest, learning_curves, overlay
from medgan.report.html import Plot, Section, cells, render
from medgan.report.study import FORESTS_NOTE, how_it_was_run

REPORT, RECORD, ROWS = "benefit.html", "benefit.json", "benefit.csv"
WORST_NOTE = "the axial slice in which they differ most, the patient's right on the left."
QUESTIONS = (("real+standard+synthetic", "real+standard"), ("real+synthetic", "real"))
"""Does it help? The first of these pairs that was compared is what a report answers."""
SETS = {"out": "out of distribution", "in": "in distribution"}
MATCHING = {
    "higher": "better than histogram matching",
    "lower": "histogram matching is better",
    "not shown": "not shown to be better than histogram matching",
}
ASIDE = (
    (
        "real+shuffled",
        "real",
        {
            "lower": "the control with wrong masks hurts, as it must",
            "higher": "the control with wrong masks HELPS, so something else than anatomy is at work: trust no gain",
            "not shown": "the control with wrong masks is not shown to hurt: read gains with care",
        },
    ),
    *((arm, "real+matched", MATCHING) for arm, _ in QUESTIONS),
)
"""Pairs that say whether a gain can be believed, and what each outcome means."""

Effect = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Findings:
    """What a study of arms has found."""

    folder: Path
    record: Mapping[str, Any]
    """What ``benefit.json`` holds."""
    rows: pd.DataFrame
    """``arm, seed, subset, subject, test_set, organ``, and a column a metric."""
    comparisons: pd.DataFrame
    """See ``medgan.evaluation.statistics.compare_arms``."""
    curves: pd.DataFrame
    """``arm, seed, subset, epoch, val_dice``."""

    @property
    def arms(self) -> list[str]:
        """In the order in which the study lists them."""
        return list(dict.fromkeys(self.rows["arm"]))

    @property
    def organs(self) -> list[str]:
        """In the order in which the study lists them."""
        return list(dict.fromkeys(self.rows["organ"]))

    def effects(self, **wanted: str) -> pd.DataFrame:
        """The comparisons of Dice whose columns have these values."""
        own = self.comparisons["metric"] == "dice"
        for column, value in wanted.items():
            own &= self.comparisons[column] == value
        return self.comparisons[own]


def write_report(findings: Findings) -> Path:
    """Write ``benefit.html`` into a study's folder, and return its path.

    An image of a worst case that cannot be shown is named with the reason.
    """
    return render(findings.folder / REPORT, **shown_of(findings))


def read_findings(folder: Path) -> Findings:
    """What a study of arms has found, from its folder.

    Raises:
        DataError: A file of it is missing or damaged.
    """
    try:
        record = read_json(folder / RECORD)
        curves, rows = (pd.read_csv(folder / name) for name in (record["learning_curves"], ROWS))
        comparisons = pd.DataFrame(record["comparisons"], columns=list(EFFECT))
        numbers = comparisons[list(EFFECT[5:])].apply(pd.to_numeric)
        return Findings(folder, record, rows, comparisons.assign(**numbers), curves)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{folder}: its results cannot be read ({error!r:.100}); give the study's own command again: what is done "
            "stays, and its page is written."
        ) from None


def shown_of(findings: Findings) -> dict[str, Any]:
    """What the page shows, as :func:`medgan.report.html.render` takes it."""
    question, answers = _answer(findings)
    record, forests, worst = findings.record, list(_forests(findings)), list(_worst(findings))
    curves = []
    if len(findings.curves):
        drawn = embedded(learning_curves(findings.curves, findings.arms))
        curves = [Plot(drawn, "Dice of validation subjects by epoch, a line an arm")]
    dice = cells(
        "Dice of all arms",
        _dice_by_arm(findings),
        "Mean ± standard deviation over subjects; seeds and subsets are averaged within each.",
    )
    compared = cells(
        "All comparisons",
        findings.comparisons,
        "Intervals are Student's. p: Wilcoxon's signed-rank test; Holm's correction is over the arms of one organ, "
        "test set and metric.",
    )
    return {
        "title": f"Does translation help a segmenter? {record['pipeline']}",
        "question": question, "answers": answers, "details": list(_details(findings)),
        "caveats": list(_caveats(findings)), "phantom": record["phantom"], "quick": record["quick"],
        "sections": [
            *([Section("Paired differences", note=FORESTS_NOTE, plots=forests)] if forests else []),
            Section(dice.title, tables=[dice]),
            *([Section("Learning curves", plots=curves)] if curves else []),
            *([Section("Worst cases", note=WORST_NOTE, plots=worst, layout="cases", legend=True)] if worst else []),
            how_it_was_run(_facts(findings), record["command"]),
            Section(compared.title, tables=[compared]),
        ],
    }  # fmt: skip


def _question(findings: Findings) -> tuple[str, str] | None:
    """The arm and the reference whose difference is the answer; None if neither pair was compared."""
    compared = set(zip(findings.comparisons["arm"], findings.comparisons["reference"], strict=True))
    return next((pair for pair in QUESTIONS if pair in compared), None)


def _answer(findings: Findings) -> tuple[str, list[str]]:
    """Does it help out of distribution: the question, and an answer for each organ."""
    pair = _question(findings)
    effects = _effects(findings, *pair, "out") if pair else []
    if pair is None or not effects:
        return "Does it help? That cannot be said: no arm with synthetic images was compared out of distribution.", []
    question = f"Does it help out of distribution to add synthetic images ({pair[0]} against {pair[1]})?"
    words = {"higher": "yes", "lower": "no, it harms", "not shown": "no difference is shown"}
    lines = []
    for effect in effects:
        shown = verdict(effect)
        doubtful = shown in ("higher", "lower") and not effect["p_holm"] < SIGNIFICANT
        answer = words.get(shown, "cannot be said")
        but = " by the interval, but not after correction over the arms" if doubtful else ""
        lines.append(f"{effect['organ']}: {answer}{but}. Dice {_long(effect)}")
    return question, lines


def _details(findings: Findings) -> Iterator[str]:
    """What it costs in distribution, and what the control and histogram matching say."""
    pair = _question(findings)
    for effect in _effects(findings, *pair, "in") if pair else ():
        text = {"higher": "higher, too", "lower": "lower", "not shown": "no difference is shown"}
        yield f"In distribution, {effect['organ']}: {text.get(verdict(effect), 'cannot be said')}. Dice {_long(effect)}"
    for arm, reference, means in ASIDE:
        for effect in _effects(findings, arm, reference, "out"):
            sentence = means.get(verdict(effect), "cannot be judged")
            yield f"{arm} against {reference}, {effect['organ']}: {sentence}. Dice {_short(effect)}."


def _short(effect: Effect) -> str:
    """A difference, its interval and its number of subjects."""
    return f"{interval_text(effect['mean'], effect['lower'], effect['upper'], '+.3f')}, n = {effect['n']:.0f}"


def _long(effect: Effect) -> str:
    """A difference with everything that says how sure it is."""
    if verdict(effect) == "unknown":
        return f"{_short(effect)}: too few subjects for an interval."
    text = f"{_short(effect)} subjects; Wilcoxon p = {effect['p_value']:.2g}, corrected (Holm) {effect['p_holm']:.2g}"
    if effect["trainings"] > 1:
        low, high = effect["lowest_training"], effect["highest_training"]
        text += f"; in {effect['trainings']:.0f} trainings from {low:+.3f} to {high:+.3f}"
    return text + "."


def _caveats(findings: Findings) -> Iterator[str]:
    """What a reader must know of the intervals and the tests."""
    yield (
        f"Intervals are Student's {LEVEL:.0%} intervals of the mean paired difference over subjects; seeds and subsets "
        "are averaged within a subject. They are not corrected for the number of organs and arms."
    )
    yield (
        "They hold for new subjects and the segmenters as trained here. New trainings would differ, too: "
        "the range by training shows by how much."
    )
    compared = findings.effects(test_set="out")
    if len(compared) and compared["n"].max() > 1:
        n, arms = int(compared["n"].max()), int(compared.groupby("organ").size().max())
        lowest = min(1.0, arms * 2.0 ** (1 - n))
        yield f"With {n} subjects and {arms} comparisons the corrected p cannot be below {lowest:.2g}" + (
            f": this study is too small for it to reach {SIGNIFICANT}, whatever the effect."
            if lowest >= SIGNIFICANT
            else "."
        )


def _facts(findings: Findings) -> dict[str, str]:
    """What was run, line by line."""
    record, rows = findings.record, findings.rows
    subjects = {key: rows.loc[rows["test_set"] == key, "subject"].nunique() for key in SETS}
    listed = {
        "Pipeline": str(record["pipeline"]),
        "Images": "built-in phantom: computed bodies, no patients" if record["phantom"] else "given by the user",
        "Test subjects": ", ".join(f"{subjects[key]} {name}" for key, name in SETS.items()),
        "Seeds": ", ".join(map(str, record["seeds"])),
        "Subsets of training subjects": str(record["subsets"]),
        "Synthetic to real images": f"{record['ratio_percent']} %"
        + (", chosen on validation subjects" if record["sweep"]["arm"] else ""),
        "Training of each segmenter": "{iterations} iterations of {batch_size} patches".format(**record["budget"]),
        "Split": str(record["split_hash"]),
    }
    rejected = record["rejected"].items()
    listed |= {f"Synthetic images rejected for {arm}": f"{count} of {total}" for arm, (count, total) in rejected}
    listed |= {f"Arm left out: {arm}": str(reason) for arm, reason in record["left_out"].items()}
    return listed | {f"Failed: {failure['child']}": str(failure["reason"]) for failure in record["failures"]}


def _dice_by_arm(findings: Findings) -> pd.DataFrame:
    """A row an arm: its mean Dice over subjects, their standard deviation and number, by organ and test set."""
    by_subject = findings.rows.groupby(["arm", "organ", "test_set", "subject"])["dice"].mean().dropna()
    figures = by_subject.groupby(["arm", "organ", "test_set"]).agg(["mean", "std", "count"])

    def cell(*key: str) -> str:
        if key not in figures.index:
            return ""
        mean, std, count = figures.loc[key]
        return f"{mean:.3f}{f' ± {std:.3f}' if count > 1 else ''} (n={count:.0f})"

    places = {f"{organ}, {name}": (organ, where) for organ in findings.organs for where, name in SETS.items()}
    rows = [{"arm": arm} | {title: cell(arm, *place) for title, place in places.items()} for arm in findings.arms]
    return pd.DataFrame(rows)


def _forests(findings: Findings) -> Iterator[Plot]:
    limits = common_limits(findings.effects())
    for where, name in SETS.items():
        for organ in findings.organs:
            effects = findings.effects(test_set=where, organ=organ)
            if len(effects):
                title = f"{organ}, {name}"
                yield Plot(embedded(forest(effects, title, limits)), f"Forest plot of differences: {title}")


def _worst(findings: Findings) -> Iterator[Plot]:
    for case in findings.record["worst"]:
        title = f"{case['subject']}, {case['organ']}, {SETS[case['test_set']]}"
        dice = "Dice not defined" if pd.isna(case["dice"]) else f"Dice {case['dice']:.3f}"
        src, problem = None, ""
        try:
            src = embedded(overlay(case, findings.folder, case["value"]))
        except MedganError as error:
            problem = str(error).replace(f"{findings.folder}/", "")
        yield Plot(src, f"{title}: true and found outline", f"{title}: {dice}", case["arm"], problem)


def _effects(findings: Findings, arm: str, reference: str, test_set: str) -> list[dict[Hashable, Any]]:
    return list(findings.effects(arm=arm, reference=reference, test_set=test_set).to_dict("records"))
