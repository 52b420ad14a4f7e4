"""Where and how precisely a network computes."""

from typing import Literal

import torch
from lightning_fabric import Fabric

from medgan.errors import ConfigError

Computed = Literal["32", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", Computed]


def make_fabric(device: str, precision: Precision) -> Fabric:
    """One device, launched.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto`` takes bf16 where the device computes it well, 16-bit floats on older GPUs, else 32 bits.

    Raises:
        ConfigError: This machine has no such device.
    """
    accelerator, _, number = device.partition(":")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = _best_precision(accelerator) if precision == "auto" else precision
    try:
        fabric = Fabric(accelerator=accelerator, devices=[int(number)] if number else 1, precision=chosen)
    except (RuntimeError, TypeError, ValueError):
        raise ConfigError(
            f"this machine has no device '{device}'; --device takes auto, cpu, cuda, cuda:1 (the second GPU) or mps."
        ) from None
    fabric.launch()
    return fabric


def _best_precision(accelerator: str) -> Computed:
    """bf16 on GPUs and CPUs that compute it in hardware, fp16 on older GPUs, 32 bits elsewhere."""
    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16-mixed"
    return "32"
