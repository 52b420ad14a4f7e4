"""Augmentation: who is drawn, what is made of whom, what is chosen, and what is compared and told."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from medgan.config import load
from medgan.data.splits import Split
from medgan.data.streams import write_json
from medgan.errors import ConfigError, DataError
from medgan.phantom.tissues import HeadTissue
from medgan.pipeline import Pipeline
from medgan.studies.augmentation import (
    ALL,
    ARMS,
    BY_NAME,
    FURTHER,
    MEAN,
    Augmentation,
    AugmentationConfig,
    _comparisons,
    _slopes,
    _with_mean,
)  # fmt: skip
from medgan.studies.base import StudyOrder, TaskFailure
from medgan.studies.engine import read_json
from medgan.studies.segmenter import layered, means
from tables import printed, rewrite, row_of

UNLABELLED = 4
"""This training subject has a mask in which nothing is marked."""
KEYS = ["arm", "size", "organ"]


@pytest.fixture
def few(settled):
    """Studies that are not begun: ``few("sizes=[2]", seeds=(0, 1))``."""
    own = ("arms=[real, standard, standard+copy-paste]", "ratios_percent=[100]", "cases=3")
    return lambda *overrides, **changes: settled(Augmentation, *own, *overrides, **changes)


def test_every_arm_of_every_size_is_judged_on_every_test_subject_and_the_folder_tells_all(golden):
    folder = golden.resumed("augmentation").folder
    record, rows = read_json(folder / "augmentation.json"), pd.read_csv(folder / "augmentation.csv")
    chosen = {sweep["size"]: sweep["ratio_percent"] for sweep in record["sweeps"] if sweep["method"] == "generator"}
    assert list(chosen) == [2, 3]
    for (size, arm), own in rows.groupby(["size", "arm"]):
        assert sorted(zip(own["subject"], own["organ"], strict=True)) == list(product(("s6", "s7"), ("back", "front")))
        assert arm == "standard+copy-paste" or set(own["ratio_percent"]) == {0 if arm == "standard" else chosen[size]}
    assert set(record["sweeps"][0]["val_dice"]) == {"0", "100"}
    assert record["budget"] == {"iterations": 24, "batch_size": 2}
    assert record["subjects"] == {"train": 5, "validation": 1, "test": 2}
    assert record["command"].startswith("medgan study augmentation")
    assert len(record["comparisons"]) == len(pd.read_csv(folder / "comparisons.csv"))
    assert set(pd.read_csv(folder / "curves.csv")["arm"]) == set(rows["arm"]) == set(record["arms"])
    for words in ("Difference in Dice", "n=2 generator: ratio 100 %", "finished before"):
        assert words in golden.resumed("augmentation").output


def test_a_draw_whose_cases_fail_leaves_its_arms_out_and_the_others_go_on(few):
    stages = few("sizes=[2]", seeds=(0, 1)).stages()
    assert [task.name for task in next(stages)] == ["cases/copy-paste,n=2,seed=0", "cases/copy-paste,n=2,seed=1"]
    segmenters = stages.send([TaskFailure("cases/copy-paste,n=2,seed=1", "no room")])
    assert [task.name.removeprefix("segmenters/") for task in segmenters] == [
        "real,n=2,seed=0", "standard,n=2,seed=0", "standard+copy-paste,ratio=100,n=2,seed=0",
        "real,n=2,seed=1", "standard,n=2,seed=1",
    ]  # fmt: skip


def test_an_arm_sees_its_few_subjects_its_cases_and_its_share_and_shows_the_guard_whom(few):
    study = few()
    draw = study.draws[0]
    for arm, ratio, share, augmentation in (
        ("standard+copy-paste", 25, 0.2, "standard"), ("real", 0, 0, "none"),
        ("standard+shuffled", 100, 0.5, "standard"),
    ):  # fmt: skip
        task = study._task(BY_NAME[arm], draw, 25 if arm == "real" else ratio)
        (segmenter,) = task.args
        assert [scan.subject for scan in segmenter.train.scans] == list(draw.subjects)
        assert [scan.subject for scan in segmenter.validation.scans] == ["s5"]
        assert {scan.subject for scan in task.scans} == {*draw.subjects, "s5"}
        assert (segmenter.extra_share, segmenter.config.augmentation) == (pytest.approx(share), augmentation)
        assert bool(segmenter.extra) == bool(ratio)
        if segmenter.extra:
            assert segmenter.extra.exchanged == (arm == "standard+shuffled")
    assert {image.scan.subject for image in segmenter.test} == {"s6", "s7"}


SCORES = {  # by arm, ratio and seed
    ("standard", 0): (0.9, 0.9),
    ("standard+copy-paste", 25): (0.8, 0.5),
    ("standard+copy-paste", 100): (0.6, 0.8),
    ("standard+carve-mix", 25): (0.7, 0.7),
    ("standard+carve-mix", 100): (0.7, 0.7),
}


@pytest.fixture
def swept(few):
    """Studies whose trainings score as ``SCORES`` says; those in ``fails`` do not end: ``swept(fails)``."""

    def run(fails=(), *overrides):
        arms = "arms=[real, standard, standard+copy-paste, standard+carve-mix]"
        study = few(arms, "ratios_percent=[0, 25, 100]", *overrides, seeds=(0, 1))
        draws = [draw for draw in study.draws if draw.size == 2]
        choosing = study._choose_ratios(2, dict.fromkeys(study.config.methods, draws))
        try:
            tasks = next(choosing)
            keys = {task.name: (task.inputs["arm"], task.inputs["ratio_percent"]) for task in tasks}
            for task in tasks:
                if keys[task.name] not in fails:
                    dice = SCORES[keys[task.name]][task.inputs["seed"]]
                    write_json(study.order.folder / task.name / "validation.json", {"val_dice": dice})
            choosing.send([TaskFailure(name, "no") for name, key in keys.items() if key in fails])
        except StopIteration as end:
            return study, end.value, locals().get("tasks", [])
        raise AssertionError("a second stage")

    return run


def test_the_best_mean_over_seeds_is_taken_for_each_method_and_zero_never(swept):
    study, ratios, tasks = swept()
    assert ratios == {"copy-paste": 100, "carve-mix": 25}
    sweep = study.sweeps[0]
    assert sweep["arm"] == "standard+copy-paste"
    assert sweep["val_dice"] == pytest.approx({"0": 0.9, "25": 0.65, "100": 0.7})
    # What methods share is trained once, and nobody is tested.
    assert len({task.name for task in tasks}) == len(tasks) == 2 * (1 + 2 + 2)
    assert {task.product for task in tasks} == {"validation.json"}


def test_a_ratio_that_failed_is_no_choice_and_a_method_of_which_all_did_is_named_and_stops_no_other(swept):
    assert swept({("standard+copy-paste", 100)})[1] == {"copy-paste": 25, "carve-mix": 25}
    study, ratios, _ = swept({("standard+carve-mix", 25), ("standard+carve-mix", 100)})
    assert list(ratios) == ["copy-paste"]
    (failure,) = study.failures
    assert failure.child == "carve-mix,n=2"
    assert failure.reason.startswith("none of its ratios could be trained: ")
    study, ratios, tasks = swept((), "ratios_percent=[50]")  # a single one is taken as it is
    assert (ratios, tasks) == ({"copy-paste": 50, "carve-mix": 50}, [])
    assert [sweep["arm"] for sweep in study.sweeps] == [None, None]


def test_an_arm_differs_from_its_reference_in_one_thing_and_the_control_has_the_generators_images(few):
    for arm in ARMS[1:]:
        other = BY_NAME[arm.reference]
        assert (arm.standard != other.standard) + (arm.extra != other.extra) == 1, arm.name
    control, arm = BY_NAME["standard+shuffled"], BY_NAME["standard+generator"]
    assert (control.extra, control.standard, control.shuffled) == (arm.extra, arm.standard, True)
    assert (arm.name, control.name) in FURTHER
    for arms, expected in (
        ("real, generator, standard, standard+generator, standard+shuffled", "standard+generator"),
        ("real, generator, standard+shuffled", "generator"),
    ):  # a ratio is chosen by the arm on top of what is usual
        assert few(f"arms=[{arms}]")._swept("generator") == expected


def test_the_fewer_subjects_are_among_the_more_and_a_seed_draws_its_own_whatever_else_is_asked_for(few):
    draws = few(seeds=(0, 7, 3, 4)).draws
    two, three = ([draw for draw in draws if draw.size == size] for size in (2, 3))
    for fewer, more in zip(two, three, strict=True):
        assert fewer.seed == more.seed
        assert more.subjects[:2] == fewer.subjects
    assert few("sizes=[2]", seeds=(7,)).draws[0] in two
    assert len({frozenset(draw.subjects) for draw in two}) > 1


def test_only_training_subjects_with_a_label_are_drawn(few):
    study = few("sizes=[4]")
    assert set(study.draws[0].subjects) == {"s0", "s1", "s2", "s3", "s4"} - {f"s{UNLABELLED}"}
    assert [scan.subject for scan in study._of(study.draws[0].labelled)] == list(study.draws[0].subjects)


def test_cases_that_augment_made_are_nobody_in_a_study(few, own):
    parts = {"s5": "train", "s6": "validation"}
    table = rewrite(own("lesions"), lambda row: row | {"split": parts.get(row["subject"], row["split"])})
    (table.parent / "s5_mr.json").write_text('{"Synthetic": true, "Augmentation": {"Method": "copy-paste"}}')
    study = few("sizes=[4]", data=table)
    assert set(study.draws[0].subjects) == {"s0", "s1", "s2", "s3"}
    assert any("1 synthetic case of `medgan augment` is left out" in note for note in study.notes())


def test_healthy_subjects_are_no_size_and_receive_what_the_few_lend(few):
    def recipients(study, method):
        return study._cases_task(method, study.draws[0]).args[0].recipients

    added = ["insertion.placement=add", "generator_insertion={}", "sizes=[2]"]
    without, besides = (few(*added, f"healthy={healthy}") for healthy in (0, 1))
    (few,), (more,) = without.draws, besides.draws
    assert (more.size, more.labelled, more.healthy) == (2, few.subjects, (f"s{UNLABELLED}",))
    assert [scan.subject for scan in recipients(besides, "copy-paste")] == [f"s{UNLABELLED}"]
    assert recipients(besides, "elastic") == recipients(without, "copy-paste") == without._of(few.labelled)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sizes=[5]"], r"sizes=\[5\]: 4 of 5 training subjects have a voxel of front, back"),
        (["insertion.placement=add", "generator_insertion={}", "sizes=[2]", "healthy=2"],
         r"healthy=2: 1 of 5 training subjects have no voxel of front, back"),
        (["healthy=1"], "no organ whose place another could take"),
        (["arms=[standard, standard+healthy]"], "say how many, as healthy=15"),
        (["segmenter.fit.keep=best"], "leave it at last"),
        (["lesions=[spot]"], "lesions names spot"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_or_trained_is_refused(few, settings, message):
    with pytest.raises(ConfigError, match=message):
        few(*settings)


def test_a_pipeline_that_makes_no_lesions_is_refused_before_its_phantom_is_rendered(few, monkeypatch):
    monkeypatch.setattr(Pipeline, "rendered", lambda *asked: pytest.fail("rendered"))
    with pytest.raises(ConfigError, match="'mr_to_ct' trains no lesion generator"):
        few(pipeline="mr_to_ct", data=None)


def test_a_second_image_of_a_subject_is_refused(few, own):
    table = own("lesions")
    table.with_name("again.nii.gz").write_bytes(table.with_name("s0_mr.nii.gz").read_bytes())
    table.write_text(table.read_text() + "s0,mr,again.nii.gz,s0_mask.nii.gz,train\n")
    with pytest.raises(DataError, match="keep one"):
        few(data=table)


def test_the_split_is_frozen_and_the_generator_draws_what_the_segmenter_segments(few):
    study = few()
    assert study.synthesis.labels == {"front": (1,), "back": (2,)}
    assert (study.synthesis.domain, study.synthesis.grid) == (study.segmenter.domain, study.segmenter.grid)
    assert study.synthesis.fit.keep == "last", "validation chooses no epoch"
    assert Split.load(study.order.folder / "split.json") == study.split
    assert Augmentation(study.order, study.console).split == study.split


def test_what_is_asked_for_decides_what_is_made_compared_and_chosen():
    config = load(AugmentationConfig, {"arms": ["real", "standard", "standard+generator"]})
    assert config.methods == ("generator",)
    assert config.comparisons == (("standard", "real"), ("standard+generator", "standard"))
    assert load(AugmentationConfig, {"arms": ["real", "standard"]}).methods == ()
    assert load(AugmentationConfig, {"ratios_percent": [100, 0, 25]}).ratios == (25, 100)
    config = load(AugmentationConfig, {"insertion": {"placement": "replace"}, "generator_insertion": {"shapes": "own"}})
    assert config.insertion_of("copy-paste") == config.insertion
    assert config.insertion_of("generator") == config.insertion.model_copy(update={"shapes": "own"})


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"ratios_percent": [0]}, "needs a ratio above 0"),
        ({"arms": []}, "at least one arm"),
        ({"arms": ["real", "real"]}, "each once"),
        ({"arms": ["standard", "standard+shuffled"]}, "takes the ratio of the generator"),
        ({"sizes": []}, "sizes"),
        ({"generator_insertion": {"shape_of": "own"}}, "unknown setting 'shape_of'"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, problem):
    with pytest.raises(ConfigError, match=problem):
        load(AugmentationConfig, given)


def test_the_shipped_settings_can_be_and_the_phantoms_lesions_are_counted_one_by_one():
    for data, quick in product(("cohort.csv", None), (False, True)):
        config = layered(AugmentationConfig, StudyOrder("augmentation", "lesion_augmentation", data=data, quick=quick))
        assert config.segmenter["fit"]["keep"] == "last"
        assert {"standard", "standard+copy-paste", "standard+generator"} <= set(config.arms)
        assert len(config.ratios_percent) == 1 or not quick
    assert config.lesions == ("lesion",)
    assert config.segmenter["labels"] == {"lesion": [HeadTissue.LESION, HeadTissue.ENHANCING_LESION]}


SIZES, SEEDS, SUBJECTS = (4, 8, 16), (0, 1), tuple("abcdef")
PAIRS = [("standard", "real"), ("standard+generator", "standard")]
GAIN = {"real": 0.0, "standard": 0.1, "standard+generator": 0.1}


def dice(arm, size, seed, subject, organ):
    """The generator adds .06, .04, .02 to front and nothing to back; seed 1 is .02 better than seed 0 everywhere."""
    extra = {4: 0.06, 8: 0.04, 16: 0.02}[size] if (arm, organ) == ("standard+generator", "front") else 0.0
    own = 0.01 * SUBJECTS.index(subject)
    return 0.5 + GAIN[arm] + extra * (1 + own) + own + 0.02 * seed


@pytest.fixture
def rows():
    keys = list(product(GAIN, SIZES, SEEDS, SUBJECTS, ("front", "back")))
    frame = pd.DataFrame(keys, columns=["arm", "size", "seed", "subject", "organ"])
    known = {"ratio_percent": 0, "dice": [dice(*key) for key in keys], "hd95_mm": 1.0, "surface_dice": 0.5}
    return frame.assign(**known, **dict.fromkeys(("volume_error_percent", "lesion_f1", "false_lesions"), np.nan))


def test_the_mean_of_organs_is_a_subjects_own(rows):
    table = _with_mean(rows)
    key = {"arm": "standard+generator", "size": 4, "seed": 0, "subject": "a"}
    assert row_of(table, organ=MEAN, **key)["dice"] == pytest.approx((0.66 + 0.6) / 2)
    assert len(table) == 1.5 * len(rows)
    single = rows[rows["organ"] == "front"]
    assert _with_mean(single) is single


def test_differences_are_told_for_all_seeds_and_for_each(rows):
    table = _comparisons(_with_mean(rows), PAIRS)
    key = {"arm": "standard+generator", "reference": "standard", "organ": "front", "metric": "dice"}
    for size, gain in {4: 0.06, 8: 0.04, 16: 0.02}.items():
        whole = row_of(table, size=size, seed=ALL, **key)
        assert whole["mean"] == pytest.approx(gain * 1.025)
        assert (whole["n"], whole["trainings"]) == (len(SUBJECTS), len(SEEDS))
        assert whole["lower"] > 0
        for seed in SEEDS:
            assert row_of(table, size=size, seed=str(seed), **key)["mean"] == pytest.approx(gain * 1.025)
    assert row_of(table, size=4, seed=ALL, **key | {"organ": MEAN})["mean"] == pytest.approx(0.03 * 1.025)
    # A seed that one arm lacks is not compared.
    table = _comparisons(rows[~((rows["arm"] == key["arm"]) & (rows["seed"] == 1))], PAIRS)
    own = row_of(table, size=4, seed=ALL, **key)
    assert (own["mean"], own["trainings"]) == (pytest.approx(0.06 * 1.025), 1)
    assert table[(table["arm"] == key["arm"]) & (table["seed"] == "1")].empty


def test_false_alarms_in_healthy_subjects_are_compared_where_the_f1_has_nothing_to_say(rows):
    """In healthy a and b the generator alone finds something, twice in a: 3 false lesions in 6 subjects."""
    few = rows[(rows["size"] == 4) & (rows["organ"] == "front")]
    found = {("standard+generator", "a"): 2.0, ("standard+generator", "b"): 1.0}
    counts = np.array([found.get(key, 0.0) for key in zip(few["arm"], few["subject"], strict=True)])
    healthy = few["subject"].isin(["a", "b"])
    few = few.assign(false_lesions=counts, lesion_f1=np.where(healthy, np.where(counts > 0, 0.0, np.nan), 1.0))
    table = _comparisons(few, PAIRS[1:])
    for seed in (ALL, *map(str, SEEDS)):
        hidden, told = (row_of(table, seed=seed, metric=metric) for metric in ("lesion_f1", "false_lesions"))
        assert (hidden["mean"], hidden["n"]) == (0, 4)
        assert (told["mean"], told["n"]) == (pytest.approx(3 / 6), 6)
    assert row_of(means(few, KEYS), arm="standard", metric="false_lesions")["mean"] == 0


def test_the_slope_is_what_a_gain_loses_as_subjects_double(rows):
    table = _slopes(rows, PAIRS)
    row = row_of(table, arm="standard+generator", organ="front")
    assert row["mean"] == pytest.approx(-0.02 * 1.025)
    assert row["upper"] < 0
    assert row_of(table, arm="standard", organ="front")["mean"] == pytest.approx(0, abs=1e-12)
    assert _slopes(rows[rows["size"] == 4], PAIRS).empty
    assert _slopes(rows.iloc[:0], PAIRS).empty


@pytest.fixture
def summary(few, rows):
    """What follows from figures of three arms: ``summary(dice=1.0)``; of one organ where ``organ`` names it."""

    def of(organ=None, **figures):
        own = rows[rows["organ"] == "front"].assign(organ=organ, **figures) if organ else rows
        return few("arms=[real, standard, standard+generator]").summary(own)

    return of


def test_all_sizes_and_seeds_stand_in_one_line(summary):
    text = printed(summary().shown, 200)
    assert all(word in text for word in ("n=4", "n=8", "n=16", "seeds +0.031 +0.031", "p 0.0", "slope"))
    line = next(line for line in text.splitlines() if "standard+generator" in line and "+0.031 [" in line)
    assert "-0.010 [" in line
    assert "esion" not in text


def test_lesions_are_told_where_they_are_counted_and_what_the_generator_adds_in_them(summary):
    found = summary("lesion", lesion_f1=0.55, false_lesions=0.51)
    text = printed(found.shown, 200)
    for words in ("Lesion-wise F1 of lesion", "0.550 [", "False lesions per subject of lesion", "0.510 [", "fewer are"):
        assert words in text
    assert found.metrics.keys() >= {f"gain/n4/lesion_{metric}" for metric in ("dice", "lesion_f1", "false_lesions")}
    assert found.metrics["gain/n4/lesion_dice"] == pytest.approx(0.06 * 1.025)
