"""Prepared studies kept on disk, so that a second epoch reads patches and not gzip.

An entry is named by its content: the study's bytes, the domain and the grid. Nothing is ever stale, and an entry may be
deleted at any time. Each has a checksum, against which a process holds it when it first opens it: an entry that
was damaged is made anew, and said so.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from isal import isal_zlib

from medgan.data.belonging import check_belongs
from medgan.data.domains import Domain
from medgan.data.hashes import default_folder, file_hash
from medgan.data.preparation import GridConfig, Prepared, Scan, prepare
from medgan.data.raw import data_beside
from medgan.data.streams import replacing, write_text
from medgan.data.studies import Study
from medgan.data.volumes import read_volume
from medgan.documents import read_json
from medgan.errors import MedganError
from medgan.processes import WorkerKilledError, do_all

__all__ = ["Cache", "default_folder"]

FORMAT = 7
"""Raised when :func:`medgan.data.preparation.prepare` changes what it returns."""
BLOCK = 2**22
"""Bytes of a file that are read at once."""
PROCESS_BYTES = 200 << 20
PREPARING = 20
"""Bytes of memory that a process takes, and for each byte of its study on the disk."""

log = logging.getLogger(__name__)


class Cache:
    """Prepared studies by content; several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "prepared"

    def fill(self, studies: Iterable[tuple[Study, Domain]], grid: GridConfig) -> None:
        """Prepare those of many studies that are not here, side by side as far as cores and memory go.

        What goes wrong with one is told to those who ask for it.
        """
        tasks = [(self, study, domain, grid) for study, domain in studies if self._lacks(study, domain, grid)]
        largest = max((_bytes(study.image) for _, study, _, _ in tasks), default=0)
        free = psutil.virtual_memory().available // 2
        with suppress(WorkerKilledError):
            do_all(tasks, _fill, most=free // (PROCESS_BYTES + PREPARING * largest), each=5)

    def _lacks(self, study: Study, domain: Domain, grid: GridConfig) -> bool:
        """Whether a study that can be read is not here."""
        with suppress(MedganError):
            return not self._entry(study, domain, grid).with_suffix(".json").exists()
        return False

    def _entry(self, study: Study, domain: Domain, grid: GridConfig) -> Path:
        """Its name is a hash of the study's bytes and of every setting that shapes the result."""
        parts = [str(FORMAT), file_hash(study.image), domain.model_dump_json(), grid.model_dump_json()]
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        return self.folder / f"{name}.npy"

    def prepared(self, study: Study, domain: Domain, grid: GridConfig) -> Prepared:
        """The study on the networks' grid; its voxels are a read-only memory map, opened when they are looked at."""
        entry = self._entry(study, domain, grid)
        try:
            return _read(entry)
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("%s: a prepared study that is damaged (%s) is made anew of %s", entry, error, study.image)
        volume = read_volume(study.image)
        check_belongs(volume, domain, advice=", or leave it out: `medgan data check` names all such studies")
        prepared = prepare(volume, domain, grid)
        with replacing(entry) as stream:
            np.save(stream, prepared.voxels)
        # The facts come last: an entry without them is made anew.
        facts = {"affine": prepared.affine.tolist(), "body": prepared.body, "bounds": prepared.bounds}
        facts["scan"] = asdict(prepared.scan) if prepared.scan else None
        write_text(entry.with_suffix(".json"), json.dumps(facts | {"checksums": _checksums(entry, facts)}))
        return _read(entry)


def _fill(task: tuple[Cache, Study, Domain, GridConfig]) -> None:
    cache, study, domain, grid = task
    with suppress(Exception):
        cache.prepared(study, domain, grid)


def _bytes(image: Path) -> int:
    """What an image takes on the disk: one file or two, or all of the folder that a series lies in."""
    if image.is_file():
        return sum(file.stat().st_size for file in (image, data_beside(image)) if file)
    folder = image if image.is_dir() else image.parent
    return sum(file.lstat().st_size for file in folder.iterdir())


def _read(entry: Path) -> Prepared:
    known = read_json(entry.with_suffix(".json"))
    if known.pop("checksums") != _checksums(entry, known):
        raise ValueError("its checksum differs")
    return Prepared(
        voxels=np.load(entry, mmap_mode="r"),
        affine=np.array(known["affine"]),
        body=tuple((int(first), int(last)) for first, last in known["body"]),
        bounds=(float(known["bounds"][0]), float(known["bounds"][1])),
        scan=Scan(**known["scan"]),
    )


def _checksums(entry: Path, facts: Mapping[str, Any]) -> list[int]:
    """CRC-32 of an entry's file and of what is known of it."""
    file = entry.stat()
    return [_checksum(entry, file.st_size, file.st_mtime_ns), isal_zlib.crc32(json.dumps(facts).encode())]


@functools.lru_cache(maxsize=100_000)
def _checksum(entry: Path, size: int, modified_ns: int) -> int:
    """CRC-32 of a file, read once a process while it has this size and time."""
    del size, modified_ns
    checksum = 0
    with entry.open("rb") as stream:
        while block := stream.read(BLOCK):
            checksum = isal_zlib.crc32(block, checksum)
    return checksum
