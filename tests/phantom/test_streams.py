import numpy as np
import pytest

from medgan.phantom.streams import PURPOSES, has_lesions, stream


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_subjects_with_lesions_is_kept_among_all_and_among_every_second(share):
    for seed in range(10):
        carriers = np.array([has_lesions(seed, number, share) for number in range(24)])
        assert abs(carriers.sum() - 24 * share) <= 2
        assert abs(carriers[::2].sum() - 12 * share) <= 2


def test_every_subject_and_purpose_has_random_numbers_of_its_own():
    drawn = {stream(seed, subject, p).uniform() for seed in (0, 1) for subject in (0, 1) for p in PURPOSES}
    assert len(drawn) == 4 * len(PURPOSES)


def test_a_stream_starts_anew_each_time():
    assert stream(3, 1, "mr").uniform() == stream(3, 1, "mr").uniform()
