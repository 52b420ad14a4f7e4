"""The site of docs/: Sphinx reads the Markdown pages, and the reference comes from the code."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

# Autodoc imports modules as type checkers see them, in which MLflow's FastAPI cannot be loaded: load it before.
import mlflow.artifacts  # noqa: E402, F401
import typer  # noqa: E402
from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from typer.cli import get_docs_for_click  # noqa: E402

from medgan import catalog  # noqa: E402
from medgan.cli import app  # noqa: E402

project, author, copyright = "medgan", "The medgan developers", "The medgan developers, Apache-2.0"  # noqa: A001
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["README.md", "_build"]
html_theme, html_title = "furo", "medgan"
html_show_sphinx = False
templates_path: list[str] = []
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"
"""A test runs the notebook."""
autodoc_member_order, autodoc_typehints = "bysource", "description"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
copybutton_exclude = ".linenos, .gp"
suppress_warnings = ["myst.header"]


INDEXES = ("adr/README", "lab/README", "results/README")
"""Pages with a table of their folder's pages, which stand below them."""


def setup(site: Sphinx) -> None:
    """Write the pages that come from the code before the others are read, and mend what Markdown says otherwise."""
    site.connect("builder-inited", lambda _: write_reference(Path(__file__).parent / "reference"))
    site.connect("source-read", as_on_the_site)
    site.connect("autodoc-process-docstring", stars_are_stars)
    site.add_lexer("mermaid", TextLexer)


def as_on_the_site(_: Sphinx, page: str, source: list[str]) -> None:
    """Pages below their index in the navigation, CONTRIBUTING.md as a page, and links to it."""
    text = source[0]
    if page == "contributing":
        text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")
        text = re.sub(r"\]\((?=medgan/|pipelines/)", "](../", text)
    if page in INDEXES:
        text += "\n```{toctree}\n:hidden:\n:glob:\n\n[a-z0-9]*\n```\n"
    source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./CONTRIBUTING\.md", r"](\1contributing.md", text)


def stars_are_stars(_: Sphinx, *described: Any) -> None:
    """``(B, C, *spatial)`` emphasises nothing."""
    lines = described[-1]
    lines[:] = [re.sub(r"(?<![*`])\*(?=\w)", r"\\*", line) for line in lines]


def write_reference(folder: Path) -> None:
    """``commands.md`` from every command's help, and ``settings.md`` from every pipeline's schema."""
    program = typer.main.get_command(app)
    context = program.make_context("medgan", ["pipelines"], resilient_parsing=True)
    commands = get_docs_for_click(obj=program, ctx=context, name="medgan", title="Commands")
    commands = re.sub(
        r"^Examples:\n((?:  medgan .+\n)+)", r"**Examples**:\n\n```console\n\1```\n", commands, flags=re.M
    )
    commands = re.sub(r"^  (?=medgan )", "$ ", commands, flags=re.M).replace("\\[", "[")
    (folder / "commands.md").write_text(commands, encoding="utf-8")
    lines = ["# Settings", "", "What a pipeline can be told by `KEY=VALUE` or `--config`, with the built-in defaults."]
    lines += ["`medgan config show PIPELINE` prints what a training on your machine takes.", ""]
    for name, summary in catalog.summaries().items():
        schema = catalog.load(name).settings.model_json_schema()
        lines += [f"## {name}", "", summary, "", "| key | default | |", "|---|---|---|"]
        lines += [f"| `{key}` | {default} | {text} |" for key, default, text in settings(schema, schema["$defs"])]
        lines.append("")
    (folder / "settings.md").write_text("\n".join(lines), encoding="utf-8")


def settings(schema: Mapping[str, Any], kinds: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str, str]]:
    """The keys of a JSON schema, flattened, with their defaults and descriptions."""
    for name, field in schema.get("properties", {}).items():
        kind = kinds.get(field.get("$ref", "").rpartition("/")[2], field)
        if "properties" in kind:
            yield from settings(kind, kinds, f"{before}{name}.")
        else:
            text = " ".join(str(field.get("description", "")).split()).replace("|", "\\|").replace("``", "`")
            default = field.get("default")
            yield f"{before}{name}", "" if default is None else f"`{default}`".replace("|", "\\|"), text
