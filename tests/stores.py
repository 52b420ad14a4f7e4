"""A real MLflow server on loopback, one for all tests of a process: it keeps its stores in global variables."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from mlflow import server as mlflow_server


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


@contextmanager
def serving(empty_database: Path, folder: Path) -> Iterator[Server]:
    """A server with a database and artifacts of its own in a folder."""
    shutil.copy(empty_database, folder / "server.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
        patch.setenv(mlflow_server.BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder}/server.db")
        patch.setenv(mlflow_server.ARTIFACTS_DESTINATION_ENV_VAR, f"{folder}/artifacts")
        patch.setenv(mlflow_server.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        patch.setenv(mlflow_server.SERVE_ARTIFACTS_ENV_VAR, "true")
        # A server in a process of its own may say so; here every client would register its models with it.
        patch.setattr("mlflow.tracking._model_registry.utils.set_registry_uri", lambda uri: None)
        server = Server()
        server.start()
        yield server
        server.stop()
