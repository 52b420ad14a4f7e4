import pytest

from medgan import catalog
from medgan.errors import ConfigError
from medgan.translators.cut import CUT
from medgan.translators.cyclegan import CycleGAN
from medgan.translators.pix2pix import Pix2Pix
from medgan.translators.registered import RegisteredPix2Pix

TRANSLATORS = [
    ("pix2pix", Pix2Pix, True),
    ("registered", RegisteredPix2Pix, True),
    ("cyclegan", CycleGAN, False),
    ("cut", CUT, False),
]


def configured(**settings):
    return catalog.load("mr_to_ct").configured(settings, on_phantom=False, on_cpu=True)


def test_mr_in_percentiles_is_the_source_and_ct_in_hu_the_target():
    pair = configured().pair
    assert pair.names == ("mr", "ct")
    assert (pair.source.unit, pair.target.unit) == ("arbitrary", "HU")
    assert pair.source.window.percentiles
    assert not pair.target.window.percentiles


@pytest.mark.parametrize(("translator", "kind", "paired"), TRANSLATORS)
def test_the_translator_says_whether_pairs_are_needed(translator, kind, paired):
    pipeline = configured(translator=translator)
    assert pipeline.pair.paired is paired
    assert isinstance(pipeline.learner(), kind)


def test_by_default_it_is_a_regression_that_sees_neighbouring_slices():
    learner = configured().learner()
    assert learner.networks().keys() == {"to_target"}
    assert learner.patch.channels == 5


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("translator", [name for name, *_ in TRANSLATORS])
def test_one_switch_chooses_the_dimensions(dimensions, translator):
    depth = {"depth_voxels": 32} if dimensions == "3" else {}
    patch = {"dimensions": dimensions, "size_voxels": 64, **depth}
    learner = configured(translator=translator, patch=patch).learner()
    assert learner.patch.spatial == (3 if dimensions == "3" else 2)


def test_there_is_no_change_between_mr_and_hu():
    with pytest.raises(ConfigError, match="mr and ct are not"):
        configured(generator={"change": "signed"})
