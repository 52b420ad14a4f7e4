"""The house does not grow back unseen: lines of each package, files and public names against ``.ci/lines.toml``."""

import ast
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUDGET = tomllib.loads((ROOT / ".ci" / "lines.toml").read_text(encoding="utf-8"))
LONGEST_FUNCTION = 60
HELP = "say less, or raise the budget in .ci/lines.toml in a commit of its own with the reason"


def modules():
    return [path for top in ("medgan", "pipelines") for path in sorted((ROOT / top).rglob("*.py"))]


def package(path):
    """``medgan/data`` of a module in a package, ``medgan`` of one beside the packages."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules()}


def over(budget, counts):
    return {name: f"{count} of {budget[name]}" for name, count in counts.items() if count > budget[name]}


def test_every_package_is_within_its_budget_of_lines():
    counts = Counter()
    for path in modules():
        counts[package(path)] += lines(path)
    assert counts.keys() == BUDGET["lines"].keys(), "every package has a budget, and every budget a package"
    assert not over(BUDGET["lines"], counts), HELP


def test_tests_files_and_public_names_are_within_theirs(trees):
    kinds = ast.FunctionDef | ast.ClassDef
    public = sum(isinstance(node, kinds) and node.name[0] != "_" for tree in trees.values() for node in tree.body)
    tests = sum(lines(path) for path in (ROOT / "tests").rglob("*.py"))
    assert not over(BUDGET["whole"], {"tests": tests, "files": len(trees), "public": public}), HELP


def test_a_function_fits_on_a_screen(trees):
    functions = [
        (path, node) for path, tree in trees.items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    long = {f"{path.relative_to(ROOT)}:{node.name}": node.end_lineno - node.lineno + 1 for path, node in functions}
    assert not {name: count for name, count in long.items() if count > LONGEST_FUNCTION}


def test_nothing_that_git_ignores_is_tracked():
    """An output committed by accident, such as a page that a build wrote, fails the site's next strict build."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert not subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
