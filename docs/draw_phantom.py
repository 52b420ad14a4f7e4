"""Draw the contact sheets of the phantom: ``python docs/draw_phantom.py [FOLDER]``.

A row for each subject (for each series of a head), at several levels, as radiologists hang them: the patient's right is
on the left of the image. Where a subject has lesions, the level nearest to the largest of them is moved there.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan.phantom.kinds import KINDS, Kind
from medgan.pictures.tiles import Row, Tile, sheet
from medgan.pictures.views import view
from medgan.pictures.windows import SOFT_TISSUE, DisplayWindow

SEED = 2
LEVELS_MM = (45.0, 10.0, -15.0, -45.0)
SHAPE = (192, 192, 48)
WIDE = DisplayWindow("wide", -400.0, 600.0, "HU")
HEAD_LEVELS_MM = (-50.0, -14.0, 2.0, 14.0, 34.0)
HEAD_SHAPE = (120, 140, 30)


def slices(levels_mm: Iterable[float], slice_mm: float, lesions: NDArray[np.uint8]) -> list[int]:
    """The slices to show of a subject with such lesions (X, Y, Z)."""
    shown = [round(level / slice_mm + (lesions.shape[2] - 1) / 2) for level in levels_mm]
    if lesions.any():
        largest = int(lesions.sum(axis=(0, 1), dtype=np.int64).argmax())
        nearest = min(range(len(shown)), key=lambda place: abs(shown[place] - largest))
        shown[nearest] = largest
    return shown


def tile(kind: Kind, voxels: NDArray[np.int16], place: int, window: DisplayWindow, title: str) -> Tile:
    """An axial slice of a phantom's scan (X, Y, Z), whose middle is the origin."""
    affine = np.diag([*kind.spacing_mm(voxels.shape), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(voxels.shape) - 1) / 2
    shown = view(voxels, affine, "axial", place)
    return Tile(shown, window, f"{title}, {shown.caption.rpartition(', ')[2]}")


def up_to(brightest: float) -> DisplayWindow:
    """An MR from nothing to its brightest tissue."""
    return DisplayWindow("to the brightest tissue", 0.0, brightest, "arbitrary")


def abdomens_in_ct() -> Iterable[Row]:
    """Four subjects from the late arterial to the portal phase, contrast beside plain."""
    kind = KINDS["abdomen_ct"]
    for subject in (3, 7, 8, 11):
        volumes = kind.render(SEED, subject, shape=SHAPE)
        tiles = [
            tile(kind, volumes[domain], z, SOFT_TISSUE, domain)
            for z in slices(LEVELS_MM, 2.5, volumes["lesions"])
            for domain in kind.domains
        ]
        note = ", liver lesions" if volumes["lesions"].any() else ""
        yield Row(tiles, f"subject {subject}: phase {kind.describe(SEED, subject)['plain']['phase']:.2f}{note}")


def abdomens_in_mr_and_ct() -> Iterable[Row]:
    """Two subjects, MR beside CT."""
    kind = KINDS["abdomen_mr_ct"]
    for subject in (3, 8):
        volumes = kind.render(SEED, subject, shape=SHAPE)
        windows = {"mr": up_to(float(np.percentile(volumes["mr"], 99.5))), "ct": WIDE}
        tiles = [
            tile(kind, volumes[domain], z, window, domain)
            for z in slices(LEVELS_MM[:3], 2.5, volumes["lesions"])
            for domain, window in windows.items()
        ]
        yield Row(tiles, f"subject {subject}: scale {kind.describe(SEED, subject)['mr']['scale']:g}")


def heads_in_mr() -> Iterable[Row]:
    """One subject with lesions in all series, T1 before and after gadolinium in one window."""
    kind = KINDS["head_mr"]
    volumes = kind.render(SEED, 0, shape=HEAD_SHAPE, lesions=1.0)
    for domain in kind.scans:
        window = up_to(float(np.percentile(volumes["t1_gd" if domain == "t1" else domain], 99.3)))
        shown = slices(HEAD_LEVELS_MM, 4.0, volumes["lesions"])
        yield Row([tile(kind, volumes[domain], z, window, domain) for z in shown])


def draw(rows: Iterable[Row], path: Path) -> None:
    """Write a sheet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(list(rows), "").image.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    draw(abdomens_in_ct(), folder / "phantom_abdomen_ct.png")
    draw(abdomens_in_mr_and_ct(), folder / "phantom_abdomen_mr_ct.png")
    draw(heads_in_mr(), folder / "phantom_head_mr.png")
