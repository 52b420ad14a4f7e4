"""A store of each kind: a SQLite file, and a real MLflow server on loopback."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from mlflow import server as mlflow_server

from medgan.tracking import check_store


class Server:
    """MLflow's server in a thread; it keeps its address and its runs when it is stopped and started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = uvicorn.Config("mlflow.server.fastapi_app:app", port=self.port, log_level="critical")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a SQLite file, shared because MLflow takes seconds to lay out its tables."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('database')}/a folder/runs.db"
    check_store(uri)
    return uri


@pytest.fixture(scope="session")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(database.removeprefix("sqlite:///"), folder / "server.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        patch.setenv(mlflow_server.BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder}/server.db")
        patch.setenv(mlflow_server.ARTIFACTS_DESTINATION_ENV_VAR, f"{folder}/artifacts")
        patch.setenv(mlflow_server.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        patch.setenv(mlflow_server.SERVE_ARTIFACTS_ENV_VAR, "true")
        server = Server()
        server.start()
        yield server
        server.stop()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data folder that is empty, and a current folder in which nothing may appear."""
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MEDGAN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest) -> str:
    """The URI of a store; a claim about runs holds for both kinds."""
    return request.getfixturevalue("database") if request.param == "sqlite" else request.getfixturevalue("server").uri
