"""What a benefit study left in its folder, read and checked before anything is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medgan.documents import read_json
from medgan.errors import DataError

RECORD, ROWS, CURVES = "benefit.json", "benefit.csv", "curves.csv"
NEEDED = ("pipeline", "phantom", "seeds", "subsets", "ratio_percent", "budget", "split_hash", "comparisons")
KEYS = ["arm", "seed", "subset", "subject", "test_set", "organ"]
NAMES = ["arm", "reference", "test_set", "organ", "metric"]
ESTIMATES = ["mean", "lower", "upper", "n", "p_value", "p_holm"]
BESIDE = ["trainings", "lowest_training", "highest_training"]
CURVE = ["arm", "seed", "subset", "epoch", "val_dice"]


@dataclass(frozen=True)
class Findings:
    """A finished benefit study."""

    folder: Path
    record: dict[str, Any]
    """``benefit.json``."""
    rows: pd.DataFrame
    """``benefit.csv``: ``KEYS`` and a column a metric."""
    comparisons: pd.DataFrame
    """``NAMES``, ``ESTIMATES`` and ``BESIDE``; see ``medgan.evaluation.statistics.compare_arms``."""
    curves: pd.DataFrame
    """``CURVE``; empty if the study wrote none."""

    @property
    def arms(self) -> list[str]:
        """In the order in which the study lists them."""
        return list(dict.fromkeys(self.rows["arm"]))

    @property
    def organs(self) -> list[str]:
        """In the order in which the study lists them."""
        return list(dict.fromkeys(self.rows["organ"]))

    def subjects(self, test_set: str) -> int:
        """How many were tested there."""
        return int(self.rows.loc[self.rows["test_set"] == test_set, "subject"].nunique())

    def effects(self, *, metric: str = "dice", **wanted: str) -> pd.DataFrame:
        """The comparisons of a metric whose columns have these values."""
        own = self.comparisons["metric"] == metric
        for column, value in wanted.items():
            own &= self.comparisons[column] == value
        return self.comparisons[own]


def read_findings(folder: Path) -> Findings:
    """Everything that a report shows, but for the images.

    Raises:
        DataError: A file that is missing, unreadable or without what it must hold.
    """
    record = _record(folder / RECORD)
    comparisons = pd.DataFrame(record["comparisons"], columns=[*NAMES, *ESTIMATES, *BESIDE])
    numbers = [*ESTIMATES, *BESIDE]
    comparisons[numbers] = comparisons[numbers].apply(pd.to_numeric)
    rows = _table(folder / ROWS, [*KEYS, "dice"], text=["arm", "subject", "test_set", "organ"])
    path = folder / record.get("learning_curves", CURVES)
    curves = _table(path, CURVE, text=["arm"]) if path.is_file() else pd.DataFrame(columns=CURVE)
    return Findings(folder, record, rows, comparisons, curves)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; let `medgan benefit` run to its end first.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error}); run the same `medgan benefit` again.") from None
    missing = [name for name in NEEDED if name not in record] if isinstance(record, dict) else list(NEEDED)
    if missing:
        raise DataError(f"{path}: without {', '.join(missing)}; run the same `medgan benefit` again.")
    return dict(record)


def _table(path: Path, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    try:  # text stays text: a subject called NA or 007 is one
        told = pd.read_csv(path, dtype=str, keep_default_na=False)
        missing = [name for name in columns if name not in told]
        if missing:
            raise DataError(f"{path}: without the columns {', '.join(missing)}; run the same `medgan benefit` again.")
        numbers = [name for name in told if name not in text]
        told[numbers] = told[numbers].apply(pd.to_numeric)
    except FileNotFoundError:
        raise DataError(f"{path}: missing; let `medgan benefit` run to its end first.") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable ({error}); run the same `medgan benefit` again.") from None
    return told
