import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import CarveMix, draw_distance, signed_distance


def constant(case, value, labels=None):
    """A case whose image has one value, so that who a voxel comes from is seen."""
    image = Prepared(np.full_like(case.image.voxels, value), case.image.affine, case.image.body, case.image.bounds)
    return Labelled(case.subject, image, case.labels if labels is None else labels)


@pytest.fixture
def pair(shape, with_lesions):
    one, other = with_lesions(shape, 2)
    body = tuple((0, size) for size in shape)
    return [
        Labelled(case.subject, Prepared(case.image.voxels, case.image.affine, body, case.image.bounds), case.labels)
        for case in (one, other)
    ]


def mixed(recipient, donors, domain, seed, placement="add"):
    method = CarveMix(InsertionConfig(placement=placement), domain)
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


def test_signed_distance_by_hand():
    region = np.zeros((7, 1, 1), dtype=bool)
    region[2:5] = True
    np.testing.assert_array_equal(signed_distance(region, np.ones(3))[:, 0, 0], [2, 1, -1, -2, -1, 1, 2])
    np.testing.assert_array_equal(signed_distance(region, 3 * np.ones(3))[3], -6)
    np.testing.assert_array_equal(signed_distance(np.ones((3, 1, 1), bool), np.ones(3))[:, 0, 0], [-1, -2, -1])


def test_distances_are_drawn_as_published():
    random = np.random.default_rng(0)
    drawn = np.array([draw_distance(-8.0, random) for _ in range(2000)])
    assert -4 <= drawn.min() < -3.9
    assert 7.9 < drawn.max() <= 8
    assert (drawn < 0).mean() == pytest.approx(0.5, abs=0.04)
    assert drawn[drawn < 0].mean() == pytest.approx(-2, abs=0.15)
    assert drawn[drawn >= 0].mean() == pytest.approx(4, abs=0.3)


def test_the_region_is_what_lies_within_the_drawn_distance_and_label_follows_image(pair, shape, domain):
    recipient, donor = constant(pair[0], 40), constant(pair[1], 120)
    distance = signed_distance(donor.labels > 0, np.array([1.0, 1.0, 2.0]))
    sizes = {}
    for seed in range(8):
        synthetic = mixed(recipient, [donor], domain, seed)
        region = synthetic.case.image.voxels == 120
        drawn = synthetic.how["carved_mm"]
        np.testing.assert_array_equal(region, distance <= drawn)
        np.testing.assert_array_equal(synthetic.case.image.voxels[~region], 40)
        np.testing.assert_array_equal(synthetic.case.labels, np.where(region, donor.labels, recipient.labels))
        sizes[drawn] = int(region.sum())
    ordered = [sizes[drawn] for drawn in sorted(sizes)]
    assert ordered == sorted(ordered)
    assert ordered[0] < np.count_nonzero(donor.labels) < ordered[-1]


def test_intensities_are_brought_to_the_recipients_window(pair, domain):
    donor = constant(pair[1], 600.0)
    donor = Labelled(
        "d", Prepared(donor.image.voxels, donor.image.affine, donor.image.body, (0.0, 1000.0)), donor.labels
    )
    case = mixed(pair[0], [donor], domain, 0).case
    changed = case.image.voxels[case.image.voxels != pair[0].image.voxels]
    np.testing.assert_allclose(changed, 120, rtol=1e-5)  # 60 % of 0 to 200


def test_an_organ_is_carved_onto_the_recipients_own(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    moved = Labelled(recipient.subject, recipient.image, np.roll(recipient.labels, 3, axis=0))
    case = mixed(constant(moved, 40), [constant(donor, 120)], domain, 1, placement="replace").case
    region = case.image.voxels == 120
    np.testing.assert_allclose(np.argwhere(region).mean(axis=0), np.argwhere(moved.labels).mean(axis=0), atol=1.1)


def test_it_needs_another_case_and_a_place(pair, shape, domain, with_lesions):
    with pytest.raises(InsertionError, match="no other labelled case"):
        mixed(pair[0], [pair[0]], domain, 0)
    (healthy,) = with_lesions(shape, 1, radii=(), first=7)
    with pytest.raises(InsertionError, match="no other labelled case"):
        mixed(pair[0], [healthy], domain, 0)
    with pytest.raises(InsertionError, match="no label that could be replaced"):
        mixed(healthy, pair, domain, 0, placement="replace")
    with pytest.raises(ConfigError, match="carve-mix does not"):
        CarveMix(InsertionConfig(placement="whole"), domain)
