"""Windows and pairs of domains."""

import numpy as np
import pytest

from medgan.config import load
from medgan.data.domains import Domain, DomainPair, Window, domain_named
from medgan.errors import ConfigError

CT = {"modality": "CT", "unit": "HU", "air": -1024.0, "window": {}}
MR = {"modality": "MR", "unit": "arbitrary", "air": 0.0, "window": {"lower": 1, "upper": 99, "percentiles": True}}


@pytest.mark.parametrize("shape", [(9, 7, 1), (9, 7, 5)], ids=["slice", "3d"])
def test_bounds_are_fixed_or_percentiles_of_the_voxels_that_are_not_zero_with_headroom(shape):
    voxels = np.random.default_rng(0).uniform(10, 20, shape)
    assert Window(lower=-300, upper=700).bounds(voxels) == (-300, 700)
    padded = np.pad(voxels, [(4, 4), (4, 4), (0, 0)])
    window = Window(lower=5, upper=95, percentiles=True)
    lower, upper = np.percentile(voxels, [5, 95])
    assert window.bounds(padded) == pytest.approx((lower, upper))
    roomy = window.model_copy(update={"headroom": 0.5})
    assert roomy.bounds(padded) == pytest.approx((lower, upper + 0.5 * (upper - lower)))
    for value in (0.0, 3.0):  # of a flat volume they are still an interval
        lower, upper = window.bounds(np.full(shape, value))
        assert lower < upper


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lower": 10, "upper": 10}, "window is empty: lower=10 is not below upper=10"),
        ({"lower": -1, "upper": 99, "percentiles": True}, r"percentiles lie in 0\.\.100, not -1\.\.99"),
        ({"lower": 1, "upper": 101, "percentiles": True}, r"percentiles lie in 0\.\.100, not 1\.\.101"),
        ({"lower": float("nan")}, "finite number"),
        ({"upper": float("inf")}, "finite number"),
    ],
)
def test_a_window_that_maps_nothing_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        load(Window, settings)


@pytest.mark.parametrize(
    ("source", "target", "paired", "one_scale"),
    [
        (CT, CT, False, True),
        (CT, CT | {"window": {"upper": 800.0}}, True, False),
        (CT, MR, True, False),
        (MR, MR, True, True),
        (MR, MR, False, False),
    ],
)
def test_two_cts_of_one_window_share_a_scale_and_so_do_the_mr_images_of_a_pair(source, target, paired, one_scale):
    pair = load(DomainPair, {"source": {"name": "a"} | source, "target": {"name": "b"} | target, "paired": paired})
    assert pair.one_scale is one_scale
    assert pair.names == ("a", "b")


@pytest.mark.parametrize(
    ("text", "modality"),
    [("ct", "CT"), ("mr", "MR"), ("t1_gd", "MR"), ("flair", "MR"), ("plain:CT", "CT"), ("contrast:mr", "MR")],
)
def test_a_domain_is_told_by_its_name_or_by_what_follows_it(text, modality):
    domain = domain_named(text)
    assert (domain.name, domain.modality) == (text.partition(":")[0], modality)
    assert domain.air == (-1024 if modality == "CT" else 0)


def test_a_domain_that_tells_no_modality_or_is_not_named_as_in_a_csv_is_refused():
    for text in ("plain", "plain:PET", "Ct:CT", ":CT", "mr/../x"):
        with pytest.raises(ConfigError, match="CT or MR"):
            domain_named(text)
    with pytest.raises(ConfigError, match="name"):
        load(Domain, {"name": "Contrast CT"} | CT)
