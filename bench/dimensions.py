"""2D, 2.5D and 3D side by side: the same pairs, the same time to train, one table.

Each arm trains ct_contrast on the phantom's true pairs with L1 alone, for as many iterations as fit into the budget at
the pace that was measured first, and converts the test subjects. Printed by arm: the error inside enhancing organs and
in the body beside do-nothing and the look-up, SSIM, and in 3D whether the borders of blocks show in the change.

    python bench/dimensions.py --out bench/results/dimensions --minutes 15 [KEY=VALUE ...]
"""

import argparse
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from lightning_fabric import seed_everything
from rich.console import Console
from seams import Seams, block_borders, seams

from medgan import catalog
from medgan.config import from_overrides, shipped
from medgan.data.cache import Cache, default_folder
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import prepare
from medgan.data.splits import Split, split_subjects
from medgan.data.tables import read_table
from medgan.data.volumes import read_volume
from medgan.evaluation.evaluate import evaluate
from medgan.inference.convert import ConvertOrder, convert
from medgan.inference.translate import looked_at, translate
from medgan.phantom.cohort import write_phantom
from medgan.phantom.tissues import Tissue
from medgan.training.architecture import TranslationDescription, TranslationModel
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, Interrupted
from medgan.training.model_folder import read_model
from medgan.training.recorder import Recorder
from medgan.training.run import Order, train
from medgan.training.run_folder import RunFolder

ARMS = {
    "2": ["patch.dimensions=2", "patch.size_voxels=64", "fit.batch_size=4"],
    "2.5": ["patch.dimensions=2.5", "patch.size_voxels=64", "fit.batch_size=4"],
    "3": ["patch.dimensions=3", "patch.size_voxels=64", "fit.batch_size=1"],
}
TRUE_PAIRS = ["size=small", "translator=pix2pix", "pix2pix.adversarial=none"]
SHAPE = (96, 96, 64)
"""Slices enough for blocks of 64."""
EPOCHS = 8
TIMED = 4
"""Iterations from which the pace is taken."""
ENHANCING: dict[str, int | list[int]] = {
    "aorta": Tissue.AORTA.value,
    "vena_cava": Tissue.VENA_CAVA.value,
    "kidneys": [Tissue.KIDNEY_CORTEX.value, Tissue.KIDNEY_MEDULLA.value],
    "liver": Tissue.LIVER.value,
    "spleen": Tissue.SPLEEN.value,
}


def main() -> None:
    """Train, convert and judge every arm, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results/dimensions"))
    parser.add_argument("--minutes", type=float, default=5, help="of CPU time for the iterations of each arm")
    parser.add_argument("--subjects", type=int, default=24)
    parser.add_argument("--arm", action="append", choices=sorted(ARMS), help="only these arms")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    console = Console()
    cohort = given.out / "phantom" / "cohort.csv"
    if not cohort.exists():
        write_phantom(cohort.parent, subjects=given.subjects, seed=0, shape=SHAPE)
    columns = {}
    for arm in given.arm or ARMS:
        run, costs = trained(arm, given.out, cohort, given.minutes, given.overrides, console)
        baselines, figures = judged(run, given.out, cohort, console)
        columns = baselines | columns | {arm: figures | costs | seam_figures(run, cohort)}
    table = pd.DataFrame(columns)
    table.to_csv(given.out / "dimensions.csv")
    console.print(table.map(lambda value: "" if pd.isna(value) else f"{value:.4g}").to_string())


def trained(
    arm: str, out: Path, cohort: Path, minutes: float, overrides: list[str], console: Console
) -> tuple[RunFolder, dict[str, float]]:
    """An arm's run, and what it cost."""
    settings = [*TRUE_PAIRS, *ARMS[arm], *overrides]
    seconds = pace_s(settings, cohort)
    each = max(1, round(minutes * 60 / seconds / EPOCHS))
    length = [f"fit.epochs={EPOCHS}", f"fit.iterations_per_epoch={each}", f"fit.validate_every={EPOCHS // 2}"]
    name = f"{arm}_{minutes:g}_minutes"
    started = time.process_time()
    order = Order(
        "ct_contrast",
        data=cohort,
        config=shipped("ct_contrast_phantom"),
        overrides=[*settings, *length],
        out=out / "runs",
        name=name,
        device="cpu",
    )
    run = train(order, console).run
    wall = time.process_time() - started
    return run, {"iterations": EPOCHS * each, "s_an_iteration": seconds, "training_s": wall}


def pace_s(settings: list[str], cohort: Path) -> float:
    """Seconds of CPU time an iteration, its patches included: other work on the machine does not lengthen it."""
    layers = (shipped("ct_contrast_phantom"), from_overrides(settings))
    pipeline = catalog.load("ct_contrast").configured(*layers, on_phantom=False, on_cpu=True)
    studies = pipeline.cohort(cohort)
    split = split_subjects(studies, pipeline.pair, pipeline.config.split)
    task = pipeline.task(studies, split, Cache(default_folder()))
    seed_everything(pipeline.config.seed, verbose=False)
    with TemporaryDirectory() as name:
        folder, watch = Path(name), Stopwatch(Path(name))
        loop = Fit(
            task.learner(),
            task.patches,
            task.held_out,
            pipeline.config.fit,
            fabric=make_fabric("cpu", "32"),
            folder=folder,
            recorder=watch,
        )
        with suppress(Interrupted):
            loop.run()
    return float(np.median(np.diff(watch.times)))


class Stopwatch(Recorder):
    """Notes when iterations end, and stops the training when it has seen a few."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None, Console(quiet=True))
        self.times: list[float] = []

    def iteration(self, number: int) -> None:
        """``number`` iterations are done; the first, which warms up, only starts the watch."""
        self.times.append(time.process_time())
        if number == TIMED + 1:
            raise Interrupted


def judged(
    run: RunFolder, out: Path, cohort: Path, console: Console
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Mean figures over the test subjects: the baselines' by name, and the arm's."""
    folder = out / "synthetic" / run.name
    order = ConvertOrder(cohort, folder, str(run.model), part="test", split=run.split, overwrite=True, device="cpu")
    started = time.process_time()
    convert(order, console)
    seconds = time.process_time() - started
    found = evaluate(
        folder,
        f"{cohort}:plain",
        folder / "evaluation",
        source=f"{cohort}:contrast",
        labels=cohort,
        label_names=ENHANCING,
    )
    means = found.summary.pivot_table(index="metric", columns="arm", values="mean")
    rows = [f"mae_in_{organ}_hu" for organ in ENHANCING]
    means.loc["mae_in_enhancing_organs_hu"] = means.loc[rows].mean()
    wanted = means.loc[["mae_in_enhancing_organs_hu", *rows, "mae_hu", "ssim"]]
    baselines = {name: wanted[name].to_dict() for name in ("do_nothing", "intensity_lookup") if name in wanted}
    subjects = len(Split.load(run.split).test)
    return baselines, wanted["synthetic"].to_dict() | {"convert_s_a_subject": seconds / subjects}


def seam_figures(run: RunFolder, cohort: Path) -> dict[str, float]:
    """Of the test subject whose blocks show most; beside it the same places where the volume was one block."""
    model = read_model(run.model, TranslationDescription)
    if model.description.patch.spatial == 2:
        return {}
    test = Split.load(run.split).test
    images = [
        study.image for study in read_table(cohort).studies if study.domain == "contrast" and study.subject in test
    ]
    worst = max(images, key=lambda image: change_seams(image, model).largest_step)
    whole = PatchConfig(dimensions="3", size_voxels=max(SHAPE[:2]), depth_voxels=SHAPE[2])
    found, control = change_seams(worst, model), change_seams(worst, model, block=whole)
    return {f"seams_{name}": value for name, value in vars(found).items()} | {
        f"one_block_{name}": value for name, value in vars(control).items()
    }


def change_seams(image: Path, model: TranslationModel, block: PatchConfig | None = None) -> Seams:
    """The jumps of one subject's change in HU at the borders of the training's blocks, which ``block`` may replace."""
    description, volume = model.description, read_volume(image)
    study = prepare(volume, description.pair.source, description.grid)
    assert study.voxels.shape == volume.grid.size, "the phantom lies on the network's grid as it is"
    asked = replace(model, description=description.model_copy(update={"patch": block or description.patch}))
    change = translate(volume, asked, "to_target", make_fabric("cpu", "32"), keep_change=True).change
    box = looked_at(study)
    inner = block_borders([part.stop - part.start for part in box], description.patch.shape)
    borders = [[part.start + place for place in places] for part, places in zip(box, inner, strict=True)]
    return seams(change, borders, body_mask(study.voxels, description.pair.source))


if __name__ == "__main__":
    main()
