"""Where and how precisely a network computes."""

import os
import re
from typing import TYPE_CHECKING, Literal

from medgan.errors import ConfigError

if TYPE_CHECKING:  # torch takes seconds; wrong names of devices are told before it is imported
    import torch
    from lightning_fabric import Fabric

Computed = Literal["32", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", Computed]


def parse_devices(text: str) -> tuple[str, ...]:
    """The devices that ``--device`` names, such as ``auto``, ``cpu`` or ``cuda:0,cuda:1``; one may come twice.

    Raises:
        ConfigError: A name of no device, or ``auto`` among others.
    """
    devices = tuple(name.strip() for name in text.split(","))
    for device in devices:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
            raise _no_device(device)
    if "auto" in devices and len(devices) > 1:
        raise ConfigError(f"--device {text}: auto chooses one device itself; give it alone, or name all devices.")
    return devices


def make_fabric(device: str, precision: Precision) -> "Fabric":
    """One device, launched.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto`` takes bf16 where the device computes it well, 16-bit floats on older GPUs, else 32 bits.

    Raises:
        ConfigError: This machine has no such device.
    """
    import torch
    from lightning_fabric import Fabric

    accelerator, _, number = device.partition(":")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = _best_precision(accelerator) if precision == "auto" else precision
    if accelerator == "cuda":
        # What is left in 32 bits goes through tensor cores, as convolutions do by torch's default.
        torch.set_float32_matmul_precision("high")
    try:
        fabric = Fabric(accelerator=accelerator, devices=[int(number)] if number else 1, precision=chosen)
    except (RuntimeError, TypeError, ValueError):
        raise _no_device(device) from None
    fabric.launch()
    return fabric


def choose_kernels(device: "torch.device", *, deterministic: bool) -> None:
    """How a training on a GPU chooses its kernels: cuDNN's fastest, by trying each, or the same ones in every process.

    A processor computes the same every time, whatever is chosen.

    Args:
        device: Where networks and patches are.
        deterministic: Takes kernels that add in one order. Layers for which torch has none (reflection padding, linear
            resizing, warping) are named by a warning of torch.
    """
    import torch

    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory was too small, which its libraries say in several ways."""
    import torch

    said = ("ALLOC_FAILED", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def _best_precision(accelerator: str) -> Computed:
    """bf16 on GPUs and CPUs with units for its matrix products, fp16 on older GPUs, 32 bits elsewhere.

    A processor that has only AVX-512's bf16 convolves in it at half the speed of 32 bits; with AMX it is many times
    faster.
    """
    import torch

    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16-mixed"
    return "32"


def _no_device(device: str) -> ConfigError:
    return ConfigError(
        f"this machine has no device '{device}'; --device takes auto, cpu, cuda, cuda:1 (the second GPU) or mps, or "
        "several with commas between them."
    )
