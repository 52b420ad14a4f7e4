"""What the files around the code promise."""

import json
import re
import shlex
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEVELOPMENT = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
REQUIREMENTS = [Requirement(line) for line in PROJECT["dependencies"]] + DEVELOPMENT


def rules(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def instructions():
    """The Dockerfile's instructions as (keyword, rest), continued lines joined."""
    lines = "\n".join(rules("Dockerfile")).replace("\\\n", "").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines]


def arguments(keyword):
    return [rest for instruction, rest in instructions() if instruction == keyword]


def test_every_dependency_is_pinned_to_a_version_it_allows_and_constraints_are_exact_and_sorted():
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, rules("constraints.txt"))}
    for requirement in REQUIREMENTS:
        (pinned,) = pins[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(pinned.version), requirement
    lines = rules("constraints.txt")
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines, key=str.lower)


def test_the_image_runs_the_tested_versions_on_a_cuda_runtime_that_can_be_replaced_and_not_as_root():
    assert re.match("BASE=nvidia/cuda:.*-runtime-", arguments("ARG")[0])
    assert arguments("FROM") == ["${BASE}"]
    assert json.loads(arguments("ENTRYPOINT")[0]) == ["medgan"]
    assert arguments("USER")[-1] not in ("root", "0")
    order = [instruction for instruction, _ in instructions()]
    assert "RUN" not in order[order.index("USER") :]
    (install,) = (command for command in arguments("RUN") if "pip install" in command)
    assert '-c /src/constraints.txt "/src${EXTRA:+[$EXTRA]}"' in install


def test_the_image_holds_what_it_copies_and_nothing_else():
    everything, *exceptions = rules(".dockerignore")
    assert everything == "*"
    let_in = {rule.removeprefix("!") for rule in exceptions if rule.startswith("!")}
    copied = {source for command in arguments("COPY") for source in shlex.split(command)[:-1]}
    assert copied == let_in
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_hooks_use_the_environments_tools_and_no_network():
    config = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "mypy", "lint-imports"}
    assert {"ruff", "mypy", "import-linter", "pre-commit"} <= {requirement.name for requirement in DEVELOPMENT}


def test_the_citation_says_what_the_package_says():
    cited = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= cited.keys()
    assert [cited[key] for key in ("title", "version", "license")] == [
        PROJECT[key] for key in ("name", "version", "license")
    ]
    assert cited["authors"] == PROJECT["authors"]
    for work in cited["references"]:
        assert {"type", "title", "authors", "year", "doi"} <= work.keys()
        assert re.fullmatch(r"10\.\d{4,}/\S+", work["doi"])


def test_the_classifiers_agree_with_the_rest():
    named = PROJECT["classifiers"]
    assert named == sorted(set(named))
    assert f"Programming Language :: Python :: {PROJECT['requires-python'].removeprefix('>=')}" in named
    assert not any(name.startswith("License ::") for name in named), "the licence is an SPDX expression"
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
