from typing import get_args

import pytest

from medgan.benefit.arms import ARMS, BY_NAME, FURTHER, SWEPT, ArmName


def test_the_table_has_every_arm_once_and_no_other():
    assert [arm.name for arm in ARMS] == list(get_args(ArmName))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_differs_from_its_reference_in_one_thing(arm):
    if arm.reference is None:
        assert arm.name == "real"
        return
    other = BY_NAME[arm.reference]
    differing = [key for key in ("images", "extra", "standard") if getattr(arm, key) != getattr(other, key)]
    assert len(differing) == 1


def test_names_say_what_is_in_an_arm():
    for arm in ARMS:
        words = set(arm.name.split("+"))
        assert ("standard" in words) == arm.standard or arm.name == "oracle"
        assert (arm.extra in words) if arm.extra else not words & {"synthetic", "matched", "shuffled"}


@pytest.mark.parametrize(("ratio", "share"), [(25, 0.2), (50, 1 / 3), (100, 0.5), (200, 2 / 3)])
def test_a_ratio_is_the_share_of_extra_among_all(ratio, share):
    assert BY_NAME["real+synthetic"].share(ratio) == pytest.approx(share)
    assert BY_NAME["real"].share(ratio) == 0


def test_only_arms_with_drawn_images_need_a_translator():
    assert {arm.name for arm in ARMS if arm.translates} == {
        "real+synthetic",
        "real+standard+synthetic",
        "synthetic-only",
        "real+shuffled",
    }


def test_what_is_swept_and_compared_further_is_in_the_table():
    assert {name for pair in FURTHER for name in pair} | set(SWEPT) <= BY_NAME.keys()
    assert all(BY_NAME[name].extra == "synthetic" for name in SWEPT)
