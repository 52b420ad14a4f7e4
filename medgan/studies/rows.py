"""The one table of every study: its keys, the subject among them, then the metrics."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

ROWS = "rows.csv"
NUMBERS = ("size", "seed", "subset", "ratio_percent", "labelled", "fold", "prevalence_percent")
"""Keys that are numbers; all other keys are text."""


def read_rows(paths: Iterable[Path], keys: Sequence[str] = (), metrics: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of several files under one another; those that are not there are passed over.

    Args:
        paths: CSV files of one form.
        keys: The columns that tell rows apart; text but for ``NUMBERS``. A subject called NA or 007 stays one.
        metrics: The columns of an empty table, after ``keys``.
    """
    text = set(keys) - set(NUMBERS)
    frames = []
    for path in paths:
        if path.is_file():
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            figures = [column for column in frame.columns if column not in text]
            frame[figures] = frame[figures].apply(pd.to_numeric)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*keys, *metrics])


def in_order(rows: pd.DataFrame, first: Sequence[str]) -> pd.DataFrame:
    """The rows with some columns in front."""
    return rows[[*first, *(column for column in rows.columns if column not in first)]]
