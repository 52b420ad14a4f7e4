"""The kinds of phantom, and subjects of one kind on disk: volumes, truth, and the tables that training starts from.

A kind says what is scanned of which body, and what its labels mean. One renderer serves all.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.grid import made_up_grid
from medgan.data.streams import write_json, write_text
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError
from medgan.phantom.abdomen import draw_abdomen
from medgan.phantom.ct import CT
from medgan.phantom.head import draw_head
from medgan.phantom.mr import MR, Acquisition, InversionRecovery, SpinEcho, SpoiledGradientEcho
from medgan.phantom.space import Anatomy, Point, Size, Space, has_lesions, lay, stream
from medgan.phantom.tissues import HEAD_LESIONS, LESIONS, HeadTissue, Label, Tissue

PAIRED = "cohort.csv"
"""Every subject with all of its scans."""
UNPAIRED = "cohort_unpaired.csv"
"""Every subject with one scan: to train on without pairs, and to test on without a glance at the truth."""
COLUMNS = ("subject", "domain", "image", "mask", "split")


@dataclass(frozen=True)
class Kind:
    """One kind of phantom."""

    draw: Callable[..., Anatomy]  # a random anatomy: ``draw(rng, lesions=True)``
    examinations: tuple[CT | MR, ...]
    """All on one grid, without motion between them. Domains in order: source, target, then what else is scanned."""
    labels: type[Label]
    lesion_labels: tuple[Label, ...]
    field_of_view_mm: Point
    shape: Size  # voxels along x, y and z, by default
    lesions: float  # share of subjects with lesions, by default
    mask: str = "labels"
    """The volume that tables name as mask; where it is ``lesions``, that holds the lesions' labels instead of 1."""

    @property
    def units(self) -> dict[str, str]:
        """The unit of each scan, by domain."""
        return {domain: each.unit for each in self.examinations for domain in each.series}

    @property
    def scans(self) -> tuple[str, ...]:
        """Every domain that a subject has."""
        return tuple(self.units)

    @property
    def domains(self) -> tuple[str, str]:
        """Source and target; a test subject's target is the hidden truth."""
        source, target, *_ = self.units
        return source, target

    def spacing_mm(self, shape: Size) -> Point:
        """The voxel size at which the whole field of view is covered."""
        x, y, z = (length / size for length, size in zip(self.field_of_view_mm, shape, strict=True))
        return x, y, z

    def describe(self, seed: int, subject: int, *, lesions: float | None = None) -> dict[str, dict[str, Any]]:
        """What the sidecar of each scan says, by domain."""
        rng, carrier = partial(stream, seed, subject), {"lesions": self._carries(seed, subject, lesions)}
        notes = (note for each in self.examinations for note in each.describe(rng).items())
        return {domain: note | carrier for domain, note in notes}

    def render(
        self,
        seed: int,
        subject: int,
        *,
        shape: Size | None = None,
        spacing_mm: Point | None = None,
        lesions: float | None = None,
        noise: bool = True,
    ) -> dict[str, NDArray[Any]]:
        """All scans of a cohort's subject, counted from 0, and the truth about it, (X, Y, Z) in RAS+ order.

        By default the whole field of view is covered, whatever the shape. Without noise two scans of one kind differ
        by the contrast agent alone.

        Returns:
            A volume for each scan (int16, in its unit), ``labels`` and ``lesions`` (uint8).
        """
        shape = shape or self.shape
        grid, rng = Space.regular(shape, spacing_mm or self.spacing_mm(shape)), partial(stream, seed, subject)
        scanners = [each.scanner(rng, grid) for each in self.examinations]
        anatomy = self.draw(rng("anatomy"), lesions=self._carries(seed, subject, lesions))
        labels = lay(anatomy.layers, anatomy.coordinates(grid), *scanners)
        kept = labels if self.mask == "lesions" else 1
        marked = np.where(np.isin(labels, self.lesion_labels), kept, 0).astype(np.uint8)
        scans = {name: voxels for scanner in scanners for name, voxels in scanner.images(noise=noise).items()}
        return scans | {"labels": labels, "lesions": marked}

    def _carries(self, seed: int, subject: int, share: float | None) -> bool:
        return has_lesions(seed, subject, self.lesions if share is None else share)


_ABDOMEN_CT = Kind(
    draw_abdomen,
    (CT({"contrast": True, "plain": False}),),
    Tissue,
    LESIONS,
    field_of_view_mm=(365.0, 365.0, 120.0),
    shape=(96, 96, 24),
    lesions=0.3,
)
_IN_PHASE = SpoiledGradientEcho(tr_ms=150, te_ms=4.6, flip_deg=70)  # fat and water, in a breath-hold
_T1 = SpoiledGradientEcho(tr_ms=25, te_ms=5, flip_deg=35)
_HEAD_SERIES = {
    "t1": Acquisition(_T1),
    "t1_gd": Acquisition(_T1, enhanced=True),
    "t2": Acquisition(SpinEcho(tr_ms=5000, te_ms=95)),
    # Read when the fluid passes through zero.
    "flair": Acquisition(InversionRecovery(tr_ms=9000, te_ms=100, ti_ms=2372)),
}

KINDS: Mapping[str, Kind] = {
    "abdomen_ct": _ABDOMEN_CT,
    "abdomen_mr_ct": replace(_ABDOMEN_CT, examinations=(MR(Tissue, {"mr": Acquisition(_IN_PHASE)}), CT({"ct": False}))),
    "head_mr": Kind(
        draw_head,
        (MR(HeadTissue, _HEAD_SERIES),),
        HeadTissue,
        HEAD_LESIONS,
        field_of_view_mm=(192.0, 224.0, 120.0),
        shape=(96, 112, 30),
        lesions=0.6,
        mask="lesions",
    ),
}
"""By the name that ``medgan data phantom --kind`` and a pipeline's ``phantom`` give."""


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


def _check(subjects: int, seed: int, lesions: float, shape: Size) -> None:
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
