"""What README and docs say: commands parse, links resolve, pages and sentences are short, records are listed."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from medgan.cli import app
from medgan.commands.early import check_use, settings_of
from medgan.errors import MedganError

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *(ROOT / "docs").glob("**/*.md")])
RECORDS = ROOT / "docs" / "adr"
"""What was decided once; its commands are of its time."""
RESULTS = ROOT / "docs" / "results"
FOR_USERS = [
    ROOT / "README.md",
    *(page for page in PAGES if page.parent == ROOT / "docs" and page.name != "odd-inputs.md"),
    *(page for page in PAGES if page.parent == RESULTS),
]
"""Pages of plain sentences; odd-inputs.md is a table that a test writes."""


def commands(page: Path) -> list[str]:
    """The command lines of a page's code blocks, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        text = "\n".join(re.findall(r"```.*?```", text, re.DOTALL))
    text = re.sub(r"\\\n\s*", " ", text)
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
    pipeline, kind = given.get("pipeline"), {"sweep": "sweep"}.get(name, given.get("kind") or given.get("study"))
    settings = "segmentation" if name == "segment-train" else settings_of(kind, pipeline) if kind else pipeline
    check_use(pipeline=pipeline, settings=settings, overrides=given.get("overrides") or (), several=kind == "sweep")


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


def test_a_command_that_does_not_parse_and_a_setting_that_does_not_exist_are_noticed():
    for line in ("medgan convert A B --modle M", "medgan evaluate", "medgan nonsense"):
        with pytest.raises((AssertionError, typer._click.exceptions.UsageError)):
            parsed(words(line))
    with pytest.raises(MedganError, match=r"pix2pix\.l3"):
        check_use(pipeline="mr_to_ct", settings="mr_to_ct", overrides=["pix2pix.l3=1,2"], several=True)


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead, web addresses left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.stem)
def test_every_local_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_record_is_listed_once_with_its_status():
    index = (RECORDS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[.+\]\((\d{4}-[\w-]+\.md)\) \| (.+) \|$", index, re.MULTILINE)
    files = sorted(path.name for path in RECORDS.glob("0*.md"))
    assert sorted(name for _, name, _ in rows) == files, "docs/adr/README.md lists each record in one row"
    assert all(int(name[:4]) == int(number) for number, name, _ in rows)
    for _, name, status in rows:
        said = r"^\*\*Status\*\*: (?:superseded|accepted; amended) by (.+)\.$"
        on_top = " ".join(re.findall(said, (RECORDS / name).read_text(), re.MULTILINE))
        later, there = (re.findall(r"\(([\w-]+\.md)\)", text) for text in (status, on_top))
        assert later == there, f"{name} says on top what the index says"
        assert status.startswith(("superseded by ", "accepted; amended by ") if later else "accepted")


def sentences(page: Path) -> list[str]:
    """The sentences of a page's paragraphs and list items: no code, tables, pictures, addresses or intervals."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)|^[|#].*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", re.sub(r"`[^`]+`", "code", text))
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n", re.sub(r"\[[-+.\d, ]+\]", "", text), flags=re.MULTILINE)
    parts = (re.split(r"(?<=[.!?])[*)]*\s+", paragraph.strip()) for paragraph in re.split(r"\n\s*\n", text))
    return [" ".join(sentence.split()) for part in parts for sentence in part if sentence]


def length(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_sentences_for_users_have_25_words_at_most_and_name_no_record(page):
    assert not [each for each in sentences(page) if length(each) > 25]
    assert not re.findall(r"\b(?:ADR|[Rr]ecords?) \d+", page.read_text(encoding="utf-8"))


def test_the_readme_the_results_and_the_glossary_are_short_and_every_result_quotes_a_command_and_its_limits():
    lines = {page: len(page.read_text(encoding="utf-8").splitlines()) for page in FOR_USERS}
    assert lines[ROOT / "README.md"] <= 90
    words = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Words\n")[2].partition("\n## ")[0]
    assert 0 < words.count("\n| ") - 1 <= 40
    assert not {page.name: count for page, count in lines.items() if page.parent == RESULTS and count > 60}
    for page in RESULTS.glob("[!R]*.md"):
        text = page.read_text(encoding="utf-8")
        assert re.search(r"^## Command\n\n```bash\n", text, re.MULTILINE), page.name
        assert re.search(r"^## Limits$", text, re.MULTILINE), page.name
        assert f"]({page.name})" in (RESULTS / "README.md").read_text(encoding="utf-8"), page.name


def test_a_sentence_of_26_words_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        f"# Head\n\n{'word ' * 25}`code here`. Short [1.0, 2.0].\n\n| {'cell ' * 30}|\n- an item\n- another\n"
    )
    assert [length(each) for each in sentences(page)] == [26, 1, 2, 1]
