"""Phantom subjects on disk: volumes, truth, and the two tables that training and evaluation start from."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medgan.data.grid import Grid, made_up_grid
from medgan.data.streams import write_text
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError
from medgan.phantom.kinds import KINDS, Kind
from medgan.phantom.space import Point, Size

PAIRED = "cohort.csv"
"""Every subject with all of its scans."""
UNPAIRED = "cohort_unpaired.csv"
"""Every subject with one scan: to train on without pairs, and to test on without a glance at the truth."""
COLUMNS = ("subject", "domain", "image", "mask", "split")

Row = tuple[str, str, str, str, str]
"""One image in ``COLUMNS``."""


def write_phantom(
    out: Path,
    *,
    kind: str = "abdomen_ct",
    subjects: int,
    seed: int,
    lesions: float | None = None,
    shape: Size | None = None,
) -> Path:
    """Render a cohort and write it, its tables last: where these exist, everything else does.

    Every subject has a folder ``sub-001`` with a volume for each domain, ``labels`` and ``lesions`` on one grid, and a
    JSON sidecar for each scan that says what it is. Equal arguments give equal voxels. ``lesions``, the share of
    subjects with lesions, and ``shape`` are by default the kind's; the field of view is the same for all shapes.

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
    grid = _grid(shape, chosen.spacing_mm(shape))
    for number in range(subjects):
        folder = out / _name(number)
        for name, voxels in chosen.render(seed, number, shape=shape, lesions=lesions).items():
            write_volume(voxels, grid, folder / f"{name}.nii.gz", voxels.dtype)
        for domain, described in chosen.describe(seed, number, lesions=lesions).items():
            note = {"phantom": True, "Synthetic": True, "kind": kind, "unit": chosen.units[domain], "seed": seed}
            note |= {"number": number, **described, "subject": folder.name, "domain": domain}
            write_text(folder / f"{domain}.json", _json(note))
    labels = {int(label): label.name.lower() for label in chosen.labels}
    write_text(out / "labels.json", _json({"phantom": True, "kind": kind, "labels": labels}))
    parts = split_parts(subjects)
    write_text(out / UNPAIRED, _table(_unpaired(chosen, parts)))
    paired = (_row(number, domain, chosen, part) for number, part in enumerate(parts) for domain in chosen.scans)
    return write_text(out / PAIRED, _table(paired))


def split_parts(subjects: int) -> list[str]:
    """The part of each subject: a sixth are for testing and a sixth for validation, which needs one of each domain.

    Of fewer than five subjects all are for training.
    """
    if subjects < 5:
        return ["train"] * subjects
    test, validation = max(1, round(subjects / 6)), 2 * max(1, round(subjects / 12))
    return ["train"] * (subjects - test - validation) + ["validation"] * validation + ["test"] * test


def _unpaired(kind: Kind, parts: list[str]) -> Iterable[Row]:
    """Training and validation subjects alternate between the domains; test subjects have the source's alone."""
    for number, part in enumerate(parts):
        domain = kind.domains[0 if part == "test" else (number - parts.index(part)) % 2]
        yield _row(number, domain, kind, part)


def _row(number: int, domain: str, kind: Kind, part: str) -> Row:
    name = _name(number)
    return name, domain, f"{name}/{domain}.nii.gz", f"{name}/{kind.mask}.nii.gz", part


def _grid(shape: Size, spacing_mm: Point) -> Grid:
    """A RAS+ grid with the world's origin in the middle of the volume."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(shape, spacing_mm, strict=True)]
    return made_up_grid(shape, affine)


def _check(subjects: int, seed: int, lesions: float, shape: Size) -> None:
    if subjects < 1:
        raise ConfigError(f"subjects={subjects} leaves nothing to render; ask for 1 or more.")
    if seed < 0:
        raise ConfigError(f"seed={seed} is negative; give 0 or more.")
    if not 0 <= lesions <= 1:
        raise ConfigError(f"lesions={lesions:g} is no share of the subjects; give a number from 0 to 1.")
    if min(shape) < 1:
        raise ConfigError(f"shape={shape} holds no voxels; give 1 or more along each axis.")


def _table(rows: Iterable[Row]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    return text.getvalue()


def _json(content: Mapping[Any, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _name(number: int) -> str:
    return f"sub-{number + 1:03d}"
