"""Where runs are recorded, and whether a model's run is there: what is told without MLflow, which takes seconds."""

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.tracking.recorded import RecordedRun

MODEL_TAG = "model_sha256"
"""The tag by which a model's run is found again: the hash of its description, which outputs' sidecars carry."""


def data_folder() -> Path:
    """``MEDGAN_HOME``, else ``medgan`` in the user's data folder."""
    if folder := os.environ.get("MEDGAN_HOME"):
        return Path(folder).expanduser().absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute() / "medgan"


def resolve_uri(flag: str | None = None, recorded: object = None) -> str:
    """Where runs are recorded: the flag, else ``MLFLOW_TRACKING_URI``, else SQLite in the user's data folder.

    What a run folder says was perhaps written by somebody else: it never chooses the server to which this user's
    settings, figures and models are sent.

    Args:
        flag: What ``--tracking`` says.
        recorded: Of a run that goes on, where its folder says that it is recorded; None where it says nothing.

    Raises:
        ConfigError: A folder of files, which MLflow gave up in 3.13, or a database in memory; or a record that names
            another store than the user's, who has not asked for one by ``--tracking``.
    """
    uri = flag or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(data_folder() / 'mlflow.db').as_posix()}"
    # A drive letter is no scheme.
    scheme = re.match(r"[a-z][a-z0-9+.-]+(?=:)", uri)
    if uri != "databricks" and (scheme is None or scheme[0] == "file"):
        path = Path(url2pathname(urlparse(uri).path) if scheme else uri).expanduser().absolute()
        raise ConfigError(
            f"tracking URI {uri!r} is a folder of files, which MLflow no longer writes (since 3.13); "
            f"use a database, `sqlite:///{path.with_suffix('.db').as_posix()}`, or a server, `http://HOST:5000`."
        )
    if scheme is not None and scheme[0] == "sqlite":
        name = uri.removeprefix("sqlite:///")
        if name in ("", uri, ":memory:"):
            raise ConfigError(f"tracking URI {uri!r} names no file to keep runs in; write sqlite:///PATH.db.")
        uri = f"sqlite:///{Path(name).expanduser().absolute().as_posix()}"
    if flag is None and recorded not in (None, uri):
        raise ConfigError(
            f"the run was begun in another MLflow store, {without_password(str(recorded))!r}, than yours, "
            f"{without_password(uri)!r}; if you know it, go on there with --tracking and its address, else give yours "
            "by --tracking."
        )
    return uri


def check_address(flag: str | None) -> None:
    """Refuse a ``--tracking`` that no store can have, of work that needs no store: that of the environment is none.

    Raises:
        ConfigError: As :func:`resolve_uri`.
    """
    if flag:
        resolve_uri(flag)


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store; None of another."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def without_password(text: str) -> str:
    """A URI, or a message with URIs in it, for people to read."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def first_line(error: Exception) -> str:
    """What an error says, without what follows."""
    return without_password(str(error).partition("\n")[0]) or type(error).__name__


def check_database(uri: str) -> None:
    """Refuse a SQLite store that is not there.

    Raises:
        ConfigError: There is no such file.
    """
    database = database_of(uri)
    if database and not database.is_file():
        raise ConfigError(
            f"there is no MLflow store at {database}; say with --tracking or MLFLOW_TRACKING_URI where runs are "
            "recorded."
        )


def record_of_model(tracking: str | None, sha256: str, write: "Callable[[RecordedRun], None]") -> str:
    """Let ``write`` record something of a model on the run that trained it.

    Args:
        tracking: What ``--tracking`` says; else ``MLFLOW_TRACKING_URI``, else the user's own store.
        sha256: Of the model's description, as outputs' sidecars have it.
        write: Called with the run where there is one; an error of the store in it is told and not raised.

    Returns:
        One line for people: where it was recorded, or why it was not.
    """
    try:
        uri = resolve_uri(tracking)
        check_database(uri)
        line = None
        if _may_know(uri, sha256):
            from medgan.tracking.recorded import record

            line = record(uri, sha256, write)
    except ConfigError as error:
        return f"not recorded: {error}"
    return line or (
        f"not recorded: no run in MLflow at {without_password(uri)} trained this model ({sha256[:12]}); "
        "name the store of its training by --tracking."
    )


def _may_know(uri: str, sha256: str) -> bool:
    """Whether a store has perhaps a model's run; a SQLite store that has none is seen without MLflow."""
    if (database := database_of(uri)) is None:
        return True
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            asked = "SELECT 1 FROM tags WHERE key = ? AND value = ? LIMIT 1"
            return connection.execute(asked, (MODEL_TAG, sha256)).fetchone() is not None
    except sqlite3.Error:
        return True  # what is wrong with it, MLflow says
