"""Peak memory of ``medgan convert`` on one large study: the whole process, and what it takes beside the programs.

Each case is a process of its own with an untrained model of eight channels on the CPU; a larger network adds its own
maps of four slices, or of two blocks. The study is a made-up cylinder with noise, stored as int16.

    python bench/convert_memory.py [--shape 512 512 600] [--spacing 0.8 0.8 1.0] [--case CASE]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.grid import made_up_grid
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.volumes import write_volume
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription
from medgan.training.model_folder import Origin, write_model

CT = tuple(
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300, upper=700))
    for name in ("contrast", "plain")
)
MR = tuple(
    Domain(name=name, modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0, upper=99.5, percentiles=True))
    for name in ("t1", "t1_gd")
)
OWN = (None, None, None)


@dataclass(frozen=True)
class Case:
    """A way to convert."""

    domains: tuple[Domain, Domain] = CT
    change: str = "one-sided"
    dimensions: str = "2"
    spacing_mm: tuple[float | None, float | None, float | None] = (1.5, 1.5, None)
    options: tuple[str, ...] = ()


CASES = {
    "CT": Case(),
    "CT, change map": Case(options=("--change-map",)),
    "CT, uncertainty": Case(options=("--uncertainty", "2")),
    "CT, 2.5D": Case(dimensions="2.5"),
    "CT, 3D": Case(dimensions="3", spacing_mm=(1.5, 1.5, 3.0)),
    "CT, own grid": Case(spacing_mm=OWN),
    "MR": Case(MR, "signed"),
    "MR, own grid": Case(MR, "signed", spacing_mm=OWN),
    "MR to CT": Case((MR[0], CT[1]), "none"),
}


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 600))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.8, 0.8, 1.0))
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only these cases")
    asked = parser.parse_args()
    stored = int(np.prod(asked.shape)) * 2
    programs = peak(["-c", "import medgan.inference.convert"])
    print(f"{' x '.join(map(str, asked.shape))} int16: {stored / 1e6:.0f} MB; programs alone: {programs / 1e6:.0f} MB")
    print(f"{'case':20} {'peak MB':>8} {'beside the programs':>20} {'times the voxels stored':>24}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for modality in ("CT", "MR"):
            write_study(folder / f"{modality}.nii.gz", tuple(asked.shape), asked.spacing, modality)
        for label in asked.case or CASES:
            most = convert(CASES[label], folder)
            beside = most - programs
            print(f"{label:20} {most / 1e6:8.0f} {beside / 1e6:20.0f} {beside / stored:24.1f}", flush=True)


def convert(case: Case, folder: Path) -> float:
    """Peak memory of one conversion, in bytes."""
    model = folder / "model"
    write_untrained(model, case)
    study = folder / f"{case.domains[0].modality}.nii.gz"
    command = ["convert", str(study), str(folder / "out"), "--model", str(model), "--device", "cpu", "--overwrite"]
    return peak(["-m", "medgan.cli", *command, *case.options])


def peak(arguments: list[str]) -> float:
    """The largest resident size that a Python process had, in bytes."""
    if arguments[:2] == ["-m", "medgan.cli"]:
        arguments = ["-c", "from medgan.cli import main; main()", *arguments[2:]]
    process = subprocess.Popen([sys.executable, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def write_untrained(folder: Path, case: Case) -> None:
    """A model folder of an untrained generator."""
    torch.manual_seed(0)
    pair = DomainPair(source=case.domains[0], target=case.domains[1], paired=case.domains != CT)
    patch = PatchConfig.model_validate({"dimensions": case.dimensions, "size_voxels": 64, "depth_voxels": None})
    network = ResNetConfig(channels=8, downs=2, blocks=1, norm="group")
    generator = GeneratorConfig.model_validate({"network": network, "change": case.change})
    seen = {domain.name: (-1024.0, 3000.0) for domain in case.domains}
    description = {
        "name": "untrained", "pair": pair, "grid": GridConfig(spacing_mm=case.spacing_mm), "patch": patch,
        "generator": generator, "intensities": seen, "metrics": {}, "epoch": 1, "origin": Origin(),
    }  # fmt: skip
    write_model(folder, {"to_target": generator.build(pair, patch, "to_target")}, TranslationDescription, **description)


def write_study(path: Path, shape: tuple[int, int, int], spacing_mm: list[float], modality: str) -> None:
    """A cylinder of soft tissue with a core of bone, and noise."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape[:2]), indexing="ij")
    radius = np.hypot(x, y * 1.2)
    plane = np.select([radius < 0.15, radius < 0.8], [600.0, 60.0], -1000.0)
    random = np.random.default_rng(0)
    voxels = np.empty(shape, np.int16, order="F")
    for z in range(shape[2]):
        hu = np.rint(plane + random.normal(0, 12, shape[:2]))
        voxels[..., z] = hu if modality == "CT" else np.abs(hu + 1000)
    write_volume(voxels, made_up_grid(shape, np.diag([*spacing_mm, 1.0])), path, np.int16)


if __name__ == "__main__":
    main()
