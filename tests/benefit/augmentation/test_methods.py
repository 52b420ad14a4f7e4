"""That generators come from their model folder is in test_generators, which has one."""

import numpy as np
import pytest

from medgan.benefit.augmentation.generators import real_cases
from medgan.benefit.augmentation.material import cases_task, run_cases, synthetic_cases
from medgan.benefit.augmentation.methods import synthesiser_of
from medgan.benefit.augmentation.plan import make_plan
from medgan.errors import ConfigError


def test_a_baseline_inserts_as_the_settings_say(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["bend=false"]))
    made = synthesiser_of(plan, "copy-paste", plan.draws[0])
    assert made.config == plan.config.insertion
    assert made.config.placement == "replace"


def test_healthy_scans_are_added_as_they_are(asked, tmp_path):
    added = ["insertion.placement=add", "generator_insertion={}", "healthy=1", "arms=[standard, standard+healthy]"]
    plan = make_plan(asked(tmp_path, overrides=added))
    run_cases(cases_task(plan, "healthy", plan.draws[0]))
    (healthy,) = real_cases(plan, plan.recipients(plan.draws[0], "healthy"))
    cases = synthetic_cases(plan, "healthy", plan.draws[0], exchanged=False)
    assert len(cases) == 3
    for case in cases:
        np.testing.assert_array_equal(case.image.voxels, healthy.image.voxels)
        assert not case.labels.any()


def test_a_placement_that_a_baseline_does_not_know_is_refused(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["insertion.placement=whole"]))
    with pytest.raises(ConfigError, match="whole"):
        synthesiser_of(plan, "copy-paste", plan.draws[0])
