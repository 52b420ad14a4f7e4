"""Unfinished files and folders carry their writer's mark, so that what a killed process left behind can be removed.

The mark is of the machine, its start and its set of process numbers, and of the process. Whoever next writes into the
folder removes what is marked by a process that is no more. What another machine's process left, or an older medgan
without a mark, is removed after a day without a change: nobody can ask whether its writer lives.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PART, FOLDER = ".part", ".unfinished-"
MARKED = re.compile(r"\.(?:unfinished-|.+\.)([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{8}(?:\.part(?:\.tfm)?)?", re.DOTALL)
UNMARKED = re.compile(r"\.unfinished-\w+|\..+\.[0-9a-f]{8}\.part", re.DOTALL)
"""What an older medgan called them."""
OLD_S = 24 * 3600.0


def unfinished(path: Path) -> Path:
    """A name beside ``path``, short and of its own, for the file that shall take its place."""
    sweep_once(path.parent, os.getpid())
    return path.with_name(f".{path.name[:40]}.{_mark()}{PART}")


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in ``parent`` for files that shall be moved out of it; it is removed in the end."""
    sweep_once(parent, os.getpid())
    folder = parent / f"{FOLDER}{_mark()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder; nothing of living ones, nothing of others."""
    try:
        hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    except OSError:
        return
    for path in hidden:
        with suppress(OSError):
            if not path.is_symlink() and _is_left(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@functools.lru_cache(maxsize=10_000)
def sweep_once(folder: Path, pid: int) -> None:
    """As :func:`sweep`, at a process's first writing into the folder."""
    del pid
    sweep(folder)


def _is_left(path: Path) -> bool:
    """Whether a hidden entry is an unfinished one of medgan's whose writer is gone."""
    changed = path.stat().st_mtime
    if marked := MARKED.fullmatch(path.name):
        if marked[1] == _machine():
            return not _lives(int(marked[2]), changed)
    elif not UNMARKED.fullmatch(path.name):
        return False
    return time.time() - changed > OLD_S


def _lives(pid: int, changed: float) -> bool:
    """Whether a process is at work that is old enough to have written what was last changed at ``changed``."""
    try:
        return bool(psutil.Process(pid).create_time() <= changed + 2)  # clocks of disks are coarse
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _mark() -> str:
    return f"{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@functools.cache
def _machine() -> str:
    """Of this machine since it started and, in a container, of its own set of process numbers."""
    parts = [platform.node()]
    with suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:8]
