"""Draw unseen slices with their translations: ``python docs/draw_translation.py COHORT.csv OUT PICTURE.png``.

OUT is what ``medgan convert COHORT.csv OUT --part test --change-map`` wrote. Of each of the first subjects by name that
the model has not seen, it draws the first slice: source, translation, and what was removed. The patient's right is on
the left of the image.
"""

import csv
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medgan.data.volumes import read_volume

SUBJECTS = 3
SIDE = 256
WINDOW_HU = (-160.0, 340.0)
CHANGE_HU = (0.0, 250.0)

Panel = NDArray[np.uint8]


def panel(path: Path, window: tuple[float, float]) -> Panel:
    """One slice as grey values (SIDE, SIDE), the patient's right on the left and front on top."""
    volume = read_volume(path)
    upright = nib.as_closest_canonical(nib.Nifti1Image(volume.voxels, volume.grid.affine))
    slice_hu = np.asarray(upright.dataobj)[:, :, 0].T[::-1, ::-1]
    grey = np.clip((slice_hu - window[0]) / (window[1] - window[0]), 0, 1) * 255
    return np.asarray(Image.fromarray(grey.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def unseen(cohort: Path, out: Path) -> dict[str, tuple[Path, Path, Path]]:
    """By subject: source, translation and change map of the first slice that the model has not seen."""
    with cohort.open(newline="") as table:
        rows = sorted((row["subject"], row["image"]) for row in csv.DictReader(table))
    slices: dict[str, tuple[Path, Path, Path]] = {}
    for subject, image in rows:
        stem = out / Path(image).with_suffix("")
        sidecar = stem.with_suffix(".json")
        if (
            subject not in slices
            and sidecar.exists()
            and json.loads(sidecar.read_text())["Training"]["ThisImage"] == "unseen"
        ):
            paths = stem.with_suffix(".nii.gz"), stem.with_name(f"{stem.name}_change.nii.gz")
            slices[subject] = (cohort.parent / image, *paths)
    return slices


def draw(slices: dict[str, tuple[Path, Path, Path]], path: Path) -> None:
    """Write the sheet: a row a subject."""
    windows = WINDOW_HU, WINDOW_HU, CHANGE_HU
    rows = [
        np.hstack([panel(each, window) for each, window in zip(paths, windows, strict=True)])
        for paths in slices.values()
    ]
    sheet = Image.fromarray(np.vstack(rows))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    captions = (
        f"contrast CT, {WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU",
        "translated to plain CT, same window",
        f"removed, {CHANGE_HU[0]:.0f} to {CHANGE_HU[1]:.0f} HU",
    )
    for row, subject in enumerate(slices):
        top = row * SIDE
        pen.text((4, top + SIDE - 18), subject, fill=255, font=font)
        pen.text((4, top + SIDE // 2), "R", fill=255, font=font)
        pen.text((SIDE - 14, top + SIDE // 2), "L", fill=255, font=font)
    for column, caption in enumerate(captions):
        pen.text((column * SIDE + 4, 2), caption, fill=255, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(48).save(path, optimize=True)


if __name__ == "__main__":
    table, folder, picture = map(Path, sys.argv[1:4])
    draw(dict(list(unseen(table, folder).items())[:SUBJECTS]), picture)
