from medgan.benefit.augmentation.arms import BY_NAME
from medgan.benefit.augmentation.tasks import Task, cases_folder, child_of, generator_folder
from medgan.benefit.records import write_json
from medgan.evaluation.segmentation import METRICS


def task(plan, arm, **more):
    return Task(plan, child_of(plan, BY_NAME[arm], plan.of_size(2)[0], 50), "parent", "uri", **more)


def test_names_tell_arm_ratio_size_and_seed(plan):
    assert task(plan, "standard+generator").child.name == "standard+generator,ratio=50,n=2,seed=0"
    assert task(plan, "standard").child.name == "standard,n=2,seed=0"
    assert task(plan, "standard").child.ratio_percent == 0
    draw = plan.of_size(2)[0]
    assert cases_folder(plan, "carve-mix", draw).name == "carve-mix,n=2,seed=0"
    assert generator_folder(plan, draw).name == "n=2,seed=0"


def test_arms_differ_in_augmentation_alone(plan):
    real, standard = task(plan, "real").config, task(plan, "standard").config
    assert real.model_copy(update={"augmentation": "standard"}) == standard == plan.segmenter


def test_the_control_shares_the_generators_cases(plan):
    assert task(plan, "standard+shuffled").extra == task(plan, "generator").extra
    assert task(plan, "real").extra is None


def test_what_is_trained_is_done_where_nobody_is_to_be_tested(plan):
    swept, tested = task(plan, "real", test=False), task(plan, "real")
    write_json(swept.child.folder / "validation.json", {"val_dice": 0.25})
    assert (swept.done, tested.done) == (True, False)
    assert swept.child.outcome == "validation Dice 0.250"
    (tested.child.folder / "rows.csv").write_text(",".join(METRICS) + "\n")
    assert tested.done
