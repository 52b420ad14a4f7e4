"""Devices: the one that was asked for, or an error that names what there is."""

import pytest
import torch

from medgan.errors import ConfigError
from medgan.training.device import (
    Place,
    _best_precision,
    _convolves_fast_in_bf16,
    choose_kernels,
    device_of,
    make_fabric,
    parse_devices,
    take_place,
)


def test_the_precision_is_one_that_the_device_computes():
    assert make_fabric("cpu", "auto").device.type == "cpu"
    assert _best_precision("cpu") in ("32", "bf16-mixed")
    assert _best_precision("mps") == "32"


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "slowness", "fast"),
    [(True, True, 3, True), (False, True, 3, False), (False, True, 0.5, True), (False, False, 0.5, False)],
)
def test_a_processor_that_has_only_avx512_is_tried(monkeypatch, amx, avx512_bf16, slowness, fast):
    convolve, clock = torch.nn.Conv2d.forward, [0.0]

    def timed(layer, image):
        clock[0] += slowness if image.dtype == torch.bfloat16 else 1
        return convolve(layer, image)

    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr("torch.nn.Conv2d.forward", timed)
    monkeypatch.setattr("time.process_time", lambda: clock[0])
    before = torch.get_rng_state()
    assert _convolves_fast_in_bf16.__wrapped__() == fast
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_takes_the_fastest_kernels_or_those_that_add_in_one_order_and_a_processor_none(
    monkeypatch, deterministic
):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "before")
    try:
        choose_kernels(torch.device("cpu"), deterministic=True)
        assert not torch.are_deterministic_algorithms_enabled()
        choose_kernels(torch.device("cuda"), deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.benchmark == (not deterministic)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("device", ["banana", "cuda:x", "cpu:0", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ConfigError, match=f"no device '{device}'; --device takes auto, cpu"):
        make_fabric(device, "32")


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("auto", ("auto",)), ("mps", ("mps",)), ("cuda:0,cuda:1", ("cuda:0", "cuda:1")), ("cpu, cpu", ("cpu", "cpu")),
    ],
)  # fmt: skip
def test_devices_are_names_with_commas_between_them(text, devices):
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    ("text", "problem"),
    [("cuda:0,gpu", "no device 'gpu'"), ("cuda:0,", "no device ''"), ("", "no device ''"), ("auto,cpu", "it alone")],
)
def test_a_name_of_no_device_is_refused_before_any_is_looked_for(text, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_devices(text)


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of torchrun, or of srun, as if it had started this process."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS", "NODE_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)

    def launch(by, rank=3, world=4, local_rank=1, per_node=2):
        torchrun = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": per_node}
        srun = {"SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": world, "SLURM_LOCALID": local_rank}
        srun |= {"SLURM_STEP_NUM_NODES": world // per_node}
        values = torchrun | {"TORCHELASTIC_RUN_ID": "x"} if by == "torchrun" else srun
        for name, value in values.items():
            monkeypatch.setenv(name, str(value))

    return launch


@pytest.mark.parametrize(
    ("device", "devices", "place", "names"),
    [
        ("auto", None, Place(), ("auto",)), ("cpu", 2, Place(0, 2, 0, 2), ("cpu", "cpu")),
        ("cuda:0,cuda:3", None, Place(0, 2, 0, 2), ("cuda:0", "cuda:3")),
        ("cuda:1", 1, Place(), ("cuda:1",)), ("cpu,cpu", 2, Place(0, 2, 0, 2), ("cpu", "cpu")),
    ],
)  # fmt: skip
def test_a_training_takes_as_many_devices_as_are_wanted_or_named(launched, device, devices, place, names):
    assert take_place(device, devices, None) == (place, names)


@pytest.mark.parametrize(
    ("device", "devices", "nodes", "problem"),
    [
        ("cuda:0,cuda:1", 3, 1, "names 2, and --devices 3"), ("cuda:0,cuda:1", 1, 1, "names 2, and --devices 1"),
        ("cuda:1", 2, 1, "names 1, and --devices 2"), ("cuda:0,cuda:0", None, 1, "takes different GPUs"),
        ("cpu,cuda:0", None, 1, "not a mixture"), ("mps", 2, 1, "takes different GPUs"),
        ("cpu", 2, 2, "by srun or by torchrun, or set MASTER_ADDR"),
    ],
)  # fmt: skip
def test_numbers_of_devices_that_contradict_each_other_are_refused(launched, device, devices, nodes, problem):
    with pytest.raises(ConfigError, match=problem):
        take_place(device, devices, nodes)


@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_a_process_of_torchrun_or_srun_knows_its_place(launched, by):
    launched(by)
    assert take_place("cpu", None, None) == (Place(3, 4, 1, 2, by), ("cpu", "cpu"))
    assert take_place("cpu", 2, 2)[0].nodes == 2
    with pytest.raises(ConfigError, match=f"--devices 4 and --num-nodes 2: {by} started 2 processes on each of 2"):
        take_place("cpu", 4, None)


def test_a_single_task_of_srun_starts_the_others_itself(launched):
    launched("srun", 0, 1, 0, 1)
    assert take_place("cpu", 2, None)[0] == Place(0, 2, 0, 2)


def test_nodes_that_nobody_counts_are_told_which_they_are(launched, monkeypatch):
    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "node0")
    assert take_place("cpu", 2, 3)[0] == Place(2, 6, 0, 2)


def test_each_process_of_a_node_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of(Place(rank, 2, rank, 2), ("auto", "auto")) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    with pytest.raises(ConfigError, match="--devices 3: this machine shows 2 GPUs"):
        device_of(Place(0, 3, 0, 3), ("cuda",) * 3)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert device_of(Place(1, 2, 1, 2, "srun"), ("cuda",) * 2) == "cuda:0"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_of(Place(1, 2, 1, 2), ("auto",) * 2) == "auto"
