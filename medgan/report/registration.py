"""How the pairs of a registered cohort came out, for people: what ``medgan data register`` left beside its table."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from medgan.data.streams import read_texts
from medgan.report.html import Section, cells, kept_pictures

TABLE, PICTURES = "quality.csv", "pictures"
SHOWN = ("subject", "status", "dice_before", "dice_after", "covered", "rotation_degrees", "reason")
MOST_ROWS, MOST_PICTURES, MOST_BYTES = 100, 4, 2_000_000


def registration_section(places: Iterable[Path], *, anonymous: bool) -> Iterator[Section]:
    """The registration of the first place, a cohort's table or folder, that has one; the least overlap first.

    Subjects that must stay ``anonymous`` are counted only.
    """
    folders = [place if place.is_dir() else place.parent for place in places]
    folder = next((each for each in folders if (each / TABLE).is_file()), None)
    if folder is None:
        return
    try:
        table = read_texts(folder / TABLE)
        ends = table["status"].value_counts()
        table["dice_after"] = pd.to_numeric(table["dice_after"], errors="coerce")
    except (OSError, ValueError, KeyError) as error:
        yield Section("Registration", "registration", warnings=[f"Not shown: {TABLE} cannot be read ({error})."])
        return
    numbers = [name for name in SHOWN[2:-1] if name in table]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    table = table.sort_values("dice_after", kind="stable", na_position="first")
    lines = [f"{count} of {len(table)} pairs: {status}" for status, count in ends.items()]
    note = "Dice is that of the two bodies; the least overlap comes first."
    if anonymous:
        yield Section("Registration", "registration", lines=lines)
        return
    shown = table[[name for name in SHOWN if name in table]].head(MOST_ROWS)
    files = [(folder / PICTURES / f"{who}.png", f"{who}: both scans on one grid", who) for who in table["subject"]]
    plots, pairs = list(kept_pictures(files, MOST_PICTURES, MOST_BYTES)), cells("Pair by pair", shown)
    yield Section("Registration", "registration", note=note, lines=lines, plots=plots, folded=[pairs])
