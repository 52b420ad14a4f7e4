"""Every `medgan` command in README and docs is one that the program understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from medgan.cli import app
from medgan.commands.early import check_use
from medgan.errors import MedganError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *(ROOT / "docs").glob("**/*.md")])
RECORDS = ROOT / "docs" / "adr"
"""What was decided once; its commands are of its time."""


def commands(page: Path) -> list[str]:
    """The command lines of a page's code blocks, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    return re.findall(r"^(?:\t?\$\(BIN\)/|\.venv/bin/)?(medgan .+)$", text, re.MULTILINE)


def mentioned(page: Path) -> list[str]:
    """Commands within sentences, often without their arguments."""
    return [" ".join(text.split()) for text in re.findall(r"`(medgan [^`]+)`", page.read_text(encoding="utf-8"))]


def words(line: str) -> list[str]:
    """A line as its shell passes it on: what is optional is given, and of several choices the first."""
    line = re.sub(r"\$\(\w+\)", "X", line)
    line = re.sub(r"\[([^\[\]=]*)\]", r"\1", line.replace("[KEY=VALUE ...]", ""))
    return [word.partition("|")[0] for word in shlex.split(line.replace("…", ""), comments=True)[1:] if word != "..."]


def parsed(arguments: list[str]) -> tuple[str, dict]:
    """The command's name and its parameters."""
    command, context, name = typer.main.get_command(app), None, ""
    while hasattr(command, "commands"):
        if not arguments or arguments[0].startswith("-"):
            command.make_context(name, arguments, parent=context)
        assert arguments[0] in command.commands, f"there is no command {name} {arguments[0]}"
        name, command, arguments = f"{name} {arguments[0]}".strip(), command.commands[arguments[0]], arguments[1:]
    return name, command.make_context(name, arguments).params


EACH = [(page, line) for page in PAGES if RECORDS not in page.parents for line in commands(page)]


@pytest.mark.parametrize(
    ("page", "line"), EACH, ids=lambda value: value.name if isinstance(value, Path) else value[:60]
)
def test_a_command_of_the_docs_is_understood(page, line):
    name, given = parsed(words(line))
    settings = {"segment-train": "segmentation", "benefit": str(given.get("study"))}.get(name, given.get("pipeline"))
    if settings == "lesion-prevalence":
        settings = given["pipeline"]
    values = given.get("overrides") or given.get("axes") or ()
    check_use(pipeline=given.get("pipeline"), settings=settings, overrides=values, several=name == "sweep")


def test_commands_within_sentences_exist_and_have_the_options_named():
    unknown = []
    for page in PAGES:
        for line in mentioned(page) if RECORDS not in page.parents else ():
            command, rest = typer.main.get_command(app), words(line)
            while rest and hasattr(command, "commands") and rest[0] in command.commands:
                command, rest = command.commands[rest[0]], rest[1:]
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            options = {word.partition("=")[0] for word in rest if word.startswith("--")}
            if (hasattr(command, "commands") and rest and rest[0].islower()) or options - known - {"--help"}:
                unknown.append(f"{page.name}: {line}")
    assert not unknown


@pytest.mark.parametrize("line", ["medgan convert A B --modle M", "medgan evaluate", "medgan nonsense"])
def test_a_command_that_does_not_parse_is_noticed(line):
    with pytest.raises((AssertionError, typer._click.exceptions.UsageError)):
        parsed(words(line))


def test_a_setting_that_does_not_exist_is_noticed():
    with pytest.raises(MedganError, match=r"pix2pix\.l3"):
        check_use(pipeline="mr_to_ct", settings="mr_to_ct", overrides=["pix2pix.l3=1,2"], several=True)
