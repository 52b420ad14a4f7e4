"""What was found out about a file, kept for as long as the file stays as it is: the same path, size and times."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from medgan.data.streams import replacing
from medgan.errors import DataError

SETTLED_NS = 2_000_000_000
"""A file that was written less than so long ago could be written again within one tick of its clock: not remembered."""

_known: dict[str, str] = {}
"""By what was asked and the state of the file, in this process."""


def default_folder() -> Path:
    """``MEDGAN_CACHE``, else ``medgan`` in the user's cache folder."""
    if folder := os.environ.get("MEDGAN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medgan"


def remembered(question: str, path: Path, find_out: Callable[[], str], *, on_disk: bool = False) -> str:
    """The answer that ``find_out`` gives for a file or folder, from memory where that has not changed.

    Args:
        question: What is asked, with a number that is raised when answers change.
        path: A file, or a folder whose own files count; a series in a folder is as its folder.
        find_out: Gives the answer, one line; what it raises is not remembered.
        on_disk: Whether later processes shall know it too, from the user's cache folder.
    """
    state = _state(path)
    if state is None:
        return find_out()
    key = hashlib.sha256(
        "\n".join([question, str(path.absolute()), state]).encode(errors="surrogateescape")
    ).hexdigest()
    entry = default_folder() / "remembered" / key if on_disk else None
    answer = _known.get(key) or (_read(entry) if entry else None)
    if answer is None:
        answer = find_out()
        if entry:
            with suppress(DataError), replacing(entry) as stream:  # without room for it, it is found out again
                stream.write(f"{answer}\n{_check(entry, answer)}\n".encode())
    _known[key] = answer
    return answer


def _state(path: Path) -> str | None:
    """Sizes and times of a file, or of the files in a folder; None where these cannot be relied on."""
    try:
        place = path if path.exists() else path.parent
        states = [(file.name, file.stat()) for file in (sorted(place.iterdir()) if place.is_dir() else [place])]
    except OSError:
        return None
    now = time.time_ns()
    if any(abs(now - when) < SETTLED_NS for _, each in states for when in (each.st_mtime_ns, each.st_ctime_ns)):
        return None
    return "\n".join(f"{name} {each.st_size} {each.st_mtime_ns} {each.st_ctime_ns}" for name, each in states)


def _read(entry: Path) -> str | None:
    try:
        answer, check = entry.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return answer if check == _check(entry, answer) else None


def _check(entry: Path, answer: str) -> str:
    """Tells a damaged entry."""
    return hashlib.sha256(f"{entry.name} {answer}".encode()).hexdigest()[:16]
