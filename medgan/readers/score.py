"""``medgan reader-study score``: what readers' answers show, by reader and for readers and subjects at large."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medgan.errors import DataError
from medgan.evaluation.statistics import SIGNIFICANT, interval_text, share_interval
from medgan.readers import statistics
from medgan.readers.answers import Answer, Mark, read_answers
from medgan.readers.design import SIDES, Key, Task, Trial
from medgan.readers.page import NOTICED
from medgan.readers.statistics import CHANCE, Estimate, Floats

FIRST = {"2afc": "the real image", "preference": "the first method"}


@dataclass(frozen=True, eq=False)
class Crossed:
    """Answers of all readers to the trials that all of them answered."""

    trials: tuple[Trial, ...]
    subjects: Any
    """(trials,), numbers."""
    right: Floats
    """(R, trials), 1 for the right answer; of preference, for the first method."""
    scores: Floats
    """(R, trials), how sure a reader is of the first choice, -5 to 5."""

    def part(self, of: Any) -> "Crossed":
        """Some of the trials, by a mask or by their numbers."""
        chosen = np.arange(len(self.trials))[of]
        return Crossed(
            tuple(self.trials[each] for each in chosen), self.subjects[of], self.right[:, of], self.scores[:, of]
        )


@dataclass(frozen=True)
class Figure:
    """A figure over readers and subjects that are both random."""

    task: Task
    name: str
    estimate: Estimate
    resampled: tuple[float, float]
    """Bounds by drawing readers and subjects anew."""
    null: float | None
    """What chance or no difference would give."""
    margin: float

    @property
    def row(self) -> dict[str, Any]:
        """For tables and files."""
        estimate, interval = self.estimate, self.estimate.interval()
        tests: dict[str, Any] = {}
        if self.null is not None:
            tests = {
                "null": self.null, "p_differs": estimate.differs(self.null), "margin": self.margin,
                "p_equivalent": estimate.equivalent(self.null, self.margin),
            }  # fmt: skip
        return {
            "task": self.task, "figure": self.name, "mean": estimate.value, "lower": interval.lower,
            "upper": interval.upper, "resampled_lower": self.resampled[0], "resampled_upper": self.resampled[1],
            "readers": estimate.readers, "subjects": estimate.subjects, **tests, **self._d_prime(),
        }  # fmt: skip

    def _d_prime(self) -> dict[str, float]:
        """Of a share of right choices, or an area: the distance of real and synthetic in standard deviations."""
        if self.null != CHANCE or self.task == "preference":
            return {}
        interval = self.estimate.interval()
        bounds = {"d_prime": interval.mean, "d_prime_lower": interval.lower, "d_prime_upper": interval.upper}
        return {name: statistics.d_prime(value) for name, value in bounds.items()}

    @property
    def sentence(self) -> str:
        """What it shows, and what it does not."""
        row = self.row
        text = f"{self.name}: {interval_text(row['mean'], row['lower'], row['upper'], '.2f', missing='not defined')}"
        if self.null is None or np.isnan(row["p_differs"]):
            return f"{text}."
        shown = row["p_differs"] < SIGNIFICANT
        if self.null == CHANCE:
            differs = f"it {'differs' if shown else 'is not shown to differ'} from chance"
        else:
            differs = f"a difference is {'' if shown else 'not '}shown"
        alike = f"{'shown' if row['p_equivalent'] < SIGNIFICANT else 'not shown'} (p = {row['p_equivalent']:.2g})"
        within = f"within ±{100 * self.margin:.0f} points of {'chance' if self.null == CHANCE else '0'}"
        return f"{text}; {differs} (p = {row['p_differs']:.2g}); that it lies {within} is {alike}."


@dataclass(frozen=True, eq=False)
class Score:
    """All that was found."""

    readers: pd.DataFrame
    figures: tuple[Figure, ...]
    agreement: dict[str, float]
    """Fleiss' κ by task."""
    answers: pd.DataFrame
    """A row an answer, with the truth."""
    notes: tuple[str, ...]
    failures: Mapping[str, str]
    noticed: Mapping[str, str]
    """What struck readers who did not know that images were synthetic."""


def score(key: Key, paths: Sequence[Path], margin: float = 0.1) -> Score:
    """Score the answers in files, folders and stores; see :func:`medgan.readers.report.write`.

    Files that are damaged or of another study are named among the failures, and the others scored.

    Raises:
        DataError: No answer can be scored.
    """
    given, failures = read_answers(paths, key.study)
    if not given:
        reason = "; ".join(f"{name}: {why}" for name, why in failures.items()) or "there are none"
        raise DataError(f"no answers can be scored: {reason}")
    trials = {trial.id: trial for trial in key.trials}
    by_reader = {each.reader: {answer.trial: answer for answer in each.answers} for each in given}
    figures: list[Figure] = []
    rows, notes = [], []
    agreement: dict[str, float] = {}
    for task in key.settings.asked:
        own = [trial for trial in key.trials if trial.task == task]
        rows += [_of_reader(name, task, own, answers) for name, answers in by_reader.items()]
        data, left_out = _crossed(own, by_reader)
        if left_out:
            notes.append(f"{task}: {left_out} trials that not all readers answered are in no joint figure.")
        if data.trials:
            figures += _figures(task, data, margin, int(key.study[:8], 16))
            agreement[task] = statistics.fleiss_kappa(_choices(data.trials, by_reader))
    table = pd.DataFrame(rows)
    notes += _notes(table)
    noticed = {name: answers[NOTICED].why for name, answers in by_reader.items() if NOTICED in answers}
    return Score(
        table, tuple(figures), agreement, _long(trials, by_reader), tuple(notes), failures,
        {name: why for name, why in noticed.items() if why},
    )  # fmt: skip


def _is_right(trial: Trial, answer: Answer) -> bool:
    """Whether an answer is right; of preference without a truth, whether it is the first method."""
    if trial.task == "preference" and not trial.answer:
        return trial.arms[SIDES.index(answer.choice)] == "synthetic" if answer.choice in SIDES else False
    if trial.task == "find" and trial.lesions and answer.choice == "present":
        return hits(trial, answer.mark)
    return answer.choice == trial.answer


def hits(trial: Trial, mark: Mark | None) -> bool:
    """Whether a mark lies in a lesion of the trial, or one slice and 3 mm beside it."""
    return mark is not None and any(
        lesion.first - 1 <= mark.slice <= lesion.last + 1
        and np.hypot(mark.row - lesion.row, mark.column - lesion.column) <= lesion.radius
        for lesion in trial.lesions
    )


def _sureness(trial: Trial, answer: Answer) -> float:
    """How sure a reader is that the left image is real, an image synthetic, or a lesion there; -5 to 5."""
    towards = {"2afc": "left", "preference": "left", "single": "synthetic", "find": "present"}[trial.task]
    return float(answer.confidence if answer.choice == towards else -answer.confidence)


def _of_reader(name: str, task: Task, trials: Sequence[Trial], answers: Mapping[str, Answer]) -> dict[str, Any]:
    """One reader's figures in a task."""
    given = {trial.id: answers[trial.id] for trial in trials if trial.id in answers}
    by_role = {role: [t for t in trials if t.role == role and t.id in given] for role in ("scored", "repeat", "catch")}
    right = [_is_right(trial, given[trial.id]) for trial in by_role["scored"]]
    share = share_interval(sum(right), len(right))
    again = [(given[trial.repeats], given[trial.id], trial) for trial in by_role["repeat"] if trial.repeats in given]
    first = [one.choice for one, _, _ in again]
    second = [_turned(two.choice) if trial.task in ("2afc", "preference") else two.choice for _, two, trial in again]
    missed = sum(not _is_right(trial, given[trial.id]) for trial in by_role["catch"])
    scores = np.array([_sureness(trial, given[trial.id]) for trial in by_role["scored"]])
    positive = np.array([is_positive(trial) for trial in by_role["scored"]], dtype=bool)
    area = float("nan")
    if task != "preference" and positive.any() and not positive.all():
        area = float(statistics.auc_influence(scores[np.newaxis], positive, np.arange(len(scores)))[0][0])
    seconds = [given[trial.id].seconds for trial in by_role["scored"]]
    return {
        "reader": name, "task": task, "trials": len(right), "of": sum(trial.role == "scored" for trial in trials),
        "right": share.mean, "lower": share.lower, "upper": share.upper, "auc": area,
        "kappa_repeats": statistics.cohen_kappa(first, second), "repeats": len(again), "catch_missed": missed,
        "catch": len(by_role["catch"]), "median_s": float(np.median(seconds)) if seconds else float("nan"),
        "flag": "missed an obvious trial" if missed else "",
    }  # fmt: skip


def _turned(side: str) -> str:
    """Repeats show the pair the other way round."""
    return SIDES[1 - SIDES.index(side)] if side in SIDES else side


def is_positive(trial: Trial) -> bool:
    """Whether :func:`_sureness` should be high."""
    if trial.task in ("2afc", "preference"):
        return trial.answer == "left"
    return trial.answer == ("synthetic" if trial.task == "single" else "present")


def _crossed(trials: Sequence[Trial], by_reader: Mapping[str, Mapping[str, Answer]]) -> tuple[Crossed, int]:
    """What all readers answered, and how many trials they did not all answer."""
    scored = [trial for trial in trials if trial.role == "scored"]
    shared = [trial for trial in scored if all(trial.id in answers for answers in by_reader.values())]
    numbers = {name: number for number, name in enumerate(sorted({trial.subject for trial in shared}))}
    given = [[answers[trial.id] for trial in shared] for answers in by_reader.values()]
    right = [[_is_right(t, a) for t, a in zip(shared, own, strict=True)] for own in given]
    scores = [[_sureness(t, a) for t, a in zip(shared, own, strict=True)] for own in given]
    subjects = np.array([numbers[trial.subject] for trial in shared], dtype=np.intp)
    return Crossed(tuple(shared), subjects, np.array(right, float), np.array(scores, float)), len(scored) - len(shared)


def _choices(trials: Sequence[Trial], by_reader: Mapping[str, Mapping[str, Answer]]) -> list[list[str]]:
    return [[answers[trial.id].choice for trial in trials] for answers in by_reader.values()]


def _figures(task: Task, data: Crossed, margin: float, seed: int) -> Iterator[Figure]:
    """The figures of a task."""

    def share(name: str, of: Crossed, null: float | None) -> Figure:
        return _figure(task, name, _share, of, null, margin, seed)

    arms = np.array([trial.arms[0] for trial in data.trials])
    if task in ("2afc", "preference"):
        yield share(f"Share of trials in which readers chose {FIRST[task]}", data, CHANCE)
    if task == "single":
        yield share("Share of right answers", data, None)
        for arm in ("real", "synthetic"):
            if (arms == arm).any():
                yield share(f"Share of {arm} images that readers called {arm}", data.part(arms == arm), None)
    if task in ("2afc", "single"):
        name = "Area under the ROC curve of real against synthetic"
        yield _figure(task, name, _area, data, CHANCE, margin, seed)
    if task == "find":
        yield from _detection(data, margin, seed)


def _detection(data: Crossed, margin: float, seed: int) -> Iterator[Figure]:
    """How lesions are found in real and synthetic images, and the difference."""
    arms = np.array([trial.arms[0] for trial in data.trials])
    present = np.array([trial.answer == "present" for trial in data.trials])
    for arm in ("real", "synthetic"):
        for name, of in (("Lesions found", present), ("Stacks without a lesion left unmarked", ~present)):
            if (of & (arms == arm)).any():
                yield _figure(
                    "find", f"{name} in {arm} images", _share, data.part(of & (arms == arm)), None, margin, seed
                )
        if (present & (arms == arm)).any() and (~present & (arms == arm)).any():
            name = f"Area under the ROC curve of lesions in {arm} images"
            yield _figure("find", name, _area, data.part(arms == arm), None, margin, seed)
    if all((present & (arms == arm)).any() for arm in ("real", "synthetic")):
        name = "Lesions found, synthetic less real images"
        yield _figure("find", name, _difference, data.part(present), 0.0, margin, seed)


def _share(data: Crossed) -> tuple[Floats, Floats]:
    return statistics.share_influence(data.right, data.subjects)


def _area(data: Crossed) -> tuple[Floats, Floats]:
    positive = np.array([is_positive(trial) for trial in data.trials])
    if positive.all() or not positive.any():
        return np.full(len(data.scores), np.nan), np.zeros((len(data.scores), 1))
    return statistics.auc_influence(data.scores, positive, data.subjects)


def _difference(data: Crossed) -> tuple[Floats, Floats]:
    synthetic = np.array([trial.arms[0] == "synthetic" for trial in data.trials])
    weights = np.where(synthetic, 1 / max(synthetic.sum(), 1), -1 / max((~synthetic).sum(), 1))
    means = np.where(synthetic, *(data.right[:, of].mean(axis=1, keepdims=True) for of in (synthetic, ~synthetic)))
    return data.right @ weights, statistics.by_subject((data.right - means) * weights, data.subjects)


def _figure(task: Task, name: str, of: Any, data: Crossed, null: float | None, margin: float, seed: int) -> Figure:
    """A figure of all readers and trials, with the bounds of both drawn anew."""
    estimate = statistics.over_readers_and_subjects(*of(data), share=of is not _difference)
    numbers = np.unique(data.subjects)
    trials_of = [np.flatnonzero(data.subjects == number) for number in numbers]

    def drawn(readers: Any, subjects: Any) -> float:
        chosen = np.concatenate([trials_of[each] for each in subjects])
        part = data.part(chosen)
        again = Crossed(part.trials, part.subjects, part.right[readers], part.scores[readers])
        with np.errstate(all="ignore"):
            return float(of(again)[0].mean())

    bounds = statistics.resampled(drawn, len(data.right), len(numbers), seed)
    return Figure(task, name, estimate, bounds, null, margin)


def _notes(table: pd.DataFrame) -> Iterator[str]:
    readers = table["reader"].nunique()
    if readers == 1:
        yield "One reader: the figures hold for this reader and other subjects, and say nothing of other readers."
    for row in table[table["flag"] != ""].to_dict("records"):
        yield (
            f"{row['reader']} missed {row['catch_missed']} of {row['catch']} obvious trials ({row['task']}) and is "
            "still in all figures: look at these answers."
        )
    yield "A large p of a difference does not show that there is none; that is what the test of equivalence is for."


def _long(trials: Mapping[str, Trial], by_reader: Mapping[str, Mapping[str, Answer]]) -> pd.DataFrame:
    rows = []
    for name, answers in by_reader.items():
        for answer in answers.values():
            if (trial := trials.get(answer.trial)) is None:
                continue
            rows.append(
                {
                    "reader": name, "trial": trial.id, "task": trial.task, "role": trial.role,
                    "subject": trial.subject, "image": trial.image, "level": trial.level, "arms": " ".join(trial.arms),
                    "truth": trial.answer, "choice": answer.choice, "confidence": answer.confidence,
                    "right": _is_right(trial, answer), "seconds": answer.seconds, "why": answer.why,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
