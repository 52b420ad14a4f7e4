"""``classes.csv``: a row for each image, with a sidecar that says which model and which files it is of."""

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.classification.apply import Classified
from medgan.data.hashes import file_hash
from medgan.data.leaks import TRAINING, ThisImage
from medgan.data.streams import as_it_was, inert, replacing
from medgan.errors import DataError
from medgan.inference.sidecar import as_json, read_sidecar

TABLE, SIDECAR = "classes.csv", "classes.json"
SOURCES = "SourceSHA256"
"""In the sidecar: the SHA-256 of each image of the table, by name."""

Row = list[str]


class ClassTable:
    """The table of one output folder: what an earlier batch with the same model left there is kept.

    Args:
        folder: Made when missing.
        classes: What there is, in the order of the probabilities.
        facts: The sidecar, but for the images and the table's hash.
        overwrite: Begin anew whatever lies there.

    Raises:
        DataError: A table of another model, one that was changed since, or a file that is none; never overwritten
            unasked.
    """

    def __init__(self, folder: Path, classes: Sequence[str], facts: Mapping[str, Any], *, overwrite: bool) -> None:
        self.path, self.sidecar = folder / TABLE, folder / SIDECAR
        self.classes, self.facts, self.overwrite = tuple(classes), dict(facts), overwrite
        self.rows: dict[str, Row] = {}
        self.sources: dict[str, str] = {}
        self.seen: dict[str, ThisImage] = {}
        """Whether the model had seen each image."""
        if not overwrite:
            self._take_up()

    @property
    def columns(self) -> list[str]:
        """``image``, ``class``, the probability of each class, and of the patch that decides where it is in RAS+ mm."""
        return ["image", "class", *(f"p_{name}" for name in self.classes), "patches", "x_mm", "y_mm", "z_mm"]

    def knows(self, image: str, source: str) -> bool:
        """Whether the table has this image.

        Args:
            image: Its name in records.
            source: Its SHA-256.

        Raises:
            DataError: It has another one of that name.
        """
        if self.sources.get(image, source) != source:
            raise DataError(f"{image}: {TABLE} has another image of this name; give another OUTPUT, or --overwrite.")
        return image in self.sources

    def add(self, image: str, source: str, found: Classified, seen: ThisImage) -> None:
        """One more image is classified."""
        likeliest = self.classes[int(np.argmax(found.probabilities))]
        shares = [f"{share:.6f}" for share in found.probabilities]
        place = [f"{each:.2f}" for each in found.centre_mm]
        self.rows[image] = [image, likeliest, *shares, str(found.patches), *place]
        self.sources[image] = source
        self.seen[image] = seen

    def write(self) -> None:
        """Write table and sidecar, each whole or not at all; nothing where no image was classified."""
        if not self.rows:
            return
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(
            [self.columns, *([inert(name), *self.rows[name][1:]] for name in sorted(self.rows))]
        )
        content = text.getvalue().encode()
        outputs = {TABLE: hashlib.sha256(content).hexdigest()}
        known = {SOURCES: dict(sorted(self.sources.items())), TRAINING: dict(sorted(self.seen.items()))}
        note = self.facts | known | {"Outputs": outputs}
        for path, what in ((self.sidecar, as_json(note).encode()), (self.path, content)):
            with replacing(path) as stream:
                stream.write(what)

    def _take_up(self) -> None:
        """Go on with what lies there."""
        there = [path for path in (self.path, self.sidecar) if os.path.lexists(path)]
        before = read_sidecar(self.sidecar)
        if not there:
            return
        if before is None or not isinstance(before.get(SOURCES), dict):
            raise DataError(f"{there[0]}: exists and is no output of medgan; give another OUTPUT, or add --overwrite.")
        if before.get("Model") != self.facts["Model"]:
            raise DataError(f"{self.path}: exists, made with another model; give another OUTPUT, or add --overwrite.")
        if self.path not in there or before["Outputs"].get(TABLE) != file_hash(self.path):
            raise DataError(f"{self.path}: was changed since it was written; move it away, or add --overwrite.")
        with self.path.open(newline="", encoding="utf-8") as stream:
            self.rows = {as_it_was(row[0]): row for row in list(csv.reader(stream))[1:]}
        self.sources = dict(before[SOURCES])
        self.seen = dict(before.get(TRAINING, {}))
