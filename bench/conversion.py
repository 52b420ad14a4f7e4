"""``medgan convert`` from start to end against a plain MONAI script with the same network: seconds and memory.

python bench/conversion.py [--shape X Y Z] [--studies N] [--quick]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from convert_memory import CT, OWN, Case, write_study, write_untrained
from page import table
from timing import CLOCKS, HERE, whole

from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_model

LOWER, UPPER = CT[0].window.lower, CT[0].window.upper


def main(argv: list[str] | None = None) -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 192, 48))
    parser.add_argument("--studies", type=int, default=4, help="how many the batch has")
    parser.add_argument("--quick", action="store_true", help="one round, and CPU seconds only")
    order = parser.parse_args(argv)
    rounds, clocks = (1, ("cpu",)) if order.quick else (3, CLOCKS)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_untrained(folder / "model", Case(spacing_mm=OWN))
        torch.save(read_model(folder / "model", TranslationDescription).networks["to_target"], folder / "network.pt")
        for count in (1, order.studies):
            studies = [folder / f"in{count}" / f"study{number}.nii.gz" for number in range(count)]
            for study in studies:
                study.parent.mkdir(exist_ok=True)
                write_study(study, tuple(order.shape), [0.8, 0.8, 2.0], "CT")
            print(f"{count} studies", file=sys.stderr)
            times = whole(commands(folder, studies), rounds=rounds, clocks=clocks)
            for arm in times.rounds:
                size = f"{times.peak_mib[arm]:.0f}"
                rows.append((f"{count}", arm, *times.row(arm, "MONAI script", 1.0, ".1f"), size))
            largest = difference(studies, folder / f"ours{count}", folder / f"plain{count}")
    print(f"Studies of {' x '.join(map(str, order.shape))} voxels, one small 2D network, from start to end.")
    print(f"The two arms' images differ by at most {largest:.0f} HU inside the window.\n")
    print(table(("studies", "arm", "CPU s", "wall s", "ratio, CPU", "ratio, wall", "peak MiB"), rows))
    return 0


def commands(folder: Path, studies: list[Path]) -> dict[str, list[str]]:
    """How each arm is started."""
    count, source = len(studies), studies[0].parent
    medgan = [sys.executable, "-m", "medgan", "convert", str(source), str(folder / f"ours{count}"), "--overwrite"]
    script = [sys.executable, str(HERE / "arms" / "plain_conversion.py"), str(folder / "network.pt")]
    return {
        "medgan": [*medgan, "--model", str(folder / "model"), "--device", "cpu"],
        "MONAI script": [*script, str(folder / f"plain{count}"), f"{LOWER:g}", f"{UPPER:g}", "4", *map(str, studies)],
    }


def difference(studies: list[Path], *outputs: Path) -> float:
    """The largest difference of two folders' images, in HU, where the input lies inside the window."""
    largest = 0.0
    for study, ours, plain in zip(studies, *(sorted(folder.glob("*.nii.gz")) for folder in outputs), strict=True):
        before, one, other = (np.asanyarray(nibabel.load(path).dataobj) for path in (study, ours, plain))
        inside = (before > LOWER) & (before < UPPER)
        largest = max(largest, float(np.abs(one[inside] - other[inside].astype(np.float32)).max()))
    return largest


if __name__ == "__main__":
    sys.exit(main())
