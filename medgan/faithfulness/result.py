"""What faithfulness found: tables and a summary on disk, means over subjects, and the verdict in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from medgan.data.splits import MAX_NAMED
from medgan.data.streams import write_csv, write_json
from medgan.evaluation.seen import NOBODY, SeenSubjects
from medgan.evaluation.statistics import Interval, interval_text, plain, share_interval, t_interval
from medgan.report.faithfulness import PLACES, ROWS, STRUCTURES, SUMMARY, WORDS
from medgan.text import few

DISPLACED = 1.1
"""How many times as much a translation shares with its input when shifted, from which on it is called displaced: real
pairs of MR and CT, registered rigidly, reach 1.07."""


@dataclass(frozen=True)
class Faithfulness:
    """What translations keep, study by study."""

    rows: pd.DataFrame
    """A row a study: ``subject, image``, ``seen`` by the model, figures, and with labels ``rejected``: why, or
    empty."""
    failures: Mapping[str, str]
    """Why, by image."""
    least_dice: float
    """Of an organ that is kept."""
    structures: pd.DataFrame | None = None
    """A row a study and structure, where label maps were compared."""
    places: pd.DataFrame | None = None
    """A row a place, where places were looked for."""
    remarks: Sequence[str] = ()
    """What to know of how it was found."""
    limits: Sequence[str] = ()
    """What the figures can and cannot show."""

    @property
    def who(self) -> SeenSubjects:
        """Who of the subjects the model has seen."""
        return NOBODY if self.rows.empty else SeenSubjects.of(zip(self.rows["subject"], self.rows["seen"], strict=True))

    @property
    def seen(self) -> pd.DataFrame:
        """The rows of subjects that the model has seen: no evidence of how it does on others."""
        return self.rows if self.rows.empty else self.rows[self.rows["subject"].isin(self.who.subjects)]

    @property
    def unseen(self) -> pd.DataFrame:
        """All other rows."""
        return self.rows.drop(self.seen.index)

    @property
    def rejected(self) -> tuple[int, int] | None:
        """How many translations of unseen studies were rejected, of how many; None without labels."""
        return (int(self.unseen["rejected"].ne("").sum()), len(self.unseen)) if "rejected" in self.rows else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of whom the model has seen."""
        return (*self.who.notes(len(self.unseen)), *self.remarks)

    @property
    def exit_code(self) -> int:
        """0 if every study was checked, 1 if some were not, 2 if none was that the model has not seen."""
        return 2 if self.unseen.empty else int(bool(self.failures))

    def verdict(self) -> list[str]:
        """The answer in sentences, the worst first; empty where no labels were compared and no place was found."""
        return [*self._of_structures(), *self._of_images()]

    def write(self, folder: Path) -> None:
        """All files; the summary names no subject."""
        write_csv(folder / ROWS, self.rows if len(self.rows.columns) else pd.DataFrame(columns=list(WORDS[:3])))
        if self.structures is not None:
            write_csv(folder / STRUCTURES, self.structures)
        if self.places is not None:
            write_csv(folder / PLACES, self.places)
        content = {
            "figures": {name: asdict(mean) for name, mean in means(self.unseen).items()},
            "seen": self.rows["seen"].value_counts().to_dict() if not self.rows.empty else {},
            "figures_of_seen": {name: asdict(mean) for name, mean in means(self.seen).items()},
            "rejected": self.rejected,
            "rule": {"dice": self.least_dice, "erased": 0, "invented": 0} if self.rejected else None,
            "failures": len(self.failures),
        }
        if self.structures is not None:
            content["structures"] = [each.summary() for each in self.fates()]
        if self.structures is not None or self.places is not None:
            content |= {"verdict": self.verdict(), "limits": list(self.limits)}
        write_json(folder / SUMMARY, plain(content))

    def fates(self) -> "list[Fate]":
        """By structure and what may befall it, in how many unseen subjects it does."""
        if self.structures is None or self.structures.empty:
            return []
        everyone = set(self.unseen["subject"])
        own = self.structures[self.structures["subject"].isin(everyone)]
        return [
            Fate.of(str(name), kind, rows, len(everyone))
            for name, rows in own.groupby("structure", sort=False)
            for kind in ("lost", "invented", "changed")
            if kind != "changed" or rows["counted"].iloc[0] == "whole"
        ]

    def _of_structures(self) -> Iterator[str]:
        """Lesions first, then the organs that something befell, the most frequent first, then all others in one."""
        fates = sorted(self.fates(), key=lambda fate: (not fate.pieces, -len(fate.subjects)))
        words = {"lost": "erased", "changed": f"changed (Dice below {self.least_dice:g})"}
        for fate in fates:
            if fate.pieces or fate.subjects:
                yield fate.sentence(words.get(fate.kind, fate.kind))
        befallen = {fate.structure for fate in fates if fate.pieces or fate.subjects}
        if kept := sorted({fate.structure for fate in fates} - befallen):
            yield f"Kept in every subject: {few(kept, MAX_NAMED)}."

    def _of_images(self) -> Iterator[str]:
        """What the images alone say of unseen subjects."""
        rows = self.unseen
        if self.places is None or rows.empty:
            return
        if "beyond_change_map" in rows:
            beyond = sorted(set(rows.loc[rows["beyond_change_map"] > 0, "subject"]))
            if beyond:
                yield f"Not what the change map beside it says: {few(beyond, MAX_NAMED)}; places.csv says where."
        moved = sorted(set(rows.loc[rows["nmi_shifted"] - 1 > DISPLACED * (rows["nmi"] - 1), "subject"]))
        if moved:
            yield f"Nearer to the input when shifted by a voxel, so perhaps displaced: {few(moved, MAX_NAMED)}."
        odd = sorted(set(rows.loc[rows["unlike_others"].ne(""), "subject"]))
        if odd:
            yield f"Inputs unlike those of the other subjects: {few(odd, MAX_NAMED)}."
        count = int(rows["unexplained"].sum())
        if rows["unexplained"].notna().any():
            yield f"Places that the input does not explain: {count} in {len(rows)} studies; look at them in {PLACES}."


@dataclass(frozen=True)
class Fate:
    """One thing that may befall a structure, over subjects."""

    structure: str
    kind: str
    """lost, invented or changed."""
    pieces: bool
    """Whether the structure is counted piece by piece."""
    count: int
    """Pieces or, of an organ, images."""
    subjects: Sequence[str]
    """Those whom it befell."""
    n: int
    """Subjects in which it could: with the structure in the input or, of what is invented, all that were checked."""
    share: Interval
    """Of subjects, with Clopper and Pearson's interval."""
    per_study: Interval
    """The mean count of a subject's studies, with Student's interval."""

    @classmethod
    def of(cls, structure: str, kind: str, rows: pd.DataFrame, everyone: int) -> Self:
        """From the rows of one structure in ``structures.csv``, and of how many subjects there are rows at all."""
        able = rows if kind == "invented" else rows[rows["input_ml"] > 0]
        befell = able[able[kind] > 0]
        subjects = tuple(sorted(befell["subject"].unique()))
        n = everyone if kind == "invented" else able["subject"].nunique()
        counts = rows.groupby("subject")[kind].mean().tolist()
        pieces = bool(rows["counted"].iloc[0] == "pieces")
        share, per_study = share_interval(len(subjects), n), t_interval([*counts, *[0.0] * (everyone - len(counts))])
        return cls(structure, kind, pieces, int(befell[kind].sum()), subjects, n, share, per_study)

    def summary(self) -> dict[str, Any]:
        """For the summary, which names no subject."""
        return asdict(self) | {"subjects": len(self.subjects)}

    def sentence(self, kind: str) -> str:
        """For people; ``kind`` is what they call it."""
        who = f": {few(self.subjects, MAX_NAMED)}" if self.subjects else ""
        if not self.n:
            return f"{self.structure}: none to be {kind}; no input has any."
        percent = 100 * self.share.mean, 100 * self.share.lower, 100 * self.share.upper
        share = interval_text(*percent, ".0f")
        what = f"{self.count} {kind} in" if self.pieces and self.count else f"{kind} in"
        return f"{self.structure}: {what} {len(self.subjects)} of {self.n} subjects, {share} %{who}."


def means(rows: pd.DataFrame) -> dict[str, Interval]:
    """Every figure's mean with Student's interval over subjects."""
    if rows.empty:
        return {}
    figures = [column for column in rows.columns if column not in WORDS]
    by_subject = rows.groupby("subject")[figures].mean()
    return {figure: t_interval(by_subject[figure]) for figure in figures}
