"""``medgan evaluate``: synthetic images against real ones, beside what needs no network, by subject."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import pandas as pd

from medgan.data.listing import passed_over_lines
from medgan.data.splits import Split
from medgan.data.streams import write_csv, write_json
from medgan.data.studies import AS_IT_IS, Options
from medgan.errors import ConfigError, DataError
from medgan.evaluation import matching
from medgan.evaluation.arms import DO_NOTHING, SYNTHETIC, Pairs, Unpaired, judge_each
from medgan.evaluation.judging import ALL_CT, LabelNames, Modalities, distance_to_ideal, label_names_of
from medgan.evaluation.matching import Case, Failure, ImageSet, Matching, Place, Role
from medgan.evaluation.seen import NOBODY, SeenSubjects, seen_subjects
from medgan.evaluation.statistics import LEVEL, compare, plain, summarise

KEYS = ["subject", "image", "arm"]
SEEN = "seen.csv"
"""The rows of subjects that the model had seen, with the part of its split that they were in."""
ROWS, SUMMARY, CASES = "evaluation.csv", "summary.json", "cases.csv"
"""A row an image and arm; the means, and how they were made; the files of every image of the synthetic arm."""


@dataclass(frozen=True, eq=False)
class _Setup:
    """What is evaluated and how."""

    matching: Matching
    modalities: Modalities
    has_source: bool
    seen: SeenSubjects = NOBODY
    training: tuple[Case, ...] = ()
    """Pairs of a training cohort on which the baselines are fitted; without any, on the other evaluated ones."""
    unchecked: str = ""
    """What the model's split cannot tell of what it has seen."""

    def looked_up(self, subjects: int) -> bool:
        """Whether there are arms that learn from other subjects: they need some, and a unit to learn."""
        of_pairs = self.matching.paired and self.modalities.reference == "CT"
        useful = self.has_source if self.modalities.hounsfield else of_pairs
        return useful and (subjects > 1 or bool(self.training))

    def notes(self, subjects: int) -> Iterator[str]:
        """Sentences about pairs, regions, baselines and the ``subjects`` that were judged."""
        own = self.matching.own_references
        yield f"{own} of the synthetic images have a reference of their own name or subject."
        if self.matching.paired:
            yield "Paired: each is compared with its own reference, inside the body or mask."
        else:
            yield "Unpaired: intensities are compared with those of real images of other subjects."
            yield "Tissues are the source's (without sources, each image's own); those of real images are their own."
        yield (
            f"Means and Student's {LEVEL:.0%} intervals are over {subjects} subjects; images of one subject are "
            "averaged."
        )
        if self.matching.paired and self.has_source:
            yield "core: where the bodies of source and reference agree, less 3 voxels at their edge in each slice."
        yield from self.seen.notes(subjects)
        if self.unchecked:
            yield f"{self.unchecked[0].upper()}{self.unchecked[1:]}."
        yield from self._about_baselines(subjects)
        for line in passed_over_lines(self.matching.passed_over):
            yield f"{line[0].upper()}{line[1:]}."

    def _about_baselines(self, subjects: int) -> Iterator[str]:
        kinds = self.modalities
        if not self.matching.paired and not kinds.hounsfield:
            yield "Unpaired images of another modality have no baseline; if the subjects have pairs, evaluate on these."
            return
        if not self.has_source:
            yield "Without the source images there is neither do_nothing nor intensity_lookup to compare with."
        elif kinds.source != kinds.reference:
            yield f"do_nothing is left out: the intensities of {kinds.source} are no {kinds.reference}."
        if self.looked_up(subjects):
            kind = "the pairs" if self.matching.paired else "the histograms"
            trained = len({case.subject for case in self.training})
            whom = f"{trained} training subjects" if trained else "the other evaluated subjects"
            what = "intensity_lookup is" if kinds.hounsfield else "constant and intensity_lookup are"
            yield f"{what} fitted for each subject on {kind} of {whom}."
        elif kinds.reference == "MR":
            yield (
                "MR has no unit: each image is brought to the true one's scale first; no constant or look-up is fitted."
            )
        elif self.has_source:
            yield "An intensity_lookup is fitted on other subjects, and there is none."
        if not kinds.hounsfield:
            yield "true_shifted is the reference moved by one voxel left-right: what misregistration alone costs."


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The figures of synthetic images and of the arms beside them, with notes on how to read them."""

    rows: pd.DataFrame
    """A row per image and arm: ``KEYS``, then the metrics."""
    summary: pd.DataFrame
    """As ``medgan.evaluation.statistics.summarise`` gives it."""
    paired: bool
    pooled_distance_hu: dict[str, float]
    """Unpaired: by arm, the distance of all its subjects together to all real ones, within soft tissue."""
    notes: tuple[str, ...]
    failures: tuple[Failure, ...]
    comparisons: pd.DataFrame
    """The synthetic arm against each other one, as ``medgan.evaluation.statistics.compare`` gives it."""
    who: SeenSubjects = NOBODY
    """Who of the subjects the model had seen; they are in none of the above."""
    seen: Self | None = None
    """The same of those alone, whose figures are no evidence; None where there are none."""
    cases: tuple[Case, ...] = ()
    """What was judged, and the files of it."""

    @property
    def exit_code(self) -> int:
        """0 if everything was judged, 1 if some images were not, 2 if none was of a subject that is unseen."""
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
    modalities: Modalities = ALL_CT,
    training: Place | None = None,
    split: Path | None = None,
    options: Options = AS_IT_IS,
) -> Evaluation:
    """Judge synthetic images and write ``evaluation.csv``, ``summary.json`` and ``cases.csv``.

    What cannot be judged is listed.

    Every place is a folder, ``COHORT:DOMAIN`` or ``FOLDER:NAME``; see ``medgan.evaluation.matching``. References are of
    the same subjects on the same grids, or of others; without ``paired``, as at least half of them show. Sources add
    baselines, the core, and from CT to CT the change by tissue. Measured is inside the masks, by default the body, and
    in each label too, by default named as ``labels.json`` beside the maps says. Baselines are fitted on the pairs of a
    ``training`` cohort, of a run's ``split.json`` on its training part, and by default on the other evaluated subjects.

    Subjects that the model had seen, by the sidecars of its outputs or the validation part of ``split``, are judged
    apart, in ``seen.csv``: no figure of the others has anything of theirs. Those of its training part are refused.
    """
    places: dict[Role, Place | None] = {"source": source, "mask": masks, "labels": labels}
    matching.check_heeded(options, [synthetic, reference, source, masks, labels, training])
    pair = tuple(filter(None, (matching.split_place(place)[1] for place in (source or "", reference))))
    others = {
        role: matching.read_images(place, "image" if role == "source" else "mask", pair=pair, options=options)
        for role, place in places.items()
        if place is not None
    }
    names = label_names_of(label_names, others["labels"].folder if "labels" in others else None)
    references = matching.read_images(reference, pair=pair, options=options)
    matched = matching.match(matching.read_images(synthetic), references, others, paired)
    if not matched.paired and modalities.reference == "MR":
        raise ConfigError(
            "unpaired MR cannot be judged: its intensities have no unit, so those of other subjects do not compare. "
            "Give references of the same subjects, on the same grids."
        )
    if parts := Split.load(split) if split else None:
        parts.refuse_twins()
    seen = seen_subjects(matched.cases, parts)
    pairs = matching.training_pairs(training, parts, source, reference, options) if training else ()
    make_folder(out)
    setup = _Setup(matched, modalities, source is not None, seen, pairs, parts.unchecked if parts else "")
    evaluation = _evaluated(setup, names, references)
    given: dict[Any, Place | None] = {"synthetic": synthetic, "reference": reference, **places}
    given |= {"out": out, "training": training, "split": split, "root": options.root}
    command = _command(given, options, paired, label_names, modalities)
    how = {"command": command, "label_names": names, "modalities": asdict(modalities)}
    _write(evaluation, out, {"synthetic": synthetic, "reference": reference, **places}, how)
    return evaluation


def _command(
    given: Mapping[Any, Place | None],
    options: Options,
    paired: bool | None,
    names: LabelNames | None,
    modalities: Modalities,
) -> str:
    """The command that judges the same again; ``given`` are the options whose value is a place."""
    valued: dict[str, object] = {**given}
    valued["bids"] = ",".join(f"{key}={value}" for key, value in options.bids) or None
    valued["source-modality"] = None if modalities.source == "CT" else modalities.source
    valued["reference-modality"] = None if modalities.reference == "CT" else modalities.reference
    words = [word for name, value in valued.items() if value is not None for word in (f"--{name}", str(value))]
    for name, value in (names or {}).items():
        words += ["--organ", f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"]
    words += [] if paired is None else ["--paired" if paired else "--unpaired"]
    return shlex.join(["medgan", "evaluate", *words])


def _evaluated(setup: _Setup, names: LabelNames | None, references: ImageSet) -> Evaluation:
    """The unseen subjects, and by themselves those that the model has seen."""
    every, seen = setup.matching, setup.seen
    unseen = tuple(case for case in every.cases if case.subject not in seen.subjects)
    evaluation = replace(_judged(replace(setup, matching=replace(every, cases=unseen)), names, references), who=seen)
    others = tuple(case for case in every.cases if case.subject in seen.subjects)
    if not others:
        return evaluation
    apart = replace(setup, matching=replace(every, cases=others, failures=()), seen=NOBODY)
    of_seen = _judged(apart, names, references)
    failures = tuple(dict.fromkeys((*evaluation.failures, *of_seen.failures)))
    return replace(evaluation, failures=failures, seen=of_seen)


def _judged(setup: _Setup, names: LabelNames | None, references: ImageSet) -> Evaluation:
    failures = list(setup.matching.failures)
    judge: Pairs | Unpaired
    real, pooled = [], {}
    if setup.matching.paired:
        judge = Pairs(names, setup.modalities, trained=bool(setup.training))
        judge_each(setup.training, judge.learn, failures)
    else:
        judge = Unpaired(names, setup.modalities)
        real = judge_each(references.images, judge.real, failures)[0]
    rows, judged = judge_each(setup.matching.cases, judge.without_training, failures)
    subjects = len({case.subject for case in judged})
    if setup.looked_up(subjects):
        rows += judge_each(judged, judge.looked_up, failures)[0]
    rows += real
    if isinstance(judge, Unpaired):
        pooled = judge.add_distances(rows)
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*KEYS, *(key for row in rows for key in row)])))
    metrics = list(frame.columns[len(KEYS) :])
    return Evaluation(
        rows=frame,
        summary=summarise(frame, metrics, baseline=DO_NOTHING if setup.has_source else None),
        paired=setup.matching.paired,
        pooled_distance_hu=pooled,
        notes=tuple(setup.notes(subjects)),
        failures=tuple(failures),
        comparisons=compare(frame, metrics, SYNTHETIC, distance_to_ideal),
        cases=tuple(judged),
    )


def make_folder(out: Path) -> None:
    """Make the folder of the results, before the work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{out}: cannot be made a folder ({error.strerror}); give another place for the results."
        ) from None


def _write(evaluation: Evaluation, out: Path, places: Mapping[Any, Place | None], how: Mapping[str, Any]) -> None:
    write_csv(out / ROWS, evaluation.rows)
    write_csv(out / CASES, case_table(evaluation.cases, out))
    (out / SEEN).unlink(missing_ok=True)  # of an earlier evaluation
    if evaluation.seen:
        own = evaluation.seen.rows[evaluation.seen.rows["subject"].isin(evaluation.who.subjects)]
        parts = ["train" if subject in evaluation.who.train else "validation" for subject in own["subject"]]
        write_csv(out / SEEN, own.assign(seen=parts))
    content = {
        "places": {role: None if place is None else str(place) for role, place in places.items()},
        "paired": evaluation.paired,
        "arms": _nested(evaluation.summary, "arm"),
        "synthetic_against": _nested(evaluation.comparisons, "baseline"),
        "pooled_soft_tissue_distance_hu": evaluation.pooled_distance_hu,
        "seen": asdict(evaluation.who) | {"arms": _nested(evaluation.seen.summary, "arm") if evaluation.seen else {}},
        "notes": evaluation.notes,
        "failures": [asdict(failure) for failure in evaluation.failures],
        **how,
    }
    write_json(out / SUMMARY, plain(content))


def case_table(cases: Sequence[Case], folder: Path) -> pd.DataFrame:
    """A row a case: ``subject, image, synthetic, reference, source, mask, labels``.

    Paths are relative to the folder where they can be; what a case lacks is empty.
    """
    roles: tuple[Role, ...] = "reference", "source", "mask", "labels"
    rows = [
        {"subject": case.subject, "image": case.name, "synthetic": _relative(case.synthetic, folder)}
        | {role: _relative(case.partners[role], folder) if role in case.partners else "" for role in roles}
        for case in cases
    ]
    return pd.DataFrame(rows, columns=["subject", "image", "synthetic", *roles])


def _relative(path: Path, folder: Path) -> str:
    whole = path.parent.resolve() / path.name  # a link keeps its own name, whose ending says what it is
    try:
        return Path(os.path.relpath(whole, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return str(whole)


def _nested(table: pd.DataFrame, key: str) -> dict[Any, Any]:
    """The rows of a table by ``key`` and metric."""
    by_key = table.groupby(key, sort=False)
    return {name: rows.drop(columns=key).set_index("metric").to_dict("index") for name, rows in by_key}
