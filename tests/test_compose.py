"""What can be said of ``compose.yaml`` without Docker: it is whole, pinned, closed to others, and its flags exist."""

import re
from pathlib import Path

import pytest
import typer.main
from mlflow.cli import cli as mlflow
from ruamel.yaml import YAML

from medgan.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def compose():
    return YAML(typ="safe").load(ROOT / "compose.yaml")


def options(command, *words):
    """The long options of a click command."""
    for word in words:
        command = command.commands[word]
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def test_services_name_each_other_and_volumes_that_exist_and_images_of_one_version(compose):
    services = compose["services"]
    assert services.keys() == {"postgres", "mlflow", "train"}
    for service in services.values():
        assert re.fullmatch(r"[a-z-]+:\d+\.\d+[\w.-]*", service["image"])
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in services[needed]
        for volume in service["volumes"]:
            source, target = volume.rpartition("/")[0] and volume.split(":/", 1)
            assert target
            assert source in compose["volumes"] or source.startswith("${")
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    built = [service["build"] for service in services.values() if "build" in service]
    assert built
    assert all(build["context"] == "." and build.get("args", {}).keys() <= arguments for build in built)


def test_every_flag_of_the_commands_exists(compose):
    server, train = compose["services"]["mlflow"], compose["services"]["train"]
    flags = [word.partition("=")[0] for word in server["command"]]
    assert set(flags) <= options(mlflow, *server["entrypoint"][1:])
    flags = [word for word in train["command"] if word.startswith("--")]
    assert set(flags) <= options(typer.main.get_command(app), *train["entrypoint"][1:])
    (backend,) = (word for word in server["command"] if word.startswith("--backend-store-uri"))
    assert compose["services"]["postgres"]["environment"]["POSTGRES_DB"] == backend.rpartition("/")[2]
    assert train["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://") in str(server["command"])


def test_nothing_is_open_to_other_machines_and_no_password_is_written(compose):
    ports = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert ports == {"postgres": [], "mlflow": ["127.0.0.1:5000:5000"], "train": []}
    text = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"PASSWORD[:=]?.?.?", text.replace("PASSWORD}", ""))) == {
        "PASSWORD=$(",
        "PASSWORD: $",
        "PASSWORD:?w",
    }
