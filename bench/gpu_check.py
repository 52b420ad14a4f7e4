"""What a GPU does with a training, in one command: a table in Markdown, printed or written.

    python bench/gpu_check.py [size=small|full|tiny] [--device DEVICE] [--limit SECONDS] [--out docs/gpu-check.md]

In it stand: what waits for the device within a step; ms an iteration beside the loader's ms a batch; peak memory; both
with checkpointing, too; 32 bits against bf16, and without TF32; whether a stopped and resumed training ends as one that
was not; whether a batch in parts has the same gradient; and a memory that is made too small. ``size=full``, the default
on a GPU, takes the shipped settings. Studies are made up in memory, and neither MLflow nor MONAI is needed.
"""

import argparse
import gc
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan import catalog
from medgan.config import from_overrides
from medgan.data.domains import Domain
from medgan.data.patches import AnchoredDataset, PatchDataset, Patches
from medgan.data.preparation import Prepared
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig, Interrupted
from medgan.training.learner import HeldOut
from medgan.training.recorder import Recorder

WARM = 3
"""Iterations that are not counted: kernels are chosen, and optimisers make their moments."""
ROUNDS = {"tiny": 2, "small": 10, "full": 30}
ROUNDS_S = 6.0
"""How long the counted iterations of a training take, at most."""
LIMIT_S = 360.0
"""After which no further check begins."""
TINY = [
    "patch.size_voxels=16",
    "generator.network={kind: resnet, channels: 4, downs: 1, blocks: 1, norm: group, skips: true}",
    "discriminator={receptive_field: 16, channels: 4}",
    "fit={batch_size: 2, workers: 0}",
]
CASES = {
    "2D CycleGAN": ("ct_contrast", []),
    "2.5D pix2pix": ("mr_to_ct", []),
    "3D CycleGAN": (
        "ct_contrast",
        ["patch.dimensions=3", "patch.size_voxels=96", "patch.depth_voxels=32", "fit.batch_size=2"],
    ),
}
"""By name, a pipeline and what differs from its shipped settings."""
ALWAYS = ["cyclegan.anchor_iterations=0"]
"""The game is measured, not what may come before it."""
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, and without it sums of matrices may vary


class Clock(Recorder):
    """Times the iterations after the first, and calls what is to happen after some of them."""

    def __init__(self, folder: Path, device: torch.device, after: dict[int, Callable[[], object]]) -> None:
        super().__init__(folder)
        self.device, self.after, self.begun_s, self.each_s = device, after, 0.0, 0.0

    def iteration(self, number: int) -> None:
        """``number`` iterations are done."""
        if number == WARM:
            settle(self.device)
            self.begun_s = time.perf_counter()
        if number in self.after:
            self.after[number]()

    def epoch(self, history: list[dict[str, float]], panel: object, best_epoch: int = 0) -> None:
        """All are done."""
        del history, panel, best_epoch
        settle(self.device)
        iterations = self.total - WARM
        self.each_s = (time.perf_counter() - self.begun_s) / max(iterations, 1)


@dataclass
class Case:
    """One kind of training, and what it is trained on."""

    name: str
    size: str
    device: str
    pipeline: Any = field(init=False)
    patches: Patches = field(init=False)
    rounds: int = 2
    """Iterations that are counted."""

    def __post_init__(self) -> None:
        pipeline, own = CASES[self.name]
        if self.size == "tiny":
            own = [*TINY, *(each for each in own if "dimensions" in each)]
            own += ["patch.depth_voxels=8"] if "3D" in self.name else []
        settings = from_overrides([*own, *(ALWAYS if "CycleGAN" in self.name else [])])
        self.pipeline = catalog.load(pipeline).configured(settings, on_phantom=False, on_cpu=self.size != "full")
        pair, patch = self.pipeline.pair, self.pipeline.config.patch
        sides = [[made_up(patch.shape, domain, number) for number in range(3)] for domain in (pair.source, pair.target)]
        self.patches = PatchDataset(*sides, paired=pair.paired, config=patch, seed=0)
        if getattr(self.pipeline.config, "cyclegan", None) and not pair.paired:
            self.patches = AnchoredDataset(self.patches, PatchDataset(*sides, paired=True, config=patch, seed=0))

    def fit(
        self,
        iterations: int,
        folder: Path,
        *,
        precision: str = "auto",
        after: dict[int, Callable[[], object]] | None = None,
        **changes: Any,
    ) -> Fit:
        """A training of one epoch, which :class:`Clock` measures; ``changes`` are of the settings."""
        config: FitConfig = self.pipeline.config.fit.model_copy(
            update={"epochs": 1, "iterations_per_epoch": iterations, "keep": "last", **changes}
        )
        fabric = make_fabric(self.device, precision)  # type: ignore[arg-type]
        torch.manual_seed(0)
        return Fit(
            self.pipeline.learner(), self.patches, HeldOut([], []), config, fabric=fabric, folder=folder / "state",
            recorder=Clock(folder, fabric.device, after or {}),
        )  # fmt: skip

    def run(self, iterations: int, prepared: Callable[[Fit], object] = lambda _: None, **how: Any) -> Fit:
        """Such a training, done; its recorder has measured it."""
        with tempfile.TemporaryDirectory() as folder:
            fit = self.fit(iterations, Path(folder), **how)
            prepared(fit)
            fit.run()
        return fit

    def loader_ms(self) -> float:
        """Milliseconds a batch that a training's loader takes by itself, with as many workers as that has."""
        with tempfile.TemporaryDirectory() as folder, self.fit(WARM + self.rounds, Path(folder))._loader() as batches:
            for _ in range(WARM):
                next(batches)
            begun = time.perf_counter()
            for _ in batches:
                pass
            return (time.perf_counter() - begun) / self.rounds * 1e3


def made_up(shape: Sequence[int], domain: Domain, number: int) -> Prepared:
    """A study of noise in a body, a quarter larger than the patch and its margin."""
    random = np.random.default_rng(number)
    extent = [*(2 * size for size in shape[:2]), 2 * shape[2] if len(shape) == 3 else 24]
    lower, upper = (0.0, 1000.0) if domain.window.percentiles else (domain.window.lower, domain.window.upper)
    voxels = random.uniform(lower, upper, extent).astype(np.float32)
    body = tuple((size // 8, size - size // 8) for size in extent)
    return Prepared(voxels, np.diag([1.0, 1.0, 2.0, 1.0]), body, (lower, upper))


def forget() -> None:
    """Give back what earlier trainings held, and measure the peak of memory anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def forbidden_waits(on_gpu: bool) -> Iterator[dict[int, Callable[[], object]]]:
    """What to do after which iterations so that a wait for the device in the next one is an error."""
    if not on_gpu:
        yield {}
        return
    set_mode = torch.cuda.set_sync_debug_mode
    try:
        yield {WARM: lambda: set_mode("error"), WARM + 2: lambda: set_mode("default")}
    finally:
        set_mode("default")


def waits(case: Case, on_gpu: bool) -> str:
    """The line of medgan that waits within the loop's body, or none."""
    first = case.run(WARM + 1).recorder.each_s
    case.rounds = max(2, min(ROUNDS[case.size], int(ROUNDS_S / first)))
    try:
        with forbidden_waits(on_gpu) as after:
            case.run(WARM + 3, after=after)
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        ours = [each for each in traceback.extract_tb(error.__traceback__) if "medgan" in each.filename]
        return f"**{Path(ours[-1].filename).name}:{ours[-1].lineno}** `{ours[-1].line}`" if ours else str(error)
    return "none" if on_gpu else "not seen on a CPU"


def speed(case: Case, on_gpu: bool) -> dict[str, str]:
    """An iteration's time beside the loader's, and the peak of memory, with and without checkpointing."""
    row, config = {"waits": waits(case, on_gpu)}, case.pipeline.config.fit
    for name, changes in (("", {}), (", checkpointing", {"checkpointing": True})):
        forget()
        fit = case.run(WARM + case.rounds, **changes)
        row[f"ms an iteration{name}"] = f"{fit.recorder.each_s * 1e3:.1f}"
        row[f"peak GiB{name}"] = f"{torch.cuda.max_memory_allocated() / 2**30:.2f}" if on_gpu else "·"
    row[f"loader, ms a batch of {config.batch_size}"] = f"{case.loader_ms():.1f}"
    return row


def precisions(case: Case, on_gpu: bool) -> str:
    """Time and losses in the device's own precision against 32 bits, and on a GPU those without TF32."""
    means, said = {}, []
    kinds = {"auto": "auto", "32": "32"} | ({"32 without TF32": "32"} if on_gpu else {})
    for name, precision in kinds.items():
        with tf32(not name.endswith("TF32")) as prepared:
            fit = case.run(WARM + case.rounds, precision=precision, prepared=prepared)
        means[name] = fit.state.progress.history[-1]
        said.append(f"{name} ({fit.fabric.strategy.precision.precision}): {fit.recorder.each_s * 1e3:.1f} ms")
    keys = [key for key in means["32"] if key.startswith("train/") and "share" not in key]
    apart = {key: abs(means["auto"][key] / means["32"][key] - 1) for key in keys if means["32"][key]}
    worst = max(apart, key=lambda key: apart[key])
    return (
        f"{'; '.join(said)}; mean terms of {WARM + case.rounds} iterations differ by up to {apart[worst]:.1%} ({worst})"
    )


@contextmanager
def tf32(used: bool) -> Iterator[Callable[[Fit], object]]:
    """What prepares a training to compute 32 bits with TF32, or without it."""

    def without(fit: Fit) -> None:
        del fit
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.conv.fp32_precision = "ieee"

    try:
        yield (lambda _: None) if used else without
    finally:
        torch.backends.cudnn.conv.fp32_precision = "tf32"


def resumed(case: Case, *, deterministic: bool) -> str:
    """How far weights are apart: of a whole training and a stopped one, and of a whole one and its repetition."""
    iterations, how = 6, {"deterministic": deterministic}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole, again = (case.run(iterations, **how) for _ in range(2))
    words = (str(each.message).split() for each in caught if "deterministic implementation" in str(each.message))
    varying = f"; no such kernel: {', '.join(names)}" if (names := sorted({each[0] for each in words})) else ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            after = {3: lambda: os.kill(os.getpid(), signal.SIGINT)}
            case.fit(iterations, Path(folder), after=after, **how).run()
        except Interrupted:
            stopped = case.fit(iterations, Path(folder), **how)
            stopped.run(resume=True)
    far = [_apart(whole, other) for other in (stopped, again)]
    return f"{_told(far[0])} after a stop and a resume; {_told(far[1])} of two trainings alike{varying}"


def _apart(one: Fit, other: Fit) -> float:
    pairs = zip(_weights(one), _weights(other), strict=True)
    return max(float((left - right).abs().max()) for left, right in pairs)


def _weights(fit: Fit) -> list[torch.Tensor]:
    return [each.detach().float() for network in fit.state.networks.values() for each in network.parameters()]


def _told(difference: float) -> str:
    return "equal to the bit" if difference == 0 else f"weights differ by up to {difference:.1e}"


def in_parts(case: Case) -> str:
    """How far the gradients of an iteration are apart, of a whole batch and of one in two parts."""

    def without_noise(fit: Fit) -> None:  # a GPU draws other numbers for two halves than for a whole
        fit.learner.config = fit.learner.config.model_copy(update={"anchor": 0.0})  # type: ignore[attr-defined]

    moments = [_moments(case.run(1, without_noise, precision="32", accumulate=parts)) for parts in (1, 2)]
    far = float((moments[0] - moments[1]).norm() / moments[0].norm())
    return f"gradients of one iteration in 32 bits differ by {far:.1e} of their length"


def _moments(fit: Fit) -> torch.Tensor:
    """Adam's first moments after one iteration: the gradients, but for a factor."""
    states = [state for optimizer in fit.state.optimizers.values() for state in optimizer.state.values()]
    return torch.cat([state["exp_avg"].flatten().double().cpu() for state in states])


def too_small(case: Case, on_gpu: bool) -> str:
    """What a training does when its memory is made too small for the batch."""
    log, device = [], make_fabric(case.device, "32").device

    def shrink(fit: Fit) -> None:
        fit.recorder.note = lambda _, facts: log.append(facts["accumulate"])  # type: ignore[method-assign]
        if on_gpu:
            torch.cuda.set_per_process_memory_fraction(0.6 * needed / total, device)
            return
        step = fit.learner.training_step

        def training_step(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            if len(batch["source"]) > 1:
                raise torch.OutOfMemoryError("not enough, for a test")
            return step(batch)

        fit.learner.training_step = training_step  # type: ignore[method-assign]

    if on_gpu:
        forget()
        case.run(2)
        needed, total = torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
        forget()
    try:
        case.run(2, prepared=shrink)
    finally:
        if on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    return f"goes on with a batch in {log[-1]} parts" if log else "was large enough all the same"


def check(size: str, device: str, limit_s: float) -> Iterator[str]:
    """The lines of the page, as they are measured; what fails is told in its place."""
    begun, on_gpu = time.perf_counter(), make_fabric(device, "32").device.type == "cuda"
    cases = {name: Case(name, size, device) for name in CASES}

    def told(what: Callable[[], Any]) -> Any:
        if time.perf_counter() - begun > limit_s:
            return "not run: out of time"
        try:
            return what()
        except Exception as error:
            return f"**failed**: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"

    yield from ("| training | what | |", "|---|---|---|")
    for name, case in cases.items():
        row = told(lambda case=case: speed(case, on_gpu))
        for what, value in (row if isinstance(row, dict) else {"all": row}).items():
            yield f"| {name} | {what} | {value} |"
    flat = cases["2D CycleGAN"]
    for name, what in {
        "precision": lambda: precisions(flat, on_gpu),
        "resume": lambda: resumed(flat, deterministic=False),
        "resume, fit.deterministic=true": lambda: resumed(flat, deterministic=True),
        "a batch in two parts": lambda: in_parts(flat),
        "a memory that is too small": lambda: too_small(flat, on_gpu),
    }.items():
        yield f"| {flat.name} | {name} | {told(what)} |"
    yield f"\n{time.perf_counter() - begun:.0f} s in all."


def heading(size: str, device: str, command: str) -> str:
    """What was measured on what, by which command."""
    fabric = make_fabric(device, "32")
    name = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else platform.processor() or "CPU"
    versions = {"torch": torch.__version__, "CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    versions |= {each: version(each) for each in ("medgan", "lightning-fabric")}
    lines = [
        "# A GPU's check",
        "",
        f"{name}; {', '.join(f'{key} {value}' for key, value in versions.items() if value)}.",
    ]
    lines += [f"Written by `{command}` on {time.strftime('%Y-%m-%d')}; `size={size}`.", ""]
    if fabric.device.type != "cuda":
        lines += ["**No GPU: these figures say nothing about one.**", ""]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Check, print and write; 1 when a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", help="size=small, full or tiny; full on a GPU, else tiny")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which no further check begins")
    parser.add_argument("--out", type=Path, help="the page; without it, it is only printed")
    given = sys.argv[1:] if argv is None else argv
    order = parser.parse_args(given)
    usual = "full" if make_fabric(order.device, "32").device.type == "cuda" else "tiny"
    size = (order.size or f"size={usual}").removeprefix("size=")
    if size not in ROUNDS:
        parser.error(f"size={size}; choose of {', '.join(ROUNDS)}")
    lines = [heading(size, order.device, " ".join(["python bench/gpu_check.py", *given]))]
    print(lines[0])
    for line in check(size, order.device, order.limit):
        print(line, flush=True)
        lines.append(line)
    if order.out:
        order.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any("**" in line for line in lines[1:]))


if __name__ == "__main__":
    sys.exit(main())
