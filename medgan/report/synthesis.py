"""What ``medgan evaluate --synthesis`` left in a folder, for people: two verdicts, figures beside the floor, sheets."""

from pathlib import Path
from typing import Any

import pandas as pd

from medgan.documents import read_json
from medgan.errors import DataError
from medgan.report.html import Section, cells, kept_pictures

RECORD, TABLE = "synthesis.json", "synthesis.csv"
SHEETS = {
    "nearest.png": "Nearest to training patches first: a sample, and beside it its nearest real patch",
    "samples.png": "Drawn by chance: a sample, and beside it its nearest real patch",
}
MOST_BYTES = 8_000_000


def shown_of(folder: Path, *, anonymous: bool = False) -> dict[str, Any]:
    """What a page shows of the folder, as :func:`medgan.report.html.render` takes it.

    Raises:
        DataError: Its files are missing or damaged.
    """
    try:
        record, table = read_json(folder / RECORD), pd.read_csv(folder / TABLE)
        verdicts = [str(record["memorisation"]), str(record["collapse"])]
        failures = {str(each["image"]): str(each["reason"]) for each in record["failures"]}
        notes = [str(note) for note in record["notes"]]
        figures = cells("Figures", table.drop(columns="name"), f"On features of {record['features']}.")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder}: its lesions' evaluation cannot be read ({error!r:.100}); evaluate again.") from None
    sheets = ((folder / name, alt, alt) for name, alt in SHEETS.items())
    plots = list(kept_pictures(sheets, len(SHEETS), MOST_BYTES))
    note = "Compare columns, not numbers: real is the floor, and blurred, collapsed and copied are broken on purpose."
    return {
        "title": "Synthetic lesions, judged", "question": "Are they copies, and do they vary?", "answers": verdicts,
        "details": notes,
        "failures": {f"{len(failures)} images": "not judged"} if anonymous and failures else failures,
        "sections": [
            Section("Figures", "figures", note=note, tables=[figures]),
            *([Section("Samples", "samples", plots=plots, layout="single")] if plots else []),
        ],
    }  # fmt: skip
