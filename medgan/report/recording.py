"""What an evaluation leaves on the MLflow run of the model that made the images: figures and cases without names."""

import hashlib
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd

from medgan.data.hashes import known_by
from medgan.data.streams import write_csv
from medgan.data.studies import sidecar
from medgan.evaluation.arms import SYNTHETIC
from medgan.evaluation.evaluate import KEYS, Evaluation
from medgan.evaluation.matching import Case
from medgan.evaluation.statistics import by_subject
from medgan.report.page import PAGE, Beside, write_report
from medgan.tracking import record_of_model

if TYPE_CHECKING:  # with MLflow, which takes seconds
    from medgan.tracking import RecordedRun

KEY_FILE = "cases_key.csv"
"""In the results' folder, who is which case."""
TELLING = 4
"""Letters of a name from which on it is looked for in the page: shorter ones are found in any file."""
BOUNDS = "lower", "upper"


def record_evaluation(evaluation: Evaluation, out: Path, tracking: str | None = None, *, names: bool = False) -> str:
    """Record an evaluation on its model's run, and write ``cases_key.csv``: which case is which subject.

    Args:
        evaluation: Whose unseen subjects' figures are recorded.
        out: The folder of its results.
        tracking: What ``--tracking`` says.
        names: Send subjects' own names instead of ``case 1``, ``case 2``, ….

    Returns:
        One line for people: where it was recorded, or why it was not.
    """
    subjects = set(evaluation.rows.loc[evaluation.rows["arm"] == SYNTHETIC, "subject"])
    cases = [case for case in evaluation.cases if case.subject in subjects]
    if not cases:
        return "not recorded: no image of a subject that the model has not seen was judged."
    digests = _digests(cases)
    called = _names_of_cases(digests)
    write_csv(out / KEY_FILE, pd.DataFrame({"case": list(called.values()), "subject": list(called)}))
    models = {_model_of(case.synthetic) for case in cases}
    if len(models) > 1 or "" in models:
        which = "are of several models" if "" not in models else "do not all say which model made them"
        return f"not recorded: the synthetic images {which}; MLflow keeps figures with the run of one."
    test_set = _sha256(sorted(each for own in digests.values() for each in own))

    shown = {name: name for name in called} if names else called
    problem = experiment = ""

    def write(run: "RecordedRun") -> None:
        from medgan.tracking import CASES

        nonlocal problem, experiment
        run.metrics(_figures(evaluation, len(subjects)), dataset=("test", test_set))
        run.table(_table(evaluation, shown), CASES)
        run.tags({"test_set": test_set, "test_pairs": "paired" if evaluation.paired else "unpaired"})
        with TemporaryDirectory() as folder:
            page, problem = _page(out, Path(folder), shown, evaluation)
            if not problem:
                run.artifact(page, "test")
        experiment = run.experiment

    line = record_of_model(tracking, models.pop(), write)
    line += f"; without the page: {problem}" if problem else ""
    return f"{line}; beside other runs: `medgan compare {shlex.quote(experiment)}`" if experiment else line


def _page(out: Path, folder: Path, called: Mapping[str, str], evaluation: Evaluation) -> tuple[Path, str]:
    """The page of the results in a folder, without paths, and why it must not be sent; empty where it may be."""
    try:
        page = write_report(out, folder / PAGE, Beside(names=called))
    except Exception as error:  # whatever a page brings about, the figures are still to be kept
        return folder, str(error) or type(error).__name__
    text = page.read_text(encoding="utf-8")
    people = {*evaluation.rows["subject"], *evaluation.who.subjects, *evaluation.who.unknown} - {*called.values()}
    people = {str(out.absolute()), *(name for name in people if len(name) >= TELLING)}
    told = any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in people)
    return page, "a subject's name or a path is still in it." if told else ""


def _model_of(image: Path) -> str:
    """The hash of the model that made an image; empty where its sidecar does not say."""
    model = sidecar(image).get("Model")
    digest = model.get("DescriptionSHA256") if isinstance(model, dict) else None
    return digest if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) else ""


def _digests(cases: list[Case]) -> dict[str, list[str]]:
    """By subject, the hashes by which its real images are known again: the references, else the inputs."""
    digests: defaultdict[str, list[str]] = defaultdict(list)
    for case in cases:
        real = case.partners.get("reference") or case.partners.get("source")
        source = sidecar(case.synthetic).get("SourceSHA256")
        digests[case.subject] += known_by(real or case.synthetic)[:1] if real or not source else [str(source)]
    return {subject: sorted(own) for subject, own in digests.items()}


def _names_of_cases(digests: Mapping[str, list[str]]) -> dict[str, str]:
    """``case 1``, ``case 2``, … by subject, in the order of their images' hashes: the same whatever they are called."""
    order = sorted(digests, key=lambda subject: (digests[subject], subject))
    return {subject: f"case {number}" for number, subject in enumerate(order, start=1)}


def _figures(evaluation: Evaluation, subjects: int) -> dict[str, float]:
    """``test/METRIC`` of the synthetic arm with its bounds, and ``test/ARM/METRIC`` of the others."""
    figures: dict[str, float] = {}
    for row in evaluation.summary.to_dict("records"):
        key = f"test/{row['metric']}" if row["arm"] == SYNTHETIC else f"test/{row['arm']}/{row['metric']}"
        bounds = BOUNDS if row["arm"] == SYNTHETIC else ()
        figures |= {key: row["mean"]} | {f"{key}_{bound}": row[bound] for bound in bounds}
    return figures | {"test/subjects": float(subjects)}


def _table(evaluation: Evaluation, called: Mapping[str, str]) -> pd.DataFrame:
    """A row a case and arm; images of one subject are averaged."""
    own = evaluation.rows[evaluation.rows["subject"].isin(called)]
    means = by_subject(own, list(own.columns[len(KEYS) :])).reset_index()
    means.insert(0, "case", means.pop("subject").map(called))
    order = {name: number for number, name in enumerate(called.values())}
    return means.sort_values("case", key=lambda names: names.map(order), kind="stable")


def _sha256(digests: list[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
