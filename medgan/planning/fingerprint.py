"""What a cohort is like, as far as settings hang on it: spacing, sizes, body, intensities, agreement of pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medgan.data.domains import Domain, DomainPair
from medgan.data.grid import upright
from medgan.data.masks import body_mask
from medgan.data.studies import Cohort, Study
from medgan.data.volumes import read_grid, read_volume
from medgan.errors import DataError
from medgan.evaluation.tissues import overlap

LOOKED_AT = 6
"""Studies of each domain whose voxels are read, evenly among all; of the others the header alone."""
PERCENTILES = (0.5, 50, 99.5)
Triple = tuple[float, float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class Fingerprint:
    """What a cohort is like. Axes are right, anterior and superior, and middles are medians over studies."""

    subjects: int
    images: dict[str, int]
    """How many of each domain."""
    spacing_mm: Triple
    spread_mm: tuple[Triple, Triple]
    """The finest and the coarsest spacing along each axis."""
    size_voxels: Triple
    body_mm: Triple
    """Extent of the body's box, which leaves out air and table."""
    body_share: float
    """Of a study's voxels, those in the body."""
    intensities: dict[str, Triple]
    """Of each domain, the percentiles .5, 50 and 99.5 within the body, in its unit."""
    agreement: float | None
    """Dice of the two bodies of a pair; None without pairs."""
    millilitres: dict[str, float]
    """What each subject's images cover together."""

    @property
    def anisotropy(self) -> float:
        """How many times as thick as wide a voxel is, or the other way round."""
        return max(self.spacing_mm) / min(self.spacing_mm)

    @property
    def one_spacing(self) -> bool:
        """Whether all studies have the same voxel size in plane, within 1 %."""
        finest, coarsest = self.spread_mm
        return all(coarse <= 1.01 * fine for fine, coarse in zip(finest[:2], coarsest[:2], strict=True))

    def lines(self) -> Iterator[str]:
        """The fingerprint for people."""
        images = ", ".join(f"{count} {name}" for name, count in self.images.items())
        yield f"subjects: {self.subjects} ({images})"
        yield f"spacing: {times(self.spacing_mm)} mm, from {times(self.spread_mm[0])} to {times(self.spread_mm[1])}"
        yield f"size: {times(self.size_voxels)} voxels"
        yield f"body: {times(self.body_mm)} mm, {self.body_share:.0%} of the voxels"
        for name, (low, middle, high) in self.intensities.items():
            yield f"intensities of {name} in the body: {low:.4g}, {middle:.4g}, {high:.4g} (percentiles .5, 50, 99.5)"
        if self.agreement is not None:
            yield f"agreement of pairs: the two bodies' Dice is {self.agreement:.2f}"


def times(numbers: Sequence[float]) -> str:
    """``0.98 x 0.98 x 3.3``."""
    return " x ".join(f"{number:.3g}" for number in numbers)


@dataclass(frozen=True)
class _Look:
    """What the voxels of a study show."""

    domain: str
    body: NDArray[np.bool_]
    body_mm: Triple
    intensities: Triple


def fingerprint(cohort: Cohort, pair: DomainPair) -> Fingerprint:
    """Look at all headers of a cohort's studies of two domains, and at the voxels of some.

    Raises:
        DataError: It has no image of either domain.
    """
    domains = {domain.name: domain for domain in (pair.source, pair.target)}
    studies = [study for study in cohort.studies if study.domain in domains]
    if not studies:
        raise DataError(f"{cohort.root}: has no image of {' or '.join(domains)} to plan for.")
    spacings, sizes = (np.array(each) for each in zip(*map(_grid, studies), strict=True))
    covered = dict.fromkeys((study.subject for study in studies), 0.0)
    for study, volume in zip(studies, (spacings * sizes).prod(axis=1), strict=True):
        covered[study.subject] += float(volume) / 1000
    couples = cohort.pairs(pair) if pair.paired else []
    by_domain = [[study for study in studies if study.domain == name] for name in domains]
    groups = _some(couples) if couples else [_some(group) for group in by_domain if group]
    looks = [[_look(study, domains[study.domain]) for study in group] for group in groups]
    seen = [look for some in looks for look in some]
    return Fingerprint(
        subjects=len(covered),
        images={name: sum(study.domain == name for study in studies) for name in domains},
        spacing_mm=_triple(np.median(spacings, axis=0)),
        spread_mm=(_triple(spacings.min(axis=0)), _triple(spacings.max(axis=0))),
        size_voxels=_triple(np.median(sizes, axis=0)),
        body_mm=_triple(np.median([look.body_mm for look in seen], axis=0)),
        body_share=float(np.mean([look.body.mean() for look in seen])),
        intensities={
            name: _triple(np.median([look.intensities for look in seen if look.domain == name], axis=0))
            for name in dict.fromkeys(look.domain for look in seen)
        },
        agreement=float(np.nanmean([overlap(one.body, other.body) for one, other in looks])) if couples else None,
        millilitres=covered,
    )


def _some(things: Sequence[T]) -> list[T]:
    """At most ``LOOKED_AT``, evenly among all."""
    places = np.linspace(0, len(things) - 1, min(LOOKED_AT, len(things))).round().astype(int)
    return [things[place] for place in places]


def _grid(study: Study) -> tuple[Triple, Triple]:
    """Spacing and size along right, anterior and superior, of the header alone."""
    grid = read_grid(study.image)
    axes = io_orientation(grid.affine)[:, 0].argsort()
    return _triple(np.array(grid.spacing_mm)[axes]), _triple(np.array(grid.size)[axes])


def _look(study: Study, domain: Domain) -> _Look:
    volume = upright(read_volume(study.image))
    body = body_mask(volume.voxels, domain)
    if not body.any():
        body = np.ones_like(body)
    (box,) = ndimage.find_objects(body.astype(np.uint8))
    extent = [(axis.stop - axis.start) * size for axis, size in zip(box, volume.grid.spacing_mm, strict=True)]
    return _Look(domain.name, body, _triple(extent), _triple(np.percentile(volume.voxels[body], PERCENTILES)))


def _triple(numbers: ArrayLike) -> Triple:
    x, y, z = np.asarray(numbers, dtype=float).tolist()
    return x, y, z
