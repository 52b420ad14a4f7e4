import math
from dataclasses import replace
from functools import partial

import pytest
from rich.console import Console
from typer.testing import CliRunner

from medgan import cli
from medgan.data.studies import find_cohort
from medgan.errors import ConfigError
from medgan.planning import plan
from medgan.planning.fingerprint import Fingerprint, fingerprint
from medgan.planning.plan import Planner, Wanted
from medgan.planning.trial import Measured, Trial, _run, phases, whole_game
from medgan.training.run import Order

SLICES = Fingerprint(
    subjects=6,
    images={"contrast": 6, "plain": 6},
    spacing_mm=(1.0, 1.0, 5.0),
    spread_mm=((0.9, 0.9, 5.0), (1.1, 1.1, 5.0)),
    size_voxels=(256.0, 256.0, 40.0),
    body_mm=(220.0, 150.0, 200.0),
    body_share=0.5,
    intensities={"contrast": (-900.0, 20.0, 400.0)},
    agreement=None,
    millilitres={f"s{number}": 10_000.0 for number in range(6)},
)
ORGAN = replace(
    SLICES, spacing_mm=(1.0, 1.0, 1.0), spread_mm=((1.0,) * 3, (1.0,) * 3), size_voxels=(36.0, 50.0, 36.0),
    body_mm=(35.0, 48.0, 36.0), millilitres={f"s{number}": 65.0 for number in range(6)},
)  # fmt: skip


def machine(trial, *, speed=1e-7, gib=1e-9):
    """A machine whose iterations take time and memory in proportion to what they compute."""
    network, patch = trial.config.generator.network, trial.config.patch
    voxels = trial.config.fit.batch_size * math.prod(patch.shape)
    return Measured(speed * voxels * network.channels**1.5, 1.0, 0.5, 0.5 + gib * voxels * network.channels)


@pytest.fixture
def planner(monkeypatch, unpaired):
    """A planner of ``ct_contrast``, for a fingerprint, on a machine."""

    def make(print_=SLICES, minutes=20.0, measure=machine, **asked):
        monkeypatch.setattr(plan, "fingerprint", lambda *_: print_)
        wanted = Wanted("ct_contrast", unpaired, minutes=minutes, device="cpu", memory_gib=4.0)
        return Planner(replace(wanted, **asked), lambda _: None, measure)

    return make


def planned_config(made, planner):
    return planner.kind.configured(made.settings, on_phantom=False, on_cpu=False).config


def test_a_cohort_has_the_spacing_size_and_bodies_of_its_scans(paired):
    pipeline = plan.catalog.load("ct_contrast").configured({"translator": "pix2pix"}, on_phantom=False, on_cpu=True)
    cohort = find_cohort(paired, pipeline.pair)
    found = fingerprint(cohort, pipeline.pair)
    assert found.subjects == 4
    assert found.images == {"contrast": 4, "plain": 4}
    assert found.agreement == pytest.approx(1.0)
    field_mm = [size * spacing for size, spacing in zip(found.size_voxels, found.spacing_mm, strict=True)]
    assert all(0 < body <= length for body, length in zip(found.body_mm, field_mm, strict=True))
    millilitres = 2 * math.prod(field_mm) / 1000
    assert found.millilitres == pytest.approx(dict.fromkeys(cohort.subjects(), millilitres))


def test_a_plan_takes_its_time_and_no_more_memory_than_the_limit(planner):
    for minutes in (1, 20, 240):
        one = planner(minutes=minutes)
        made = one.plan()
        config = planned_config(made, one)
        measured = machine(Trial("ct_contrast", config, one.cohort, one.split, "cpu"))
        seconds = config.fit.epochs * config.fit.iterations_per_epoch * measured.step_s
        assert 0.8 * 60 * minutes < seconds <= 60 * minutes
        assert measured.peak_gib < 4.0


@pytest.mark.parametrize("what", ["minutes", "memory_gib"])
def test_more_time_or_memory_gives_larger_patches(planner, what):
    amounts = {"minutes": (1.0, 60.0), "memory_gib": (1.5, 40.0)}[what]
    planners = [planner(measure=partial(machine, gib=5e-6), **{what: amount}) for amount in amounts]
    less, more = (planned_config(one.plan(), one) for one in planners)
    assert math.prod(less.patch.shape) < math.prod(more.patch.shape)


def test_a_trial_that_ran_out_of_memory_does_not_fit(planner):
    one = planner(measure=lambda trial: None if math.prod(trial.config.patch.shape) > 96 * 96 else machine(trial))
    assert math.prod(planned_config(one.plan(), one).patch.shape) <= 96 * 96
    with pytest.raises(ConfigError, match="too little"):
        planner(measure=lambda trial: None).plan()


@pytest.mark.parametrize(
    ("print_", "dimensions", "size"),
    [
        (SLICES, "2", 128),
        (replace(SLICES, body_mm=(220.0, 150.0, 5.0)), "2", 128),
        (ORGAN, "3", 40),
        (replace(ORGAN, spacing_mm=(1.0, 1.0, 4.0)), "2", 40),
    ],
    ids=["slices", "one slice", "organ", "thick"],
)
def test_blocks_are_for_what_they_hold_whole(planner, print_, dimensions, size):
    one = planner(print_, overrides=["discriminator.receptive_field=16"], measure=partial(machine, speed=1e-8))
    config = planned_config(one.plan(), one)
    assert (config.patch.dimensions, config.patch.size_voxels) == (dimensions, size)
    assert min(config.patch.shape) / 2**config.generator.network.downs >= 4


def test_the_grid_is_the_median_until_two_patches_do_not_reach_over_the_body(planner):
    assert planner().plan().settings["grid"]["spacing_mm"] == [1.0, 1.0, None]
    wide = planner(replace(SLICES, body_mm=(512.0, 300.0, 200.0))).plan()
    assert wide.settings["grid"]["spacing_mm"] == [2.0, 2.0, None]
    same = planner(replace(SLICES, spread_mm=((1.0, 1.0, 4.0), (1.0, 1.0, 6.0)))).plan()
    assert same.settings["grid"]["spacing_mm"] == [None, None, None]


def test_what_is_given_is_kept_and_planned_around(planner):
    one = planner(overrides=["patch.size_voxels=64", "fit.epochs=3"])
    config = planned_config(one.plan(), one)
    assert (config.patch.size_voxels, config.fit.epochs) == (64, 3)
    assert config.fit.iterations_per_epoch > 100


def test_the_file_is_a_config_with_a_reason_on_each_line(planner, tmp_path):
    one = planner(minutes=0.5)
    made = one.plan()
    path = tmp_path / "plan.yaml"
    path.write_text(made.yaml())
    read = one.kind.configured(path, on_phantom=False, on_cpu=False).config
    assert read == planned_config(made, one)
    lines = path.read_text().splitlines()
    assert "# body: 220 x 150 x 200 mm, 50% of the voxels" in lines
    settings = [line for line in lines if line[0] != "#" and not line.endswith(":")]
    assert settings
    assert all("  # " in line for line in settings)


def test_phases_shrink_with_the_run_and_are_not_in_a_trial(planner):
    one = planner(minutes=0.5, overrides=["cyclegan.ramp_iterations=100000"])
    assert phases(one.base)["cyclegan"]["ramp_iterations"] == 100000
    assert "cyclegan" not in phases(whole_game(one.base))


def test_a_trial_is_a_training_of_a_few_iterations(unpaired, tiny, planner):
    one = planner(config=None, overrides=tiny)
    result = _run(one._trial(one.base))
    assert result.step_s > 0
    assert result.validation_s > 0
    assert result.peak_gib >= result.before_gib > 0


def test_a_run_keeps_its_plan_and_a_requeued_one_never_plans_again(monkeypatch, order, planner, tmp_path):
    planner()
    monkeypatch.setattr(plan, "measure", machine)
    asked = Order("ct_contrast", order().data, out=tmp_path, name="one", device="cpu", resume_or_start=True)
    first = plan.planned(asked, Console(quiet=True), 2.0, None)
    assert (tmp_path / "ct_contrast" / "one" / "plan.yaml").read_text().startswith("# A plan for 2 minutes")
    monkeypatch.setattr(plan, "make_plan", None)
    assert plan.planned(asked, Console(quiet=True), 2.0, None) == first
    assert first.settings["fit"]["iterations_per_epoch"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train -p ct_contrast --minutes 5", "add --plan"),
        ("train -p ct_contrast --name x --resume --plan", "leave --plan out"),
        ("train -p ct_contrast --plan --device cpu --devices 2", "one device"),
        ("train -p lesion_augmentation --plan", "no plans for"),
        ("plan -p lesion_classification", "no plans for"),
        ("plan -p ct_contrast --domain mr", "segmenter"),
        ("plan -p ct_contrast --out pyproject.toml", "exists"),
    ],
)
def test_wrong_use_is_told(line, said):
    result = CliRunner().invoke(cli.app, line.split())
    assert result.exit_code == 2
    assert said in result.stderr
