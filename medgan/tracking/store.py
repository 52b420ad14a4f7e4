"""A store in which runs are recorded: whether it can be used, and its tables made."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from medgan.errors import ConfigError
from medgan.tracking.address import check_database, database_of, first_line, resolve_uri, without_password

STORE_ERRORS = (MlflowException, OSError, sqlite3.Error, SQLAlchemyError)
"""What a store that cannot be used, or is lost, may raise."""
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""How MLflow says that there is no such run, model, version or alias."""

Item = TypeVar("Item")


@contextmanager
def opened(uri: str, *, create: bool = True) -> Iterator[MlflowClient]:
    """A client of a store that can be used; a database that is not there yet is made, or refused.

    Raises:
        ConfigError: In here MLflow, the database or its driver raised something; with advice.
    """
    if not create:
        check_database(uri)
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


def check_store(flag: str | None, recorded: object = None) -> None:
    """Refuse a store that cannot be used, before anything is computed that could not be recorded.

    Raises:
        ConfigError: What :func:`resolve_uri` or :func:`opened` refuses.
    """
    with opened(resolve_uri(flag, recorded)):
        pass


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
