"""A picture of each place: source and translation side by side, all of the slice and what is around the place."""

from pathlib import Path

import numpy as np

from medgan.data.streams import replacing
from medgan.data.volumes import Volume
from medgan.faithfulness.alone import modality_of
from medgan.faithfulness.places import Place
from medgan.pictures.tiles import OUTLINES, Outline, Row, Tile, sheet
from medgan.pictures.views import View, view, view_of
from medgan.pictures.windows import WINDOWS, DisplayWindow, percentiles

AROUND_MM = 80.0
"""Edge of the part that is shown larger."""
LUNG_HU = -300.0
"""Below it a place is shown in the window of the lung."""
TITLES = {
    "lost": "lost in the translation", "invented": "invented by the translation", "changed": "changed",
    "unexplained": "not explained by the input", "beyond_change_map": "not in the change map",
    "uncertain": "uncertainty far above elsewhere",
}  # fmt: skip
"""What people read of each kind."""


def draw_place(place: Place, subject: str, source: Volume, synthetic: Volume, path: Path) -> None:
    """Write the picture of a place in a study and its translation, which lie on one grid."""
    number = place.slices["axial"] - 1
    mask = np.zeros(source.grid.size, dtype=np.uint8)
    mask[tuple(place.voxels.T)] = 1
    marked = view(mask, source.grid.affine, "axial", number)
    images = {"source": source, "translation": synthetic}
    views = {name: view_of(volume, "axial", number) for name, volume in images.items()}
    windows = {name: _window(volume, place) for name, volume in images.items()}
    what = f"{place.structure} {TITLES[place.kind]}".strip()
    rows = []
    for cut in (False, True):
        outline = Outline(_around(marked, place).pixels if cut else marked.pixels, OUTLINES[0], what)
        tiles = [
            Tile(_around(own, place) if cut else own, windows[name], "" if cut else name, (outline,))
            for name, own in views.items()
        ]
        rows.append(Row(tiles, "" if cut else f"{subject}, {views['source'].caption}, {place.volume_ml:.2g} ml"))
    picture = sheet(rows, f"{subject}: {what}, {views['source'].caption}")
    with replacing(path) as stream:
        stream.write(picture.png())


def _window(volume: Volume, place: Place) -> DisplayWindow:
    if modality_of(volume) != "CT":
        return percentiles(volume.voxels)
    lung = float(np.median(volume.voxels[tuple(place.voxels.T)])) < LUNG_HU
    return WINDOWS["lung" if lung else "soft tissue"]


def _around(own: View, place: Place) -> View:
    """The part of an axial slice around a place."""
    assert own.spacing_mm
    rows, columns = own.pixels.shape
    middle = rows - place.slices["coronal"], columns - place.slices["sagittal"]
    half = [max(1, round(AROUND_MM / 2 / size)) for size in own.spacing_mm]
    spans = [slice(max(0, at - reach), at + reach + 1) for at, reach in zip(middle, half, strict=True)]
    return own.cut(spans[0], spans[1])
