"""Draw the contact sheets of the phantom: ``python docs/draw_phantom.py [FOLDER]``.

A row for each subject (for each series of a head), at several levels, in the radiological convention: the patient's
right is on the left of the image. Where a subject has lesions, the level nearest to the largest of them is moved there.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medgan.phantom.kinds import KINDS

SEED = 2
LEVELS_MM = (45.0, 10.0, -15.0, -45.0)
SHAPE = (192, 192, 48)
ROWS = slice(22, 170)
"""The part of an abdominal slice's height that holds the patient."""
WINDOW_HU = (-160.0, 240.0)
WIDE_HU = (-400.0, 600.0)
HEAD_LEVELS_MM = (-50.0, -14.0, 2.0, 14.0, 34.0)
HEAD_SHAPE = (120, 140, 30)

Panel = NDArray[np.uint8]
Row = tuple[str, list[tuple[str, Panel]]]
"""What is written over a row, and its pictures, each with its own caption."""


def slices(levels_mm: Iterable[float], slice_mm: float, lesions: NDArray[np.uint8]) -> list[int]:
    """The slices to show of a subject with such lesions (X, Y, Z)."""
    shown = [round(level / slice_mm + (lesions.shape[2] - 1) / 2) for level in levels_mm]
    if lesions.any():
        largest = int(lesions.sum(axis=(0, 1), dtype=np.int64).argmax())
        nearest = min(range(len(shown)), key=lambda place: abs(shown[place] - largest))
        shown[nearest] = largest
    return shown


def panel(voxels: NDArray[np.int16], lower: float, upper: float) -> Panel:
    """One slice (X, Y) as grey values (height, width)."""
    grey = np.clip((voxels - lower) / (upper - lower), 0, 1) * 255
    return grey.T[::-1, ::-1].astype(np.uint8)


def abdomens_in_ct() -> Iterable[Row]:
    """Four subjects from the late arterial to the portal phase, contrast beside plain at W400 L40."""
    kind = KINDS["abdomen_ct"]
    for subject in (3, 7, 8, 11):
        volumes = kind.render(SEED, subject, shape=SHAPE)
        pictures = [
            (domain, panel(volumes[domain][:, :, z], *WINDOW_HU)[ROWS])
            for z in slices(LEVELS_MM, 2.5, volumes["lesions"])
            for domain in kind.domains
        ]
        note = ", liver lesions" if volumes["lesions"].any() else ""
        yield f"subject {subject}: phase {kind.describe(SEED, subject)['plain']['phase']:.2f}{note}", pictures


def abdomens_in_mr_and_ct() -> Iterable[Row]:
    """Two subjects, MR beside CT at W1000 L100."""
    kind = KINDS["abdomen_mr_ct"]
    for subject in (3, 8):
        volumes = kind.render(SEED, subject, shape=SHAPE)
        brightest = float(np.percentile(volumes["mr"], 99.5))
        pictures = []
        for z in slices(LEVELS_MM[:3], 2.5, volumes["lesions"]):
            pictures.append(("mr", panel(volumes["mr"][:, :, z], 0, brightest)[ROWS]))
            pictures.append(("ct", panel(volumes["ct"][:, :, z], *WIDE_HU)[ROWS]))
        yield f"subject {subject}: scale {kind.describe(SEED, subject)['mr']['scale']:g}", pictures


def heads_in_mr() -> Iterable[Row]:
    """One subject with lesions in all series, T1 before and after gadolinium in one window."""
    kind = KINDS["head_mr"]
    volumes = kind.render(SEED, 0, shape=HEAD_SHAPE, lesions=1.0)
    for domain in kind.scans:
        brightest = float(np.percentile(volumes["t1_gd" if domain == "t1" else domain], 99.3))
        shown = slices(HEAD_LEVELS_MM, 4.0, volumes["lesions"])
        yield domain, [("", panel(volumes[domain][:, :, z], 0, brightest)) for z in shown]


def draw(rows: Iterable[Row], path: Path) -> None:
    """Write a sheet."""
    captions, pictures = zip(*rows, strict=True)
    sheet = Image.fromarray(np.vstack([np.hstack([picture for _, picture in row]) for row in pictures]))
    pen = ImageDraw.Draw(sheet)
    height, width = pictures[0][0][1].shape
    for row, caption in enumerate(captions):
        pen.text((4, row * height + 2), caption, fill=255)
    for column, (caption, _) in enumerate(pictures[0]):
        pen.text((column * width + 4, height - 12), caption, fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(40).save(path, optimize=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images"
    draw(abdomens_in_ct(), folder / "phantom_abdomen_ct.png")
    draw(abdomens_in_mr_and_ct(), folder / "phantom_abdomen_mr_ct.png")
    draw(heads_in_mr(), folder / "phantom_head_mr.png")
