import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def run():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield runpy.run_path(str(BENCH / "run.py"))


@pytest.fixture
def done(run, monkeypatch):
    """The commands that were run, none of which does anything; ``loop`` fails."""
    commands = []

    class Done:
        def __init__(self, line, **options):
            commands.append(line)
            self.stdout, self.returncode = f"section of {Path(line[1]).stem}", int(line[1].endswith("loop.py"))

    monkeypatch.setitem(run["main"].__globals__, "subprocess", SimpleNamespace(run=Done, PIPE=None))
    return commands


def test_every_part_is_a_script_with_a_main(run):
    for part in run["PARTS"]:
        assert "def main(argv: list[str] | None = None) -> int:" in (BENCH / f"{part}.py").read_text(), part


def test_parts_are_run_by_name_with_the_options_that_they_heed(run, done, tmp_path):
    given = ["--reference", str(tmp_path), "--before", str(tmp_path), "--quick"]
    for part in run["PARTS"]:
        run["main"]([part, *given])
        line = done.pop()
        assert line[:2] == [sys.executable, str(BENCH / f"{part}.py")]
        assert {word for word in line if word.startswith("--")} == {
            "--quick",
            *(f"--{option}" for option in run["TAKES"].get(part, ())),
        }


def test_an_unknown_part_is_wrong_use_and_runs_nothing(run, done, capsys):
    with pytest.raises(SystemExit) as end:
        run["main"](["step", "lopo"])
    assert end.value.code == 2
    assert not done
    assert "there is no part lopo; choose of step" in capsys.readouterr().err


def test_the_page_says_what_was_measured_on_what_by_which_command(run, done, tmp_path):
    page = tmp_path / "page.md"
    assert run["main"](["step", "conversion", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Benchmarks\n\n<!-- Written by `make bench`")
    for line in (
        "make bench PARTS='step conversion'",
        "| cores |",
        "| torch |",
        "| medgan | 0.",
        ", commit ",
        "| date |",
        "section of conversion",
    ):
        assert line in text
    assert text.index("## A step of training") < text.index("## Conversion") < text.index("## How long it took")


def test_a_part_that_failed_is_told_by_the_exit_and_the_shipped_page_stays(run, done, capsys):
    page = BENCH.parent / "docs" / "benchmarks.md"
    before = page.read_bytes() if page.exists() else None
    assert run["main"]([]) == 1
    assert len(done) == len(run["PARTS"])
    assert "loop: 0 s, failed" in capsys.readouterr().err
    assert (page.read_bytes() if page.exists() else None) == before


def test_targets_are_reached_or_missed_by_a_share(run):
    judged = runpy.run_path(str(BENCH / "page.py"))["judged"]
    assert judged(3.3, 3.2) == "at least 3.2: reached"
    assert judged(1.6, 3.2) == "at least 3.2: missed by 50%"
    assert judged(7.5, 6, most=True) == "at most 6: missed by 25%"


def test_a_table_keeps_its_columns_whatever_stands_in_a_cell(run):
    table = runpy.run_path(str(BENCH / "page.py"))["table"]
    assert table(("a", "b"), [(1, "x|y")]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
