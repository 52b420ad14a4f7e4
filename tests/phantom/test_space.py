import numpy as np
import pytest

from medgan.phantom.space import MARGIN_MM, PURPOSES, Space, Waves, has_lesions, near, stream


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(8, 6, 1), (8, 6, 5)], ids=["2d", "3d"])
def test_a_regular_space_is_centred_on_the_origin_in_steps_of_the_spacing(shape):
    space = Space.regular(shape, (2.0, 3.0, 4.0))
    for field, step, axis in zip((space.x, space.y, space.z), (2.0, 3.0, 4.0), range(3), strict=True):
        assert field.shape == shape
        assert field.mean() == pytest.approx(0)
        assert np.allclose(np.diff(field, axis=axis), step)


@pytest.mark.parametrize("shape", [(60, 60, 1), (60, 60, 20)], ids=["2d", "3d"])
def test_a_box_holds_every_point_between_its_corners_and_few_others(shape):
    space = Space.regular(shape, (2.0, 2.0, 3.0))
    low, high = (-20.0, -8.0, -10.0), (-4.0, 30.0, 10.0)
    fields = (space.x, space.y, space.z)
    between = np.all([(f >= a) & (f <= b) for f, a, b in zip(fields, low, high, strict=True)], axis=0)
    box = space.box(low, high)
    assert between[box].sum() == between.sum() > 0
    assert space[box].x.min() >= low[0] - MARGIN_MM
    assert space[box].y.max() <= high[1] + MARGIN_MM
    assert (space.part_of, space[box].part_of) == (None, (space, box))
    assert space[space.box((90, 0, 0), (99, 1, 1))].x.size == 0  # beside the space it is empty


def test_waves_have_the_root_mean_square_asked_for_below_their_peak_whatever_the_grid():
    waves = Waves.draw(rng(), 2.0, (10, 30), 9)
    values = waves(Space.regular((65, 65, 33), (3.0, 3.0, 3.0)))
    assert np.sqrt((values**2).mean()) == pytest.approx(2.0, rel=0.1)
    assert np.abs(values).max() <= waves.peak
    assert np.allclose(waves(Space.regular((33, 33, 17), (6.0, 6.0, 6.0))), values[::2, ::2, ::2])


def test_near_stays_within_its_reach():
    points = np.array([near(rng(), (1.0, 2.0, 3.0), 0.5) for _ in range(50)])
    assert np.abs(points - (1.0, 2.0, 3.0)).max() <= 0.5


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_subjects_with_lesions_is_kept_among_all_and_among_every_second(share):
    for seed in range(10):
        carriers = np.array([has_lesions(seed, number, share) for number in range(24)])
        assert abs(carriers.sum() - 24 * share) <= 2
        assert abs(carriers[::2].sum() - 12 * share) <= 2


def test_every_subject_and_purpose_has_random_numbers_of_its_own_which_start_anew_each_time():
    drawn = {stream(seed, subject, p).uniform() for seed in (0, 1) for subject in (0, 1) for p in PURPOSES}
    assert len(drawn) == 4 * len(PURPOSES)
    assert stream(3, 1, "mr").uniform() == stream(3, 1, "mr").uniform()
