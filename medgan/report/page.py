"""``medgan report``: one page about whatever a path holds, and what else is known of it."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medgan.errors import ConfigError, MedganError
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import ROWS
from medgan.evaluation.matching import split_place
from medgan.inference.jobs import MANIFEST
from medgan.report import benefit, study, synthesis
from medgan.report.cases import MOST_VIEWED, case_sections, viewer_section
from medgan.report.converted import Converted, converted_sections, read_converted, viewer_cases
from medgan.report.evaluation import (
    HEADLINES,
    Evaluation,
    detail_sections,
    figure_sections,
    organ_lines,
    read_evaluation,
    verdict_of,
)  # fmt: skip
from medgan.report.faithfulness import SUMMARY as FAITHFULNESS
from medgan.report.faithfulness import Faithfulness, faithfulness_sections, read_faithfulness
from medgan.report.html import Section, render
from medgan.report.registration import registration_section
from medgan.report.training import Training, card_section, read_training, run_commands, training_sections
from medgan.report.voxels import histogram_section
from medgan.training.model_folder import DESCRIPTION
from medgan.training.run_folder import STUDIES

PAGE = "report.html"
Kind = Literal["model", "run", "evaluation", "synthesis", "study", "faithfulness", "converted"]
KINDS: Mapping[Kind, tuple[str, ...]] = {
    "model": (DESCRIPTION,),
    "study": (*STUDIES, benefit.RECORD),
    "run": ("run.json",),
    "evaluation": (ROWS,),
    "synthesis": (synthesis.RECORD,),
    "faithfulness": (FAITHFULNESS,),
    "converted": (MANIFEST,),
}
"""By one of which files each kind of folder is known; the first kind counts."""
CALLED = {"converted": "images", "faithfulness": "check"}
"""Kinds that have another name in a heading."""
NEARBY = ("runs/*/*/model", "*/runs/*/*/model", "model")
"""Where the model of an evaluation is looked for: below its folder's parent, and below the working directory."""

UNJUDGED = (
    "Translations alone cannot say that: compare them with the truth by medgan evaluate, or look for lost and invented "
    "structures by medgan faithfulness."
)
UNTESTED = (
    "A training by itself cannot say that: its figures are of subjects that chose its epoch. The commands below judge "
    "it on others."
)
UNFINISHED = "The training is not finished: there is no model yet."


def kind_of(path: Path) -> Kind:
    """What a folder holds.

    Raises:
        ConfigError: Nothing that a report could be about.
    """
    for kind, files in KINDS.items():
        if any((path / name).is_file() for name in files):
            return kind
    what = "is not there" if not path.exists() else "is no folder" if not path.is_dir() else "holds nothing to report"
    raise ConfigError(
        f"{path}: {what}; give a model folder (model.json), a run (run.json), what `medgan evaluate` "
        f"({ROWS}), `medgan faithfulness` ({FAITHFULNESS}) or `medgan convert` ({MANIFEST}) wrote, or a study "
        f"({STUDIES[0]})."
    )


@dataclass(frozen=True)
class Beside:
    """What else a page shall tell of, where it is not found by itself."""

    run: Path | None = None
    """A run or model folder."""
    evaluation: Path | None = None
    studies: Sequence[Path] = ()
    faithfulness: Path | None = None
    source: Path | None = None
    """Of converted studies, the inputs."""
    names: Mapping[str, str] | None = None
    """What subjects are called in the page; None is by their own names. With it no path and no message is shown."""

    @property
    def anonymous(self) -> bool:
        """Whether subjects have other names in the page."""
        return self.names is not None


@dataclass(frozen=True)
class Parts:
    """All that a page tells of."""

    evaluation: Evaluation | None
    training: Training | None
    studies: Sequence[Mapping[str, Any]]
    """See :func:`medgan.report.html.render`; with the ``page`` of each."""
    faithfulness: Faithfulness | None
    converted: Converted | None
    anonymous: bool

    @property
    def phantom(self) -> bool:
        """Whether what is judged is the built-in phantom."""
        if self.evaluation:
            return self.evaluation.phantom
        if self.converted or self.faithfulness:  # whoever the model learnt from, these may be patients
            return bool(self.converted and self.converted.phantom)
        return bool(self.training and self.training.phantom)


def write_report(path: str | Path, out: Path | None = None, beside: Beside | None = None) -> Path:
    """Write the page about a folder, by default ``report.html`` within it; its path. See :func:`page_with_answers`."""
    return page_with_answers(path, out, beside)[0]


def page_with_answers(
    path: str | Path, out: Path | None = None, beside: Beside | None = None
) -> tuple[Path, list[str]]:
    """Write the page about a folder; its path, and its answer in sentences.

    A study's page is its own one, written anew.

    Raises:
        MedganError: The folder holds nothing to report, is damaged, or is not of the run that is given.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "study":
        shown, page = _study(path)
        return render(out or path / page, **shown), shown["answers"]
    beside = beside or Beside()
    if kind == "synthesis":
        shown = synthesis.shown_of(path, anonymous=beside.anonymous)
        return render(out or path / PAGE, **shown), shown["answers"]
    parts = _parts(path, kind, beside)
    title, question, answers, details, caveats = _words(path, kind, parts)
    sections = [*_sections(parts, (out or path / PAGE).parent), _again(path, kind, parts, beside), *_cards(parts)]
    failures = parts.evaluation.summary["failures"] if parts.evaluation else []
    failed = {str(each["image"]): str(each["reason"]) for each in failures}
    if parts.anonymous and failed:
        failed = {f"{len(failed)} images": "not judged; the evaluation's own folder says why."}
    written = render(
        out or path / PAGE, title=title, question=question, answers=answers, details=details, caveats=caveats,
        sections=[each for each in sections if each], failures=failed, phantom=parts.phantom,
        kind=CALLED.get(kind, kind),
    )  # fmt: skip
    return written, answers


def report_line(write: Callable[[], Path]) -> str:
    """One line for people: where a page is, or why it was not written, which stops nothing else."""
    try:
        return f"report: {write()}"
    except Exception as error:  # the work that the page is about is done all the same
        reason = str(error) if isinstance(error, MedganError) else f"unexpected {type(error).__name__}: {error}"
        return f"report: not written: {reason}"


def _study(folder: Path) -> tuple[dict[str, Any], str]:
    """What the page of a study shows, and its name."""
    if (folder / benefit.RECORD).is_file():
        return benefit.shown_of(benefit.read_findings(folder)), benefit.REPORT
    return study.shown_of(study.read_content(folder)), study.PAGE


def _parts(path: Path, kind: Kind, beside: Beside) -> Parts:
    """Everything that is given or found."""
    folder = path if kind == "evaluation" else beside.evaluation
    evaluation = read_evaluation(folder, beside.names) if folder else None
    converted = read_converted(path, beside.source) if kind == "converted" else None
    made_by = evaluation.model if evaluation else (converted.facts.get("Model") or {}) if converted else {}
    digest = str(made_by.get("DescriptionSHA256", ""))
    run = path if kind in ("run", "model") else beside.run or _nearby(path, digest)
    training = read_training(run) if run else None
    if training and digest and training.sha256 not in ("", digest):
        raise ConfigError(f"{run} is not the model that made these images (another model.json); give that one.")
    others = [folder / "faithfulness" for folder in (path, path.parent)]
    beside_it = next((each for each in others if (each / FAITHFULNESS).is_file()), None) if evaluation else None
    faithful = path if kind == "faithfulness" else beside.faithfulness or beside_it
    studies = []
    for each in beside.studies:
        shown, page = _study(each)
        studies.append(shown | {"page": None if beside.anonymous else each / page})
    faithfulness = read_faithfulness(faithful, beside.names) if faithful else None
    return Parts(evaluation, training, studies, faithfulness, converted, beside.anonymous)


def _nearby(path: Path, digest: str) -> Path | None:
    """The model folder near a folder whose description has this hash."""
    if not digest:
        return None
    for place in (path.resolve().parent, Path.cwd()):
        for pattern in NEARBY:
            for model in sorted(place.glob(pattern)):
                try:
                    if (model / DESCRIPTION).is_file() and read_training(model).sha256 == digest:
                        return model
                except MedganError:  # a damaged one is somebody else's
                    continue
    return None


Words = tuple[str, str, list[str], list[str], list[str]]


def _words(path: Path, kind: Kind, parts: Parts) -> Words:
    """Title, question, answers, details and caveats."""
    evaluation, training, converted = parts.evaluation, parts.training, parts.converted
    name = training.name if training else "a model"
    maker = str((converted.facts.get("Model") or {}).get("Name", name)) if converted else name
    title = {
        "evaluation": f"Translations by {evaluation.model.get('Name', name) if evaluation else name}, judged",
        "run": f"Training of {name}, {path.resolve().name}",
        "model": f"Model {name}",
        "converted": f"Translations by {maker}",
        "faithfulness": "What translations keep",
    }[kind]
    if evaluation:
        question, answers, caveats = verdict_of(evaluation)
        details = [*organ_lines(evaluation), *_other_answers(parts)]
        if evaluation.cases.empty:
            details.append("An earlier medgan wrote this evaluation: evaluate again for pictures and histogram.")
        return title, question, answers, details, caveats
    if kind == "faithfulness" and parts.faithfulness:
        return title, "Did it invent or erase anything?", parts.faithfulness.answers, [], []
    question = "Is it any good?"
    if converted:
        return title, question, [UNJUDGED], _other_answers(parts), []
    finished = training and training.description
    return title, question, [UNTESTED if finished else UNFINISHED], _other_answers(parts), []


def _other_answers(parts: Parts) -> list[str]:
    """What other parts answer, in short, and what is not known."""
    lines = []
    if parts.faithfulness:
        lines += [f"Invented or erased: {line}" for line in parts.faithfulness.answers[:2]]
    elif parts.evaluation:
        lines.append("Whether it invents or erases lesions was not looked at: medgan faithfulness does.")
    for shown in parts.studies:
        quick = " (a quick run, no evidence)" if shown["quick"] else ""
        answers = "; ".join(line.partition(". ")[0] for line in shown["answers"])
        lines.append(f"{shown['question']} {answers}{quick}.")
    if parts.evaluation and parts.training is None:
        lines.append("How it was trained is not told: its run was not found; give it by --run.")
    if parts.training and parts.training.phantom and not parts.phantom:
        lines.append("The model was trained on the built-in phantom, and is none for patients.")
    return lines


def _sections(parts: Parts, folder: Path) -> Iterator[Section]:
    """What the page in a folder tells, the answers to its question first."""
    if parts.evaluation:
        yield from figure_sections(parts.evaluation)
        yield from _cases(parts.evaluation)
        yield from detail_sections(parts.evaluation)
        if parts.evaluation.hounsfield:
            yield from histogram_section(parts.evaluation.cases)
    if parts.converted:
        yield from converted_sections(parts.converted)
        yield from viewer_section(list(islice(viewer_cases(parts.converted), MOST_VIEWED)))
    if parts.faithfulness:
        order = list(_worst_first(parts.evaluation).index) if parts.evaluation else []
        viewed = {str(subject): number for number, subject in enumerate(order[:MOST_VIEWED], start=1)}
        yield from faithfulness_sections(parts.faithfulness, viewed)
    for shown in parts.studies:
        plots = [each for section in shown["sections"][:1] for each in section.plots]
        lines = [*shown["answers"], *shown["details"]]
        links = {"The study's own page": os.path.relpath(shown["page"], folder)} if shown["page"] else {}
        yield Section(
            shown["title"], "study", warnings=["A quick run: its figures are no evidence."] if shown["quick"] else [],
            note=shown["question"], lines=lines, plots=plots, links=links,
        )  # fmt: skip
    if parts.training:
        yield from training_sections(parts.training, anonymous=parts.anonymous)
    yield from registration_section(_cohorts(parts), anonymous=parts.anonymous)


def _worst_first(evaluation: Evaluation) -> pd.Series:
    """The translation's headline figure by subject that has files, the worst first."""
    if evaluation.headline is None:
        return pd.Series(dtype=float)
    values = evaluation.by_subject(evaluation.headline)[SYNTHETIC]
    return values[values.index.isin(evaluation.cases["subject"])]


def _cases(evaluation: Evaluation) -> Iterator[Section]:
    if evaluation.headline:
        words, unit = HEADLINES[evaluation.headline]
        yield from case_sections(
            evaluation.cases, _worst_first(evaluation), f"{words}, {unit}:", evaluation.labels, evaluation.units
        )


def _cohorts(parts: Parts) -> Iterator[Path]:
    """The folders of the cohorts that were trained on and judged."""
    if parts.training and parts.training.facts.get("data"):
        yield Path(str(parts.training.facts["data"]))
    if parts.evaluation and (place := parts.evaluation.summary["places"].get("reference")):
        yield split_place(place)[0]


def _cards(parts: Parts) -> Iterator[Section]:
    if parts.training:
        yield from card_section(parts.training)


def _again(path: Path, kind: Kind, parts: Parts, beside: Beside) -> Section | None:
    """The commands that made what the page is about, and that make it again."""
    if parts.anonymous:
        return None
    commands = run_commands(parts.training) if parts.training else {}
    if parts.evaluation:
        commands |= _translating(parts.evaluation, parts.training)
        commands |= {"Judged by": str(parts.evaluation.summary.get("command") or _judging(parts.evaluation))}
    elif parts.training and kind in ("run", "model"):
        commands |= _next(parts.training)
    words = ["medgan", "report", str(path)]
    options = {"run": beside.run, "evaluation": beside.evaluation, "faithfulness": beside.faithfulness}
    for option, value in (options | {"source": beside.source}).items():
        words += [f"--{option}", str(value)] if value else []
    words += [word for each in beside.studies for word in ("--study", str(each))]
    commands["This page"] = shlex.join(words)
    return Section("Commands", "commands", commands=commands)


def _translating(evaluation: Evaluation, training: Training | None) -> dict[str, str]:
    """What translated the images, as far as their sidecars and the run tell."""
    places, facts = evaluation.summary["places"], evaluation.facts
    if not facts or training is None or not places.get("source"):
        return {}
    words = [str(split_place(places["source"])[0]), str(split_place(places["synthetic"])[0])]
    if training.split and set(evaluation.rows["subject"]) <= set(training.split.test):
        words += ["--part", "test"]
    words += ["--change-map"] if facts.get("ChangeMap") else []
    words += ["--strength", f"{facts['Strength']:g}"] if "Strength" in facts else []
    words += ["--direction", "to_source"] if facts.get("Direction") == "to_source" else []
    return {
        "Translated by (as far as the images' own files tell)": _line("convert", *words, "--model", str(training.model))
    }


def _judging(evaluation: Evaluation) -> str:
    """The command of an evaluation that did not record it, as far as it is known."""
    places = evaluation.summary["places"]
    words = [word for role, place in places.items() if place for word in (f"--{role}", str(place))]
    return shlex.join(["medgan", "evaluate", *words, "--out", str(evaluation.folder)])


def _next(training: Training) -> dict[str, str]:
    """What judges a model on subjects that it has not seen."""
    pair = training.description.get("pair")
    if not isinstance(pair, dict):
        return {}
    data = str(training.facts.get("data") or "COHORT")
    model, source, target = (str(each) for each in (training.model, pair["source"]["name"], pair["target"]["name"]))
    places = ["--reference", f"{data}:{target}", "--source", f"{data}:{source}"]
    return {
        "Translate the subjects that it has not seen": _line(
            "convert", data, "OUT", "--part", "test", "--model", model
        ),
        "Judge them": _line("evaluate", "--synthetic", "OUT", *places, "--out", "EVALUATION"),
        "Look for what it lost or invented": _line("faithfulness", data, "FAITHFULNESS", "--model", model),
    }


def _line(*words: str) -> str:
    return shlex.join(["medgan", *words])
