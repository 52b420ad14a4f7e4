# mypy: untyped-calls-exclude="SimpleITK"
"""One pair of scans from files to files on one grid, judged on the way."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydantic import PositiveFloat

from medgan.config import Config
from medgan.data.belonging import check_belongs
from medgan.data.domains import Domain
from medgan.data.grid import Grid, Volume, same_grid, upright
from medgan.data.masks import body_mask
from medgan.data.streams import unfinished, unwritable
from medgan.data.studies import Study
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import GeometryError
from medgan.registration.quality import Limits, Quality, Status, draw_pair, gains_nothing, judge, measure
from medgan.registration.search import deformed, register, shrunk
from medgan.registration.side import RegistrationConfig, one_thread, side, to_itk, voxels_of

N4_SPACING_MM = 4.0
"""Voxel size on which the bias field is fitted; it is much smoother than that."""
N4_ITERATIONS = (50, 50, 50)


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


def register_pair(pair: RawPair) -> tuple[Quality, Status, str]:
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
    draw_pair(fixed.voxels, moved, domains, fixed.grid.spacing_mm, pair.picture, title)
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
