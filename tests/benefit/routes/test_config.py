import pytest

from medgan.benefit.routes.config import RoutesConfig
from medgan.config import from_overrides, load
from medgan.errors import ConfigError


def test_what_is_overridden_leaves_the_other_settings_of_its_group():
    default, changed = RoutesConfig(), load(RoutesConfig, from_overrides(["segmenter.fit.epochs=9"]))
    assert changed.segmenter.fit == default.segmenter.fit.model_copy(update={"epochs": 9})
    assert changed.segmenter.labels == {"bone": (1,)}


@pytest.mark.parametrize("setting", ["segmenter.fit.keep=best", "segmenter.labels={bone: 1, liver: 2}"])
def test_segmenters_learn_bone_and_have_nobody_to_choose_an_epoch(setting):
    with pytest.raises(ConfigError, match="bone alone"):
        load(RoutesConfig, from_overrides([setting]))


@pytest.mark.parametrize("setting", ["labelled=[]", "labelled=[0, 2]"])
def test_somebody_is_labelled(setting):
    with pytest.raises(ConfigError, match="labelled"):
        load(RoutesConfig, from_overrides([setting]))
