"""How well registration finds a motion that is known: random rigid transforms of real and of phantom pairs.

The moving scan is cropped a little at random, so that its borders tell nothing (``--crop 0`` leaves it whole), and
moved by changing where its voxels lie: exactly, without interpolation. The error is the mean distance, over points of
the fixed body's surface, between where the found and the true transform take them, in voxels in plane. Of real pairs
the true alignment is not known: their own alignment is another's registration. For them the table has the error
relative to that, and relative to what registration itself finds for the pair as it is, which the motion must not
change.

    python bench/registration.py [--sts FOLDER] [--arm ARM] [--transforms 20] [--subjects 10] [--crop 0.05]
        [--csv FILE]
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.data.domains import DomainPair, domain_named
from medgan.data.grid import Grid, Volume, made_up_grid
from medgan.data.masks import body_mask
from medgan.data.studies import find_cohort
from medgan.data.volumes import read_volume
from medgan.phantom.kinds import KINDS
from medgan.phantom.tissues import Tissue
from medgan.registration.search import RegistrationConfig, Side, matrix_lps, register, side

MOST_DEGREES, MOST_MM = 15.0, 20.0
LPS = np.array([-1.0, -1.0, 1.0])
MR, CT = domain_named("mr"), domain_named("ct")
T1 = {
    Tissue.AIR: 0, Tissue.GAS: 0, Tissue.LUNG: 60, Tissue.CORTICAL_BONE: 40, Tissue.RIB: 60,
    Tissue.TRABECULAR_BONE: 700,
    Tissue.SUBCUTANEOUS_FAT: 900, Tissue.VISCERAL_FAT: 850, Tissue.SKIN: 400, Tissue.MUSCLE: 350, Tissue.LIVER: 480,
    Tissue.SPLEEN: 320, Tissue.SPINAL_CANAL: 150, Tissue.URINE: 120, Tissue.CONTENT: 250, Tissue.GALLBLADDER: 180,
}  # fmt: skip
"""Brightness of tissues in a T1-weighted MR, roughly; the rest is 380."""

Pairs = Iterator[tuple[str, tuple[Volume, str], tuple[Volume, str]]]


def main() -> None:
    """Print one table: a row an arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sts", type=Path, default=Path(os.environ.get("MEDGAN_DATA", "data")) / "sts")
    parser.add_argument("--arm", action="append", choices=sorted(ARMS), help="only these arms")
    parser.add_argument("--transforms", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=10, help="among whom the transforms are dealt out")
    parser.add_argument("--crop", type=float, default=0.05, help="cut from each side at most, as a share")
    parser.add_argument("--csv", type=Path, help="write every transform's error here")
    given = parser.parse_args()
    rows = [row for arm in given.arm or ARMS for row in tried(arm, given)]
    table = pd.DataFrame(rows)
    if given.csv:
        table.to_csv(given.csv, index=False)
    print(table.groupby("arm", sort=False).apply(summarised, include_groups=False).to_string())


def tried(arm: str, given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """The error of each transform of one arm."""
    pairs = list(ARMS[arm](given))
    for number in range(given.transforms):
        subject, fixed, (moving, modality) = pairs[number % len(pairs)]
        rng = np.random.default_rng([arm.encode()[0], number])
        still = ready(fixed[0], fixed[1])
        points = surface(fixed[0], fixed[1])
        truth = drawn(rng, points.mean(axis=0))
        moved = replaced(moving, rng, truth, given.crop)
        began = time.process_time()
        found = places(register(still, ready(moved, modality), RegistrationConfig()), points)
        seconds = time.process_time() - began
        row = {"arm": arm, "subject": subject, **errors("start", points, transformed(truth, points), fixed[0].grid)}
        row |= errors("given", found, transformed(truth, points), fixed[0].grid)
        if arm.startswith("sts"):
            key = (arm, subject)
            if key not in OWN:
                OWN[key] = places(register(still, ready(moving, modality), RegistrationConfig()), points)
            row |= errors("own", found, transformed(truth, OWN[key]), fixed[0].grid)
            row |= errors("own_to_given", OWN[key], points, fixed[0].grid)
        print(" ".join(f"{k}={v:.2f}" if isinstance(v, float) else str(v) for k, v in row.items()), flush=True)
        yield row | {"seconds": seconds}


OWN: dict[tuple[str, str], NDArray[np.float64]] = {}
"""Where registration takes the surface points of a pair that is not moved."""


def summarised(rows: pd.DataFrame) -> pd.Series:
    """An arm in one row: errors in voxels, and how many are below one."""
    summary = {"transforms": len(rows), "start": rows["start"].median()}
    for error in ("given", "own", "given_by_axis", "own_by_axis"):
        if error in rows and rows[error].notna().any():
            summary |= {f"{error}_median": rows[error].median(), f"{error}_worst": rows[error].max()}
            summary[f"{error}_below_1"] = int((rows[error] < 1).sum())
    return pd.Series(summary | {"seconds": rows["seconds"].median()}).round(2)


def of_phantom(given: argparse.Namespace, mr: bool) -> Pairs:
    """Plain CT onto contrast CT, or onto an MR made of the labels."""
    shape = (128, 128, 32)
    phantom = KINDS["abdomen_ct"]
    grid = made_up_grid(shape, np.diag([*phantom.spacing_mm(shape), 1.0]))
    for number in range(min(4, given.subjects)):
        scans = phantom.render(11, number, shape=shape)
        labels = scans["labels"]
        bright = np.array([T1.get(Tissue(label), 380) if label in set(Tissue) else 0 for label in range(256)], float)
        noise = np.random.default_rng(number).normal(0, 20, (2, *shape))
        magnitude = np.hypot(ndimage.gaussian_filter(bright[labels], 0.4) + noise[0], noise[1])  # Rician, as MR's
        fixed = (magnitude, "MR") if mr else (scans["contrast"], "CT")
        volumes = [
            Volume(np.asarray(voxels, np.float32), grid, Path("phantom")) for voxels in (fixed[0], scans["plain"])
        ]
        yield str(number), (volumes[0], fixed[1]), (volumes[1], "CT")


def of_sts(given: argparse.Namespace, mr: bool) -> Pairs:
    """Limbs in MR and CT; the fixed scan is the MR, or the CT."""
    pair = DomainPair(source=MR, target=CT, paired=True)
    couples = find_cohort(given.sts, pair).pairs(pair)
    for source, target in couples[:: max(1, len(couples) // given.subjects)]:
        both = (read_volume(source.image), "MR"), (read_volume(target.image), "CT")
        yield source.subject, *(both if mr else both[::-1])


ARMS: dict[str, Callable[[argparse.Namespace], Pairs]] = {
    "phantom: plain CT on contrast CT": lambda given: of_phantom(given, False),
    "phantom: CT on MR": lambda given: of_phantom(given, True),
    "sts: CT on MR": lambda given: of_sts(given, True),
    "sts: MR on CT": lambda given: of_sts(given, False),
}


def drawn(rng: np.random.Generator, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rigid motion (4, 4) in RAS+ mm: up to 15 degrees about a random axis through ``centre``, and up to 20 mm."""
    axis, shift = (direction / np.linalg.norm(direction) for direction in rng.normal(size=(2, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(axis * np.deg2rad(rng.uniform(0, MOST_DEGREES))).as_matrix()
    matrix[:3, 3] = centre + shift * rng.uniform(0, MOST_MM) - matrix[:3, :3] @ centre
    return matrix


def replaced(volume: Volume, rng: np.random.Generator, motion: NDArray[np.float64], crop: float) -> Volume:
    """The scan, moved, and cropped at random by at most a share of its extent at each of its six sides."""
    low, high = (np.array(volume.grid.size) * rng.uniform(0, crop, (2, 3))).astype(int)
    voxels = volume.voxels[tuple(slice(a, size - b) for a, b, size in zip(low, high, volume.grid.size, strict=True))]
    affine = volume.grid.affine.copy()
    affine[:, 3] = affine @ [*low, 1]
    return Volume(voxels, made_up_grid(voxels.shape, motion @ affine), volume.path)


def ready(volume: Volume, modality: str) -> Side:
    """The scan as registration wants it."""
    domain = domain_named(modality.lower())
    return side(volume, body_mask(volume.voxels, domain), domain, RegistrationConfig())


def surface(volume: Volume, modality: str) -> NDArray[np.float64]:
    """Points on the body's surface, (N, 3) in RAS+ mm."""
    body = body_mask(volume.voxels, domain_named(modality.lower()))
    index = np.argwhere(body & ~ndimage.binary_erosion(body))
    return transformed(volume.grid.affine, index[:: max(1, len(index) // 2000)])


def places(transform: sitk.Transform, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a transform takes points (N, 3) in RAS+ mm."""
    return transformed(matrix_lps(transform), points * LPS) * LPS


def transformed(matrix: NDArray[np.float64], points: NDArray[np.generic]) -> NDArray[np.float64]:
    """Points (N, 3) under a matrix (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def errors(name: str, one: NDArray[np.float64], other: NDArray[np.float64], grid: Grid) -> dict[str, float]:
    """The mean distance of points (N, 3) in RAS+ mm, in voxels in plane and with each axis in its own voxels."""
    apart = one - other
    in_plane = np.linalg.norm(apart, axis=1).mean() / min(grid.spacing_mm[:2])
    by_axis = np.linalg.norm(apart @ np.linalg.inv(grid.affine[:3, :3]).T, axis=1).mean()
    return {name: float(in_plane), f"{name}_by_axis": float(by_axis)}


if __name__ == "__main__":
    main()
