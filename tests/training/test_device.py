"""Devices: the one that was asked for, or an error that names what there is."""

import pytest
import torch

from medgan.errors import ConfigError
from medgan.training.device import _best_precision, choose_kernels, make_fabric, parse_devices


def test_the_precision_is_one_that_the_device_computes():
    assert make_fabric("cpu", "auto").device.type == "cpu"
    assert _best_precision("cpu") in ("32", "bf16-mixed")
    assert _best_precision("mps") == "32"


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
