"""Which pipelines and studies exist, found without importing them: ``medgan pipelines`` answers at once."""

import ast
import importlib
import pkgutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.errors import ConfigError
from medgan.text import did_you_mean

if TYPE_CHECKING:
    from medgan.pipeline import Pipeline
    from medgan.studies.base import StudyKind
    from medgan.translators.pipeline import TranslationPipeline

PIPELINES, STUDIES = "medgan.pipelines", "medgan.studies"


def summaries() -> dict[str, str]:
    """The first line of each pipeline's docstring, by name."""
    return {name: _summary(tree) for name, tree in _trees(PIPELINES).items()}


def names() -> list[str]:
    """The pipelines there are."""
    return list(summaries())


def check(name: str) -> None:
    """Refuse a pipeline that does not exist.

    Raises:
        ConfigError: The nearest name is suggested.
    """
    _refuse_unknown("pipeline", name, names(), "see `medgan pipelines`")


def load(name: str) -> "type[Pipeline[Any]]":
    """The pipeline called ``name``: the one class of its module that is a pipeline."""
    check(name)
    from medgan.pipeline import Pipeline

    module = importlib.import_module(f"{PIPELINES}.{name}")
    own = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    (pipeline,) = [each for each in own if issubclass(each, Pipeline)]
    return pipeline


def phantom(name: str) -> str | None:
    """The built-in subjects of the pipeline called ``name``, as its file says, read and not imported."""
    for node in ast.walk(_trees(PIPELINES)[name]):
        if isinstance(node, ast.ClassDef) and isinstance(kind := _constant(node, "phantom"), ast.Constant):
            return str(kind.value)
    return None


def load_translation(name: str) -> "type[TranslationPipeline[Any]]":
    """The pipeline called ``name``, for what only translations can do.

    Raises:
        ConfigError: It does something else.
    """
    from medgan.translators.pipeline import TranslationPipeline

    pipeline = load(name)
    if not issubclass(pipeline, TranslationPipeline):
        others = [other for other in names() if issubclass(load(other), TranslationPipeline)]
        raise ConfigError(f"pipeline '{name}' translates no images; choose one of {', '.join(others)}.")
    return pipeline


def studies() -> dict[str, tuple[str, frozenset[str]]]:
    """By name, the first line of each study's docstring and the options that it heeds."""
    lines = {}
    for module, tree in _trees(STUDIES).items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == _class_of(module) and node.bases:
                lines[module.replace("_", "-")] = _summary(tree), _heeds(node)
    return lines


def check_study(name: str) -> None:
    """Refuse a study that does not exist.

    Raises:
        ConfigError: The nearest name is suggested.
    """
    _refuse_unknown("study", name, list(studies()), "see `medgan studies`")


def load_study(name: str) -> "type[StudyKind]":
    """The study called ``name``: the class of its module that has its name."""
    module = name.replace("-", "_")
    kind: type[StudyKind] = getattr(importlib.import_module(f"{STUDIES}.{module}"), _class_of(module))
    return kind


def _trees(package: str) -> dict[str, ast.Module]:
    """The modules of a package, read and not imported."""
    folders = map(Path, importlib.import_module(package).__path__)
    files = {name: folder / f"{name}.py" for folder in folders for _, name, _ in pkgutil.iter_modules([str(folder)])}
    return {name: _tree(files[name], files[name].stat().st_mtime_ns) for name in sorted(files)}


@lru_cache
def _tree(path: Path, changed_ns: int) -> ast.Module:  # noqa: ARG001 - a file that has changed is read anew
    return ast.parse(path.read_text(encoding="utf-8"))


def _summary(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _heeds(study: ast.ClassDef) -> frozenset[str]:
    value = _constant(study, "heeds")
    return frozenset(ast.literal_eval(value) if value else ())


def _constant(kind: ast.ClassDef, name: str) -> ast.expr | None:
    """What a class sets an attribute to, alone or with others: ``name = VALUE`` or ``other, name = OTHER, VALUE``."""
    for line in kind.body:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value:
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            pairs = [(target, line.value)]
            if isinstance(target, ast.Tuple) and isinstance(line.value, ast.Tuple):
                pairs = list(zip(target.elts, line.value.elts, strict=True))
            for each, value in pairs:
                if ast.unparse(each) == name:
                    return value
    return None


def _class_of(module: str) -> str:
    return module.title().replace("_", "")


def _refuse_unknown(what: str, name: str, known: list[str], where: str) -> None:
    if name not in known:
        raise ConfigError(f"there is no {what} '{name}'{did_you_mean(name, known)}; {where}.")
