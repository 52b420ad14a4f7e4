"""What a fold's children share: bone labels, synthetic CTs of the test subjects, and how a test subject is judged."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from medgan.benefit.routes.bone import bone_scores, cleaned, thresholded
from medgan.benefit.routes.plan import Case, Fold, RoutesPlan
from medgan.data.grid import Grid, Volume, same_grid
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import DataError, GeometryError
from medgan.evaluation.baselines import CrossingLookup, CrossingLookups
from medgan.evaluation.bone import Bone
from medgan.evaluation.fidelity import Mask
from medgan.evaluation.tissues import body, core
from medgan.inference.convert import ConvertOrder, convert
from medgan.inference.jobs import find_jobs

LABELS, SYNTHETIC = "labels", "synthetic"
"""In a study's folder: the bone of true CTs. In a fold's: the synthetic CTs of its test subjects."""


@dataclass(frozen=True, eq=False)
class Exam:
    """A test subject: what the routes may look at, and what they should find."""

    case: Case
    mr: Volume
    synthetic: Volume
    true: Bone
    where: Mask
    """Where bone is judged, (X, Y, Z): inside both bodies, three voxels in plane from the nearer skin."""

    def scores(self, found: Mask) -> dict[str, float]:
        """The figures of a route's bone, (X, Y, Z)."""
        return bone_scores(Bone(found, self.mr.grid.spacing_mm), self.true, self.where)


@dataclass(frozen=True)
class Material:
    """What a fold's children read."""

    fold: Fold
    folder: Path
    labels: Path
    exams: tuple[Exam, ...]

    def label(self, case: Case) -> Path:
        """The bone of a subject's true CT."""
        return self.labels / case.file


def gather(plan: RoutesPlan, fold: Fold) -> Material:
    """Label the fold's subjects and translate those that are tested; what is there is kept.

    Raises:
        DataError: A scan that cannot be read, or a test subject that cannot be translated.
        GeometryError: Two scans of a subject on different grids.
    """
    folder, labels = plan.order.folder / f"fold={fold.number}", plan.order.folder / LABELS
    for case in (*fold.training, *fold.tested):
        write_label(case, labels / case.file)
    synthetic = synthetic_cts(plan, fold, folder / SYNTHETIC)
    exams = tuple(exam(case, synthetic[case.source.image], labels / case.file) for case in fold.tested)
    return Material(fold, folder, labels, exams)


def write_label(case: Case, path: Path) -> None:
    """The cleaned bone of a true CT, as a label map of 0 and 1 on its grid."""
    if not path.exists():
        ct = read_volume(case.target.image)
        bone = cleaned(thresholded(ct.voxels), voxel_ml(ct.grid))
        write_volume(bone.astype(np.uint8), ct.grid, path, np.uint8)


def synthetic_cts(plan: RoutesPlan, fold: Fold, folder: Path) -> dict[Path, Path]:
    """The synthetic CT of each of the fold's test images, as `medgan convert --part test` makes them."""
    order = plan.order
    asked = ConvertOrder(order.data, folder, str(fold.model), part="test", device=order.device)
    done = convert(asked, Console(quiet=True))
    if done.failed:
        failed = "; ".join(f"{each.input}: {each.message}" for each in done.outcomes if each.status == "failed")
        raise DataError(f"{done.failed} of {len(done.outcomes)} test images were not converted: {failed}")
    source, subjects = plan.pair.source.name, fold.split.test
    jobs = find_jobs(order.data, folder, source, pair=plan.pair.names, subjects=subjects).jobs
    return {job.source: job.output for job in jobs}


def exam(case: Case, synthetic: Path, label: Path) -> Exam:
    """A test subject, ready to be judged."""
    mr, ct = _scans(case)
    true = Bone(read_volume(label).voxels == 1, ct.grid.spacing_mm)
    return Exam(case, mr, read_volume(synthetic), true, _judged_region(mr, ct))


def fitted_lookup(fold: Fold) -> CrossingLookup:
    """The mean HU of each MR intensity in the fold's training subjects, in the region that bone is judged in."""
    lookups = CrossingLookups()
    for case in fold.training:
        mr, ct = _scans(case)
        lookups.add(case.subject, mr.voxels, ct.voxels, _judged_region(mr, ct))
    return lookups.without("")


def voxel_ml(grid: Grid) -> float:
    """The volume of a grid's voxels."""
    return float(np.prod(grid.spacing_mm)) / 1000


def _judged_region(mr: Volume, ct: Volume) -> Mask:
    return core(body(mr.voxels, "MR"), body(ct.voxels, "CT"))


def _scans(case: Case) -> tuple[Volume, Volume]:
    mr, ct = read_volume(case.source.image), read_volume(case.target.image)
    if not same_grid(mr.grid, ct.grid):
        raise GeometryError(
            f"{mr.path} and {ct.path} are on different voxel grids; register them with `medgan data register`."
        )
    return mr, ct
