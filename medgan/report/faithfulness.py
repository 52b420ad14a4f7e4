"""What ``medgan faithfulness`` left in a folder, for people: its verdict, structures, places and pictures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from medgan.data.streams import read_texts
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.evaluation.statistics import Interval
from medgan.report.html import Section, Table, cells, kept_pictures

ROWS, SUMMARY, STRUCTURES, PLACES, PICTURES = (
    "faithfulness.csv", "faithfulness.json", "structures.csv", "places.csv", "pictures",
)  # fmt: skip
MOST_ROWS, MOST_PICTURES, MOST_BYTES, MOST_LINKS = 100, 12, 3_000_000, 20
WORDS = (
    "subject", "image", "seen", "rejected", "warnings", "unlike_others", "structure", "kind", "counted", "picture",
)  # fmt: skip
"""Columns that are no figures."""


@dataclass(frozen=True)
class Faithfulness:
    """A folder of ``medgan faithfulness``."""

    folder: Path
    summary: Mapping[str, Any]
    """The content of ``faithfulness.json``."""
    tables: Mapping[str, pd.DataFrame]
    """Those of its CSV files that there are, by name."""
    anonymous: bool
    """Whether subjects must not be named."""

    @property
    def answers(self) -> list[str]:
        """What it found, the worst first."""
        verdict = [str(line) for line in self.summary.get("verdict") or ()]
        if self.anonymous:  # the sentences name subjects
            fates = self.summary.get("structures") or ()
            verdict = ["{structure}: {kind} in {subjects} of {n} subjects.".format(**fate) for fate in fates]
        if rejected := self.summary.get("rejected"):
            verdict.append(f"{rejected[0]} of {rejected[1]} translations would be rejected from training data.")
        return verdict or ["No labels were compared, so lost and invented structures cannot be counted."]


def read_faithfulness(folder: Path, names: Mapping[str, str] | None = None) -> Faithfulness:
    """The folder's content; with ``names`` subjects are called by these.

    Raises:
        DataError: Its summary is missing or damaged, or a table is.
    """
    try:
        summary = read_json(folder / SUMMARY)
        if not isinstance(summary, dict):
            raise ValueError("holds no summary")
        tables = {}
        for name in (ROWS, STRUCTURES, PLACES):
            if (folder / name).is_file():
                table = read_texts(folder / name)
                figures = [column for column in table if column not in WORDS]
                table[figures] = table[figures].apply(pd.to_numeric, errors="coerce")
                if names is not None and "subject" in table:
                    table = table.assign(subject=[names.get(who, "a subject") for who in table["subject"]])
                    table = table.drop(columns=["image"], errors="ignore")
                tables[name] = table
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: its faithfulness cannot be read ({error}); check it again.") from None
    return Faithfulness(folder, summary, tables, names is not None)


def faithfulness_sections(found: Faithfulness, viewed: Mapping[str, int]) -> Iterator[Section]:
    """One section: sentences, figures, structures, places and pictures.

    ``viewed`` has the number of each subject's case in the page's viewer, to which the places lead.
    """
    tables, folded = list[Table](), list[Table]()
    if figures := found.summary.get("figures"):
        rows = [
            [name, Interval.of(row).text(".3g"), str(row["n"])]
            for name, row in figures.items()
            if row["mean"] is not None
        ]
        note = "Means with Student's intervals over subjects that the model has not seen."
        tables.append(Table("Figures", ["figure", "mean", "subjects"], 1, rows, note))
    titles = {STRUCTURES: "Structure by structure", PLACES: "Places", ROWS: "Study by study"}
    for name, title in titles.items():
        table = found.tables.get(name)
        if table is not None and len(table):
            more = f"The first {MOST_ROWS} of {len(table)}; {name} has all." if len(table) > MOST_ROWS else ""
            (tables if name == PLACES else folded).append(cells(title, table.head(MOST_ROWS), more))
    pictures = kept_pictures(_described(found.folder / PICTURES), MOST_PICTURES, MOST_BYTES)
    yield Section(
        "Did it invent or erase anything?", "faithfulness", lines=found.answers,
        note=" ".join(map(str, found.summary.get("limits") or ())), tables=tables, folded=folded,
        plots=[] if found.anonymous else list(pictures), links=dict(_links(found, viewed)),
    )  # fmt: skip


def _links(found: Faithfulness, viewed: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The places of subjects that the viewer shows."""
    places = found.tables.get(PLACES, pd.DataFrame())
    if not {"subject", "x_mm", "y_mm", "z_mm"} <= set(places):
        return
    for place in places[places["subject"].isin(viewed)].head(MOST_LINKS).to_dict("records"):
        x, y, z = (float(place[axis]) for axis in ("x_mm", "y_mm", "z_mm"))
        words = [str(place[key]) for key in ("subject", "structure", "kind") if place.get(key)]
        address = f"#case-{viewed[place['subject']]}@{x:.1f},{y:.1f},{z:.1f}"
        yield f"{', '.join(words)} at {x:.0f}, {y:.0f}, {z:.0f} mm", address


def _described(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Pictures, each with what it says of itself."""
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            what = str(picture.info.get("Description", path.stem))
        yield path, what, what
