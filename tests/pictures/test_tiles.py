import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medgan.pictures.tiles import OUTLINES, SIDE, STRIP, Outline, Row, Tile, bar_mm, draw, outlines_of, sheet
from medgan.pictures.views import view, view_of
from medgan.pictures.windows import SOFT_TISSUE, change
from tests.marked import ORDERS, bright_centre, marked


def drawn(tile, side=SIDE):
    return np.asarray(draw(tile, side)).astype(int)


@pytest.mark.parametrize(("codes", "degrees"), ORDERS.values(), ids=ORDERS)
def test_a_marker_at_the_patients_left_front_is_at_the_upper_right_of_an_axial_tile(codes, degrees):
    row, column, high, wide = bright_centre(drawn(Tile(view_of(marked(codes, degrees), "axial", 23), SOFT_TISSUE)))
    assert row < 0.4
    assert column > 0.6
    # The block is 8 x 1 mm wide and 10 x 1.2 mm high, and the tile shows the 60 mm of the longer side.
    assert (wide, high) == pytest.approx((8 * 256 / 60, 12 * 256 / 60), abs=3)


def test_a_tile_is_large_and_to_scale_along_both_sides():
    coronal = drawn(Tile(view_of(marked(), "coronal", 40), SOFT_TISSUE), 300)
    assert coronal.shape == (300, 300, 3)
    assert SIDE >= 256
    _, _, high, wide = bright_centre(coronal)
    assert (wide, high) == pytest.approx((8 * 4, 7 * 2.5 * 4), abs=3)  # 75 mm high: 4 pixels a mm


def test_the_scale_bar_is_as_long_as_it_says():
    pixels = drawn(Tile(view_of(marked(), "axial", 2), SOFT_TISSUE))
    (columns,) = np.nonzero((pixels[-9, : SIDE // 2 - 12] == 255).all(axis=1))  # the letter P is in the middle
    assert bar_mm(60) == 20
    assert np.ptp(columns) + 1 == pytest.approx(20 * 256 / 60, abs=1)
    patch = drawn(Tile(view(np.full((32, 32, 1), -500.0, np.float32)), SOFT_TISSUE))
    assert not (patch[-9, :100] == 255).any()  # nobody knows a patch's scale


@pytest.mark.parametrize(("width_mm", "bar"), [(400, 100), (200, 50), (30, 10), (10, 2), (1, 1)])
def test_a_scale_bar_has_a_round_length_below_a_third_of_the_picture(width_mm, bar):
    assert bar_mm(width_mm) == bar


@pytest.mark.parametrize("dashed", [False, True])
def test_an_outline_runs_along_the_rim_of_its_mask(dashed):
    mask = np.zeros((32, 32), bool)
    mask[8:16, 10:26] = True
    shown = replace(view(np.full((32, 32, 1), -500.0, np.float32)), spacing_mm=None)
    pixels = drawn(Tile(shown, SOFT_TISSUE, outlines=[Outline(mask, "#ff0000", "truth", dashed)]))
    rows, columns = np.nonzero((pixels[..., 0] > 128) & (pixels[..., 1] < 60))
    assert (rows.min(), rows.max() + 1) == pytest.approx((8 * 8, 16 * 8), abs=2)
    assert (columns.min(), columns.max() + 1) == pytest.approx((10 * 8, 26 * 8), abs=2)
    middle = ((rows > 70) & (rows < 120) & (columns > 90) & (columns < 200)).sum()
    assert middle == 0


def test_a_sheet_has_titles_captions_and_a_colour_bar_that_is_symmetric_about_zero():
    shown = view_of(marked())
    tiles = [Tile(shown, SOFT_TISSUE, "source"), Tile(shown, change(100.0, "HU"), "change")]
    picture = sheet([Row(tiles, f"case 1, {shown.caption}"), Row([tiles[0], None])], "two rows", title="A run")
    pixels = np.asarray(picture.image).astype(int)
    assert pixels.shape[1] > 2 * SIDE
    coloured = np.ptp(pixels, axis=2) > 100
    bar = np.flatnonzero(coloured.sum(axis=1) > 50)
    ramp = pixels[int(np.median(bar[np.diff(bar, append=0) == 1]))][-SIDE - 6 : -6]
    assert ramp[1:100, 2].mean() > ramp[1:100, 0].mean()  # blue at the left
    assert ramp[-100:-1, 0].mean() > ramp[-100:-1, 2].mean()  # red at the right
    assert np.ptp(ramp[SIDE // 2 - 1 : SIDE // 2 + 1].mean(axis=0)) < 5
    # The page is white where a tile is missing.
    assert (pixels[-150:-50, SIDE + 20 :] == 255).all()


def test_a_picture_is_a_png_that_says_what_it_shows():
    picture = sheet([Row([Tile(view_of(marked()), SOFT_TISSUE)])], "case 1 – axial")
    with Image.open(io.BytesIO(picture.png())) as image:
        assert image.format == "PNG"
        assert image.text["Description"] == "case 1 – axial"
        assert min(image.size) >= 256


def test_text_that_is_too_long_is_cut_and_moves_nothing():
    shown = view_of(marked())
    tile = Tile(shown, SOFT_TISSUE, "title")
    short, long = (sheet([Row([replace(tile, title=text)], text)], "") for text in ("a", "a long title " * 20))
    assert short.image.size == long.image.size
    assert len(set(OUTLINES)) >= 5


def test_names_of_outlines_take_as_many_lines_below_a_tile_as_they_need():
    shown = view_of(marked())
    names = [f"structure {number}" for number in range(9)]
    labels = np.zeros(shown.pixels.shape, int)
    heights = [
        sheet([Row([Tile(shown, window, outlines=outlines_of(labels, names[:number]))])], "").image.height
        for window in (SOFT_TISSUE, change(1.0, "HU"))
        for number in (0, 1, 9)
    ]
    none, one, many, *coloured = heights
    assert one - none == STRIP
    assert many - one >= 3 * STRIP
    assert coloured == [none + STRIP, one + STRIP, many + STRIP]
