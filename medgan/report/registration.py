"""How the pairs of a registered cohort came out, for people: what ``medgan data register`` left beside its table."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from medgan.data.streams import as_it_was
from medgan.report.html import Plot, Section, cells, png

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
        table = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False).map(as_it_was)
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
    plots, pairs = list(_pictures(folder / PICTURES, table["subject"])), cells("Pair by pair", shown)
    yield Section("Registration", "registration", note=note, lines=lines, plots=plots, folded=[pairs])


def _pictures(folder: Path, subjects: Iterable[str]) -> Iterator[Plot]:
    left, number = MOST_BYTES, 0
    for subject in subjects:
        picture = folder / f"{subject}.png"
        if number < MOST_PICTURES and picture.is_file() and picture.stat().st_size <= left:
            left, number = left - picture.stat().st_size, number + 1
            yield Plot(png(picture.read_bytes()), f"{subject}: both scans on one grid", subject)
