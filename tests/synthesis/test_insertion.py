import json

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import ks_2samp

from medgan.data.masks import components
from medgan.errors import ConfigError, InsertionError
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import CopyPaste, SoftPoisson
from medgan.synthesis.placement import Anatomy
from medgan.synthesis.shapes import ORGAN, ShapeConfig, lesions_of, organ_of

METHODS = (CopyPaste, SoftPoisson)
CONFIG = InsertionConfig(most=3)


@pytest.fixture(params=METHODS, ids=[method.name for method in METHODS])
def method(request):
    return request.param


def made(method, config, domain, recipient, donors, seed=0):
    return method(config, domain).synthesise(recipient, donors, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(4))
def test_outside_what_changed_all_is_the_recipients_to_the_bit(method, shape, domain, with_lesions, seed):
    recipient, *donors = with_lesions(shape, 3)
    case = made(method, CONFIG, domain, recipient, donors, seed).case
    new = (case.labels > 0) & (recipient.labels == 0)
    near = ndimage.distance_transform_edt(~new, sampling=(1, 1, 2)) < CONFIG.feather_mm
    np.testing.assert_array_equal(case.image.voxels[~near], recipient.image.voxels[~near])
    np.testing.assert_array_equal(case.labels[~new], recipient.labels[~new])
    assert (case.image.affine is recipient.image.affine, case.image.body) == (True, recipient.image.body)
    assert case.image.voxels[new].mean() > 140  # lesions are 160 in tissue of 100


@pytest.mark.parametrize("seed", range(4))
def test_new_lesions_lie_in_allowed_tissue_and_touch_no_label(method, shape, domain, with_lesions, seed):
    recipient, *donors = with_lesions(shape, 3)
    synthetic = made(method, CONFIG, domain, recipient, donors, seed)
    new = (synthetic.case.labels > 0) & (recipient.labels == 0)
    place = CONFIG.place
    allowed = Anatomy.of(donors, place.tissue_percent).allowed(recipient, domain, rim_mm=place.rim_mm, gap_mm=2.5)
    assert allowed[new].all()
    _, before = components(recipient.labels)
    _, after = components(synthetic.case.labels)
    assert after - before == len(synthetic.how["lesions"]) > 0
    assert sum(lesion["voxels"] for lesion in synthetic.how["lesions"]) == np.count_nonzero(new)


def test_equal_draws_give_equal_cases_and_others_others(method, shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    inserter = method(CONFIG, domain)
    one, again, other = (inserter.synthesise(recipient, donors, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.case.image.voxels, again.case.image.voxels)
    np.testing.assert_array_equal(one.case.labels, again.case.labels)
    assert (one.parents, one.how) == (again.parents, again.how)
    assert not np.array_equal(one.case.labels, other.case.labels)
    assert json.loads(json.dumps(one.how)) == one.how


def test_sizes_are_spread_as_real_ones_are(domain, with_lesions):
    shape = (48, 48, 1)
    donors = with_lesions(shape, 6, radii=(1.0, 2.0, 3.0))
    real = [lesion.voxels for donor in donors for lesion in lesions_of(donor)]
    (recipient,) = with_lesions(shape, 1, radii=(), first=20)
    inserted = []
    for seed in range(40):
        how = made(CopyPaste, CONFIG, domain, recipient, donors, seed).how
        inserted += [lesion["voxels"] for lesion in how["lesions"]]
    assert len(inserted) > 80
    assert ks_2samp(real, inserted).pvalue > 0.05
    assert np.median(inserted) == pytest.approx(np.median(real), rel=0.25)


def test_a_healthy_recipient_gets_lesions_and_its_donors_are_named(shape, domain, with_lesions):
    (recipient,) = with_lesions(shape, 1, radii=(), first=9)
    synthetic = made(CopyPaste, CONFIG, domain, recipient, with_lesions(shape, 2))
    assert synthetic.case.labels.any()
    assert synthetic.parents[0] == synthetic.case.subject == "s9"
    assert set(synthetic.parents[1:]) <= {"s0", "s1"}
    assert {lesion["source"] for lesion in synthetic.how["lesions"]} == set(synthetic.parents[1:])


def test_no_more_lesions_than_asked_for(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    for seed in range(3):
        how = made(CopyPaste, InsertionConfig(most=1), domain, recipient, donors, seed).how
        assert len(how["lesions"]) == 1


@pytest.mark.parametrize("seed", range(3))
def test_an_organ_takes_another_shape_and_none_of_the_old_one_is_left(method, shape, domain, with_organ, seed):
    recipient, *donors = with_organ(shape, 3)
    config = InsertionConfig(placement="replace")
    synthetic = made(method, config, domain, recipient, donors, seed)
    case = synthetic.case
    _, parts = components(case.labels)
    assert parts == 1
    assert set(np.unique(case.labels)) == {0, 1, 2}
    assert not np.array_equal(case.labels, recipient.labels)
    content = (case.labels > 0) | (recipient.labels > 0)
    near = ndimage.distance_transform_edt(~content, sampling=(1, 1, 2)) < config.feather_mm
    np.testing.assert_array_equal(case.image.voxels[~near], recipient.image.voxels[~near])
    shift = np.subtract(organ_of(case).centre, organ_of(recipient).centre)
    assert np.abs(shift).max() <= 2
    assert synthetic.parents[1] in {"s1", "s2"}
    if method is CopyPaste:  # image follows label: parts are 120 and 140, what surrounds them is 100
        inner = ndimage.binary_erosion(case.labels == 2, np.ones((3, 3, 1)))
        assert case.image.voxels[inner].mean() == pytest.approx(140, abs=4)
        bare = (case.labels == 0) & (recipient.labels > 0)
        assert not bare.any() or case.image.voxels[bare].mean() < 115


def test_an_organ_comes_from_another_subject_unless_there_is_none(shape, domain, with_organ):
    recipient, other = with_organ(shape, 2)
    config = InsertionConfig(placement="replace")
    for seed in range(4):
        assert made(CopyPaste, config, domain, recipient, [recipient, other], seed).parents == ("s0", "s1")
    assert made(CopyPaste, config, domain, recipient, [recipient]).parents == ("s0",)


def test_an_organ_may_take_its_own_shape_varied(shape, domain, with_organ):
    recipient, other = with_organ(shape, 2)
    config = InsertionConfig(placement="replace", shapes="own")
    made = CopyPaste(config, domain).synthesise(recipient, [recipient, other], np.random.default_rng(0))
    assert made.parents == (recipient.subject,)
    assert not np.array_equal(made.case.labels, recipient.labels)


def test_shapes_vary_as_lesions_or_as_organs_unless_told():
    assert InsertionConfig().variation == ShapeConfig()
    assert InsertionConfig(placement="replace").variation == ORGAN
    own = ShapeConfig(scaling=0)
    assert InsertionConfig(placement="replace", shape=own).variation == own


def test_why_nothing_can_be_placed_is_said(domain, with_lesions, with_organ):
    shape = (48, 48, 1)
    donors, (healthy,) = with_lesions(shape, 2), with_lesions(shape, 1, radii=(), first=9)
    with pytest.raises(InsertionError, match="no donor has a lesion"):
        made(CopyPaste, CONFIG, domain, donors[0], [healthy])
    narrow = InsertionConfig.model_validate({"place": {"rim_mm": 30}})
    with pytest.raises(InsertionError, match="s9 has no tissue like that around real lesions"):
        made(CopyPaste, narrow, domain, healthy, donors)
    replacing = InsertionConfig(placement="replace")
    with pytest.raises(InsertionError, match="no label that could be replaced"):
        made(CopyPaste, replacing, domain, healthy, with_organ(shape, 1))
    with pytest.raises(InsertionError, match="no donor has a label"):
        made(CopyPaste, replacing, domain, donors[0], [healthy])
    with pytest.raises(ConfigError, match="copy-paste does not"):
        CopyPaste(InsertionConfig(placement="whole"), domain)
