"""Several ranks train as one process with the whole batch does, and end together."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from medgan.errors import MedganError
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.segmentation.segmenter import Segmenter
from medgan.segmentation.settings import SegmenterConfig
from ranked import ALONE, FIT, Made, broken, each_trained, in_two_ranks, judged, trained

PAIR = ("source", "target", "region")
EQUAL = {
    "pix2pix-2d": ("pix2pix", "2", {"rim_weight": 0.3}),
    "pix2pix-3d": ("pix2pix", "3", {}),
    "cyclegan-2d": ("cyclegan", "2", {"pool": 3, "ramp_iterations": 4}),
    "cyclegan-3d": ("cyclegan", "3", {"pool": 3}),
}
"""Learners without noise, whose pools have long been exchanged when the training ends."""
NOISY = {
    "wasserstein": ("cyclegan", "2", {"adversarial": "wasserstein", "pool": 3}),
    "cut": ("cut", "2.5", {"patches": 8}),
}
"""Learners that draw noise: each rank its own, so that only ranks agree with each other."""
SEGMENTERS = ("segmenter-2d", "segmenter-3d")


def segmenter(spatial, norm="instance"):
    network, patch = {"channels": 4, "downs": 1, "norm": norm}, {"dimensions": str(spatial)}
    return Segmenter(SegmenterConfig(labels={"a": 1, "b": 2}, network=network, patch=patch))


@pytest.fixture(scope="module")
def cases(make_translator):
    """Learner and patches by name."""
    torch.manual_seed(0)
    made = {}
    for name, (kind, dimensions, game) in (EQUAL | NOISY).items():
        shape, channels = (16, 16, 8) if dimensions == "3" else (16, 16), 3 if dimensions == "2.5" else 1
        precision = "32" if name in NOISY else "64-true"
        made[name] = make_translator(kind, dimensions, **game), Made(PAIR, shape, channels), precision
    for name, spatial in zip(SEGMENTERS, (2, 3), strict=True):
        made[name] = segmenter(spatial), Made(("image", "labels"), (16, 16, 8)[:spatial])
    made["32 bits"] = *made["cyclegan-2d"][:2], "32"
    return made


@pytest.fixture(scope="module")
def results(cases, tmp_path_factory):
    """What two ranks have of each case, what one process has, and its folder."""
    folder = tmp_path_factory.mktemp("ranks")
    trained(ALONE, folder / "more", *cases["cyclegan-2d"], stop=True)
    ranks = in_two_ranks(each_trained, pickle.dumps(cases), str(folder))
    one = {name: trained(ALONE, folder / "one" / name, *case) for name, case in cases.items() if name not in NOISY}
    one["fewer"] = trained(ALONE, folder / "fewer", *cases["cyclegan-2d"], resume=True)
    return *ranks, one, folder


def assert_close(ours, others):
    assert all(torch.allclose(weights, others[0][name], rtol=0, atol=1e-6) for name, weights in ours[0].items())
    for row, other in zip(ours[1], others[1], strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("case", [*EQUAL, *SEGMENTERS])
def test_two_ranks_train_what_one_process_trains_with_the_whole_batch(results, case):
    first, _, one, _ = results
    assert_close(first[case], one[case])


def test_in_32_bits_too_no_weight_is_moved_by_rounding_alone(results):
    (weights, _), (others, _) = results[0]["32 bits"], results[2]["32 bits"]
    for name, each in weights.items():
        torch.testing.assert_close(each, others[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", [*EQUAL, *NOISY, *SEGMENTERS])
def test_all_ranks_have_the_same_weights_and_figures(results, case):
    (weights, history), (others, their_history) = results[0][case], results[1][case]
    assert all(torch.equal(each, others[name]) for name, each in weights.items())
    assert history == their_history
    assert len(history) == FIT.epochs


def test_ranks_of_which_one_was_asked_to_stop_go_on_as_if_none_had_been(results):
    (weights, history), (resumed, their_history) = results[0]["wasserstein"], results[0]["resumed"]
    assert all(torch.equal(each, resumed[name]) for name, each in weights.items())
    assert history == their_history


def test_a_run_goes_on_with_more_or_fewer_ranks_and_says_so(results):
    first, _, one, folder = results
    assert_close(first["more"], one["cyclegan-2d"])
    assert_close(one["fewer"], one["cyclegan-2d"])
    for name, numbers in (("more", "1 before, 2 from here on"), ("fewer", "2 before, 1 from here on")):
        assert numbers in (folder / name / "train.log").read_text(encoding="utf-8")


def test_only_the_first_rank_writes(results):
    first, second, _, folder = results
    assert first["cut"][1] == second["cut"][1]
    assert (folder / "two" / "cut" / "metrics.csv").read_text(encoding="utf-8").count("\n") == 1 + FIT.epochs


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("killed", r"rank 1 \(process \d+\) was ended by SIGKILL, perhaps for want of memory; add --resume to go on"),
        ("refused", "^rank 1: b.nii.gz: is not here"),
    ],
)
def test_a_rank_that_is_lost_ends_all_and_is_named(how, said):
    with pytest.raises(MedganError, match=said):
        in_two_ranks(broken, how)


SLOW = """
import time
from ranked import TWO, broken
import medgan.training.ranks as module

if __name__ == "__main__":
    module.LEAVING_S = 2
    with module.joined(TWO, ("cpu", "cpu"), broken, "killed") as ranks:
        ranks.any(False)
        time.sleep(600)
"""


def test_a_rank_that_does_not_leave_when_another_is_lost_is_ended(tmp_path):
    (tmp_path / "command.py").write_text(SLOW, encoding="utf-8")
    places = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "command.py"], cwd=tmp_path, env=os.environ | places, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert ended.returncode == 2
    assert re.search(r"medgan: rank 1 \(process \d+\) was ended by SIGKILL", ended.stderr)


UNDER_TORCHRUN = """
from medgan.training.device import take_place
from medgan.training.ranks import joined

if __name__ == "__main__":
    with joined(*take_place("cpu", None, None), print) as ranks:
        places = ranks.all((ranks.rank, ranks.place.launcher))
        if ranks.first:
            print(places)
"""


def test_processes_that_torchrun_started_find_each_other(tmp_path):
    (tmp_path / "command.py").write_text(UNDER_TORCHRUN, encoding="utf-8")
    started = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "command.py"]
    places = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(started, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=240)
    assert "[(0, 'torchrun'), (1, 'torchrun')]" in ended.stdout, ended.stderr


def test_validation_that_ranks_share_gives_what_one_process_finds(make_translator, held_out):
    studies = held_out(5, 3, 3)
    labels = [(study.voxels > 0).astype(np.uint8) + (study.voxels > 200) for study in studies.source]
    labelled = LabelledHeldOut(studies.source, (), labels=labels)
    given = pickle.dumps([
        (make_translator("cyclegan"), studies), (make_translator("pix2pix"), studies), (segmenter(2), labelled),
    ])  # fmt: skip
    (one,) = judged(ALONE, given)
    assert len(one) == 3
    assert in_two_ranks(judged, given) == [one, one]
