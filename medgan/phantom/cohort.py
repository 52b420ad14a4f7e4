"""Phantom subjects on disk: volumes, truth, and the two tables that training and evaluation start from."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from filelock import FileLock

from medgan.data.grid import made_up_grid
from medgan.data.hashes import default_folder
from medgan.data.streams import write_json, write_text
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError, DataError
from medgan.phantom.kinds import KINDS
from medgan.phantom.space import GridSize
from medgan.processes import WorkerKilledError, beside, do_all

PAIRED = "cohort.csv"
"""Every subject with all of its scans."""
UNPAIRED = "cohort_unpaired.csv"
"""Every subject with one scan: to train on without pairs, and to test on without a glance at the truth."""
PHANTOM_SUBJECTS, PHANTOM_SEED = 24, 0
"""Of the cohort that stands in where no data is given."""
COLUMNS = ("subject", "domain", "image", "mask", "split")
SLOW_VOXELS = 100_000
"""Of a grid on which a subject takes half a second: smaller ones are rendered before a process has started."""
MOST_PROCESSES = 16
"""Each takes 250 MB."""


def write_phantom(
    out: Path,
    *,
    kind: str = "abdomen_ct",
    subjects: int,
    seed: int,
    lesions: float | None = None,
    shape: GridSize | None = None,
) -> Path:
    """Render a cohort and write it, its tables last: where these exist, everything else does.

    Every subject has a folder ``sub-001`` with a volume for each domain, ``labels`` and ``lesions`` on one grid, and a
    JSON sidecar for each scan that says what it is. Equal arguments give equal voxels, whatever processes render them.
    ``lesions``, the share of subjects with lesions, and ``shape`` are by default the kind's; the field of view is the
    same for all shapes.

    Returns:
        The path of ``cohort.csv``; ``cohort_unpaired.csv`` lies beside it.

    Raises:
        ConfigError: An unknown kind, or numbers out of range.
        DataError: The folder cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no phantom '{kind}'; choose one of {', '.join(KINDS)}.")
    chosen = KINDS[kind]
    lesions, shape = chosen.lesions if lesions is None else lesions, shape or chosen.shape
    _check(subjects, seed, lesions, shape)
    parts = _split_parts(subjects)
    paired: list[tuple[str, ...]] = []
    unpaired: list[tuple[str, ...]] = []
    tasks = []
    for number, part in enumerate(parts):
        subject = f"sub-{number + 1:03d}"
        tasks.append(_Subject(kind, seed, number, lesions, shape, out / subject))
        # Training and validation subjects alternate between the domains; test subjects have the source's alone.
        single = chosen.domains[0 if part == "test" else (number - parts.index(part)) % 2]
        mask = f"{subject}/{chosen.mask}.nii.gz"
        rows = {domain: (subject, domain, f"{subject}/{domain}.nii.gz", mask, part) for domain in chosen.scans}
        paired += rows.values()
        unpaired.append(rows[single])
    _write_subjects(tasks)
    labels = {int(label): label.name.lower() for label in chosen.labels}
    write_json(out / "labels.json", {"phantom": True, "kind": kind, "labels": labels})
    write_text(out / UNPAIRED, _table(unpaired))
    return write_text(out / PAIRED, _table(paired))


def kept_phantom(
    kind: str, subjects: int = PHANTOM_SUBJECTS, seed: int = PHANTOM_SEED, shape: GridSize | None = None
) -> Path:
    """The folder of a cohort in the user's cache, rendered once: who comes meanwhile waits for it."""
    table = _kept(kind, shape or KINDS[kind].shape, subjects, seed)
    folder = table.parent
    if not table.exists():
        with ExitStack() as stack:
            with suppress(OSError, NotImplementedError):  # a file system without locks; one that is full says so itself
                folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(f"{folder}.lock"))
            if not table.exists():
                write_phantom(folder, kind=kind, subjects=subjects, seed=seed, shape=shape)
    return folder


@contextmanager
def rendering(kind: str) -> Iterator[None]:
    """Render the cohort that stands in for data meanwhile, in other processes, where that takes long and was not done.

    Whoever asks for it in the body by :func:`kept_phantom` waits until it is there.
    """
    if kind not in KINDS or math.prod(shape := KINDS[kind].shape) < SLOW_VOXELS or _kept(kind, shape).exists():
        yield
    else:
        with beside(kept_phantom, kind):
            yield


def _kept(kind: str, shape: GridSize, subjects: int = PHANTOM_SUBJECTS, seed: int = PHANTOM_SEED) -> Path:
    """The table of a kept cohort, which is there when all else is."""
    size = "x".join(map(str, shape))
    return default_folder() / "phantom" / f"{kind}-{version('medgan')}-{subjects}-{seed}-{size}" / PAIRED


@dataclass(frozen=True)
class _Subject:
    """A subject that is to be rendered into a folder; the fields are those of :func:`write_phantom`."""

    kind: str
    seed: int
    number: int
    lesions: float
    shape: GridSize
    folder: Path

    def write(self) -> None:
        """Render its volumes and write them and their sidecars."""
        kind, (seed, number, lesions) = KINDS[self.kind], (self.seed, self.number, self.lesions)
        spacing_mm = kind.spacing_mm(self.shape)
        affine = np.diag([*spacing_mm, 1.0])
        # The world's origin lies in the middle of the volume.
        affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(self.shape, spacing_mm, strict=True)]
        grid = made_up_grid(self.shape, affine)
        for name, voxels in kind.render(seed, number, shape=self.shape, lesions=lesions).items():
            write_volume(voxels, grid, self.folder / f"{name}.nii.gz", voxels.dtype)
        for domain, described in kind.describe(seed, number, lesions=lesions).items():
            note = {"phantom": True, "Synthetic": True, "kind": self.kind, "unit": kind.units[domain], "seed": seed}
            note |= {"number": number, **described, "subject": self.folder.name, "domain": domain}
            write_json(self.folder / f"{domain}.json", note)


def _write_subjects(subjects: Sequence[_Subject]) -> None:
    """Write all of them, in several processes where each takes long enough."""
    slow = math.prod(subjects[0].shape) >= SLOW_VOXELS
    try:
        do_all(subjects, _Subject.write, most=MOST_PROCESSES if slow else 1, each=3)
    except WorkerKilledError as killed:
        names = ", ".join(subject.folder.name for subject in killed.args)
        raise DataError(
            f"{subjects[0].folder.parent}: a process that rendered {names} was killed, perhaps for want of memory; "
            "give the same command again."
        ) from None


def _split_parts(subjects: int) -> list[str]:
    """The part of each subject: a sixth are for testing and a sixth for validation, which needs one of each domain.

    Of fewer than five subjects all are for training.
    """
    if subjects < 5:
        return ["train"] * subjects
    test, validation = max(1, round(subjects / 6)), 2 * max(1, round(subjects / 12))
    return ["train"] * (subjects - test - validation) + ["validation"] * validation + ["test"] * test


def _check(subjects: int, seed: int, lesions: float, shape: GridSize) -> None:
    if subjects < 1:
        raise ConfigError(f"subjects={subjects} leaves nothing to render; ask for 1 or more.")
    if seed < 0:
        raise ConfigError(f"seed={seed} is negative; give 0 or more.")
    if not 0 <= lesions <= 1:
        raise ConfigError(f"lesions={lesions:g} is no share of the subjects; give a number from 0 to 1.")
    if min(shape) < 1:
        raise ConfigError(f"shape={shape} holds no voxels; give 1 or more along each axis.")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(",".join(row) + "\n" for row in (COLUMNS, *rows))
