"""The ceiling of translation in Sandfort's experiment: ``medgan benefit`` with exactly the iodine taken away.

The study is the shipped one, on the phantom. Only its translations have other voxels: the scan less the iodine that was
rendered into it, times the strength that was asked for. The scan's noise stays; no network has drawn anything.

    python bench/perfect_translation.py --model RUN/model [--seed 0] [--out bench/results] [KEY=VALUE ...]
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rich.console import Console

from medgan.data.studies import Study
from medgan.data.volumes import read_volume, write_volume
from medgan.phantom.cohort import PHANTOM_SEED
from medgan.phantom.kinds import KINDS
from medgan.studies import images
from medgan.studies.arms import Arms
from medgan.studies.base import StudyOrder
from medgan.studies.engine import run_study

TRANSLATED = images._translated


def main() -> None:
    """Run the study of one seed; it prints its own tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a translator of these subjects: it names the files")
    parser.add_argument("--seed", type=int, default=0, help="of the segmenters")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    order = StudyOrder(
        "arms", "ct_contrast", f"perfect-{given.seed}", overrides=given.overrides, seeds=(given.seed,),
        models=(given.model,), out=given.out,
    )  # fmt: skip
    with patch.object(images, "_translated", perfect):
        run_study(Arms, order, Console())


def perfect(
    recipe: images.ImageRecipe, scans: Sequence[Study], folder: Path, device: str, copy: int | None = None
) -> Mapping[Path, Path]:
    """What a translator has written, with the voxels of a translation without error."""
    outputs = TRANSLATED(recipe, scans, folder, device, copy)
    for source, output in outputs.items():
        scan, written = read_volume(source), read_volume(output)
        strength = 1.0 if copy is None else images.drawn_strength(source, copy, recipe.strengths)
        voxels = scan.voxels - strength * iodine(source.parent, scan.voxels.shape)
        write_volume(np.rint(voxels), written.grid, output, np.int16)
    return outputs


def iodine(subject: Path, shape: tuple[int, ...]) -> np.ndarray:
    """What contrast agent adds to a rendered subject's scan, (X, Y, Z) in HU."""
    number = sorted(subject.parent.glob("sub-*")).index(subject)
    clean = KINDS["abdomen_ct"].render(PHANTOM_SEED, number, shape=shape, noise=False)
    return clean["contrast"].astype(np.float32) - clean["plain"]


if __name__ == "__main__":
    main()
