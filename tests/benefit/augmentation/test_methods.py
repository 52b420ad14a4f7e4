"""That generators come from their model folder is in test_generators, which has one."""

import pytest

from medgan.benefit.augmentation.methods import synthesiser_of
from medgan.benefit.augmentation.plan import make_plan
from medgan.errors import ConfigError


def test_a_baseline_inserts_as_the_settings_say(plan):
    made = synthesiser_of(plan, "copy-paste", plan.draws[0])
    assert made.config == plan.config.insertion
    assert made.config.placement == "replace"


def test_a_placement_that_a_baseline_does_not_know_is_refused(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["insertion.placement=whole"]))
    with pytest.raises(ConfigError, match="whole"):
        synthesiser_of(plan, "copy-paste", plan.draws[0])
