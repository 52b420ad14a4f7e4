"""One hash of files and one of voxels, both remembered for as long as path, size and times stay as they are."""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from medgan.data.dicom import dicom_files, is_series
from medgan.data.grid import Volume, upright
from medgan.data.raw import data_beside
from medgan.data.streams import open_regular, replacing, unreadable
from medgan.data.volumes import read_volume
from medgan.errors import DataError, MedganError

SETTLED_NS = 2_000_000_000
"""A file that was written less than so long ago could be written again within one tick of its clock: not remembered."""

SHOWS = "shows"
"""Said of an image that does not have one value everywhere."""

_answers: dict[str, str] = {}
"""By what was asked and the state of the file, in this process."""


def default_folder() -> Path:
    """``MEDGAN_CACHE``, else ``medgan`` in the user's cache folder."""
    if folder := os.environ.get("MEDGAN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medgan"


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, of a header and the voxels beside it over both, or of a series over its sorted hashes."""
    data = data_beside(path)
    digests = [_memoised("bytes 1", each, partial(_byte_hash, each)) for each in (path, data) if each]
    return digests[0] if data is None else _sha256(" ".join(digests))


def image_hash(path: Path) -> str | None:
    """By what an image is known again under another name: its :func:`voxel_hash`.

    None where it cannot be read, or has one value everywhere and so shows nobody. The answer is kept in the user's
    cache folder for as long as the file stays as it is.
    """

    def read() -> str:
        volume = read_volume(path)
        return f"{voxel_hash(volume)} {SHOWS if np.ptp(volume.voxels) else 'blank'}"

    try:
        digest, shows = _memoised("voxels 1", path, read, beside=data_beside(path), on_disk=True).split()
    except MedganError:
        return None
    return digest if shows == SHOWS else None


def known_by(image: Path) -> tuple[str, ...]:
    """The hashes by which an image is known again under another name: of what it shows, and of its bytes.

    No hash of what cannot be read: whoever reads it says so.
    """
    try:
        return tuple(filter(None, (image_hash(image), file_hash(image))))
    except DataError:
        return ()


def voxel_hash(volume: Volume) -> str:
    """SHA-256 over shape, spacing and intensities in RAS order.

    It is the same for one image whatever its compression, its stored type, the order and place of its voxels, and the
    text in its header.
    """
    standing = upright(volume)
    voxels, spacing_mm = standing.voxels, np.array(standing.grid.spacing_mm, np.float32)
    digest = hashlib.sha256(f"{voxels.shape} {' '.join(f'{mm:.3f}' for mm in spacing_mm)}".encode())
    for index in range(voxels.shape[2]):  # slice by slice, so that no second volume is made; + 0 turns -0 into 0
        digest.update(np.ascontiguousarray(voxels[..., index] + np.float32(0), dtype="<f4").data)
    return digest.hexdigest()


def _memoised(
    question: str, path: Path, find_out: Callable[[], str], *, beside: Path | None = None, on_disk: bool = False
) -> str:
    """The answer, of one line, that ``find_out`` gives for a file or folder, from memory where that has not changed.

    ``question`` names the answer, with a number that is raised when answers change. The file ``beside`` counts as well,
    and of a folder its own files; a series in a folder is as its folder. If ``on_disk``, later processes know it too.
    """
    states = [_state(each) for each in (path, beside) if each]
    if None in states:
        return find_out()
    key = _sha256("\n".join([question, str(path.absolute()), *filter(None, states)]))
    entry = default_folder() / "remembered" / key if on_disk else None
    answer = _answers.get(key) or (_read(entry) if entry else None)
    if answer is None:
        answer = find_out()
        if entry:
            with suppress(DataError), replacing(entry) as stream:  # without room for it, it is found out again
                stream.write(f"{answer}\n{_check(entry, answer)}\n".encode())
    _answers[key] = answer
    return answer


def _byte_hash(path: Path) -> str:
    try:
        if path.is_dir() or is_series(path):
            return _sha256("\n".join(sorted(file_hash(file) for file in dicom_files(path))))
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from None


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
    return _sha256(f"{entry.name} {answer}")[:16]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
