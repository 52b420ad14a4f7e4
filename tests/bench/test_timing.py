import runpy
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
MODULE = runpy.run_path(str(BENCH / "timing.py"))
in_turn, speed_up, Spread, Times, side_by_side, Command, whole = (
    MODULE[name] for name in ("in_turn", "speed_up", "Spread", "Times", "side_by_side", "Command", "whole")
)


def test_arms_run_in_turn_and_every_other_round_backwards():
    order = []
    arms = {name: lambda name=name: order.append(name) or len(order) for name in "ABC"}
    times = in_turn(arms, rounds=3)
    assert "".join(order) == "ABCCBAABC"
    assert times == {"A": [1, 6, 7], "B": [2, 5, 8], "C": [3, 4, 9]}


def test_a_ratio_is_the_median_of_rounds_side_by_side_and_not_the_ratio_of_medians():
    base, arm = [10.0, 40.0, 12.0], [5.0, 10.0, 12.0]
    assert speed_up(base, arm) == Spread(2.0, 1.0, 4.0), "medians alone would say 1.2"
    assert f"{speed_up(base, arm):.1f}" == "2.0 (1.0 to 4.0)"


def test_a_machine_that_slows_down_for_a_while_moves_no_ratio():
    arm, slowness = [1.0, 1.1, 0.9], [1.0, 3.0, 1.0]
    base = [2 * each for each in arm]
    slowed = [[each * factor for each, factor in zip(times, slowness, strict=True)] for times in (base, arm)]
    assert speed_up(*slowed).median == speed_up(base, arm).median == pytest.approx(2)


def test_a_row_has_times_and_ratios_by_clock_and_leaves_out_what_was_not_read():
    times = Times({"ours": {"cpu": [0.5, 0.5]}, "theirs": {"cpu": [1.0, 1.5]}})
    assert times.row("ours", "theirs") == ["500 (500 to 500)", "", "2.50 (2.00 to 3.00)", ""]
    assert times.row("theirs", "theirs")[2:] == ["1", "1"]


def test_an_arm_is_a_process_that_is_timed_and_counts_its_flops():
    numbers = ("2", "4", "8", "2")
    arms = {way: Command("arms/convolutions.py", ("32-true", way, "last", *numbers)) for way in ("forward", "backward")}
    times = side_by_side(arms, rounds=2, seconds=0.001, flops=("forward",), clocks=("cpu",))
    assert times.flops["forward"] == {"forward": times.facts["forward"]["flops"], "backward": 0}
    assert times.facts["forward"]["flops"] == 2 * (2 * 8 * 8) * 4 * (4 * 3 * 3), "two for each tap of each output voxel"
    assert times.facts["backward"]["flops"] == 2 * times.facts["forward"]["flops"]
    assert all(len(times.rounds[way]["cpu"]) == 2 and times.peak_mib[way] > 0 for way in arms)


def test_a_program_that_fails_is_named():
    with pytest.raises(RuntimeError, match="ended with 3"):
        whole({"fails": [sys.executable, "-c", "raise SystemExit(3)"]}, rounds=1)
