"""Devices: the one that was asked for, or an error that names what there is."""

import pytest

from medgan.errors import ConfigError
from medgan.training.device import _best_precision, make_fabric


@pytest.mark.parametrize("device", ["banana", "cuda:x", "cpu:0", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ConfigError, match=f"no device '{device}'; --device takes auto, cpu"):
        make_fabric(device, "32")


def test_the_precision_is_one_that_the_device_computes():
    fabric = make_fabric("cpu", "auto")
    assert fabric.device.type == "cpu"
    assert _best_precision("cpu") in ("32", "bf16-mixed")
    assert _best_precision("mps") == "32"
