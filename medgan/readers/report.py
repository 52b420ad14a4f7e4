"""The score of a reader study in files: a page, tables, and what FDA's iMRMC reads."""

from pathlib import Path

import pandas as pd

from medgan.data.streams import write_csv, write_json
from medgan.evaluation.statistics import plain
from medgan.readers.design import Key
from medgan.readers.score import Score, is_positive
from medgan.report.html import Section, cells, render

PAGE = "score.html"


def imrmc(key: Key, answers: pd.DataFrame) -> pd.DataFrame:
    """The answers that count in the long format of FDA's iMRMC: readerID, caseID, modalityID, score.

    Of single images a case is an image and synthetic is signal; of lesions the modality is the arm. Of a choice between
    two a case is a pair, scored 1 if the first arm was chosen, else 0, and as many cases without signal have .5, so
    that the area under the curve is the share of such choices.
    """
    rows: list[tuple[str, str, str, float]] = []
    trials = {trial.id: trial for trial in key.trials if trial.role == "scored"}
    for trial in trials.values():
        case = f"{trial.image} {trial.level}"
        own = answers[(answers["trial"] == trial.id)]
        if trial.task in ("2afc", "preference"):
            rows += [("truth", case, "truth", 1), ("truth", f"{case} chance", "truth", 0)]
            for answer in own.to_dict("records"):
                rows.append((answer["reader"], case, trial.task, float(answer["right"])))
                rows.append((answer["reader"], f"{case} chance", trial.task, 0.5))
            continue
        case += f" {trial.arms[0]}" if trial.task == "single" else ""
        modality = "single" if trial.task == "single" else f"find {trial.arms[0]}"
        rows.append(("truth", f"{trial.task} {case}", "truth", float(is_positive(trial))))
        towards = "synthetic" if trial.task == "single" else "present"
        for answer in own.to_dict("records"):
            sure = answer["confidence"] if answer["choice"] == towards else -answer["confidence"]
            rows.append((answer["reader"], f"{trial.task} {case}", modality, float(sure)))
    columns = ["readerID", "caseID", "modalityID", "score"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(columns[:3])


def write(scored: Score, key: Key, out: Path) -> None:
    """Write ``score.html``, ``score.json``, ``readers.csv``, ``answers.csv`` and ``imrmc.csv``."""
    figures = pd.DataFrame([figure.row for figure in scored.figures])
    write_csv(out / "readers.csv", scored.readers)
    write_csv(out / "answers.csv", scored.answers)
    write_csv(out / "imrmc.csv", imrmc(key, scored.answers))
    content = {
        "study": key.study, "settings": key.settings.model_dump(mode="json"),
        "equalised": key.equalised.model_dump(mode="json"), "figures": figures, "readers": scored.readers,
        "fleiss_kappa": scored.agreement, "notes": scored.notes, "noticed": scored.noticed,
        "failures": scored.failures,
    }  # fmt: skip
    write_json(out / "score.json", plain(content))
    agreement = [f"Agreement of readers, Fleiss' κ, {task}: {value:.2f}" for task, value in scored.agreement.items()]
    render(
        out / PAGE, title="Reader study", kind="reader study",
        question="Do readers tell synthetic images from real ones, and read them alike?",
        answers=[figure.sentence for figure in scored.figures if figure.null is not None],
        details=[*(figure.sentence for figure in scored.figures if figure.null is None), *agreement],
        caveats=scored.notes, failures=scored.failures, sections=_sections(scored, key, figures),
    )  # fmt: skip


def _sections(scored: Score, key: Key, figures: pd.DataFrame) -> list[Section]:
    same = key.equalised
    by_reader = (
        "Right has the exact interval of Clopper and Pearson. kappa_repeats compares a reader's two answers to a trial "
        "that is shown twice."
    )
    facts = {
        "Study": key.study,
        "Grid": f"{same.rows} x {same.columns} pixels of {same.pixel_mm:g} mm, {same.slices} slices, for all images",
        "Greys": f"8 bit from {same.lower:g} to {same.upper:g} {same.unit}, for all images",
        "Noise as shown, of 255 greys": ", ".join(f"{arm} {value:.2f}" for arm, value in same.noise.items()),
        "Sharpness as shown": ", ".join(f"{arm} {value:.2f}" for arm, value in same.sharpness.items()),
        "Readers knew how many images were of which kind": "yes" if key.settings.tell_prevalence else "no",
    }
    struck = [f"{name}: {why}" for name, why in scored.noticed.items()]
    both = "Readers and subjects are both random; resampled bounds draw both anew."
    return [
        Section("Readers", note=by_reader, tables=[cells("Readers", scored.readers)]),
        Section("Over readers and subjects", note=both, tables=[cells("Over readers and subjects", figures)]),
        *([Section("What struck readers who were not told", lines=struck)] if struck else []),
        Section("How the images were made alike", facts=facts),
    ]
