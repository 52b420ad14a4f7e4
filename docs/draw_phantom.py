"""Draw the contact sheet of the abdomen phantom: ``python docs/draw_phantom.py``.

Four subjects from the late arterial to the portal phase, each at four levels, contrast beside plain at W400 L40, in the
radiological convention: the patient's right is on the left of the image. Where a subject has liver lesions, the level
nearest to the largest of them is moved there.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medgan.phantom.ct import DOMAINS, draw_scan, render_subject

SEED = 2
SUBJECTS = (3, 7, 8, 11)
LEVELS_MM = (45.0, 10.0, -15.0, -45.0)
SHAPE = (192, 192, 48)
LOWER_HU, UPPER_HU = -160.0, 240.0
ROWS = slice(22, 170)
"""The part of a slice's height that holds the patient."""


def slices(lesions: NDArray[np.uint8]) -> list[int]:
    """The slices to show of a subject with such lesions (X, Y, Z)."""
    shown = [round(level / 2.5 + (SHAPE[2] - 1) / 2) for level in LEVELS_MM]
    if lesions.any():
        largest = int(lesions.sum(axis=(0, 1)).argmax())
        nearest = min(range(len(shown)), key=lambda place: abs(shown[place] - largest))
        shown[nearest] = largest
    return shown


def panel(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """One slice (X, Y) as grey values (height, width)."""
    grey = np.clip((hu - LOWER_HU) / (UPPER_HU - LOWER_HU), 0, 1) * 255
    return grey.T[::-1, ::-1][ROWS].astype(np.uint8)


def main(path: Path) -> None:
    """Render the subjects and write the sheet."""
    rows, captions = [], []
    for subject in SUBJECTS:
        volumes = render_subject(SEED, subject, shape=SHAPE)
        rows.append(
            np.hstack([panel(volumes[domain][:, :, z]) for z in slices(volumes["lesions"]) for domain in DOMAINS])
        )
        scan, lesions = draw_scan(SEED, subject), volumes["lesions"].any()
        captions.append(f"subject {subject}: phase {scan.phase:.2f}{', liver lesions' if lesions else ''}")
    sheet = Image.fromarray(np.vstack(rows))
    draw = ImageDraw.Draw(sheet)
    height = rows[0].shape[0]
    for row, caption in enumerate(captions):
        draw.text((4, row * height + 2), caption, fill=255)
    for column, domain in enumerate(DOMAINS * len(LEVELS_MM)):
        draw.text((column * SHAPE[0] + 4, height - 12), domain, fill=255)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "images" / "phantom_abdomen_ct.png"))
