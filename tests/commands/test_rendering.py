import io

import pytest
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from medgan.commands.rendering import Printable

NAME = "evil\x1b[31mred\x9b\ud8ff.nii.gz"


@pytest.fixture
def console():
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.push_render_hook(Printable(console))
    return console


def table():
    table = Table("study", "what happened")
    table.add_row(Text(NAME), Text("failed", style="red"))
    return table


@pytest.mark.parametrize("what", [NAME, Text(NAME), table()], ids=["string", "text", "table"])
def test_no_name_steers_the_terminal_and_colours_stay(console, what):
    console.print(what, "\n", Text("ours", style="red"), highlight=False)
    said = console.file.getvalue()
    assert r"evil\x1b[31mred\x9b\ud8ff.nii.gz" in said
    assert "\x1b[31mours" in said
    assert "\x1b[31mred" not in said


def test_a_line_that_is_put_out_as_it_is_is_escaped_too(console):
    console.out(NAME, highlight=False)
    assert console.file.getvalue() == "evil\\x1b[31mred\\x9b\\ud8ff.nii.gz\n"


def test_a_progress_bar_still_moves_the_cursor(console):
    with Progress(console=console) as bar:
        bar.advance(bar.add_task("converting", total=1))
        bar.refresh()
        console.print(NAME)
    assert "\x1b[1A" in console.file.getvalue() or "\x1b[2K" in console.file.getvalue()
    assert "\x1b[31mred" not in console.file.getvalue()
