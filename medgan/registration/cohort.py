# mypy: untyped-calls-exclude="SimpleITK"
"""One pair of scans from files to files on one grid, judged on the way."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydantic import PositiveFloat
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medgan.config import Config
from medgan.data.belonging import check_belongs
from medgan.data.domains import Domain, DomainPair
from medgan.data.grid import Grid, Volume, same_grid, upright
from medgan.data.hashes import file_hash
from medgan.data.masks import body_mask
from medgan.data.streams import inert_table, unfinished, unwritable, write_text
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_volume, write_volume
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError, GeometryError, MedganError
from medgan.processes import WorkerKilledError, in_processes
from medgan.registration.quality import Limits, PairStatus, Quality, draw_pair, gains_nothing, judge, measure
from medgan.registration.search import (
    RegistrationConfig,
    deformed,
    one_thread,
    register,
    shrunk,
    side,
    to_itk,
    voxels_of,
)

N4_SPACING_MM = 4.0
"""Voxel size on which the bias field is fitted; it is much smoother than that."""
N4_ITERATIONS = (50, 50, 50)
FORMAT = 3
"""Raised when registration changes what it writes for equal inputs and settings."""
RECORD = "registration.json"
"""A cohort of raw pairs, each registered from files to files on one grid and judged: ``medgan data register``."""
COLUMNS = ("subject", "domain", "image", "mask", "split")


class PairConfig(Config):
    """How raw pairs become pairs on one grid."""

    n4: bool = False
    """Divide MR by its bias field (N4) first; what is written is corrected, too."""
    bspline_mm: PositiveFloat | None = None
    """Distance of the control points of a B-spline deformation after the rigid transform; none if empty."""
    rigid: RegistrationConfig = RegistrationConfig()
    limits: Limits = Limits()


@dataclass(frozen=True)
class RawPair:
    """Two scans to register, and where they go."""

    name: str
    """The subject, or ``subject/2`` for its second pair."""
    studies: tuple[Study, Study]
    """Fixed, moving."""
    domains: tuple[Domain, Domain]
    out: Path
    config: PairConfig

    @property
    def folder(self) -> Path:
        """Of all but the picture."""
        return self.out / self.name

    def image(self, domain: Domain) -> Path:
        """A scan on the fixed grid."""
        return self.folder / f"{domain.name}.nii.gz"

    def mask(self, domain: Domain) -> Path:
        """Its mask, on the fixed grid."""
        return self.folder / f"{domain.name}_mask.nii.gz"

    @property
    def transform(self) -> Path:
        """From points of the fixed scan to points of the moving scan, LPS+ mm."""
        return self.folder / "fixed_to_moving.tfm"

    @property
    def picture(self) -> Path:
        """Both scans on one grid."""
        return self.out / "pictures" / f"{self.name}.png"


def register_pair(pair: RawPair) -> tuple[Quality, PairStatus, str]:
    """Register two scans and write them on the fixed grid; if they are not accepted, only the evidence.

    Returns:
        The figures, the verdict, and its reason.
    """
    studies, domains, config = pair.studies, pair.domains, pair.config
    volumes = [read_volume(study.image) for study in studies]
    for volume, domain in zip(volumes, domains, strict=True):
        check_belongs(volume, domain, advice=", or leave it out")
    bodies = [body_mask(upright(volume).voxels, domain) for volume, domain in zip(volumes, domains, strict=True)]
    if config.n4:
        volumes = [
            _corrected(volume, body) if domain.modality == "MR" else volume
            for volume, body, domain in zip(volumes, bodies, domains, strict=True)
        ]
    fixed, moving = volumes
    # The result shall not depend on the order in which voxels are stored.
    sides = [side(*each, config.rigid) for each in zip(map(upright, volumes), bodies, domains, strict=True)]
    rigid = register(sides[0], sides[1], config.rigid)
    transform: sitk.Transform = rigid
    if config.bspline_mm:
        transform = deformed(sides[0], sides[1], rigid, config.bspline_mm, config.rigid)
    quality = measure(sides[0], sides[1], rigid, transform)
    if gains_nothing(quality, max(fixed.grid.spacing_mm)):
        transform = rigid = sitk.Euler3DTransform()
        quality = measure(sides[0], sides[1], rigid, transform)
    status, reason = judge(quality, config.limits)
    moved = _resampled(moving.voxels, moving.grid, fixed.grid, transform, air=domains[1].air)
    masks = _masks_on_fixed(studies, fixed.grid, moving.grid, transform)
    title = f"{studies[0].subject}: {status}, Dice {quality.dice_before:.3f} → {quality.dice_after:.3f}"
    draw_pair(fixed, moved, domains, pair.picture, title)
    _write_transform(transform, pair.transform)
    if status == "accepted":
        for domain, voxels, mask in zip(domains, (fixed.voxels, moved), masks, strict=True):
            _store(voxels, fixed.grid, pair.image(domain), in_hu=domain.unit == "HU")
            if mask is not None:
                _store(mask, fixed.grid, pair.mask(domain), in_hu=False)
    return quality, status, reason


def _resampled(
    voxels: NDArray[np.float32], grid: Grid, onto: Grid, transform: sitk.Transform, *, air: float | None
) -> NDArray[np.float32]:
    """Voxels (X, Y, Z) on another grid, interpolated once; ``transform`` takes points from there to ``grid``.

    ``air`` is what lies outside of ``grid``; None means labels: nearest neighbours, and 0 outside.
    """
    image, reference = to_itk(voxels, grid.affine), to_itk(np.zeros(onto.size, np.uint8), onto.affine)
    if air is None:
        moved = sitk.Resample(image, reference, transform, sitk.sitkNearestNeighbor, 0.0)
    else:
        moved = sitk.Resample(image, reference, transform, sitk.sitkLinear, air)
    return voxels_of(moved).astype(np.float32)


@one_thread()
def _without_bias(
    voxels: NDArray[np.float32], affine: NDArray[np.float64], body: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """MR voxels (X, Y, Z) divided by their smooth multiplicative field, fitted inside the body, whose mean stays.

    Source: N4, Tustison et al. 2010, doi 10.1109/TMI.2010.2046908.
    """
    inside = body & (voxels > 0)
    if not inside.any():
        return voxels
    image, mask = to_itk(voxels, affine), to_itk(inside, affine)
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetMaximumNumberOfIterations(N4_ITERATIONS)
    small = shrunk(image, N4_SPACING_MM)
    method.Execute(small, sitk.Resample(mask, small, sitk.Transform(), sitk.sitkNearestNeighbor))
    corrected = voxels / np.exp(voxels_of(method.GetLogBiasFieldAsImage(image)))
    return np.asarray(corrected * (voxels[inside].mean() / corrected[inside].mean()), dtype=np.float32)


def _corrected(volume: Volume, body: NDArray[np.bool_]) -> Volume:
    """An MR without its bias field, in its own storage order; the body's mask is upright."""
    result = replace(volume, voxels=np.empty_like(volume.voxels))
    standing = upright(volume)
    upright(result).voxels[...] = _without_bias(standing.voxels, standing.grid.affine, body)
    return result


def _masks_on_fixed(
    studies: tuple[Study, Study], fixed: Grid, moving: Grid, transform: sitk.Transform
) -> list[NDArray[np.float32] | None]:
    """The masks of the fixed and the moving study; what was drawn on the moving scan moves along with it.

    Where both scans had one grid, the moving study's mask was drawn on its own scan, unless both name one file.
    """
    masks: list[NDArray[np.float32] | None] = []
    for study, own in zip(studies, (fixed, moving), strict=True):
        if study.mask is None:
            masks.append(None)
            continue
        mask = read_volume(study.mask)
        stays = own is fixed or study.mask == studies[0].mask
        if same_grid(mask.grid, fixed) and (stays or not same_grid(mask.grid, moving)):
            masks.append(mask.voxels)
        elif same_grid(mask.grid, moving):
            masks.append(_resampled(mask.voxels, moving, fixed, transform, air=None))
        else:
            raise GeometryError(
                f"{study.mask} is neither on the grid of {studies[0].image} nor on that of {studies[1].image}; "
                "draw or resample the mask on one of them, or leave it out."
            )
    return masks


def _store(voxels: NDArray[np.float32], grid: Grid, path: Path, *, in_hu: bool) -> None:
    """Whole numbers as int16, HU rounded to them, everything else as float32."""
    limits = np.iinfo(np.int16)
    rounded = np.rint(np.clip(voxels, limits.min, limits.max))
    if in_hu or np.array_equal(rounded, voxels):
        write_volume(rounded, grid, path, np.int16)
    else:
        write_volume(voxels, grid, path, np.float32)


def _write_transform(transform: sitk.Transform, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{unfinished(path).name}.tfm")  # SimpleITK tells the format by the ending
        sitk.WriteTransform(transform, str(part))
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise unwritable(path, error) from None


@dataclass(frozen=True)
class PairOutcome:
    """What became of a pair."""

    name: str
    status: PairStatus
    reason: str
    quality: Quality | None = None
    """None where registration could not even be judged."""
    pair: RawPair | None = None
    """None where there was none to register."""


def register_cohort(
    cohort: Cohort, pair: DomainPair, out: Path, config: PairConfig, *, fixed: str, jobs: int = 1
) -> list[PairOutcome]:
    """Register every subject's pair and write images, transforms, pictures, ``quality.csv`` and ``cohort.csv``.

    A subject that was registered before from equal files with equal settings is not done again. One that goes wrong
    stops no other. ``fixed`` is the domain whose scans stay; the other's are moved onto their grids. Each of the
    ``jobs`` is a process with one thread and the memory of one pair.
    """
    inputs = [path for study in cohort.studies for path in (study.image, study.mask) if path]
    inside = [path for path in inputs if path.resolve().is_relative_to(out.resolve())]
    if inside or cohort.root.resolve() == out.resolve():
        raise ConfigError(f"{out} holds the cohort's own files, which would be overwritten; choose another folder.")
    planned = list(_planned(cohort, pair, out, config, fixed))
    todo = [item for item in planned if isinstance(item, RawPair)]
    done = {outcome.name: outcome for outcome in _registered(todo, min(jobs, len(todo)))}
    outcomes = [done[item.name] if isinstance(item, RawPair) else item for item in planned]
    figures = [
        asdict(each.quality) if each.quality else dict.fromkeys(Quality.__dataclass_fields__) for each in outcomes
    ]
    table = pd.DataFrame(
        {"subject": each.name, "status": each.status} | own | {"reason": each.reason}
        for each, own in zip(outcomes, figures, strict=True)
    )
    write_text(out / "quality.csv", inert_table(table).to_csv(index=False))
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    write_text(out / "cohort.csv", pd.DataFrame(rows, columns=[*COLUMNS]).to_csv(index=False))
    return outcomes


def _registered(todo: list[RawPair], jobs: int) -> Iterator[PairOutcome]:
    """The pairs as they are done; when stopped, those that are done are kept, and no process goes on."""
    try:
        if jobs <= 1:
            yield from map(_register, todo)
            return
        with closing(in_processes(todo, _register, jobs)) as ended:
            for _, future in ended:
                yield future.result()
    except WorkerKilledError as killed:
        names = ", ".join(pair.name for pair in killed.args)
        raise DataError(
            f"a process that registered {names} was killed, perhaps for want of memory; run the same command with "
            "fewer --jobs: what is registered is kept."
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; what is registered is kept, and the same command goes on from there."
        ) from None


def _register(pair: RawPair) -> PairOutcome:
    """Register one pair, or recall its outcome; whatever goes wrong is the outcome's reason."""
    try:
        key = _key(pair)
        if known := _recalled(pair, key):
            return known
        _clear(pair)
        quality, status, reason = register_pair(pair)
        content = {"key": key, "status": status, "reason": reason, "quality": asdict(quality)}
        write_text(pair.folder / RECORD, json.dumps(content, indent=2))  # last: where it exists, all else does
        return PairOutcome(pair.name, status, reason, quality, pair)
    except Exception as error:  # whatever a library trips over is this subject's, and the next one is still done
        _clear(pair)
        return PairOutcome(
            pair.name, "failed", str(error) if isinstance(error, MedganError) else repr(error), pair=pair
        )


def render(outcomes: list[PairOutcome]) -> RenderableType:
    """The outcomes for a terminal: a line for each pair, then a summary."""
    # Narrow enough for 80 columns, which is what a batch system's log has.
    table = Table("subject", "status", "MI", "Dice", "covered", "moved mm", "turn °", box=SIMPLE_HEAD)
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for outcome in outcomes:
        cells = ("",) * 5
        if q := outcome.quality:
            information = f"{q.mutual_information_before:.2f} → {q.mutual_information_after:.2f}"
            moved = (f"{q.largest_displacement_mm:.1f}", f"{q.rotation_degrees:.1f}")
            cells = (information, f"{q.dice_before:.2f} → {q.dice_after:.2f}", f"{q.covered:.2f}", *moved)
        style = "green" if outcome.status == "accepted" else "red"
        table.add_row(Text(outcome.name), Text(outcome.status, style=style), *(Text(cell) for cell in cells))
    counts = pd.Series([outcome.status for outcome in outcomes]).value_counts()
    summary = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("accepted", "refused", "failed"))
    reasons = [Text(f"{each.name} {each.status}: {each.reason}") for each in outcomes if each.reason]
    return Group(table, *reasons, Text(f"{len(outcomes)} pairs: {summary}"))


def _planned(
    cohort: Cohort, pair: DomainPair, out: Path, config: PairConfig, fixed: str
) -> Iterator[RawPair | PairOutcome]:
    """Each pair, and a failure for each subject that has none."""
    swap = fixed == pair.target.name
    domains = (pair.target, pair.source) if swap else (pair.source, pair.target)
    for subject in cohort.subjects():
        own = cohort.of_subjects([subject])
        missing = [name for name in pair.names if not own.of_domain(name).studies]
        try:
            if missing:
                raise DataError(f"it has no {missing[0]} image")
            if Path(subject).name != subject or subject.startswith("."):
                raise DataError("its name cannot be a folder's; rename it")
            couples = own.pairs(pair)
        except DataError as error:
            yield PairOutcome(subject, "failed", str(error))
            continue
        for number, (source, target) in enumerate(couples, 1):
            name = subject if len(couples) == 1 else f"{subject}/{number}"
            yield RawPair(name, (target, source) if swap else (source, target), domains, out, config)


def _key(pair: RawPair) -> str:
    """A hash of everything that shapes the results: the files' contents, the domains, the settings."""
    paths = [path for study in pair.studies for path in (study.image, study.mask)]
    contents = [file_hash(path) if path else "" for path in paths]
    settings = [domain.model_dump_json() for domain in pair.domains] + [pair.config.model_dump_json()]
    return hashlib.sha256("\n".join([str(FORMAT), *contents, *settings]).encode()).hexdigest()


def _recalled(pair: RawPair, key: str) -> PairOutcome | None:
    """What an earlier run found, if it was the same and its files are still there."""
    try:
        known = read_json(pair.folder / RECORD, strict=False)
        if known["key"] != key:
            return None
        outcome = PairOutcome(pair.name, known["status"], str(known["reason"]), Quality(**known["quality"]), pair)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    written = [name for row in _rows(outcome) for name in row[2:4] if name]
    return outcome if all((pair.out / name).exists() for name in written) else None


def _clear(pair: RawPair) -> None:
    """Remove what an earlier run wrote for the pair: nothing of it may pass for a result of this one."""
    images = [path for domain in pair.domains for path in (pair.image(domain), pair.mask(domain))]
    for path in (pair.folder / RECORD, *images, pair.transform, pair.picture):
        path.unlink(missing_ok=True)


def _rows(outcome: PairOutcome) -> list[tuple[str, str, str, str, str]]:
    """The pair's lines of ``cohort.csv``; none unless it was accepted."""
    if outcome.status != "accepted" or outcome.pair is None:
        return []
    pair, rows = outcome.pair, []
    for study, domain in zip(pair.studies, pair.domains, strict=True):
        places = pair.image(domain), pair.mask(domain)
        image, mask = (path.relative_to(pair.out).as_posix() for path in places)
        rows.append((study.subject, domain.name, image, mask if study.mask else "", study.split or ""))
    return rows
