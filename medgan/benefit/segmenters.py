"""A segmenter that a study trains and judges: what lies in its folder, and the figures and curves of many of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medgan.benefit.records import read_json
from medgan.evaluation.segmentation import METRICS

IDENTITY, SCORE, FIGURES = "child.json", "validation.json", "rows.csv"
"""In a child's folder: what it is, from its beginning; what validation said, when it is trained; what it found in the
test subjects, when it is finished."""
NUMBERS = ("size", "seed", "subset", "ratio_percent")
"""Those of the facts that are numbers."""


class SegmenterChild(ABC):
    """One segmenter of a study, as far as its folder tells."""

    folder: Path

    @property
    @abstractmethod
    def facts(self) -> dict[str, str | int]:
        """What tells it from the others: its arm, its seed; the first columns of its figures."""

    @property
    def name(self) -> str:
        """How people and folders call it."""
        return self.folder.name

    @property
    def trained(self) -> bool:
        """Whether its model is there."""
        return (self.folder / SCORE).is_file()

    @property
    def finished(self) -> bool:
        """Whether its test subjects were judged by every metric there is; if not, they are to be judged again.

        A study that goes on may have been begun when there were fewer.
        """
        path = self.folder / FIGURES
        if not path.is_file():
            return False
        with path.open(encoding="utf-8") as stream:
            return set(METRICS) <= set(stream.readline().rstrip("\n").split(","))

    @property
    def score(self) -> float:
        """Mean Dice of the validation subjects, of a child that is trained."""
        return float(read_json(self.folder / SCORE)["val_dice"])

    @property
    def outcome(self) -> str:
        """What is said of it when it has ended."""
        return f"validation Dice {self.score:.3f}"


def read_figures(children: Sequence[SegmenterChild], keys: Sequence[str]) -> pd.DataFrame:
    """The figures of all finished children: ``keys``, then ``METRICS``; empty means not defined."""
    frames = []
    for child in children:
        if child.finished:
            # Text first: a subject called NA or 007 stays one.
            frame = pd.read_csv(child.folder / FIGURES, dtype=str, keep_default_na=False)
            numbers = [key for key in (*keys, *METRICS) if key in NUMBERS or key in METRICS]
            frame[numbers] = frame[numbers].apply(pd.to_numeric)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*keys, *METRICS])


def read_curves(children: Sequence[SegmenterChild], facts: Sequence[str]) -> pd.DataFrame:
    """Mean Dice of the validation subjects by epoch: some of the children's facts, ``epoch``, ``val_dice``."""
    columns = [*facts, "epoch", "val_dice"]
    frames = []
    for child in children:
        path = child.folder / "metrics.csv"
        if path.is_file() and "val/dice" in (told := pd.read_csv(path)):
            frame = told[["epoch", "val/dice"]].dropna().rename(columns={"val/dice": "val_dice"})
            frames.append(frame.astype({"epoch": int}).assign(**child.facts)[columns])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
