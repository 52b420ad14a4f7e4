import pytest

from medgan.benefit.augmentation.config import AugmentationConfig, configured
from medgan.config import load
from medgan.errors import ConfigError
from medgan.phantom.tissues import HeadTissue


def test_what_is_asked_for_decides_what_is_made():
    config = load(AugmentationConfig, {"arms": ["real", "standard", "standard+carve-mix", "standard+generator"]})
    assert config.methods == ("carve-mix", "generator")
    assert load(AugmentationConfig, {"arms": ["real", "standard"]}).methods == ()


def test_only_what_is_trained_is_compared():
    config = load(AugmentationConfig, {"arms": ["real", "standard", "standard+generator"]})
    assert config.comparisons == (("standard", "real"), ("standard+generator", "standard"))


def test_zero_is_tried_and_cannot_be_chosen():
    assert load(AugmentationConfig, {"ratios_percent": [100, 0, 25]}).ratios == (25, 100)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"ratios_percent": [0]}, "needs a ratio above 0"),
        ({"arms": []}, "at least one arm"),
        ({"arms": ["real", "real"]}, "each once"),
        ({"arms": ["standard", "standard+shuffled"]}, "takes the ratio of the generator"),
        ({"sizes": []}, "sizes"),
    ],
)
def test_what_cannot_be_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        load(AugmentationConfig, settings)


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("on_phantom", [False, True], ids=["data", "phantom"])
def test_the_shipped_settings_can_be(quick, on_phantom):
    config = configured("lesion_augmentation", on_phantom=on_phantom, quick=quick)
    assert config.segmenter["fit"]["keep"] == "last"
    assert {"standard", "standard+copy-paste", "standard+generator"} <= set(config.arms)
    if quick:
        assert len(config.ratios_percent) == 1


@pytest.mark.parametrize("on_phantom", [True, False])
def test_a_study_that_has_no_short_form_is_not_run_at_full_length_under_that_name(on_phantom):
    with pytest.raises(ConfigError, match=r"no short form of a study of 'lesion_classification' is shipped; leave"):
        configured("lesion_classification", on_phantom=on_phantom, quick=True)


def test_the_phantoms_lesions_are_counted_one_by_one():
    config = configured("lesion_augmentation", on_phantom=True, quick=False)
    assert config.lesions == ("lesion",)
    assert config.segmenter["labels"] == {"lesion": [HeadTissue.LESION, HeadTissue.ENHANCING_LESION]}


def test_the_insertion_of_the_generator_may_differ_from_that_of_others():
    config = load(AugmentationConfig, {"insertion": {"placement": "replace"}, "generator_insertion": {"shapes": "own"}})
    assert config.insertion_of("copy-paste") == config.insertion
    assert config.insertion_of("generator") == config.insertion.model_copy(update={"shapes": "own"})


def test_a_setting_that_insertion_does_not_have_is_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match="unknown setting 'shape_of'"):
        load(AugmentationConfig, {"generator_insertion": {"shape_of": "own"}})
