"""How fast ``ct_contrast`` learns on the phantom, unpaired: the error in five organs of unseen subjects over training.

Subjects of another seed are translated at each validation and compared with their hidden truth. Beside it stand doing
nothing and what a perfect translation would have: both scans carry noise of their own.

    python bench/recipe.py --out bench/results [--seed 0] [--before] [KEY=VALUE ...]
"""

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from medgan.pipelines.ct_contrast import CTContrast, CTContrastConfig
from numpy.typing import NDArray
from page import table
from phantom_arms import ENHANCING, UNTOUCHABLE
from rich.console import Console

from medgan.data.preparation import GridConfig, Prepared, prepare
from medgan.data.volumes import read_volume
from medgan.phantom.cohort import write_phantom
from medgan.phantom.kinds import KINDS
from medgan.training.learner import HeldOut, Judgement, Networks
from medgan.training.run import Order, train
from medgan.translators.pix2pix import Pix2Pix
from medgan.translators.translator import UnpairedTranslator

BEFORE = (
    "generator.amount=sigmoid", "generator.windows_hu=[]", "generator.network.keep_variance=false",
    "discriminator.norm=group", "discriminator.windows_hu=[[-100,200],[0,600]]", "cyclegan.change=1",
    "cyclegan.ramp_iterations=400",
)  # fmt: skip
"""The recipe before docs/adr/0090."""
KINDS_OF_LEARNER = UnpairedTranslator, Pix2Pix
JUDGES = {kind: kind.validate for kind in KINDS_OF_LEARNER}
SUBJECTS, SEED = 12, 2026
VOLUMES = "contrast", "plain", "labels"


@dataclass(frozen=True)
class Subject:
    """A fresh subject; volumes are (X, Y, Z) in HU."""

    scan: Prepared
    """With contrast agent."""
    plain: NDArray[np.float32]
    tissues: NDArray[np.float32]
    perfect: NDArray[np.float32]
    """The scan less exactly its iodine; its noise stays."""


@dataclass
class Watch:
    """Judges a translator on fresh subjects whenever it is validated; its own time does not count."""

    subjects: list[Subject]
    began: float = field(default_factory=time.perf_counter)
    rows: list[list[str]] = field(default_factory=list)

    def validate(self, learner: Any, held_out: HeldOut, networks: Networks) -> Judgement:
        """The learner's own judgement, and a row of the table."""
        started = time.perf_counter()
        judged = next(judge for kind, judge in JUDGES.items() if isinstance(learner, kind))(learner, held_out, networks)
        fakes = [learner.translate(networks["to_target"], each.scan) for each in self.subjects]
        minutes, score = (started - self.began) / 60, judged.metrics[learner.best]
        self.rows.append([f"{learner.iteration}", f"{minutes:.1f}", *self.figures(fakes), f"{score:.1f}"])
        self.began += time.perf_counter() - started
        return judged

    def figures(self, volumes: list[NDArray[np.float32]]) -> list[str]:
        """Of translations: the mean error of the organs, that of each, and the change of what may not change, in HU."""
        errors = [self.mean(labels, volumes, [each.plain for each in self.subjects]) for labels in ENHANCING.values()]
        scans = [each.scan.voxels for each in self.subjects]
        changes = [self.mean(labels, volumes, scans) for labels in UNTOUCHABLE.values()]
        return [f"{figure:.1f}" for figure in (np.mean(errors), *errors, *changes)]

    def mean(self, labels: int | list[int], volumes: list[NDArray[np.float32]], others: list[Any]) -> float:
        """The mean over subjects of the mean absolute difference in some labels."""
        within = [np.isin(each.tissues, labels) for each in self.subjects]
        found = [np.abs(one - other)[at].mean() for one, other, at in zip(volumes, others, within, strict=True)]
        return float(np.mean(found))


def main() -> None:
    """Train once and print a row for each validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--before", action="store_true", help="the recipe before docs/adr/0090")
    parser.add_argument("--threads", type=int)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    print(learning(given.out, given.seed, [*(BEFORE if given.before else ()), *given.overrides], given.threads))


def learning(out: Path, seed: int, overrides: list[str], threads: int | None) -> str:
    """The table of one training: a row for each validation, and two of what needs none."""
    watch = Watch(fresh(out))
    name = f"recipe-{time.strftime('%H%M%S')}"
    order = Order("ct_contrast", overrides=[f"seed={seed}", *overrides], out=out / "runs", name=name, threads=threads)
    with ExitStack() as stack:
        for kind in KINDS_OF_LEARNER:
            stack.enter_context(patch.object(kind, "validate", lambda *given: watch.validate(*given)))
        train(order, Console(stderr=True))
    bounds = {
        "do nothing": [each.scan.voxels for each in watch.subjects],
        "perfect": [each.perfect for each in watch.subjects],
    }
    rows = [[label, "", *watch.figures(volumes), ""] for label, volumes in bounds.items()] + watch.rows
    heads = ["iterations", "min", "five organs", *ENHANCING, *(f"change {tissue}" for tissue in UNTOUCHABLE), "score"]
    return table([head.replace("_", " ") for head in heads], rows)


def fresh(out: Path) -> list[Subject]:
    """Twelve subjects that no training has seen."""
    folder = write_phantom(out / "fresh", subjects=SUBJECTS, seed=SEED).parent
    grid, pair = GridConfig(spacing_mm=(None, None, None)), CTContrast(CTContrastConfig()).pair
    subjects = []
    for number, place in enumerate(sorted(folder.glob("sub-*"))):
        scan, plain, tissues = (prepare(read_volume(place / f"{name}.nii.gz"), pair.source, grid) for name in VOLUMES)
        clean = KINDS["abdomen_ct"].render(SEED, number, shape=KINDS["abdomen_ct"].shape, noise=False)
        iodine = clean["contrast"].astype(np.float32) - clean["plain"]
        subjects.append(Subject(scan, plain.voxels, tissues.voxels, scan.voxels - iodine))
    return subjects


if __name__ == "__main__":
    main()
