"""Phantom subjects on disk: volumes, truth, and the two tables that training and evaluation start from."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from medgan.data.grid import made_up_grid
from medgan.data.streams import write_json, write_text
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError
from medgan.phantom.kinds import KINDS
from medgan.phantom.space import GridSize

PAIRED = "cohort.csv"
"""Every subject with all of its scans."""
UNPAIRED = "cohort_unpaired.csv"
"""Every subject with one scan: to train on without pairs, and to test on without a glance at the truth."""
COLUMNS = ("subject", "domain", "image", "mask", "split")


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
    spacing_mm = chosen.spacing_mm(shape)
    affine = np.diag([*spacing_mm, 1.0])
    # The world's origin lies in the middle of the volume.
    affine[:3, 3] = [-(n - 1) / 2 * step for n, step in zip(shape, spacing_mm, strict=True)]
    grid, parts = made_up_grid(shape, affine), _split_parts(subjects)
    paired: list[tuple[str, ...]] = []
    unpaired: list[tuple[str, ...]] = []
    for number, part in enumerate(parts):
        folder = out / f"sub-{number + 1:03d}"
        for name, voxels in chosen.render(seed, number, shape=shape, lesions=lesions).items():
            write_volume(voxels, grid, folder / f"{name}.nii.gz", voxels.dtype)
        for domain, described in chosen.describe(seed, number, lesions=lesions).items():
            note = {"phantom": True, "Synthetic": True, "kind": kind, "unit": chosen.units[domain], "seed": seed}
            note |= {"number": number, **described, "subject": folder.name, "domain": domain}
            write_json(folder / f"{domain}.json", note)
        # Training and validation subjects alternate between the domains; test subjects have the source's alone.
        single = chosen.domains[0 if part == "test" else (number - parts.index(part)) % 2]
        mask = f"{folder.name}/{chosen.mask}.nii.gz"
        rows = {domain: (folder.name, domain, f"{folder.name}/{domain}.nii.gz", mask, part) for domain in chosen.scans}
        paired += rows.values()
        unpaired.append(rows[single])
    labels = {int(label): label.name.lower() for label in chosen.labels}
    write_json(out / "labels.json", {"phantom": True, "kind": kind, "labels": labels})
    write_text(out / UNPAIRED, _table(unpaired))
    return write_text(out / PAIRED, _table(paired))


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
