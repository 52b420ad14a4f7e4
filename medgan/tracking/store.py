"""Where runs are recorded: which store, and whether it can be used."""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from medgan.errors import ConfigError

STORE_ERRORS = (MlflowException, OSError, sqlite3.Error, SQLAlchemyError)
"""What a store that cannot be used, or is lost, may raise."""
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""How MLflow says that there is no such run, model, version or alias."""

Item = TypeVar("Item")


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


@contextmanager
def opened(uri: str, *, create: bool = True) -> Iterator[MlflowClient]:
    """A client of a store that can be used; a database that is not there yet is made, or refused.

    Raises:
        ConfigError: In here MLflow, the database or its driver raised something; with advice.
    """
    database = database_of(uri)
    if database and not create and not database.is_file():
        raise ConfigError(
            f"there is no MLflow store at {database}; say with --tracking or MLFLOW_TRACKING_URI where runs are "
            "recorded."
        )
    with explained(uri):
        yield _client(uri)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Raise what a store raises in here as a ``ConfigError`` with advice."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"MLflow at {without_password(uri)} cannot be used: its driver is missing ({error}). Install it "
            "beside medgan, or name another store by --tracking."
        ) from None
    except STORE_ERRORS as error:
        raise ConfigError(
            f"MLflow at {without_password(uri)} cannot be used ({first_line(error)}); start the server or correct the "
            "address (--tracking, MLFLOW_TRACKING_URI), or record into a file with `--tracking sqlite:///runs.db`."
        ) from None


def check_address(flag: str | None) -> None:
    """Refuse a ``--tracking`` that no store can have, of work that needs no store: that of the environment is none.

    Raises:
        ConfigError: As :func:`resolve_uri`.
    """
    if flag:
        resolve_uri(flag)


def check_store(flag: str | None, recorded: object = None) -> None:
    """Refuse a store that cannot be used, before anything is computed that could not be recorded.

    Raises:
        ConfigError: What :func:`resolve_uri` or :func:`opened` refuses.
    """
    with opened(resolve_uri(flag, recorded)):
        pass


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store; None of another."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def without_password(text: str) -> str:
    """A URI, or a message with URIs in it, for people to read."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def first_line(error: Exception) -> str:
    """What an error says, without what follows."""
    return without_password(str(error).partition("\n")[0]) or type(error).__name__


def _client(uri: str) -> MlflowClient:
    """A client of a server that answers, or of a database that has its tables."""
    database = database_of(uri)
    if database is None:
        if uri.startswith("http"):
            # One short question first: MLflow's own first call would wait for its full time-out, several times.
            server = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
            http_request(server, "/health", "GET", timeout=5, max_retries=1)  # type: ignore[no-untyped-call]
        return MlflowClient(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    # Trainings that start together would otherwise all create the tables, and all but one fail.
    with FileLock(f"{database}.lock"):
        # MLflow would try for minutes to open a file that is no database.
        with closing(sqlite3.connect(database)) as connection:
            (tables,) = connection.execute("PRAGMA schema_version").fetchone()
        if not tables:
            # In some fifty steps, and MLflow cannot go on where it was stopped at one: in a file that takes its place.
            making = database.with_name(f"{database.name}.new")
            making.unlink(missing_ok=True)
            with unsynced():
                MlflowClient(f"sqlite:///{making.as_posix()}")
            with making.open("rb+") as file:
                os.fsync(file.fileno())
            making.replace(database)
        return MlflowClient(uri)


def all_pages(page: Callable[[str | None], PagedList[Item]]) -> list[Item]:
    """What all pages of a search hold; ``page`` asks for the one of a token, None for the first."""
    items: list[Item] = []
    token = None
    while True:
        part = page(token)
        items += part
        token = part.token
        if not token:
            return items


@contextmanager
def unless_it_is_missing() -> Iterator[None]:
    """Leave the block quietly when what it asks for is not there."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in NOT_THERE:
            raise


@contextmanager
def unsynced() -> Iterator[None]:
    """SQLite files that are opened in here do not wait for the disk at each step, which takes it most of the time."""

    def hurry(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;")

    event.listen(Engine, "connect", hurry)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hurry)


@contextmanager
def unless_it_exists() -> Iterator[None]:
    """Leave the block quietly when what it creates is already there, perhaps by another training's hand."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
