import pytest

from medgan.benefit.augmentation.arms import ARMS, BY_NAME, FURTHER, swept


@pytest.mark.parametrize(("ratio", "share"), [(25, 0.2), (100, 0.5), (200, 2 / 3)])
def test_the_ratio_is_synthetic_to_real(ratio, share):
    assert BY_NAME["generator"].share(ratio) == pytest.approx(share)
    assert BY_NAME["standard"].share(ratio) == 0


def test_an_arm_differs_from_its_reference_in_one_thing():
    for arm in ARMS[1:]:
        other = BY_NAME[arm.reference]
        changed = (arm.standard != other.standard) + (arm.method != other.method)
        assert changed == 1, arm.name


def test_the_control_has_the_generators_images():
    control, arm = BY_NAME["standard+shuffled"], BY_NAME["standard+generator"]
    assert (control.method, control.standard) == (arm.method, arm.standard)
    assert control.shuffled
    assert (arm.name, control.name) in FURTHER


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("real", "generator", "standard+generator", "standard+shuffled"), "standard+generator"),
        (("real", "generator", "standard+shuffled"), "generator"),
    ],
)
def test_a_ratio_is_chosen_by_the_arm_on_top_of_what_is_usual(names, expected):
    assert swept("generator", names).name == expected
