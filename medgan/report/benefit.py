"""``benefit.html``: a benefit study for people, in one file that needs nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.data.streams import write_text
from medgan.errors import MedganError
from medgan.report.figures import common_limits, embedded, forest, learning_curves
from medgan.report.findings import Findings, read_findings
from medgan.report.overlays import overlay
from medgan.report.study import environment
from medgan.report.verdict import SETS, answer, caveats, details

REPORT = "benefit.html"


def write_report(folder: Path) -> Path:
    """Write ``benefit.html`` into a benefit study's folder, and return its path.

    Args:
        folder: With ``benefit.json``, ``benefit.csv``, ``curves.csv`` and the images that the worst cases name; an
            image that cannot be shown is named in the report with the reason.

    Raises:
        DataError: ``benefit.json`` or a table that is missing, unreadable or incomplete.
    """
    found = read_findings(folder)
    asked, answers = answer(found)
    page = (
        environment()
        .get_template(REPORT)
        .render(
            record=found.record,
            asked=asked,
            answers=answers,
            details=list(details(found)),
            caveats=list(caveats(found)),
            facts=facts(found),
            forests=list(_forests(found)),
            sets=SETS,
            organs=found.organs,
            dice=dice_by_arm(found),
            comparisons=_cells(found.comparisons),
            curves=embedded(learning_curves(found.curves, found.arms)) if len(found.curves) else None,
            worst=list(_worst(found)),
            command=command(found),
        )
    )
    path = folder / REPORT
    write_text(path, page)
    return path


def facts(found: Findings) -> dict[str, str]:
    """What was run, line by line."""
    record = found.record
    chosen = ", chosen on validation subjects" if record.get("sweep", {}).get("arm") else ""
    listed = {
        "Pipeline": str(record["pipeline"]),
        "Images": "built-in phantom: computed bodies, no patients" if record["phantom"] else "given by the user",
        "Test subjects": ", ".join(f"{found.subjects(key)} {name}" for key, name in SETS.items()),
        "Seeds": ", ".join(map(str, record["seeds"])),
        "Subsets of training subjects": str(record["subsets"]),
        "Synthetic to real images": f"{record['ratio_percent']} %{chosen}",
        "Training of each segmenter": "{iterations} iterations of {batch_size} patches".format(**record["budget"]),
        "Split": str(record["split_hash"]),
    }
    for arm, (count, made) in record.get("rejected", {}).items():
        listed[f"Synthetic images rejected for {arm}"] = f"{count} of {made}"
    for arm, reason in record.get("left_out", {}).items():
        listed[f"Arm left out: {arm}"] = str(reason)
    for failure in record.get("failures", []):
        listed[f"Failed: {failure['child']}"] = str(failure["reason"])
    return listed


def dice_by_arm(found: Findings) -> list[dict[str, Any]]:
    """A row an arm: its mean Dice over subjects, their standard deviation and number, by organ and test set."""
    keys = ["arm", "organ", "test_set"]
    subjects = found.rows.groupby([*keys, "subject"])["dice"].mean().dropna()
    told = subjects.groupby(keys).agg(["mean", "std", "count"])
    rows = []
    for arm in found.arms:
        cells = [
            told.loc[(arm, organ, where)].to_dict() if (arm, organ, where) in told.index else None
            for organ in found.organs
            for where in SETS
        ]
        rows.append({"arm": arm, "cells": cells})
    return rows


def command(found: Findings) -> str:
    """What runs the study again: as it was recorded, or as its record implies."""
    record = found.record
    if "command" in record:
        return str(record["command"])
    words = ["medgan benefit", f"--pipeline {record['pipeline']}", f"--name {found.folder.resolve().name}"]
    words.append(f"--seeds {','.join(map(str, record['seeds']))}")
    words += ["--quick"] if record.get("quick") else []
    words += [] if record["phantom"] else ["--data COHORT.csv"]
    return " ".join(words)


def _forests(found: Findings) -> Iterator[dict[str, str]]:
    limits = common_limits(found.effects())
    for where, name in SETS.items():
        for organ in found.organs:
            effects = found.effects(test_set=where, organ=organ)
            if len(effects):
                title = f"{organ}, {name}"
                yield {"title": title, "src": embedded(forest(effects, title, limits))}


def _cells(comparisons: pd.DataFrame) -> list[dict[Any, Any]]:
    """Comparisons with nothing instead of what is not a number."""
    return list(comparisons.astype(object).where(comparisons.notna(), None).to_dict("records"))


def _worst(found: Findings) -> Iterator[dict[str, Any]]:
    numbers = found.record.get("organs", {})
    for case in found.record.get("worst", []):
        shown: dict[str, Any] = {"case": case, "src": None, "problem": None}
        try:
            figure = overlay(case, found.folder, case.get("value", numbers.get(case["organ"])))
            shown["src"] = embedded(figure, kind="png")
        except MedganError as error:
            shown["problem"] = str(error).replace(f"{found.folder}/", "")
        yield shown
