"""How commands explain themselves: examples last, options in groups, short words for what an option takes."""

import inspect
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
from rich.markup import escape
from typer.models import OptionInfo

F = TypeVar("F", bound=Callable[..., Any])
EXAMPLES = "\nExamples:\n"
"""In a docstring, what comes before a command's examples, a line each."""
MANY_OPTIONS = 10
"""With more, help shows those of a group in a panel of their own."""
LONGEST_CHOICE = 10
"""Characters; longer choices are told in the sentence about the option."""
WORDS: dict[Any, str] = {Path: "PATH", str: "TEXT", int: "N", float: "X", bool: ""}


class Commands(typer.Typer):
    """Commands whose docstrings end with ``Examples:``, which their help ends with, too."""

    def command(self, name: str | None = None, **how: Any) -> Callable[[F], F]:
        """Add a command, as typer does."""

        def add(function: F) -> F:
            text, examples = documented(function)
            short = " ".join(text.partition("\n\n")[0].split())
            return typer.Typer.command(self, name, help=text, short_help=short, epilog=epilog(examples), **how)(
                function
            )

        return add


def documented(function: Callable[..., Any]) -> tuple[str, list[str]]:
    """What a function's docstring says, and its examples."""
    text, _, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    return text.strip(), [line.strip() for line in examples.splitlines() if line.strip()]


def epilog(examples: list[str]) -> str | None:
    """Examples as help ends with them."""
    return escape("\n".join(["Examples:", *(f"  {line}" for line in examples)])) if examples else None


def in_groups(parameters: list[tuple[inspect.Parameter, str]]) -> list[inspect.Parameter]:
    """A command's parameters as help shows them, of each with the title of its group; empty is none."""
    grouped = len(parameters) > MANY_OPTIONS
    return [_shown(parameter, title if grouped else "") for parameter, title in parameters]


def _shown(parameter: inspect.Parameter, title: str) -> inspect.Parameter:
    """An option with a short word for what it takes, in the panel of its group; arguments stay as they are."""
    kind, *how = get_args(parameter.annotation)
    if not how or not isinstance(how[0], OptionInfo):
        return parameter
    option = copy(how[0])
    if option.metavar is None:
        option.metavar, choices = _word(kind)
        option.help = f"{(option.help or '').removesuffix('.')}: {choices}." if choices else option.help
    option.rich_help_panel = option.rich_help_panel or title or None
    return parameter.replace(annotation=Annotated[kind, option])


def _word(kind: Any) -> tuple[str, str]:
    """What help calls the values of a type, and the choices that are too long for it."""
    kind = (
        next(each for each in (*get_args(kind), kind) if each is not NoneType) if NoneType in get_args(kind) else kind
    )
    if get_origin(kind) is Literal:
        *first, last = map(str, get_args(kind))
        joined = "|".join((*first, last))
        return (joined, "") if len(joined) <= LONGEST_CHOICE else ("WORD", f"{', '.join(first)} or {last}")
    if get_origin(kind) is list:
        return _word(get_args(kind)[0])
    return ("A B", "") if get_origin(kind) is tuple else (WORDS.get(kind, "TEXT"), "")
