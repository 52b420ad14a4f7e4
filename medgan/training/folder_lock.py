"""One process at a time in a folder that a training, a study or a batch with one table writes to."""

import errno
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from medgan.documents import read_json
from medgan.errors import DataError, InUseError

LOCK = ".lock"
"""The file in the folder that is locked, and says by whom."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a file system answers that has no locks: NFS without lockd, Lustre mounted without flock, some of FUSE."""


@contextmanager
def alone_in(folder: Path, console: Console, file: str | None = None) -> Iterator[None]:
    """Keep other processes out of ``folder`` while the block runs; it is made where it is missing.

    The operating system gives the lock up when this process ends, however that is. Folders below ``folder`` are not
    locked with it. A folder in which the block leaves nothing, because it was refused, is removed again.

    Args:
        folder: Where the block writes.
        console: Told when the folder cannot be locked.
        file: Keep them from this file of the folder alone.

    Raises:
        InUseError: Another process, or another lock of this one, is in the folder.
        DataError: The folder cannot be made or written to.
    """
    path = folder / (LOCK if file is None else f".{hashlib.sha256(os.fsencode(file)).hexdigest()[:16]}{LOCK}")
    lock = FileLock(path, blocking=False, on_acquired=_sign)
    new_folders = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InUseError(
            f"{folder / (file or '')} is in use by {_holder(path)}, and two would overwrite each other's files. Wait "
            "until it has ended, or stop it, and give the same command again; or choose another folder (--name, "
            "OUTPUT)."
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise DataError(
                f"{folder}: cannot be written to ({error.strerror}); check the disk and its access."
            ) from None
        console.out(
            f"{folder}: this file system has no locks ({error.strerror}); see that nobody else works in it",
            highlight=False,
        )
    try:
        yield
    finally:
        with suppress(OSError):
            # While the lock is held: filelock refuses whoever has opened the file and finds it without its name.
            path.unlink(missing_ok=True)
            for each in new_folders:
                each.rmdir()
        lock.release()


def _sign(descriptor: int) -> None:
    """Write into a lock file that was just locked who did so."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    holder = {"pid": os.getpid(), "host": platform.node(), "since": since}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())


def _holder(path: Path) -> str:
    """Who holds a lock, in words, as far as that can be told: Windows lets nobody read a locked file."""
    try:
        return "process {pid} on {host} (since {since})".format(**read_json(path))
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"
