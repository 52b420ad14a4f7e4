import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from medgan.data.grid import UNPLACED
from medgan.pictures.views import fullest, spread, standing_up, view, view_of
from tests.marked import ORDERS, SIZE, SPACING_MM, marked

PLACES = {"axial": 23, "coronal": 40, "sagittal": 8}


def quarter(pixels):
    """Where in a picture the bright block lies: its centre as shares of height and width."""
    rows, columns = np.nonzero(pixels > 200)
    return rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1]


@pytest.mark.parametrize(("codes", "degrees"), ORDERS.values(), ids=ORDERS)
def test_what_is_left_in_front_and_above_is_where_radiologists_have_it_however_it_is_stored(codes, degrees):
    volume = marked(codes, degrees)
    assert degrees or "".join(aff2axcodes(volume.grid.affine)) == codes
    for plane, place in PLACES.items():
        shown = view_of(volume, plane, place)
        row, column = quarter(shown.pixels)
        assert row < 0.4  # the front of an axial slice is above, and the head of the others
        assert (column < 0.4) if plane == "sagittal" else (column > 0.6)  # front, or the patient's left
        assert (shown.number, shown.count) == (place + 1, SIZE[("sagittal", "coronal", "axial").index(plane)])
        assert ("oblique by 20°" in shown.caption) == bool(degrees)


@pytest.mark.parametrize(("codes", "degrees"), ORDERS.values(), ids=ORDERS)
def test_letters_distances_and_places_are_the_patients(codes, degrees):
    volume, (x, y, z) = marked(codes, degrees), SPACING_MM
    axial, coronal, sagittal = (view_of(volume, plane, place) for plane, place in PLACES.items())
    assert axial.letters == ("R", "L", "A", "P")
    assert coronal.letters == ("R", "L", "S", "I")
    assert sagittal.letters == ("A", "P", "S", "I")
    np.testing.assert_allclose(axial.spacing_mm, (y, x))
    np.testing.assert_allclose(coronal.spacing_mm, (z, x))
    np.testing.assert_allclose(sagittal.spacing_mm, (z, y))
    np.testing.assert_allclose(axial.size_mm, (50 * y, 40 * x))
    # Voxel 23 of 30 slices of 2.5 mm around 0.
    assert axial.position_mm == pytest.approx((23 - 14.5) * 2.5)
    assert axial.caption.startswith("axial, slice 24 of 30, S 21.2 mm")
    along = np.cos(np.radians(degrees))
    assert sagittal.position_mm == pytest.approx((8 - 19.5) * 1.0 * along)
    assert sagittal.caption.startswith("sagittal, slice 9 of 40, L ")


def test_a_patch_has_sides_but_no_millimetres():
    shown = view(np.zeros((4, 6, 3), np.float32))
    assert shown.letters == ("R", "L", "A", "P")
    assert (shown.spacing_mm, shown.position_mm, shown.size_mm) == (None, None, (6, 4))
    assert shown.caption == "axial, slice 2 of 3"


def test_sides_that_the_file_does_not_tell_are_doubted():
    volume = marked()
    object.__setattr__(volume, "notes", (UNPLACED,))
    shown = view_of(volume)
    assert shown.letters == ("R?", "L?", "A?", "P?")
    assert shown.caption.endswith(", sides assumed")


def test_the_fullest_slice_of_a_mask_is_found_by_plane():
    volume = marked("ASL")
    standing, affine = standing_up(volume.voxels, volume.grid.affine)
    assert aff2axcodes(affine) == ("R", "A", "S")
    assert [fullest(standing > 200, plane) for plane in ("sagittal", "coronal", "axial")] == [4, 36, 20]


@pytest.mark.parametrize(
    ("extent", "number", "places"), [((0, 9), 3, [1, 4, 7]), ((10, 20), 1, [15]), ((3, 4), 3, [3]), ((0, 2), 3, [0, 1])]
)
def test_slices_are_spread_evenly_and_none_is_shown_twice(extent, number, places):
    assert spread(extent, number) == places


def test_a_part_of_a_slice_keeps_its_place():
    whole = view_of(marked())
    part = whole.cut(slice(2, 6), slice(10, 30))
    assert part.pixels.shape == (4, 20)
    assert part.caption == whole.caption
