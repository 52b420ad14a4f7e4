"""One HTML file that needs nothing else: the template of every page, and what stands in its sections."""

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup

from medgan.data.streams import write_text
from medgan.report.templates import template
from medgan.report.viewer import viewer_assets

PLAIN_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may do with a page: show it, and ask nobody for anything."""
LIVE_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The same with scripts that stand in the page itself."""


@dataclass(frozen=True)
class Table:
    """A table in text: the first ``texts`` columns are words, the others figures."""

    title: str
    columns: Sequence[str]
    texts: int
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture with its description; without ``src`` the reason why it is not shown."""

    src: str | None
    alt: str
    caption: str = ""
    aside: str = ""
    problem: str = ""
    link: str = ""
    """An address within the page, such as ``#case-1``."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in the order of the fields; what is empty is left out."""

    title: str
    anchor: str = ""
    warnings: Sequence[str] = ()
    note: str = ""
    lines: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    layout: Literal["plots", "cases", "single"] = "plots"
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    """Shown when they are asked for."""
    facts: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses by what they are of."""
    commands: Mapping[str, str] = field(default_factory=dict)
    """By what they are for."""
    markup: str = ""
    """:class:`Markup` that is put in as it is; other text is escaped."""
    live: bool = False
    """Whether the markup is the slice viewer."""
    legend: bool = False
    """Whether the plots have a true and a found outline."""


def render(
    path: Path, *, title: str, question: str, answers: Sequence[str], details: Sequence[str] = (),
    caveats: Sequence[str] = (), sections: Sequence[Section] = (), failures: Mapping[str, str] | None = None,
    phantom: bool = False, quick: bool = False, kind: str = "study",
) -> Path:  # fmt: skip
    """Write a page; its path. Names from files are text and no markup.

    The ``question`` and its ``answers`` come first. A ``phantom`` is named in title and heading, before the ``kind`` of
    page. Only a page with a section that is ``live`` may run scripts: those that stand in it.
    """
    scripted = any(section.live for section in sections)
    text = template("page.html").render(
        title=title, question=question, answers=answers, details=details, caveats=caveats, sections=sections,
        failures=failures or {}, phantom=phantom, quick=quick, kind=kind,
        policy=Markup(LIVE_POLICY if scripted else PLAIN_POLICY), assets=viewer_assets() if scripted else "",
    )  # fmt: skip
    return write_text(path, text)


def cells(title: str, table: pd.DataFrame, note: str = "") -> Table:
    """A table as a page shows it: text first, figures with four digits, empty where there is none."""
    texts = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    columns = [*texts, *(column for column in table if column not in texts)]
    rows = [[_cell(row[column]) for column in columns] for row in table.to_dict("records")]
    return Table(title, list(map(str, columns)), len(texts), rows, note)


def png(content: bytes) -> str:
    """A PNG file's content as the ``src`` of an image."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def kept_pictures(files: Iterable[tuple[Path, str, str]], most: int, most_bytes: int) -> Iterator[Plot]:
    """PNG files, each with what it shows and a caption: those that are there, as far as a page has room for them."""
    for path, alt, caption in files:
        if most > 0 and path.is_file() and (size := path.stat().st_size) <= most_bytes:
            most, most_bytes = most - 1, most_bytes - size
            yield Plot(png(path.read_bytes()), alt, caption)


def markdown(text: str) -> Markup:
    """Markdown as markup, its headings two levels lower; HTML in it is text, and links lead nowhere dangerous."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in tokens:
        if token.type.startswith("heading_"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
