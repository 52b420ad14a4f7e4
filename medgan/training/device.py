"""Where and how precisely a network computes."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from medgan.errors import ConfigError

if TYPE_CHECKING:  # torch takes seconds; wrong names of devices are told before it is imported
    import torch
    from lightning_fabric import Fabric

Computed = Literal["32", "bf16-mixed", "16-mixed"]
Precision = Literal["auto", Computed]
FASTER = 0.75
"""Of the seconds of 32 bits: what bf16 must stay below to be chosen on a processor that is tried."""


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


@dataclass(frozen=True)
class Place:
    """Which of the processes that share a training this is; each has a device of its own."""

    rank: int = 0
    world: int = 1
    """How many there are."""
    local_rank: int = 0
    """Which of those on its node."""
    local_world: int = 1
    """How many there are on each node."""
    launcher: Literal["", "torchrun", "srun"] = ""
    """What started them; empty where medgan itself starts those of its node."""

    @property
    def beside(self) -> int:
        """How many share its cores; srun gives each its own."""
        return 1 if self.launcher == "srun" else self.local_world

    @property
    def nodes(self) -> int:
        """How many machines take part."""
        return self.world // self.local_world


def started_by_launcher() -> Place:
    """Where torchrun or srun put this process; alone, where neither started several."""
    names, launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), "torchrun"
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        # The step's variables, not the job's: a batch script without srun is one process, however many tasks it may
        # start.
        names, launcher = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_NUM_NODES"), "srun"
    if not all(os.environ.get(name, "").isdigit() for name in names):
        return Place()
    rank, world, local_rank, local_world = (int(os.environ[name]) for name in names)
    if launcher == "srun":
        if world % local_world:
            raise ConfigError(f"srun started {world} tasks on {local_world} nodes; give --ntasks-per-node.")
        local_world = world // local_world
    return Place(rank, world, local_rank, local_world, launcher) if world > 1 else Place()  # type: ignore[arg-type]


def take_place(device: str, devices: int | None, num_nodes: int | None) -> tuple[Place, tuple[str, ...]]:
    """This process's place in a training, and the device of each process on its node.

    Args:
        device: What ``--device`` says: a kind, of which ``devices`` are taken, or all of a node's by name.
        devices: On each node; None is as many as are named or as torchrun or srun started, else one.
        num_nodes: Machines; None is one, or as many as torchrun or srun started.

    Raises:
        ConfigError: The three and what torchrun or srun started contradict each other.
    """
    names, place = parse_devices(device), started_by_launcher()
    devices = devices or (place.local_world if place.launcher or len(names) == 1 else len(names))
    num_nodes = num_nodes or place.nodes
    if place.launcher and (devices, num_nodes) != (place.local_world, place.nodes):
        raise ConfigError(
            f"--devices {devices} and --num-nodes {num_nodes}: {place.launcher} started {place.local_world} processes "
            f"on each of {place.nodes} nodes; give those numbers, or leave both out."
        )
    if len(names) not in (1, devices) or (len(names) == 1 < devices and ":" in device):
        raise ConfigError(f"--device {device} names {len(names)}, and --devices {devices} wants another number.")
    kinds = {name.partition(":")[0] for name in names}
    if devices > 1 and (len(kinds) > 1 or kinds == {"mps"} or (kinds == {"cuda"} and len(set(names)) < len(names))):
        raise ConfigError(
            f"--device {device}: a training takes different GPUs, or so many CPU processes, not a mixture."
        )
    if not place.launcher:
        node = os.environ.get("NODE_RANK", "") if num_nodes > 1 else "0"
        if not node.isdigit() or int(node) >= num_nodes or (num_nodes > 1 and "MASTER_ADDR" not in os.environ):
            raise ConfigError(
                f"--num-nodes {num_nodes}: start the command on every node by srun or by torchrun, or set MASTER_ADDR, "
                "MASTER_PORT and NODE_RANK (0, 1, ...) there."
            )
        place = Place(int(node) * devices, num_nodes * devices, 0, devices)
    return place, names if len(names) > 1 else names * devices


def device_of(place: Place, names: Sequence[str]) -> str:
    """The device of one of a node's processes, of what :func:`take_place` gives.

    Raises:
        ConfigError: The machine has fewer GPUs than processes.
    """
    import torch

    name, count = names[place.local_rank], torch.cuda.device_count()
    if place.world == 1 or name == "cpu" or ":" in name or (name == "auto" and not count):
        return name
    if place.launcher == "srun" and count == 1:
        return "cuda:0"  # srun may show each task the GPU that it gave it, and no other
    if count < place.local_world:
        raise ConfigError(f"--devices {place.local_world}: this machine shows {count} GPUs; take as many or fewer.")
    return f"cuda:{place.local_rank}"


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
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    accelerator, _, number = device.partition(":")
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = _best_precision(accelerator) if precision == "auto" else precision
    if accelerator == "cuda":
        # What is left in 32 bits goes through tensor cores, as convolutions do by torch's default.
        torch.set_float32_matmul_precision("high")
    try:
        # One device is one device, whatever torchrun or srun says of others: medgan.training.ranks joins them.
        alone, devices = LightningEnvironment(), [int(number)] if number else 1
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=chosen, plugins=[alone])
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
    """bf16 on GPUs and CPUs that compute it well, fp16 on older GPUs, 32 bits elsewhere."""
    import torch

    if accelerator == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator == "cpu" and _convolves_fast_in_bf16():
        return "bf16-mixed"
    return "32"


@cache
def _convolves_fast_in_bf16() -> bool:
    """Whether this processor convolves in bf16 in clearly less time than in 32 bits.

    With AMX it does. Of those that have AVX-512's bf16 alone, one of AMD's takes half the time and one of Intel's twice
    as much, so that a convolution is tried there, forwards and backwards, for a fifth of a second.
    """
    import torch

    if torch.cpu._is_amx_tile_supported() or not torch.cpu._is_avx512_bf16_supported():
        return torch.cpu._is_amx_tile_supported()

    def seconds(kind: torch.dtype) -> float:
        layer, image = torch.nn.Conv2d(64, 64, 3).to(kind), torch.ones(1, 64, 48, 48, dtype=kind)
        taken = []
        for _ in range(4):  # the first one warms up
            begun = time.process_time()
            layer(image).sum().backward()
            taken.append(time.process_time() - begun)
        return min(taken)

    with torch.random.fork_rng(devices=[]):
        return seconds(torch.bfloat16) < FASTER * seconds(torch.float32)


def _no_device(device: str) -> ConfigError:
    return ConfigError(
        f"this machine has no device '{device}'; --device takes auto, cpu, cuda, cuda:1 (the second GPU) or mps, or "
        "several with commas between them."
    )
