"""MLflow's server: in a thread, one for all tests of a process since its stores are global variables, or by itself."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from mlflow import server as mlflow_server_module

from browsing import required

BIN = "usr/lib/postgresql/*/bin"
PATIENCE_S = 120


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
        patch.setenv(mlflow_server_module.BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{folder}/server.db")
        patch.setenv(mlflow_server_module.ARTIFACTS_DESTINATION_ENV_VAR, f"{folder}/artifacts")
        patch.setenv(mlflow_server_module.ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
        patch.setenv(mlflow_server_module.SERVE_ARTIFACTS_ENV_VAR, "true")
        # A server in a process of its own may say so; here every client would take its stores for theirs.
        patch.setattr("mlflow.tracking._tracking_service.utils.set_tracking_uri", lambda uri: None)
        patch.setattr("mlflow.tracking._model_registry.utils.set_registry_uri", lambda uri: None)
        server = Server()
        server.start()
        yield server
        server.stop()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def as_postgres(folder, *command):
    """A command of PostgreSQL, which refuses root: as the user of Debian's package, to whom the folder is given."""
    if os.geteuid():
        return list(command)
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return [required("runuser", "sbin"), "-u", "postgres", "--", *command]


def wait_until(answers, process):
    deadline = time.monotonic() + PATIENCE_S
    while not answers():
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def postgres():
    """The address of an empty database; its files last as long as it does."""
    initdb, program = required("initdb", BIN), required("postgres", BIN)
    folder, port = Path(tempfile.mkdtemp(prefix="medgan-postgres-")), free_port()
    try:
        made = as_postgres(folder, initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "mlflow", "--no-sync")
        subprocess.run(made, check=True, capture_output=True, cwd=folder)
        options = ["-D", f"{folder}/data", "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        process = subprocess.Popen(as_postgres(folder, program, *options), cwd=folder, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(port), process)
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(folder, backend):
    """The address of ``mlflow server``, which keeps files in a folder."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
