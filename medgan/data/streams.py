# mypy: untyped-calls-exclude="isal"
"""Bytes in and out of files: gzip or plain, every failure by name, and a file that is written whole or not at all.

Only regular files are opened for reading: opening a pipe may wait for ever, and a device may never end.
"""

import errno
import functools
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar, cast

import psutil
from isal import igzip, isal_zlib

from medgan.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk answers that is full, to this user at least."""

FORMULA = "=+-@\t\r"
"""What begins a formula in a spreadsheet."""

GZIP_MAGIC = b"\x1f\x8b"

LARGEST_EXPANSION = 1032
"""A deflate stream of n bytes holds at most 1032 n (zlib's technical notes): a header that asks for more lies."""

GZIP_LEVEL = 1
"""Of isal's 0 to 3: at 1 a CT takes 2 % more room than at 3 and the least time."""

SPECIAL = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}

PART, FOLDER = ".part", ".unfinished-"
MARKED = re.compile(r"\.(?:unfinished-|.+\.)([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{8}(?:\.part(?:\.tfm)?)?", re.DOTALL)
UNMARKED = re.compile(r"\.unfinished-\w+|\..+\.[0-9a-f]{8}\.part", re.DOTALL)
"""What an older medgan called them."""
OLD_S = 24 * 3600.0


def special(path: Path) -> str | None:
    """What a pipe, a socket or a device is, also behind a link; None for all else, and what cannot be reached."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return next((f"{kind}, not a file" for is_kind, kind in SPECIAL.items() if is_kind(mode)), None)


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one, that can be reached."""
    try:
        return path.is_dir()
    except OSError:
        return False


def check_regular(path: Path) -> None:
    """Refuse a pipe, a socket or a device, and what cannot be reached."""
    try:
        path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    if kind := special(path):
        raise DataError(f"{path}: {kind}; remove it.")


def open_regular(path: Path) -> BufferedReader:
    """A regular file for reading, its bytes as they are; a pipe is never waited for."""

    def opener(name: str, flags: int) -> int:  # a pipe that takes the file's place meanwhile does not block either
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    check_regular(path)
    return path.open("rb") if os.name == "nt" else open(path, "rb", opener=opener)


def check_promise(
    path: Path, shape: tuple[int, ...], needed: int, data: Path, *, before: int = 0, compressed: bool
) -> None:
    """Refuse a header that promises more bytes than its ``data`` file can hold, before memory is taken for them.

    The ``needed`` bytes lie there after some that are skipped (``before``), maybe ``compressed`` as a deflate stream.
    """
    held = max(data.stat().st_size - before, 0) * (LARGEST_EXPANSION if compressed else 1)
    if needed > held:
        raise DataError(
            f"{path}: the header promises {needed:,} bytes for shape {shape}, but "
            f"{'the file' if data == path else data.name} can hold {'at most ' if compressed else ''}{held:,}: it is "
            "truncated or forged; copy it again."
        )


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file or folder that cannot be read."""
    if error.errno == errno.ENOENT and path.is_symlink():
        return DataError(
            f"{path}: a link to a file that is not there; fetch that (`git annex get`, `datalad get`), or remove it."
        )
    if error.errno == errno.ELOOP:
        return DataError(f"{path}: a link that leads back to itself; remove it.")
    return DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions.")


class TrailingBytesError(DataError):
    """A gzip stream that is whole, and followed by bytes that are no part of it."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, decompressed where its first two say gzip, whatever its name says.

    Whatever breaks while they are read is a DataError; of trailing bytes :func:`whole_members` does without them.
    """
    try:
        with open_regular(path) as file:
            compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            yield cast("IO[bytes]", igzip.IGzipFile(fileobj=file, mode="rb")) if compressed else file
    except EOFError:
        raise DataError(f"{path}: truncated, the gzip stream ends too early; copy it again.") from None
    except gzip.BadGzipFile as error:
        kind = TrailingBytesError if "Not a gzipped file" in str(error) else DataError
        raise kind(f"{path}: corrupt gzip ({error}); copy it again.") from None
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # isal's stub has no class here
        raise DataError(f"{path}: corrupt gzip ({error}); copy it again.") from None
    except OSError as error:
        raise unreadable(path, error) from None


def whole_members(path: Path, most: int) -> BytesIO:
    """A gzip file's first ``most`` bytes without what follows its stream, as a portal may add; their checksum holds."""
    with open_regular(path) as file:
        rest = file.read()
    content = b""
    try:
        while rest.startswith(GZIP_MAGIC) and len(content) <= most:
            member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            content += member.decompress(rest, most + 1 - len(content))
            rest = member.unused_data
    except zlib.error as error:
        raise DataError(f"{path}: corrupt gzip ({error}); copy it again.") from None
    return BytesIO(content)


def is_gzip(path: Path) -> bool:
    """Whether a file's first two bytes say that it is compressed."""
    with open_regular(path) as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def unwritable(path: Path, error: Exception) -> DataError:
    """The error for a file that the disk did not take."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return DataError(f"{path}: the name or the path is longer than this disk takes; give a shorter OUTPUT.")
    reason = getattr(error, "strerror", None) or error
    full = getattr(error, "errno", None) in FULL
    advice = "make room" if full else "check the disk and its access"
    return DataError(f"{path}: cannot be written ({reason}); {advice}, then give the same command again.")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A stream into a hidden file beside ``path``, which takes its place once complete and is removed otherwise.

    Missing folders are made. A name that ends in ``.gz`` is compressed, without name and time in the gzip header: equal
    content gives equal bytes. What the disk does not take is a DataError.
    """
    part = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            if path.name.lower().endswith(".gz"):
                with igzip.IGzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as stream:
                    yield cast("IO[bytes]", stream)
            else:
                yield file
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with suppress(OSError):  # gone after success; after a failure its folder may be missing, too
            part.unlink()


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, whole or not at all; its path."""
    with replacing(path) as stream:
        stream.write(text.encode())
    return path


def write_csv(path: Path, table: "pd.DataFrame") -> Path:
    """Write a table with six digits and without its index, whole or not at all; its path.

    Text that a spreadsheet would take for a formula is made inert; see :func:`inert`.
    """
    return write_text(path, inert_table(table).to_csv(index=False, float_format="%.6g"))


def read_texts(path: Path) -> "pd.DataFrame":
    """A table that :func:`write_csv` wrote, all of it as text: a subject called NA or 007 stays one."""
    import pandas as pd  # not at once: who writes no table need not wait for it

    return pd.read_csv(path, dtype=str, keep_default_na=False).map(as_it_was)


def write_json(path: Path, content: object) -> Path:
    """Write a document as JSON, whole or not at all; its path. Figures must be finite."""
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def inert_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table whose texts and headings are :func:`inert`."""
    words = {name: column.map(inert) for name, column in table.items() if column.dtype.kind not in "biufc"}
    return table.assign(**words).rename(columns=inert)


def inert(value: T) -> T | str:
    """Text with an apostrophe before it where a spreadsheet would compute it, such as ``=HYPERLINK(...)``."""
    if not isinstance(value, str) or len(value) < 2 or value[0] not in FORMULA:
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def as_it_was(text: str) -> str:
    """The text of which :func:`inert` made ``text``."""
    return text[1:] if text.startswith("'") and inert(text[1:]) == text else text


def unfinished(path: Path) -> Path:
    """A name beside ``path``, short and of its own, for the file that shall take its place."""
    _sweep(path.parent, os.getpid())
    return path.with_name(f".{path.name[:40]}.{_mark()}{PART}")


@contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder in ``parent`` for files that shall be moved out of it; it is removed in the end."""
    _sweep(parent, os.getpid())
    folder = parent / f"{FOLDER}{_mark()}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=10_000)
def _sweep(folder: Path, _pid: int) -> None:
    """Remove what killed processes left unfinished in a folder, at a process's first writing into it."""
    try:
        hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    except OSError:
        return
    for path in hidden:
        with suppress(OSError):
            if not path.is_symlink() and _is_left(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


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
