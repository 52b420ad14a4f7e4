"""What the figures of a benefit study say, in sentences: gains, harm, and plainly where nothing is shown."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from medgan.evaluation.statistics import LEVEL, interval_text, verdict
from medgan.report.findings import Findings

QUESTIONS = (("real+standard+synthetic", "real+standard"), ("real+synthetic", "real"))
"""Does it help? The first of these pairs that was compared is what a report answers."""
SETS = {"out": "out of distribution", "in": "in distribution"}
SIGNIFICANT = 0.05

Effect = Mapping[Hashable, Any]


def question(found: Findings) -> tuple[str, str] | None:
    """The arm and the reference whose difference is the answer; None if neither pair was compared."""
    compared = set(zip(found.comparisons["arm"], found.comparisons["reference"], strict=True))
    return next((pair for pair in QUESTIONS if pair in compared), None)


def answer(found: Findings) -> tuple[str, list[str]]:
    """Does it help out of distribution: the question, and an answer for each organ."""
    pair = question(found)
    effects = [] if pair is None else _effects(found, *pair, "out")
    if pair is None or not effects:
        return "Does it help? That cannot be said: no arm with synthetic images was compared out of distribution.", []
    asked = f"Does it help out of distribution to add synthetic images ({pair[0]} against {pair[1]})?"
    return asked, [f"{effect['organ']}: {_verdict(effect)}. Dice {told(effect)}" for effect in effects]


def _verdict(effect: Effect) -> str:
    corrected = "" if effect["p_holm"] < SIGNIFICANT else " by the interval, but not after correction over the arms"
    return {
        "higher": f"yes{corrected}",
        "lower": f"no, it harms{corrected}",
        "not shown": "no difference is shown",
        "unknown": "cannot be said",
    }[verdict(effect)]


def details(found: Findings) -> Iterator[str]:
    """What it costs in distribution, and what the control and histogram matching say."""
    pair = question(found)
    for effect in _effects(found, *pair, "in") if pair else ():
        said = {"higher": "higher, too", "lower": "lower", "not shown": "no difference is shown"}
        yield f"In distribution, {effect['organ']}: {said.get(verdict(effect), 'cannot be said')}. Dice {told(effect)}"
    for arm, reference, said in ASIDE:
        for effect in _effects(found, arm, reference, "out"):
            sentence = said.get(verdict(effect), "cannot be judged")
            yield f"{arm} against {reference}, {effect['organ']}: {sentence}. Dice {briefly(effect)}."


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


def briefly(effect: Effect) -> str:
    """A difference, its interval and its number of subjects."""
    return f"{interval_text(effect['mean'], effect['lower'], effect['upper'], '+.3f')}, n = {effect['n']:.0f}"


def told(effect: Effect) -> str:
    """A difference with everything that says how sure it is."""
    if verdict(effect) == "unknown":
        return f"{briefly(effect)}: too few subjects for an interval."
    text = f"{briefly(effect)} subjects; Wilcoxon p = {effect['p_value']:.2g}, corrected (Holm) {effect['p_holm']:.2g}"
    if effect["trainings"] > 1:
        low, high = effect["lowest_training"], effect["highest_training"]
        text += f"; in {effect['trainings']:.0f} trainings from {low:+.3f} to {high:+.3f}"
    return text + "."


def caveats(found: Findings) -> Iterator[str]:
    """What a reader must know of the intervals and the tests."""
    yield (
        f"Intervals are Student's {LEVEL:.0%} intervals of the mean paired difference over subjects; seeds and subsets "
        "are averaged within a subject. They are not corrected for the number of organs and arms."
    )
    yield (
        "They hold for new subjects and the segmenters as trained here. New trainings would differ, too: "
        "the range by training shows by how much."
    )
    compared = found.effects(test_set="out")
    if len(compared) and compared["n"].max() > 1:
        n, arms = int(compared["n"].max()), int(compared.groupby("organ").size().max())
        lowest = min(1.0, arms * 2.0 ** (1 - n))
        yield f"With {n} subjects and {arms} comparisons the corrected p cannot be below {lowest:.2g}" + (
            f": this study is too small for it to reach {SIGNIFICANT}, whatever the effect."
            if lowest >= SIGNIFICANT
            else "."
        )


def _effects(found: Findings, arm: str, reference: str, test_set: str) -> list[dict[Hashable, Any]]:
    return list(found.effects(metric="dice", arm=arm, reference=reference, test_set=test_set).to_dict("records"))
