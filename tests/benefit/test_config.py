import pytest

from medgan.benefit.config import BenefitConfig, configured
from medgan.config import load
from medgan.errors import ConfigError
from medgan.segmentation.settings import SegmenterConfig


def test_shipped_forms_lie_over_each_other_and_the_user_over_all():
    full = configured("ct_contrast", on_phantom=False, quick=False)
    phantom = configured("ct_contrast", on_phantom=True, quick=False)
    quick = configured("ct_contrast", {"segmenter": {"fit": {"epochs": 2}}}, on_phantom=True, quick=True)
    assert len(full.arms) == len(phantom.arms) == 8 > len(quick.arms)
    assert "labels" not in full.segmenter
    assert phantom.segmenter["labels"]["kidney"] == quick.segmenter["labels"]["kidney"] == [7, 8]
    assert quick.segmenter["fit"]["epochs"] == 2
    assert load(SegmenterConfig, phantom.segmenter).patch.size_voxels == 64


def test_a_quick_study_trains_fewer_and_shorter_and_sweeps_nothing():
    full, quick = (configured("ct_contrast", on_phantom=True, quick=quick) for quick in (False, True))
    fits = [load(SegmenterConfig, each.segmenter).fit for each in (full, quick)]
    steps = [fit.epochs * fit.iterations_per_epoch for fit in fits]
    assert steps[1] < steps[0]
    assert len(quick.ratios_percent) == 1
    assert quick.phantom_subjects < full.phantom_subjects


def test_a_pipeline_without_a_file_has_the_defaults():
    assert configured("mr_contrast", on_phantom=False, quick=False) == BenefitConfig()


def test_without_a_shipped_form_a_study_of_the_phantom_must_be_told_what_is_segmented():
    for pipeline in ("mr_contrast", "mr_to_ct"):
        with pytest.raises(
            ConfigError, match=rf"'{pipeline}' on the built-in phantom.* --data, or .*segmenter.labels="
        ):
            configured(pipeline, on_phantom=True, quick=False)
    told = {"segmenter": {"labels": {"lesion": [26]}}}
    assert configured("mr_contrast", told, on_phantom=True, quick=False).segmenter == told["segmenter"]


@pytest.mark.parametrize("on_phantom", [True, False])
def test_a_study_that_has_no_short_form_is_not_run_at_full_length_under_that_name(on_phantom):
    with pytest.raises(ConfigError, match=r"no short form of a study of 'mr_contrast' is shipped; leave --quick out"):
        configured("mr_contrast", on_phantom=on_phantom, quick=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratios_percent": [0]}, "needs a ratio above 0"),
        ({"arms": ["real", "real"]}, "each once"),
        ({"arms": ["reel"]}, "setting 'arms.0'"),
        ({"arm": ["real"]}, "unknown setting 'arm' .did you mean 'arms'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        configured("ct_contrast", settings, on_phantom=True, quick=False)


def test_comparisons_are_between_arms_that_are_trained():
    config = BenefitConfig(arms=("real+standard", "real+standard+synthetic", "oracle"))
    assert config.comparisons == (
        ("real+standard+synthetic", "real+standard"),
        ("oracle", "real+standard"),
        ("real+standard+synthetic", "oracle"),
    )


def test_ratios_that_can_be_chosen_are_above_0_and_rise():
    assert BenefitConfig(ratios_percent=(200, 0, 25)).ratios == (25, 200)
