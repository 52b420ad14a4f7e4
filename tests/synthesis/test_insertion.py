import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import ks_2samp

from labelled_cases import case_of
from medgan.data.masks import components
from medgan.errors import InsertionError
from medgan.synthesis.insertion import Canvas, InsertionConfig, feather, feathered, soft_poisson
from medgan.synthesis.methods import CopyPaste, SoftPoisson
from medgan.synthesis.placement import LesionSites
from medgan.synthesis.shapes import ORGAN, Piece, ShapeConfig, lesions_of, organ_of

METHODS = (CopyPaste, SoftPoisson)
CONFIG = InsertionConfig(most=3)
FLAT = (48, 48, 1)


@pytest.fixture(params=METHODS, ids=[method.name for method in METHODS])
def method(request):
    return request.param


def made(method, config, domain, recipient, donors, seed=0):
    return method(config, domain).synthesise(recipient, donors, np.random.default_rng(seed))


def test_new_lesions_touch_no_label_and_outside_them_all_is_the_recipients_to_the_bit(
    method, shape, domain, with_lesions
):
    recipient, *donors = with_lesions(shape, 3)
    synthetic = made(method, CONFIG, domain, recipient, donors)
    case, place = synthetic.case, CONFIG.place
    new = (case.labels > 0) & (recipient.labels == 0)
    near = ndimage.distance_transform_edt(~new, sampling=(1, 1, 2)) < CONFIG.feather_mm
    np.testing.assert_array_equal(case.image.voxels[~near], recipient.image.voxels[~near])
    np.testing.assert_array_equal(case.labels[~new], recipient.labels[~new])
    assert (case.image.affine is recipient.image.affine, case.image.body) == (True, recipient.image.body)
    assert case.image.voxels[new].mean() > 140  # lesions are 160 in tissue of 100
    allowed = LesionSites.of(donors, place.tissue_percent).allowed(recipient, domain, rim_mm=place.rim_mm, gap_mm=2.5)
    assert allowed[new].all()
    _, before = components(recipient.labels)
    _, after = components(case.labels)
    assert after - before == len(synthetic.how["lesions"]) > 0
    assert sum(lesion["voxels"] for lesion in synthetic.how["lesions"]) == np.count_nonzero(new)


def test_sizes_are_spread_as_real_ones_are(domain, with_lesions):
    donors = with_lesions(FLAT, 6, radii=(1.0, 2.0, 3.0))
    real = [lesion.voxels for donor in donors for lesion in lesions_of(donor)]
    (recipient,) = with_lesions(FLAT, 1, radii=(), first=20)
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
    for seed in range(3):
        one = made(CopyPaste, InsertionConfig(most=1), domain, recipient, with_lesions(shape, 2), seed)
        assert len(one.how["lesions"]) == 1


def test_an_organ_takes_another_shape_and_none_of_the_old_one_is_left(method, shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 3)
    config = InsertionConfig(placement="replace")
    synthetic = made(method, config, domain, recipient, donors)
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


def test_an_organ_comes_from_another_subject_unless_there_is_none_or_its_own_is_wanted(shape, domain, with_organ):
    recipient, other = with_organ(shape, 2)
    config = InsertionConfig(placement="replace")
    for seed in range(4):
        assert made(CopyPaste, config, domain, recipient, [recipient, other], seed).parents == ("s0", "s1")
    assert made(CopyPaste, config, domain, recipient, [recipient]).parents == ("s0",)
    own = made(CopyPaste, InsertionConfig(placement="replace", shapes="own"), domain, recipient, [recipient, other])
    assert own.parents == ("s0",)
    assert not np.array_equal(own.case.labels, recipient.labels)


def test_shapes_vary_as_lesions_or_as_organs_unless_told():
    own = ShapeConfig(scaling=0)
    configs = {}, {"placement": "replace"}, {"placement": "replace", "shape": own}
    assert [InsertionConfig(**config).variation for config in configs] == [ShapeConfig(), ORGAN, own]


def test_why_nothing_can_be_placed_is_said(domain, with_lesions):
    donors, (healthy,) = with_lesions(FLAT, 2), with_lesions(FLAT, 1, radii=(), first=9)
    narrow, replacing = InsertionConfig(place={"rim_mm": 30}), InsertionConfig(placement="replace")
    for config, recipient, lending, message in (
        (CONFIG, donors[0], [healthy], "no donor has a lesion"),
        (narrow, healthy, donors, "s9 has no tissue like that around real lesions"),
        (replacing, healthy, donors, "no label that could be replaced"),
        (replacing, donors[0], [healthy], "no donor has a label"),
    ):
        with pytest.raises(InsertionError, match=message):
            made(CopyPaste, config, domain, recipient, lending)


@pytest.fixture
def canvas():
    labels = np.zeros((10, 10, 3), dtype=np.uint8)
    labels[7, 7, 1] = 2
    return Canvas(case_of(labels, 0, bounds=(0.0, 100.0)))


def piece(label=1):
    labels = np.zeros((5, 5, 1), dtype=np.uint8)
    labels[1:4, 1:4] = label
    return Piece("d", labels, np.full((5, 5, 1), 0.5, np.float32), (-1.0, 1.0))


def test_a_piece_is_placed_by_its_middle_and_other_labels_in_its_box_and_the_recipient_stay(canvas):
    site = canvas.site(piece(), (6, 5, 1), 0.0)
    canvas.insert(site, site.inserted, "d")
    assert {tuple(at) for at in np.argwhere(canvas.labels == 1)} == {(x, y, 1) for x in (5, 6, 7) for y in (4, 5, 6)}
    assert canvas.labels[7, 7, 1] == 2
    np.testing.assert_array_equal(canvas.image[canvas.labels == 1], 75)
    assert np.count_nonzero(canvas.image) == 9
    synthetic = canvas.result({"method": "m"})
    assert synthetic.parents == ("s", "d")
    assert synthetic.how == {
        "method": "m", "lesions": [{"source": "d", "voxels": 9, "place": [6, 5, 1]}], "refused": 0
    }  # fmt: skip
    assert not canvas.recipient.image.voxels.any()
    assert np.count_nonzero(canvas.recipient.labels) == 1


def test_a_region_may_take_away_labels(canvas):
    region = np.ones((5, 5, 1), dtype=bool)
    assert np.count_nonzero(canvas.under(piece(), (6, 6, 1))) == 1
    site = canvas.site(piece(), (6, 9, 1), 0.0, region)
    canvas.insert(site, site.inserted, "")
    assert canvas.labels[7, 7, 1] == 0
    assert canvas.result({}).parents == ("s",)


def test_a_piece_over_the_edge_is_cut_and_known_not_to_be_held(canvas):
    assert canvas.holds(piece(), (1, 1, 0))
    assert not canvas.holds(piece(), (0, 1, 0))
    assert not canvas.holds(piece(0), (5, 5, 1))
    site = canvas.site(piece(), (0, 0, 2), 0.0)
    assert site.labels.shape == site.before.shape == (3, 3, 1)
    assert not canvas.site(piece(), (30, 30, 9), 0.0).hidden.any()


UNIT = np.ones(3)


def test_the_share_falls_linearly_with_the_distance_by_hand():
    region = np.zeros((7, 1, 1), dtype=bool)
    region[3] = True
    share = feather(region, 3.0, UNIT)[:, 0, 0]
    np.testing.assert_allclose(share, [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(feather(region, 3.0, 2 * UNIT)[:, 0, 0], [0, 0, 1 / 3, 1, 1 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(feather(region, 0.0, UNIT), region)
    assert not feather(np.zeros((3, 3, 1), dtype=bool), 3.0, UNIT).any()
    share = np.array([0, 0.25, 0.5, 1], np.float32)
    np.testing.assert_allclose(feathered(np.float32([10] * 4), np.float32([20] * 4), share), [10, 12.5, 15, 20])


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 20, 6)], ids=["2d", "3d"])
@pytest.mark.parametrize("width_mm", [0.0, 3.0])
def test_a_donors_level_vanishes_its_contrast_stays_and_outside_nothing_changes_to_the_bit(shape, width_mm):
    region, core = np.zeros((2, *shape), dtype=bool)
    region[7:13, 7:13, slice(1, -1) if shape[2] > 1 else 0] = True
    core[9:11, 9:11, shape[2] // 2] = True
    share = feather(region, width_mm, UNIT)
    before, inserted = np.random.default_rng(0).normal(100, 10, (2, *shape)).astype(np.float32)
    np.testing.assert_allclose(soft_poisson(before, before + 37, share, UNIT), before, atol=1e-3)
    result = soft_poisson(before, inserted, share, UNIT)
    np.testing.assert_array_equal(result[share == 0], before[share == 0])
    assert (result[share > 0] != before[share > 0]).mean() > 0.9
    lesion = soft_poisson(np.full(shape, 50.0, np.float32), np.where(core, 130, 100).astype(np.float32), share, UNIT)
    np.testing.assert_allclose(lesion, np.where(core, 80.0, 50.0), atol=1e-2)


@pytest.mark.parametrize(
    ("before", "donor", "share", "expected"),
    [
        # Two unknowns a and b between 1 and 4: 2a - b = 1 + (0 - 0) + (0 - 6), 2b - a = 4 + (6 - 0) + (6 - 0).
        ([1, 0, 0, 4], [0, 0, 6, 0], [0, 1, 1, 0], [1, *np.linalg.solve([[2, -1], [-1, 2]], [1 - 6, 4 + 12]), 4]),
        ([0, 0, 0], [0, 8, 0], [0, 1, 0], [0, 8, 0]),
        ([0, 0, 0], [0, 8, 0], [0, 0.25, 0], [0, 2, 0]),
    ],
    ids=["hard edge", "whole share", "a softer share takes fewer gradients"],
)
def test_the_published_equation_by_hand(before, donor, share, expected):
    before, donor, share = (np.reshape(np.float32(each), (-1, 1, 1)) for each in (before, donor, share))
    np.testing.assert_allclose(soft_poisson(before, donor, share, UNIT)[:, 0, 0], expected, rtol=1e-5)


def test_thick_slices_bind_less_than_neighbours_in_plane():
    before = np.zeros((3, 1, 3), np.float32)
    before[0], before[:, :, 0] = 10, 30
    share = np.zeros_like(before)
    share[1, 0, 1] = 1
    found = soft_poisson(before, np.zeros_like(before), share, np.array([1.0, 1.0, 4.0]))[1, 0, 1]
    assert found == pytest.approx((10 + 0 + 30 / 16 + 0 / 16) / (2 + 2 / 16), rel=1e-5)


def test_nothing_to_insert_changes_nothing_and_all_of_an_image_cannot_be_blended():
    before = np.ones((4, 4, 1), np.float32)
    np.testing.assert_array_equal(soft_poisson(before, 2 * before, np.zeros_like(before), UNIT), before)
    with pytest.raises(InsertionError, match="fills the whole image"):
        soft_poisson(before, 2 * before, np.ones_like(before), UNIT)
