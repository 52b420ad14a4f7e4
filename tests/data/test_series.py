from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medgan.data.series import Slice, in_order, is_stack, positions_mm, series_affine
from medgan.errors import DataError, GeometryError

FOLDER = Path("study")


def one(position, name="slice", *, series="1.2", size=(4, 5), spacing=(0.5, 0.75, 1), turn=None, positioned=True):
    direction = np.eye(3) if turn is None else turn
    return Slice(FOLDER / name, series, size, np.array(spacing), np.array(position, float), direction, positioned)


def stack(heights, **options):
    return [one((1, 2, z), f"{number}.dcm", **options) for number, z in enumerate(heights)]


@given(
    st.permutations(range(6)),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(0.3, 10),
    st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_slices_are_ordered_along_their_normal_whatever_their_names_and_orientation(order, turn, spacing, start):
    rotation = Rotation.from_rotvec(turn).as_matrix()
    slices = [one(np.array(start) + z * spacing * rotation[:, 2], str(z), turn=rotation) for z in order]
    ordered = in_order(FOLDER, slices)
    assert [part.path.name for part in ordered] == list("012345")
    affine = series_affine(ordered)
    for z, part in enumerate(ordered):
        np.testing.assert_allclose(affine @ [0, 0, z, 1], [*(part.origin_mm * [-1, -1, 1]), 1], atol=1e-6)


@pytest.mark.parametrize("heights", [[0], [0, 2], [5, 3, 1], [0.0, 0.7, 1.5, 2.2, 3.0], [-766.5, -768.5, -764.5]])
def test_even_positions_pass_with_the_rounding_that_files_have(heights):
    assert [part.origin_mm[2] for part in in_order(FOLDER, stack(heights))] == sorted(heights)


def test_a_lone_slice_keeps_its_own_spacing_and_needs_no_position():
    lone = one((1, 2, 3), spacing=(1, 1, 5), positioned=False)
    np.testing.assert_array_equal(series_affine(in_order(FOLDER, [lone]))[:3, 2], [0, 0, 5])


TURNED = Rotation.from_euler("x", 90, degrees=True).as_matrix()

REFUSED = {
    "one missing": (
        stack([0, 2, 6, 8]),
        GeometryError,
        r"missing slices, 1 at a spacing of 2 mm.*\(1, 2, 2\) and \(1, 2, 6",
    ),
    "many missing": (stack([0, 1, 2, 12, 14]), GeometryError, r"missing slices, 10 at.*\(1, 2, 2\) and \(1, 2, 12\)"),
    "uneven": (stack([0, 2, 4, 7]), GeometryError, r"uneven slice spacing, 2 to 3 mm \(between \(1, 2, 4\)"),
    "drifting": (stack([0, 1, 2.1, 3.3, 4.6]), GeometryError, r"uneven slice spacing"),
    "duplicate": (stack([0, 2, 2, 4]), GeometryError, r"duplicate positions, 1\.dcm and 2\.dcm lie at one place"),
    "all at one place": (stack([3, 3]), GeometryError, r"duplicate positions"),
    "tilted": ([one((0, 0.4 * z, 2 * z)) for z in range(5)], GeometryError, r"sheared.* 11\.31° off the slice normal"),
    "mixed series": ([*stack([0, 2]), *stack([4], series="9")], DataError, r"mixed series, 2 SeriesInstanceUIDs"),
    "mixed sizes": ([*stack([0, 2]), *stack([4], size=(8, 8))], GeometryError, r"mixed sizes, \(8, 8\) and \(4, 5\)"),
    "mixed spacings": ([*stack([0, 2]), *stack([4], spacing=(1, 1, 1))], GeometryError, r"mixed pixel spacings"),
    "mixed orientations": ([*stack([0, 2]), *stack([4], turn=TURNED)], GeometryError, r"mixed orientations"),
    "nowhere": (stack([0, 2, 4], positioned=False), DataError, r"no ImagePositionPatient"),
}


@pytest.mark.parametrize(("slices", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_slices_that_are_no_upright_even_volume_are_refused_by_name(slices, kind, message):
    with pytest.raises(kind, match=rf"^study.*{message}"):
        in_order(FOLDER, slices[::-1])


@given(st.floats(-30, 30).filter(lambda degrees: abs(degrees) > 3), st.floats(0.5, 10), st.integers(2, 40))
def test_any_tilt_of_a_gantry_is_noticed(degrees, spacing, count):
    slope = np.tan(np.radians(degrees))
    with pytest.raises(GeometryError, match="tilted gantry"):
        in_order(FOLDER, [one((0, slope * spacing * z, spacing * z)) for z in range(count)])


@pytest.mark.parametrize(
    ("heights", "stacked"),
    [
        ([0, 2, 4, 6], True),
        ([0, 2, 2, 4, 6, 6], True),
        ([0, 2, 4], False),
        ([0, 2, 4, 60], False),
        ([0, 0, 0, 0], False),
    ],
)
def test_a_stack_is_four_even_positions(heights, stacked):
    assert is_stack(stack(heights)) is stacked


def test_positions_are_distinct_and_ascending():
    np.testing.assert_allclose(positions_mm(stack([4, 2, 2.0000001, 0])), [0, 2, 4])
