"""Augmentation in one go, and stopped in a segmenter and resumed; who is drawn, what is chosen, what is compared."""

import io
import os
import signal
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from rich.console import Console

from medgan.config import load
from medgan.data.splits import Split
from medgan.data.streams import write_json
from medgan.errors import ConfigError, DataError, InsertionError, LeakageError
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
    comparisons,
    configured,
    slopes,
    with_mean,
)  # fmt: skip
from medgan.studies.base import Failure, Order
from medgan.studies.cases import Making
from medgan.studies.engine import Result, read_json, run_study
from medgan.studies.segmenter import means
from medgan.training.recorder import Recorder

QUIET = Console(quiet=True)
UNLABELLED = 4
"""This training subject has a mask in which nothing is marked."""
KEYS = ["arm", "size", "organ"]
STOPPED = "standard+generator,ratio=100,n=2,seed=0"
EVERY = (
    "arms=[standard, standard+generator, standard+shuffled]",
    "ratios_percent=[0, 50, 100]",
    "cases=2",
)


@dataclass
class Story:
    whole: Result
    stopped: str
    before: dict[str, int]
    resumed: Result
    output: str


def stamps(folder):
    """When each file of what was finished was written."""
    done = [path.parent for path in folder.rglob("validation.json")] + [folder / "generators", folder / "cases"]
    return {str(path): path.stat().st_mtime_ns for each in done for path in each.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def story(few_order, tmp_path_factory):
    """Ctrl-C in the middle of a segmenter's second epoch, as a user gives it."""
    iteration = Recorder.iteration

    def watched(self, number):
        iteration(self, number)
        if number == 3 and self.folder.name == STOPPED:
            os.kill(os.getpid(), signal.SIGINT)

    work = tmp_path_factory.mktemp("study")
    order, output = few_order(work / "parts", *EVERY, "sizes=[2]"), io.StringIO()
    with pytest.MonkeyPatch.context() as always:
        # The library behind it collects all garbage at each call, which takes longer than a training.
        always.setattr("medgan.evaluation.statistics.holm", np.asarray)
        whole = run_study(Augmentation, few_order(work / "whole", *EVERY), QUIET)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recorder, "iteration", watched)
            with pytest.raises(KeyboardInterrupt) as stopped:
                run_study(Augmentation, order, QUIET)
        before = stamps(order.folder)
        resumed = run_study(Augmentation, order, Console(file=output, width=200))
    return Story(whole, str(stopped.value), before, resumed, output.getvalue())


def folder_of(result):
    return result.study.order.folder


def test_every_arm_of_every_size_is_judged_on_every_test_subject(story):
    rows = story.whole.rows
    assert story.whole.exit_code == 0
    assert len(rows) == 3 * 2 * 2 * 2
    assert set(rows["subject"]) == {"s6", "s7"}
    assert set(rows["size"]) == {2, 3}
    chosen = {sweep.size: sweep.ratio_percent for sweep in story.whole.study.sweeps}
    for (size, arm), own in rows.groupby(["size", "arm"]):
        assert set(own["ratio_percent"]) == {0 if arm == "standard" else chosen[size]}


def test_it_resumes_where_it_was_stopped_and_finds_the_same(story):
    assert STOPPED in story.stopped
    assert any("generators" in path for path in story.before)
    assert any("cases" in path for path in story.before)
    after = stamps(folder_of(story.resumed))
    trained = {path: stamp for path, stamp in story.before.items() if not path.endswith(("rows.csv", "task.json"))}
    assert {path: after[path] for path in trained} == trained
    assert "finished before" in story.output
    pd.testing.assert_frame_equal(story.resumed.rows, story.whole.rows.query("size == 2"))


def test_the_folder_tells_all(story):
    folder = folder_of(story.whole)
    record = read_json(folder / "augmentation.json")
    assert record["budget"] == {"iterations": 4, "batch_size": 2}
    assert record["subjects"] == {"train": 5, "validation": 1, "test": 2}
    assert record["command"].startswith("medgan study augmentation")
    assert [(sweep["size"], sweep["method"]) for sweep in record["sweeps"]] == [(2, "generator"), (3, "generator")]
    assert set(record["sweeps"][0]["val_dice"]) == {"0", "50", "100"}
    assert len(record["comparisons"]) == len(pd.read_csv(folder / "comparisons.csv"))
    assert len(pd.read_csv(folder / "augmentation.csv")) == len(story.whole.rows)
    curves = pd.read_csv(folder / "curves.csv")
    assert set(curves["arm"]) == set(story.whole.rows["arm"])
    assert "Difference in Dice" in story.output


def test_all_is_one_run_with_a_child_for_each_network(story):
    folder = folder_of(story.resumed)
    record = read_json(folder / "study.json")
    client = MlflowClient(tracking_uri=record["tracking_uri"])
    parent = client.get_run(record["mlflow_run_id"])
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    segmenters = [f"segmenters/{path.name}" for path in (folder / "segmenters").iterdir()]
    assert {run.info.run_name for run in children} == {"generators/n=2,seed=0", *segmenters}
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert parent.data.metrics["gain/n2/mean_dice"] == pytest.approx(story.resumed.summary.metrics["gain/n2/mean_dice"])


def test_a_finished_study_is_not_taken_for_one_of_other_settings(story, few_order):
    out = folder_of(story.whole).parents[1]
    with pytest.raises(ConfigError, match=r"other segmenter\.rate"):
        run_study(Augmentation, few_order(out, *EVERY, "segmenter.rate=0.1"), QUIET)


def test_a_study_of_another_split_is_refused(story, few_order, save_few, tmp_path):
    out = folder_of(story.whole).parents[1]
    parts = ("train", "train", "train", "test", "train", "validation", "test", "train")
    with pytest.raises(LeakageError, match="'s3' is in its train part"):
        run_study(Augmentation, few_order(out, *EVERY, data=save_few(tmp_path, parts)), QUIET)


def test_a_draw_whose_cases_fail_leaves_its_arms_out_and_the_others_go_on(few_order, tmp_path):
    stages = Augmentation(few_order(tmp_path, "sizes=[2]", seeds=(0, 1)), QUIET).stages()
    assert [task.name for task in next(stages)] == ["cases/copy-paste,n=2,seed=0", "cases/copy-paste,n=2,seed=1"]
    segmenters = stages.send([Failure("cases/copy-paste,n=2,seed=1", "no room")])
    assert [task.name.removeprefix("segmenters/") for task in segmenters] == [
        "real,n=2,seed=0", "standard,n=2,seed=0", "standard+copy-paste,ratio=100,n=2,seed=0",
        "real,n=2,seed=1", "standard,n=2,seed=1",
    ]  # fmt: skip


def test_nothing_placed_fails_the_cases_and_the_study_goes_on(few_order, tmp_path, monkeypatch):
    class Refusing:
        name = "copy-paste"

        def synthesise(self, recipient, donors, rng):
            raise InsertionError("no room")

    monkeypatch.setattr(Making, "synthesiser", lambda self, device: Refusing())
    result = run_study(Augmentation, few_order(tmp_path, "sizes=[2]", "arms=[real, copy-paste]"), QUIET)
    (failure,) = result.failures
    assert failure.child == "cases/copy-paste,n=2,seed=0"
    assert "no room" in failure.reason
    assert result.exit_code == 1
    assert list(dict.fromkeys(result.rows["arm"])) == ["real"]


def test_an_arm_sees_its_few_subjects_its_cases_and_its_share_and_shows_the_guard_whom(few_order, tmp_path):
    study = Augmentation(few_order(tmp_path), QUIET)
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
def swept(few_order, tmp_path):
    """Studies whose trainings score as ``SCORES`` says; those in ``fails`` do not end: ``swept(fails)``."""

    def run(fails=(), *overrides):
        arms = "arms=[real, standard, standard+copy-paste, standard+carve-mix]"
        order = few_order(tmp_path, arms, "ratios_percent=[0, 25, 100]", *overrides, seeds=(0, 1))
        study = Augmentation(order, QUIET)
        draws = [draw for draw in study.draws if draw.size == 2]
        choosing = study._choose_ratios(2, dict.fromkeys(study.config.methods, draws))
        try:
            tasks = next(choosing)
            keys = {task.name: (task.inputs["arm"], task.inputs["ratio_percent"]) for task in tasks}
            for task in tasks:
                if keys[task.name] not in fails:
                    dice = SCORES[keys[task.name]][task.inputs["seed"]]
                    write_json(order.folder / task.name / "validation.json", {"val_dice": dice})
            choosing.send([Failure(name, "no") for name, key in keys.items() if key in fails])
        except StopIteration as end:
            return study, end.value, locals().get("tasks", [])
        raise AssertionError("a second stage")

    return run


def test_the_best_mean_over_seeds_is_taken_for_each_method_and_zero_never(swept):
    study, ratios, tasks = swept()
    assert ratios == {"copy-paste": 100, "carve-mix": 25}
    sweep = study.sweeps[0]
    assert (sweep.arm, sweep.val_dice) == ("standard+copy-paste", pytest.approx({0: 0.9, 25: 0.65, 100: 0.7}))
    # What methods share is trained once, and nobody is tested.
    assert len({task.name for task in tasks}) == len(tasks) == 2 * (1 + 2 + 2)
    assert {task.product for task in tasks} == {"validation.json"}


def test_a_ratio_that_failed_with_a_seed_is_no_choice(swept):
    assert swept({("standard+copy-paste", 100)})[1] == {"copy-paste": 25, "carve-mix": 25}


def test_a_method_of_which_nothing_could_be_trained_is_named_and_stops_no_other(swept):
    study, ratios, _ = swept({("standard+carve-mix", 25), ("standard+carve-mix", 100)})
    assert list(ratios) == ["copy-paste"]
    (failure,) = study.failures
    assert failure.child == "carve-mix,n=2"
    assert failure.reason.startswith("none of its ratios could be trained: ")


def test_a_single_ratio_is_taken_as_it_is(swept):
    study, ratios, tasks = swept((), "ratios_percent=[50]")
    assert (ratios, tasks) == ({"copy-paste": 50, "carve-mix": 50}, [])
    assert [sweep.arm for sweep in study.sweeps] == [None, None]


def test_a_ratio_is_chosen_by_the_arm_on_top_of_what_is_usual(few_order, tmp_path):
    for arms, expected in (
        ("real, generator, standard, standard+generator, standard+shuffled", "standard+generator"),
        ("real, generator, standard+shuffled", "generator"),
    ):
        study = Augmentation(few_order(tmp_path, f"arms=[{arms}]"), QUIET)
        assert study._swept("generator").name == expected


def test_an_arm_differs_from_its_reference_in_one_thing_and_the_control_has_the_generators_images():
    for arm in ARMS[1:]:
        other = BY_NAME[arm.reference]
        assert (arm.standard != other.standard) + (arm.method != other.method) == 1, arm.name
    control, arm = BY_NAME["standard+shuffled"], BY_NAME["standard+generator"]
    assert (control.method, control.standard, control.shuffled) == (arm.method, arm.standard, True)
    assert (arm.name, control.name) in FURTHER


@pytest.fixture
def settled(few_order, tmp_path):
    """Studies that are not begun: ``settled("sizes=[2]", seeds=(0, 1))``, each in a folder of its own."""
    number = iter(range(10))
    return lambda *overrides, **changes: Augmentation(
        few_order(tmp_path / str(next(number)), *overrides, **changes), QUIET
    )


def of_size(study, size):
    return [draw for draw in study.draws if draw.size == size]


def test_the_fewer_subjects_are_among_the_more_and_a_seed_draws_its_own_whatever_else_is_asked_for(settled):
    study = settled(seeds=(0, 7, 3, 4))
    for fewer, more in zip(of_size(study, 2), of_size(study, 3), strict=True):
        assert fewer.seed == more.seed
        assert more.subjects[:2] == fewer.subjects
    assert settled("sizes=[2]", seeds=(7,)).draws[0] in of_size(study, 2)
    assert len({frozenset(draw.subjects) for draw in of_size(study, 2)}) > 1


def test_only_training_subjects_with_a_label_are_drawn(settled):
    study = settled("sizes=[4]")
    assert set(study.draws[0].subjects) == {"s0", "s1", "s2", "s3", "s4"} - {f"s{UNLABELLED}"}
    assert [scan.subject for scan in study._of(study.draws[0].labelled)] == list(study.draws[0].subjects)


def test_cases_that_augment_made_are_nobody_in_a_study(settled, save_few, tmp_path):
    table = save_few(tmp_path / "cohort", parts=("train",) * 6 + ("validation", "test"))
    (table.parent / "s5_image.json").write_text('{"Synthetic": true, "Augmentation": {"Method": "copy-paste"}}')
    study = settled("sizes=[4]", data=table)
    assert set(study.draws[0].subjects) == {"s0", "s1", "s2", "s3"}
    assert any("1 synthetic case of `medgan augment` is left out" in note for note in study.notes())


def recipients(study, method):
    (making,) = study._cases_task(method, study.draws[0]).args
    return making.recipients


def test_healthy_subjects_are_no_size_and_receive_what_the_few_lend(settled):
    added = ["insertion.placement=add", "generator_insertion={}", "sizes=[2]"]
    without, besides = (settled(*added, f"healthy={healthy}") for healthy in (0, 1))
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
def test_what_cannot_be_drawn_or_trained_is_refused(settled, settings, message):
    with pytest.raises(ConfigError, match=message):
        settled(*settings)


def test_the_generator_draws_what_the_segmenter_segments_and_validation_chooses_no_epoch(settled):
    study = settled()
    assert study.synthesis.labels == {"front": (1,), "back": (2,)}
    assert (study.synthesis.domain, study.synthesis.grid) == (study.segmenter.domain, study.segmenter.grid)
    assert study.synthesis.fit.keep == "last"


def test_a_pipeline_that_makes_no_lesions_is_refused_before_its_phantom_is_rendered(settled, monkeypatch):
    monkeypatch.setattr(Pipeline, "rendered", lambda *asked: pytest.fail("rendered"))
    with pytest.raises(ConfigError, match="'mr_to_ct' trains no lesion generator"):
        settled(pipeline="mr_to_ct", data=None)


def test_a_second_image_of_a_subject_is_refused(settled, save_few, tmp_path):
    table = save_few(tmp_path / "data")
    (tmp_path / "data/again.nii.gz").write_bytes((tmp_path / "data/s0_image.nii.gz").read_bytes())
    table.write_text(table.read_text() + "s0,mr,again.nii.gz,s0_mask.nii.gz,train\n")
    with pytest.raises(DataError, match="keep one"):
        settled(data=table)


def test_the_split_is_frozen(few_order, tmp_path):
    study = Augmentation(few_order(tmp_path), QUIET)
    assert Split.load(study.order.folder / "split.json") == study.split
    assert Augmentation(few_order(tmp_path), QUIET).split == study.split


def settings(on_phantom, quick, pipeline="lesion_augmentation"):
    """The shipped ones."""
    order = Order("augmentation", pipeline, data=None if on_phantom else "cohort.csv", quick=quick)
    return configured(order)


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
    ("given", "problem"),
    [
        ({"ratios_percent": [0]}, "needs a ratio above 0"),
        ({"arms": []}, "at least one arm"),
        ({"arms": ["real", "real"]}, "each once"),
        ({"arms": ["standard", "standard+shuffled"]}, "takes the ratio of the generator"),
        ({"sizes": []}, "sizes"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, problem):
    with pytest.raises(ConfigError, match=problem):
        load(AugmentationConfig, given)


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("on_phantom", [False, True], ids=["data", "phantom"])
def test_the_shipped_settings_can_be(quick, on_phantom):
    config = settings(on_phantom, quick)
    assert config.segmenter["fit"]["keep"] == "last"
    assert {"standard", "standard+copy-paste", "standard+generator"} <= set(config.arms)
    if quick:
        assert len(config.ratios_percent) == 1


@pytest.mark.parametrize("on_phantom", [True, False])
def test_a_study_that_has_no_short_form_is_not_run_at_full_length_under_that_name(on_phantom):
    with pytest.raises(ConfigError, match=r"no short form of a study of 'lesion_classification' is shipped; leave"):
        settings(on_phantom, True, "lesion_classification")


def test_the_phantoms_lesions_are_counted_one_by_one():
    config = settings(True, False)
    assert config.lesions == ("lesion",)
    assert config.segmenter["labels"] == {"lesion": [HeadTissue.LESION, HeadTissue.ENHANCING_LESION]}


def test_the_insertion_of_the_generator_may_differ_from_that_of_others():
    config = load(AugmentationConfig, {"insertion": {"placement": "replace"}, "generator_insertion": {"shapes": "own"}})
    assert config.insertion_of("copy-paste") == config.insertion
    assert config.insertion_of("generator") == config.insertion.model_copy(update={"shapes": "own"})


def test_a_setting_that_insertion_does_not_have_is_refused_before_anything_is_trained():
    with pytest.raises(ConfigError, match="unknown setting 'shape_of'"):
        load(AugmentationConfig, {"generator_insertion": {"shape_of": "own"}})


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
    frame = pd.DataFrame(
        [
            {"arm": arm, "size": size, "seed": seed, "ratio_percent": 0, "subject": subject, "organ": organ}
            | {"dice": dice(arm, size, seed, subject, organ)}
            for arm, size, seed, subject, organ in product(GAIN, SIZES, SEEDS, SUBJECTS, ("front", "back"))
        ]
    )
    return frame.assign(
        hd95_mm=1.0, surface_dice=0.5, volume_error_percent=np.nan, lesion_f1=np.nan, false_lesions=np.nan
    )


def one(table, **wanted):
    for key, value in wanted.items():
        table = table[table[key] == value]
    (row,) = table.to_dict("records")
    return row


def test_the_mean_of_organs_is_a_subjects_own(rows):
    table = with_mean(rows)
    key = {"arm": "standard+generator", "size": 4, "seed": 0, "subject": "a"}
    assert one(table, organ=MEAN, **key)["dice"] == pytest.approx((0.66 + 0.6) / 2)
    assert len(table) == 1.5 * len(rows)
    single = rows[rows["organ"] == "front"]
    assert with_mean(single) is single


def test_means_are_over_subjects_with_seeds_averaged(rows):
    row = one(means(rows, KEYS), arm="real", size=8, organ="back", metric="dice")
    assert row["mean"] == pytest.approx(0.5 + 0.025 + 0.01)
    assert row["n"] == len(SUBJECTS)


def test_differences_are_told_for_all_seeds_and_for_each(rows):
    table = comparisons(with_mean(rows), PAIRS)
    key = {"arm": "standard+generator", "reference": "standard", "organ": "front", "metric": "dice"}
    for size, gain in {4: 0.06, 8: 0.04, 16: 0.02}.items():
        whole = one(table, size=size, seed=ALL, **key)
        assert whole["mean"] == pytest.approx(gain * 1.025)
        assert (whole["n"], whole["trainings"]) == (len(SUBJECTS), len(SEEDS))
        assert whole["lower"] > 0
        for seed in SEEDS:
            assert one(table, size=size, seed=str(seed), **key)["mean"] == pytest.approx(gain * 1.025)
    assert one(table, size=4, seed=ALL, **key | {"organ": MEAN})["mean"] == pytest.approx(0.03 * 1.025)


def test_false_alarms_in_healthy_subjects_are_compared_where_the_f1_has_nothing_to_say(rows):
    """In healthy a and b the generator alone finds something, twice in a: 3 false lesions in 6 subjects."""
    few = rows[(rows["size"] == 4) & (rows["organ"] == "front")]
    found = {("standard+generator", "a"): 2.0, ("standard+generator", "b"): 1.0}
    counts = np.array([found.get(key, 0.0) for key in zip(few["arm"], few["subject"], strict=True)])
    healthy = few["subject"].isin(["a", "b"])
    few = few.assign(false_lesions=counts, lesion_f1=np.where(healthy, np.where(counts > 0, 0.0, np.nan), 1.0))
    table = comparisons(few, PAIRS[1:])
    for seed in (ALL, *map(str, SEEDS)):
        hidden, told = (one(table, seed=seed, metric=metric) for metric in ("lesion_f1", "false_lesions"))
        assert (hidden["mean"], hidden["n"]) == (0, 4)
        assert (told["mean"], told["n"]) == (pytest.approx(3 / 6), 6)
    assert one(means(few, KEYS), arm="standard", metric="false_lesions")["mean"] == 0


def test_a_seed_that_one_arm_lacks_is_not_compared(rows):
    fewer = rows[~((rows["arm"] == "standard+generator") & (rows["seed"] == 1))]
    table = comparisons(fewer, PAIRS)
    key = {"arm": "standard+generator", "organ": "front", "metric": "dice", "size": 4}
    assert one(table, seed=ALL, **key)["mean"] == pytest.approx(0.06 * 1.025)
    assert one(table, seed=ALL, **key)["trainings"] == 1
    assert table[(table["arm"] == "standard+generator") & (table["seed"] == "1")].empty


def test_the_slope_is_what_a_gain_loses_as_subjects_double(rows):
    table = slopes(rows, PAIRS)
    row = one(table, arm="standard+generator", organ="front")
    assert row["mean"] == pytest.approx(-0.02 * 1.025)
    assert row["upper"] < 0
    assert one(table, arm="standard", organ="front")["mean"] == pytest.approx(0, abs=1e-12)


def test_one_size_has_no_slope(rows):
    assert slopes(rows[rows["size"] == 4], PAIRS).empty


def test_nothing_is_compared_where_nothing_was_found(rows):
    empty = rows.iloc[:0]
    assert means(empty, KEYS).empty
    assert comparisons(empty, PAIRS).empty
    assert slopes(empty, PAIRS).empty


def shown(few_order, tmp_path, rows, *overrides):
    output = io.StringIO()
    Console(file=output, width=200).print(*Augmentation(few_order(tmp_path, *overrides), QUIET).summary(rows).shown)
    return output.getvalue()


def test_all_sizes_and_seeds_stand_in_one_line(few_order, tmp_path, rows):
    text = shown(few_order, tmp_path, rows, "arms=[real, standard, standard+generator]")
    assert all(word in text for word in ("n=4", "n=8", "n=16", "seeds +0.031 +0.031", "p 0.0", "slope"))
    line = next(line for line in text.splitlines() if "standard+generator" in line and "+0.031 [" in line)
    assert "-0.010 [" in line
    assert "esion" not in text


def test_lesions_are_told_where_they_are_counted(few_order, tmp_path, rows):
    lesions = rows[rows["organ"] == "front"].assign(organ="lesion", lesion_f1=0.55, false_lesions=0.51)
    text = shown(few_order, tmp_path, lesions, "arms=[real, standard, standard+generator]")
    for words in ("Lesion-wise F1 of lesion", "0.550 [", "False lesions per subject of lesion", "0.510 [", "fewer are"):
        assert words in text


def test_the_parent_run_tells_what_the_generator_adds_in_lesions_too(few_order, tmp_path, rows):
    lesions = rows[rows["organ"] == "front"].assign(organ="lesion", lesion_f1=0.5, false_lesions=1.0)
    study = Augmentation(few_order(tmp_path, "arms=[real, standard, standard+generator]"), QUIET)
    gains = study.summary(lesions).metrics
    assert gains.keys() >= {f"gain/n4/lesion_{metric}" for metric in ("dice", "lesion_f1", "false_lesions")}
    assert gains["gain/n4/lesion_dice"] == pytest.approx(0.06 * 1.025)


def test_a_study_of_which_every_segmenter_failed_says_nothing_and_goes_to_its_end(few_order, tmp_path):
    study = Augmentation(few_order(tmp_path), QUIET)
    summary = study.summary(pd.DataFrame(columns=[*study.keys, *study.metrics]))
    assert summary.comparisons.empty
    assert summary.record["means"] == []
