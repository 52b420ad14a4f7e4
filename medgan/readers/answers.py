"""Readers' answers: one, those of a reader in a file that the page saves, and those of all readers on a server.

On a server they lie in SQLite with a write-ahead log that is brought to the disk at each answer: what was acknowledged
outlives a killed server.
"""

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from medgan.config import Config
from medgan.data.streams import as_it_was
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.text import printable

FORMAT = "medgan reader study answers 1"
STORE = "answers.sqlite"
SQLITE_MAGIC = b"SQLite format 3\x00"
TABLES = """
CREATE TABLE IF NOT EXISTS study (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS readers (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, token TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  reader INTEGER NOT NULL REFERENCES readers, trial TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (reader, trial)
);
"""
BUSY_S = 30.0
MOST_TEXT = 2000


class Mark(Config):
    """Where a reader sees a lesion, in slices and pixels of the stack from 0."""

    slice: int = Field(ge=0, le=9999)
    row: float
    column: float


class Answer(Config):
    """What a reader said in a trial."""

    trial: str = Field(max_length=40)
    choice: Literal["left", "right", "real", "synthetic", "present", "absent", ""]
    confidence: int = Field(ge=1, le=5)
    mark: Mark | None = None
    why: str = Field(default="", max_length=MOST_TEXT)
    seconds: float = Field(default=0.0, ge=0)
    at: str = Field(default="", max_length=40)


class Answers(Config):
    """Those of one reader, as the page saves them."""

    format: Literal["medgan reader study answers 1"]
    study: str
    reader: str = Field(min_length=1, max_length=200)
    started: str | None = None
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Reader:
    """Who may answer on a server."""

    number: int
    name: str
    token: str


class Store:
    """Answers of a served study in a SQLite file; each call has a connection of its own, as threads need it."""

    def __init__(self, path: Path, study: str) -> None:
        """Open the store of a study, or begin it.

        Raises:
            DataError: It is that of another study, or no store.
        """
        self._path = path
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(TABLES)
            row = connection.execute("SELECT hash FROM study").fetchone()
            if row is None:
                connection.execute("INSERT INTO study VALUES (?)", (study,))
            elif row[0] != study:
                raise DataError(f"{path}: holds the answers of another study; move it away.")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_S)) as connection, connection:
                connection.execute("PRAGMA synchronous = FULL")  # the log is on the disk before a write is confirmed
                yield connection
        except sqlite3.Error as error:
            raise DataError(f"{self._path}: cannot be used ({error}); check the file and its disk.") from None

    def add_reader(self, name: str) -> Reader:
        """A reader, who keeps number and token when named again."""
        with self._connection() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO readers (name, token) VALUES (?, ?)", (name, secrets.token_urlsafe(12))
            )
        return next(reader for reader in self.readers() if reader.name == name)

    def readers(self) -> list[Reader]:
        """In the order in which they were added."""
        with self._connection() as connection:
            return [Reader(*row) for row in connection.execute("SELECT number, name, token FROM readers ORDER BY 1")]

    def add(self, reader: Reader, answer: Answer) -> None:
        """Keep an answer; once this returns it is on the disk. The first answer of a trial stays."""
        row = reader.number, answer.trial, answer.model_dump_json()
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row)

    def answers(self, reader: Reader) -> list[Answer]:
        """Those of a reader, in the order in which they came."""
        query = "SELECT answer FROM answers WHERE reader = ? ORDER BY rowid"
        with self._connection() as connection:
            rows = connection.execute(query, (reader.number,)).fetchall()
        try:
            return [Answer.model_validate_json(row[0]) for row in rows]
        except ValidationError:
            raise DataError(f"{self._path}: an answer of {reader.name} is damaged.") from None


def read_answers(paths: Sequence[Path], study: str) -> tuple[list[Answers], dict[str, str]]:
    """Answers in files of the page, folders of them and stores of a server; and why others are left out, by name."""
    read: dict[str, tuple[Answers, Path]] = {}
    problems: dict[str, str] = {}
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    for path in files:
        try:
            for answers in _answers_in(path, study):
                if answers.reader in read:
                    other = read[answers.reader][1]
                    raise DataError(f"{other.name} has answers of {answers.reader!r} too; leave one out, or rename it")
                read[answers.reader] = answers, path
        except (DataError, OSError, ValueError) as error:
            reason = "it does not hold a reader's answers" if isinstance(error, ValidationError) else str(error)
            problems[printable(str(path))] = printable(reason)
    return [answers for answers, _ in read.values() if answers.answers], problems


def _answers_in(path: Path, study: str) -> list[Answers]:
    if not path.is_file():
        raise DataError("there is no such file")
    with path.open("rb") as stream:
        of_server = stream.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
    if of_server:
        store = Store(path, study)
        return [
            Answers(format=FORMAT, study=study, reader=reader.name, answers=tuple(store.answers(reader)))
            for reader in store.readers()
        ]
    answers = Answers.model_validate(read_json(path))
    if answers.study != study:
        raise DataError(f"answers of another study, {answers.study[:12]}…; the key's is {study[:12]}…")
    return [answers.model_copy(update={"reader": printable(as_it_was(answers.reader))})]
