from dataclasses import replace

import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.errors import ConfigError, InsertionError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import InsertionConfig, Synthetic
from medgan.synthesis.methods import (
    BASELINES,
    Bent,
    CarveMix,
    CopyPaste,
    Elastic,
    SoftPoisson,
    _draw_distance,
    _signed_distance,
    baseline,
)
from medgan.synthesis.shapes import ShapeConfig, lesions_of


def imaged(case, voxels, **changes):
    """The case with another image."""
    return replace(case, image=replace(case.image, voxels=np.float32(1) * voxels, **changes))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("placement", ["add", "replace"])
def test_every_baseline_keeps_to_the_interface(name, placement, shape, domain, with_lesions):
    cases = with_lesions(shape, 3, radii=(2,))
    before = [(case.image.voxels.copy(), case.labels.copy()) for case in cases]
    method = baseline(name, InsertionConfig(placement=placement), domain)
    synthetic = method.synthesise(cases[0], cases, np.random.default_rng(0))
    assert isinstance(synthetic, Synthetic)
    assert (method.name, synthetic.how["method"], synthetic.parents[0]) == (name, name, "s0")
    assert set(synthetic.parents) <= {"s0", "s1", "s2"}
    case = synthetic.case
    assert (case.image.voxels.dtype, case.labels.dtype) == (np.float32, np.uint8)
    assert (case.image.bounds, case.image.body) == (cases[0].image.bounds, cases[0].image.body)
    assert (case.image.voxels != cases[0].image.voxels).any()
    for given, (voxels, labels) in zip(cases, before, strict=True):
        np.testing.assert_array_equal(given.image.voxels, voxels)
        np.testing.assert_array_equal(given.labels, labels)


@pytest.mark.parametrize("name", BASELINES)
def test_a_placement_that_a_baseline_does_not_know_and_unknown_methods_are_refused(name, domain):
    with pytest.raises(ConfigError, match=f"{name} does not"):
        baseline(name, InsertionConfig(placement="whole"), domain)
    with pytest.raises(ConfigError, match="'mixup' is none of copy-paste, carve-mix, soft-poisson"):
        baseline("mixup", InsertionConfig(), domain)


UNVARIED = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)


def test_an_unvaried_lesion_is_the_donors_to_the_bit(shape, domain, with_lesions):
    recipient, donor = with_lesions(shape, 2)
    config = InsertionConfig(shape=UNVARIED, most=1)
    synthetic = CopyPaste(config, domain).synthesise(recipient, [donor], np.random.default_rng(0))
    (told,) = synthetic.how["lesions"]
    new = (synthetic.case.labels > 0) & (recipient.labels == 0)
    sources = [lesion for lesion in lesions_of(donor) if lesion.voxels == told["voxels"]]
    shifted = [np.argwhere(new) - told["place"] + lesion.centre for lesion in sources]
    donated = [donor.image.voxels[tuple(voxels.T)] for voxels in shifted]
    assert any(np.array_equal(values, synthetic.case.image.voxels[new]) for values in donated)


def test_a_donor_that_is_brighter_as_a_whole_gives_the_same_case(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    config, images = InsertionConfig(placement="replace"), {}
    for method in (SoftPoisson, CopyPaste):
        images[method] = [
            method(config, domain).synthesise(recipient, [lent], np.random.default_rng(2)).case.image.voxels
            for lent in (donor, imaged(donor, donor.image.voxels + 30))
        ]
    np.testing.assert_allclose(*images[SoftPoisson], atol=0.05)
    assert np.abs(np.subtract(*images[CopyPaste])).max() == pytest.approx(30, abs=0.1)


@pytest.fixture
def pair(shape, with_lesions):
    """Two cases whose bodies fill the image."""
    body = tuple((0, size) for size in shape)
    return [imaged(case, case.image.voxels, body=body) for case in with_lesions(shape, 2)]


def constant(case, value):
    """A case whose image has one value, so that who a voxel comes from is seen."""
    return imaged(case, np.full(case.labels.shape, value))


def mixed(recipient, donors, domain, seed, placement="add"):
    method = CarveMix(InsertionConfig(placement=placement), domain)
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


def test_signed_distance_by_hand():
    region = np.zeros((7, 1, 1), dtype=bool)
    region[2:5] = True
    np.testing.assert_array_equal(_signed_distance(region, np.ones(3))[:, 0, 0], [2, 1, -1, -2, -1, 1, 2])
    np.testing.assert_array_equal(_signed_distance(region, 3 * np.ones(3))[3], -6)
    np.testing.assert_array_equal(_signed_distance(np.ones((3, 1, 1), bool), np.ones(3))[:, 0, 0], [-1, -2, -1])


def test_distances_are_drawn_as_published():
    random = np.random.default_rng(0)
    drawn = np.array([_draw_distance(-8.0, random) for _ in range(2000)])
    assert -4 <= drawn.min() < -3.9
    assert 7.9 < drawn.max() <= 8
    assert (drawn < 0).mean() == pytest.approx(0.5, abs=0.04)
    assert drawn[drawn < 0].mean() == pytest.approx(-2, abs=0.15)
    assert drawn[drawn >= 0].mean() == pytest.approx(4, abs=0.3)


def test_the_region_is_what_lies_within_the_drawn_distance_and_label_follows_image(pair, shape, domain):
    recipient, donor = constant(pair[0], 40), constant(pair[1], 120)
    distance = _signed_distance(donor.labels > 0, np.array([1.0, 1.0, 2.0]))
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
    donor = imaged(pair[1], np.full(pair[1].labels.shape, 600.0), bounds=(0.0, 1000.0))
    case = mixed(pair[0], [donor], domain, 0).case
    changed = case.image.voxels[case.image.voxels != pair[0].image.voxels]
    np.testing.assert_allclose(changed, 120, rtol=1e-5)  # 60 % of 0 to 200


def test_an_organ_is_carved_onto_the_recipients_own(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    moved = replace(recipient, labels=np.roll(recipient.labels, 3, axis=0))
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


BENT = ShapeConfig(deformation_mm=2.0, smoothness_mm=6.0)


@pytest.fixture(params=[(40, 40, 1), (40, 40, 16)], ids=["one slice", "3d"])
def case(request):
    shape = request.param
    labels = np.zeros(shape, dtype=np.uint8)
    labels[10:22, 12:30], labels[22:28, 12:30] = 1, 2
    image = Prepared((50.0 * labels).astype(np.float32), np.eye(4), tuple((0, size) for size in shape), (0.0, 100.0))
    return Labelled("s1", image, labels)


def bent(case, config=BENT, seed=0):
    return Elastic(config).synthesise(case, [], np.random.default_rng(seed))


def test_image_and_labels_are_bent_alike(case):
    made = bent(case).case
    marked = np.rint(made.image.voxels / 50).astype(np.uint8)
    assert not np.array_equal(made.labels, case.labels)
    # Between two labels a bent image takes every value on the way; elsewhere it says which label lies there.
    assert np.mean(marked != made.labels) < 0.03


def test_nothing_is_bent_by_no_deformation(case):
    made = bent(case, ShapeConfig(deformation_mm=0)).case
    assert np.array_equal(made.labels, case.labels)
    assert np.array_equal(made.image.voxels, case.image.voxels)


def test_equal_chance_gives_equal_cases_and_leaves_the_recipient(case):
    before = case.image.voxels.copy(), case.labels.copy()
    one, again, other = (bent(case, seed=seed).case for seed in (1, 1, 2))
    assert np.array_equal(one.image.voxels, again.image.voxels)
    assert np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.labels, other.labels)
    assert np.array_equal(before[0], case.image.voxels)
    assert np.array_equal(before[1], case.labels)


def test_it_says_whose_it_is_and_how_much_was_bent(case):
    made = bent(case)
    assert made.parents == ("s1",)
    assert made.how == {"method": "elastic", "deformation_mm": 2.0}


class Brighter:
    name = "brighter"

    def synthesise(self, recipient, donors, rng):
        case = imaged(recipient, recipient.image.voxels + 100)
        return Synthetic(case, ("s1", "s2"), {"method": self.name})


def test_cases_of_another_method_are_bent_and_stay_its_own(case):
    made = Bent(Brighter(), Elastic(BENT)).synthesise(case, [], np.random.default_rng(0))
    assert (made.parents, made.how["method"], made.how["deformation_mm"]) == (("s1", "s2"), "brighter", 2.0)
    alone = bent(case).case
    assert np.array_equal(made.case.labels, alone.labels)
    np.testing.assert_allclose(made.case.image.voxels, alone.image.voxels + 100, atol=1e-3)


def test_labels_move_by_about_what_was_asked():
    shape = (64, 64, 24)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[:32] = 1
    image = Prepared(labels.astype(np.float32), np.eye(4), tuple((0, size) for size in shape), (0.0, 1.0))
    made = bent(Labelled("s1", image, labels)).case.labels
    moved = made.sum(axis=0).astype(float) - 32
    assert 1.0 < np.sqrt((moved**2).mean()) < 3.5
