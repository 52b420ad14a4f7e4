import numpy as np
import pytest

from medgan.phantom.shapes import TALL, Ellipsoid, Tube, coverage, dome, half_space, slab
from medgan.phantom.space import Space, Waves

BALL = Ellipsoid((0.0, 0.0, 0.0), (20.0, 20.0, 20.0))
GRIDS = {
    "fine": ((64, 64, 64), (1.0, 1.0, 1.0)),
    "coarse": ((24, 24, 20), (3.8, 3.8, 5.0)),
    "thick slices": ((64, 64, 12), (1.0, 1.0, 6.0)),
}


@pytest.fixture(params=GRIDS, ids=lambda name: name)
def space(request):
    return Space.regular(*GRIDS[request.param])


@pytest.mark.parametrize(
    ("shape", "volume_mm3"),
    [
        (BALL, 4 / 3 * np.pi * 20**3),
        (Ellipsoid((3.0, -2.0, 1.0), (28.0, 18.0, 22.0), turn_deg=30, tilt_deg=-20), 4 / 3 * np.pi * 28 * 18 * 22),
        (Tube([(-15.0, -5.0, 0.0), (15.0, 5.0, 8.0)], 9.0), np.pi * 9**2 * 1064**0.5 + 4 / 3 * np.pi * 9**3),
        (Ellipsoid((0.0, 0.0, 0.0), (20.0, 15.0, TALL)).within(slab(-20.0, 20.0)), np.pi * 20 * 15 * 40),
    ],
    ids=["ball", "turned ellipsoid", "tube", "drum"],
)
def test_coverage_adds_up_to_the_volume_on_every_grid(shape, volume_mm3, space):
    filled_mm3 = coverage(shape.distance(space), space.spacing_mm).sum() * np.prod(space.spacing_mm)
    assert filled_mm3 == pytest.approx(volume_mm3, rel=0.03)
    slice_ = Space.regular((60, 60, 1), (1.0, 1.0, 5.0))  # of a single slice it adds up to the area
    assert coverage(BALL.distance(slice_), slice_.spacing_mm).sum() == pytest.approx(np.pi * 400, rel=0.02)


def test_distances_are_exact_for_balls_tubes_slabs_and_planes(space):
    radius = np.sqrt(space.x**2 + space.y**2 + space.z**2)
    assert np.allclose(BALL.distance(space), radius - 20, atol=1e-6)
    upright = Tube([(0.0, 0.0, -500.0), (0.0, 0.0, 500.0)], 7.0)
    assert np.allclose(upright.distance(space), np.sqrt(space.x**2 + space.y**2) - 7)
    assert np.allclose(slab(-4.0, 10.0).distance(space), np.abs(space.z - 3) - 7)
    assert np.allclose(half_space((0.0, 5.0, 0.0), (0.0, 2.0, 0.0)).distance(space), space.y - 5)


@pytest.mark.parametrize(
    "shape",
    [
        Ellipsoid((5.0, 0.0, -3.0), (30.0, 12.0, 16.0), turn_deg=40),
        Ellipsoid((5.0, 0.0, -3.0), (30.0, 12.0, 16.0), tilt_deg=-25, square=0.4),
        Tube([(-20.0, 0.0, 0.0), (0.0, 20.0, 5.0), (20.0, 0.0, 10.0)], [4.0, 8.0, 6.0]),
        BALL.joined(Ellipsoid((20.0, 0.0, 0.0), (9.0, 9.0, 9.0)), 8.0).grown(2.0),
        BALL.rough(Waves.draw(np.random.default_rng(1), 1.5, (15, 30))).without(slab(0.0, 9.0), 4.0),
    ],
    ids=["turned", "tilted", "tube", "joined", "rough"],
)
def test_the_corners_hold_the_whole_shape(shape, space):
    inside = shape.distance(space) < 0
    fields = (space.x, space.y, space.z)
    for field, low, high in zip(fields, shape.low, shape.high, strict=True):
        assert low <= field[inside].min() <= field[inside].max() <= high


def test_a_cached_shape_is_measured_once_over_a_grid_and_gives_the_same(space):
    measured = []

    class Counted(Ellipsoid):
        def distance(self, at):
            measured.append(at.x.shape)
            return super().distance(at)

    ball = Counted((5.0, 0.0, 0.0), (20.0, 12.0, 16.0))
    cached, boxes = ball.cached(), [space.box(BALL.low, BALL.high), space.box((0, 0, 0), (9, 9, 9))]
    for box in boxes:
        near = space[box]
        assert np.array_equal(cached.distance(near), Ellipsoid.distance(ball, near))
    assert measured == [space.x.shape]
    assert (cached.low, cached.high) == (ball.low, ball.high)


def test_without_a_blend_joining_and_cutting_are_those_of_sets_and_a_blend_fills_creases_and_rounds_edges(space):
    other = Ellipsoid((15.0, 0.0, 0.0), (15.0, 15.0, 15.0))
    one, two = BALL.distance(space) < 0, other.distance(space) < 0
    assert ((BALL.joined(other).distance(space) < 0) == (one | two)).all()
    assert ((BALL.within(other).distance(space) < 0) == (one & two)).all()
    assert ((BALL.without(other).distance(space) < 0) == (one & ~two)).all()
    # A blend fills creases and rounds edges.
    assert (BALL.joined(other, 10.0).distance(space) <= BALL.joined(other).distance(space)).all()
    assert (BALL.within(other, 10.0).distance(space) >= BALL.within(other).distance(space)).all()


def test_a_dome_has_no_lower_end_and_the_front_of_a_tube_lies_before_its_axis(space):
    vault = dome((0.0, 0.0, 0.0), (20.0, 20.0, 20.0))
    below = space.z < 0
    at_equator = Space(space.x, space.y, np.zeros_like(space.z), space.spacing_mm)
    assert np.allclose(vault.distance(space)[below], vault.distance(at_equator)[below])

    tube = Tube([(-20.0, 3.0, 0.0), (20.0, 3.0, 0.0)], 10.0)
    gas = tube.within(tube.front(0.4)).distance(space) < 0
    assert gas.any()
    assert space.y[gas].min() >= 3.0 + 0.4 * 10.0
