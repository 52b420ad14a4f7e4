import pytest
from rich.console import Console

from medgan.benefit.augmentation.plan import make_plan
from medgan.benefit.augmentation.study import announce
from medgan.data.splits import Split
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.pipeline import Pipeline

from .conftest import UNLABELLED


def test_the_fewer_subjects_are_among_the_more(asked, tmp_path):
    plan = make_plan(asked(tmp_path, seeds=(0, 1)))
    for few, many in zip(plan.of_size(2), plan.of_size(3), strict=True):
        assert few.seed == many.seed
        assert many.subjects[:2] == few.subjects


def test_a_seed_draws_its_own_subjects_whatever_else_is_asked_for(asked, tmp_path):
    one = make_plan(asked(tmp_path / "a", seeds=(7,), overrides=["sizes=[2]"]))
    several = make_plan(asked(tmp_path / "b", seeds=(0, 7, 3, 4)))
    assert one.of_size(2)[0] in several.of_size(2)
    assert len({frozenset(draw.subjects) for draw in several.of_size(2)}) > 1


def test_only_training_subjects_with_a_label_are_drawn(asked, tmp_path):
    plan = make_plan(asked(tmp_path, overrides=["sizes=[4]"]))
    assert set(plan.draws[0].subjects) == {"s0", "s1", "s2", "s3", "s4"} - {f"s{UNLABELLED}"}
    assert [study.subject for study in plan.studies(plan.draws[0])] == list(plan.draws[0].subjects)


def test_cases_that_augment_made_are_nobody_in_a_study(asked, save_cohort, tmp_path):
    table = save_cohort(tmp_path / "cohort", parts=("train",) * 6 + ("validation", "test"))
    (table.parent / "s5_image.json").write_text('{"Synthetic": true, "Augmentation": {"Method": "copy-paste"}}')
    plan = make_plan(asked(tmp_path, data=table, overrides=["sizes=[4]"]))
    assert plan.left_out == 1
    assert set(plan.draws[0].subjects) == {"s0", "s1", "s2", "s3"}
    with (tmp_path / "told.txt").open("w+", encoding="utf-8") as stream:
        announce(plan, Console(file=stream, width=200))
        stream.seek(0)
        assert "1 synthetic case of `medgan augment` is left out" in stream.read()


def test_more_subjects_than_there_are_is_refused(asked, tmp_path):
    with pytest.raises(ConfigError, match=r"sizes=\[5\]: 4 of 5 training subjects have a voxel of front, back"):
        make_plan(asked(tmp_path, overrides=["sizes=[5]"]))


def test_healthy_subjects_are_no_size_and_receive_what_the_few_lend(asked, tmp_path):
    added = ["insertion.placement=add", "generator_insertion={}", "sizes=[2]"]
    without, besides = (
        make_plan(asked(tmp_path / str(healthy), overrides=[*added, f"healthy={healthy}"])) for healthy in (0, 1)
    )
    (few,), (more,) = without.draws, besides.draws
    assert (more.size, more.labelled, more.healthy) == (2, few.subjects, (f"s{UNLABELLED}",))
    assert besides.studies(more) == without.studies(few)
    assert [study.subject for study in besides.recipients(more, "copy-paste")] == [f"s{UNLABELLED}"]
    assert besides.recipients(more, "elastic") == without.recipients(few, "copy-paste") == without.studies(few)
    with pytest.raises(ConfigError, match=r"healthy=2: 1 of 5 training subjects have no voxel of front, back"):
        make_plan(asked(tmp_path / "2", overrides=[*added, "healthy=2"]))
    with pytest.raises(ConfigError, match="no organ whose place another could take"):
        make_plan(asked(tmp_path / "3", overrides=["healthy=1"]))
    with pytest.raises(ConfigError, match="say how many, as healthy=15"):
        make_plan(asked(tmp_path / "4", overrides=["arms=[standard, standard+healthy]"]))


def test_the_generator_draws_what_the_segmenter_segments(plan):
    assert plan.synthesis.labels == {"front": (1,), "back": (2,)}
    assert plan.synthesis.domain == plan.segmenter.domain
    assert plan.synthesis.grid == plan.segmenter.grid


def test_validation_subjects_choose_no_epoch(plan, asked, tmp_path):
    assert plan.synthesis.fit.keep == "last"
    with pytest.raises(ConfigError, match="leave it at last"):
        make_plan(asked(tmp_path / "other", overrides=["segmenter.fit.keep=best"]))


def test_a_pipeline_that_makes_no_lesions_is_refused_before_its_phantom_is_rendered(asked, monkeypatch, tmp_path):
    monkeypatch.setattr(Pipeline, "rendered", lambda *asked: pytest.fail("rendered"))
    with pytest.raises(ConfigError, match="'mr_to_ct' trains no lesion generator"):
        make_plan(asked(tmp_path, pipeline="mr_to_ct", data=None))


def test_lesions_must_be_labels(asked, tmp_path):
    with pytest.raises(ConfigError, match="lesions names spot"):
        make_plan(asked(tmp_path, overrides=["lesions=[spot]"]))


def test_a_second_image_of_a_subject_is_refused(asked, save_cohort, tmp_path):
    table = save_cohort(tmp_path / "data")
    (tmp_path / "data/again.nii.gz").write_bytes((tmp_path / "data/s0_image.nii.gz").read_bytes())
    table.write_text(table.read_text() + "s0,mr,again.nii.gz,s0_mask.nii.gz,train\n")
    with pytest.raises(DataError, match="keep one"):
        make_plan(asked(tmp_path, data=table))


def test_a_study_goes_on_with_its_own_split_alone(asked, save_cohort, tmp_path):
    plan = make_plan(asked(tmp_path))
    assert Split.load(plan.split_path) == plan.split
    make_plan(asked(tmp_path))
    swapped = save_cohort(
        tmp_path / "data", ("test", "train", "train", "train", "train", "validation", "test", "train")
    )
    with pytest.raises(LeakageError, match="'s0' is in its train part"):
        make_plan(asked(tmp_path, data=swapped))


def test_the_command_says_all_but_where_the_data_lie(asked, tmp_path):
    command = asked(tmp_path, quick=True, seeds=(4,)).command
    assert command.startswith(
        "medgan benefit --study augmentation --pipeline lesion_augmentation --name augmentation --seeds 4, "
        "--data COHORT --quick"
    )
    assert str(tmp_path) not in command
