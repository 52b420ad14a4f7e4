"""Orders of studies as the golden ones give them, and cohorts that a test may change."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from golden.studies import STUDIES
from medgan.studies.base import StudyKind, StudyOrder


@pytest.fixture(scope="session")
def ordered(golden) -> Callable[..., StudyOrder]:
    """``ordered("arms", tmp_path, "subsets=2", seeds=(0, 1))``: what is not said is as in the golden study."""

    def make(kind, out, *overrides, **changes):
        words = list(STUDIES[kind].command(golden.inputs))

        def after(option):
            return tuple(value for word, value in pairwise(words) if word == option)

        own = {
            "pipeline": STUDIES[kind].pipeline, "name": "study", "seeds": (0,), "devices": ("cpu",), "out": out,
            "data": next(iter(after("--data")), None), "config": next(iter(after("--config")), None),
            "models": after("--model"),
            "overrides": (*(word for word in words if isinstance(word, str) and "=" in word), *overrides),
        }  # fmt: skip
        return StudyOrder(kind, **own | changes)

    return make


@pytest.fixture
def settled(ordered, tmp_path) -> Callable[..., StudyKind]:
    """Studies that are not begun, each in a folder of its own: ``settled(Arms, "subsets=2", seeds=(0, 1))``."""

    def make(kind, *overrides, **changes):
        out = tmp_path / f"study{len(list(tmp_path.glob('study*')))}"
        out.mkdir()
        name = kind.__module__.rpartition(".")[2].replace("_", "-")
        return kind(ordered(name, out, *overrides, **changes), Console(quiet=True))

    return make


@pytest.fixture
def own(golden, tmp_path) -> Callable[..., Path]:
    """A copy of a golden cohort that a test may change: ``own("contrast")`` gives its table."""

    def copy(name):
        table = getattr(golden.inputs, name)
        return Path(shutil.copytree(table.parent, tmp_path / name)) / table.name

    return copy
