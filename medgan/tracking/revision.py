"""Which code a run was made with."""

import importlib.metadata
import subprocess
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_revision(folder: Path = PACKAGE) -> str:
    """The commit of the checkout that ``folder`` belongs to, ``-dirty`` with changes; a release's version elsewhere."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An environment may lie inside of somebody's repository: the package itself must be under version control.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return f"medgan {importlib.metadata.version('medgan')}"
