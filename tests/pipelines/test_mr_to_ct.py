import pytest

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


def test_mr_in_percentiles_is_the_source_and_ct_in_hu_the_target(configured):
    pair = configured().pair
    assert pair.names == ("mr", "ct")
    assert (pair.source.unit, pair.target.unit) == ("arbitrary", "HU")
    assert pair.source.window.percentiles
    assert not pair.target.window.percentiles


@pytest.mark.parametrize(("translator", "kind", "paired"), TRANSLATORS)
@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_switches_choose_the_translator_and_the_dimensions_and_so_whether_pairs_are_needed(
    configured, translator, kind, paired, dimensions
):
    patch = {"dimensions": dimensions, "size_voxels": 64, "depth_voxels": 32 if dimensions == "3" else None}
    pipeline = configured(translator=translator, patch=patch)
    learner = pipeline.learner()
    assert (type(learner), pipeline.pair.paired) == (kind, paired)
    assert learner.patch.spatial == (3 if dimensions == "3" else 2)


def test_by_default_it_is_a_regression_that_sees_neighbouring_slices(configured):
    learner = configured().learner()
    assert learner.networks().keys() == {"to_target"}
    assert learner.patch.channels == 5


def test_there_is_no_change_between_mr_and_hu(configured):
    with pytest.raises(ConfigError, match="mr and ct are not"):
        configured(generator={"change": "signed"})
