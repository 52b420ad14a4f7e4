"""Slices as tiles with sides, scale and window, and sheets of tiles with titles, captions and colour bars."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from medgan.pictures.views import View
from medgan.pictures.windows import DisplayWindow, number

SIDE = 256
"""Pixels of a tile's edge, at least."""
OUTLINES = ("#00E5A0", "#FF4FD8", "#56B4E9", "#E69F00", "#F0E442", "#D55E00")
"""Of masks on grey; told apart by the colour-blind, and the first two by dashes as well."""
BARS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
LONGEST_BAR = 0.35
"""Of a tile's edge."""
GAP, STRIP, FONT = 6, 17, 12
"""Between tiles, a line of text, and its letters, in pixels."""
PAPER, INK = "white", "black"
FINER = 3
"""Lines are drawn so many times larger first: their edges are then smooth."""
SAMPLE = 16
"""Pixels of an outline beside its name."""
DASH = 9
"""Pixels of a dash, and of the gap after it."""


@dataclass(frozen=True, eq=False)
class Outline:
    """The rim of a mask."""

    mask: NDArray[Any]
    """(rows, columns), the pixels of a view on the same grid; what is not 0 is inside."""
    colour: str
    name: str = ""
    """Said below the tile."""
    dashed: bool = False


@dataclass(frozen=True, eq=False)
class Tile:
    """A slice, and how it is shown."""

    view: View
    window: DisplayWindow
    title: str = ""
    outlines: Sequence[Outline] = field(default=())
    frame: str = ""
    """The colour of a frame that warns; none where it is empty."""


@dataclass(frozen=True, eq=False)
class Row:
    """Tiles side by side, an empty place for None; the caption says whose slice it is and where."""

    tiles: Sequence[Tile | None]
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture and what it shows, in words."""

    image: Image.Image
    """RGB."""
    caption: str

    def png(self) -> bytes:
        """As the content of a PNG file, which holds the caption as its ``Description``."""
        stream = io.BytesIO()
        info = PngInfo()
        info.add_itxt("Description", self.caption)
        self.image.save(stream, format="PNG", pnginfo=info, compress_level=4)
        return stream.getvalue()


def outlines_of(labels: NDArray[Any], names: Iterable[str]) -> list[Outline]:
    """The rims of a label map (rows, columns), in which 1 is the first of ``names``, each in its own colour."""
    return [
        Outline(labels == number, OUTLINES[(number - 1) % len(OUTLINES)], name)
        for number, name in enumerate(names, start=1)
    ]


def draw(tile: Tile, side: int = SIDE) -> Image.Image:
    """The slice in a black square (side, side): to scale, with outlines, the patient's sides and a scale bar.

    ``side`` is in pixels.
    """
    high, wide = tile.view.size_mm
    scale = side / max(high, wide)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    grey = Image.fromarray(np.ascontiguousarray(tile.view.pixels, dtype=np.float32))
    coloured = tile.window.colours(np.asarray(grey.resize(size, Image.Resampling.BICUBIC)))
    canvas = Image.new("RGB", (side, side))
    canvas.paste(Image.fromarray(coloured), (left, top))
    for outline in (each for each in tile.outlines if np.any(each.mask)):
        _trace(canvas, outline, size, (left, top))
    pen = ImageDraw.Draw(canvas)
    colours = ("black", "white") if tile.window.diverging else ("white", "black")  # of letters, and around them
    edges = {"lm": (3, side // 2), "rm": (side - 3, side // 2), "ma": (side // 2, 2), "md": (side // 2, side - 2)}
    for (anchor, place), letter in zip(edges.items(), tile.view.letters, strict=True):
        _text(pen, place, letter, anchor, colours)
    if tile.view.spacing_mm:
        _scale_bar(pen, side, scale, colours)
    if tile.frame:
        pen.rectangle((0, 0, side - 1, side - 1), outline=tile.frame, width=4)
    return canvas


def sheet(rows: Sequence[Row], caption: str, *, title: str = "", side: int = SIDE) -> Picture:
    """Rows of tiles with their titles above, and below each its window, or the colour bar of a difference.

    Args:
        rows: From top to bottom.
        caption: What the picture shows, for whoever lists it.
        title: Over all of it.
        side: Edge of a tile in pixels.
    """
    columns = max(len(row.tiles) for row in rows)
    width = GAP + columns * (side + GAP)
    strips = [_strip(row, width, side) for row in rows]
    head = STRIP + GAP if title else 0
    page = Image.new("RGB", (width, head + sum(strip.height for strip in strips)), PAPER)
    if title:
        _line(ImageDraw.Draw(page), (GAP, GAP // 2), title, width - 2 * GAP, bold=True)
    top = head
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    return Picture(page, caption)


def bar_mm(width_mm: float) -> int:
    """The length of a scale bar in a picture that is so wide."""
    return max((bar for bar in BARS_MM if bar <= LONGEST_BAR * width_mm), default=BARS_MM[0])


def _strip(row: Row, width: int, side: int) -> Image.Image:
    """A row of a sheet: caption, titles, tiles, and below each what its shades and outlines are."""
    shown = [tile for tile in row.tiles if tile]
    head = STRIP * (bool(row.caption) + any(tile.title for tile in shown))
    lines = max((1 + tile.window.diverging + len(_legend(tile, side)) for tile in shown), default=0)
    strip = Image.new("RGB", (width, head + side + lines * STRIP + GAP), PAPER)
    pen = ImageDraw.Draw(strip)
    if row.caption:
        _line(pen, (GAP, 1), row.caption, width - 2 * GAP)
    for place, tile in enumerate(row.tiles):
        left = GAP + place * (side + GAP)
        if tile is None:
            continue
        _line(pen, (left, head - STRIP + 1), tile.title, side, bold=True)
        strip.paste(draw(tile, side), (left, head))
        _key(strip, tile, (left, head + side + 2), side)
    return strip


def _legend(tile: Tile, side: int) -> list[list[tuple[int, Outline]]]:
    """The named outlines of a tile in lines below it, each with the pixels that lie left of it."""
    lines: list[list[tuple[int, Outline]]] = []
    left = side
    for outline in tile.outlines:
        if outline.name:
            wide = SAMPLE + 14 + round(_font().getlength(outline.name))
            if left + wide > side:
                lines.append([])
                left = 0
            lines[-1].append((left, outline))
            left += wide
    return lines


def _key(strip: Image.Image, tile: Tile, corner: tuple[int, int], side: int) -> None:
    """What the shades of a tile mean, a colour bar where they are colours, and what its outlines are."""
    pen, (left, top), window = ImageDraw.Draw(strip), corner, tile.window
    if window.diverging:
        ramp = np.linspace(window.lower, window.upper, side)[None].repeat(8, axis=0)
        strip.paste(Image.fromarray(window.colours(ramp)), (left, top + 2))
        pen.rectangle((left, top + 2, left + side - 1, top + 9), outline="#888888")
        numbers = number(window.lower), "0", f"+{number(window.upper)} {window.unit}"
        for anchor, x, text in zip(("la", "ma", "ra"), (0, side // 2, side), numbers, strict=True):
            pen.text((left + x, top + 12), text, fill=INK, font=_font(), anchor=anchor)
        top += STRIP
    else:
        _line(pen, corner, window.label, side)
    for row, line in enumerate(_legend(tile, side), start=1):
        for before, outline in line:
            x, y = left + before, top + row * STRIP
            pen.line((x, y + 8, x + SAMPLE, y + 8), fill="black", width=5)
            for first, last in ((0, 6), (10, SAMPLE)) if outline.dashed else ((0, SAMPLE),):
                pen.line((x + first, y + 8, x + last, y + 8), fill=outline.colour, width=3)
            pen.text((x + SAMPLE + 4, y), outline.name, fill=INK, font=_font())


def _trace(canvas: Image.Image, outline: Outline, size: tuple[int, int], corner: tuple[int, int]) -> None:
    """Draw the rim of a mask on a slice that is shown in ``size`` at ``corner`` of the canvas."""
    from skimage.measure import find_contours  # like matplotlib below: who draws nothing need not wait for it

    mask = np.pad(np.asarray(outline.mask) != 0, 1)
    step = np.array([size[1] / outline.mask.shape[0], size[0] / outline.mask.shape[1]])
    fine = Image.new("L", (canvas.width * FINER, canvas.height * FINER))
    pen = ImageDraw.Draw(fine)
    for rim in find_contours(mask.astype(np.float32), 0.5):
        # A contour runs through the middles of pixels, the first of which is padding.
        points = ((rim - 0.5) * step + (corner[1], corner[0]))[:, ::-1]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        drawn = along // DASH % 2 == 0 if outline.dashed else np.ones(len(points), bool)
        for start, stop, on in zip(points[:-1] * FINER, points[1:] * FINER, drawn, strict=False):
            if on:
                pen.line((*start, *stop), fill=255, width=2 * FINER - 1)
    canvas.paste(outline.colour, mask=fine.resize(canvas.size, Image.Resampling.BOX))


def _scale_bar(pen: ImageDraw.ImageDraw, side: int, scale: float, colours: tuple[str, str]) -> None:
    """A bar of a round length in the lower left corner; ``scale`` is in pixels a mm."""
    length = bar_mm(side / scale)
    left, bottom = 8, side - 8
    right = left + round(length * scale) - 1
    pen.rectangle((left - 1, bottom - 3, right + 1, bottom + 1), fill=colours[1])
    pen.rectangle((left, bottom - 2, right, bottom), fill=colours[0])
    _text(pen, (left, bottom - 5), f"{length} mm" if length < 10 else f"{length // 10} cm", "ld", colours)


def _text(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, anchor: str, colours: tuple[str, str]) -> None:
    """Letters with a rim, so that they can be read on anything."""
    font = _font(FONT + 1, bold=True)
    pen.text(place, text, fill=colours[0], font=font, anchor=anchor, stroke_width=1, stroke_fill=colours[1])


def _line(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, *, bold: bool = False) -> None:
    """A line of text that ends with an ellipsis where it would be wider than ``width`` pixels."""
    font = _font(bold=bold)
    shown = text
    while shown and pen.textlength(shown, font) > width:
        shown = shown[:-2].rstrip("… ") + "…" if len(shown) > 2 else ""
    pen.text(place, shown, fill=INK, font=font)


@cache
def _font(size: int = FONT, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """matplotlib's, which has the signs of all languages of Europe."""
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)
