"""What an uncertainty map is worth: does it order the voxels by their error where the truth is known?

Printed over subjects, with Student's intervals: Spearman's correlation of the map with the absolute error inside the
body; the same only where the map is not 0 (that air, fat and bone do not change is known without it); the same for what
can be had without any map, the steepness of the output and with --source the size of the change; and the mean error in
the most unsure tenth of the body as a multiple of the mean over all of it.

    medgan convert cohort.csv out --model MODEL --part test --uncertainty 8
    python bench/uncertainty.py --synthetic out --reference cohort.csv:plain --source cohort.csv:contrast
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy import ndimage

from medgan.data.volumes import read_volume
from medgan.evaluation.fidelity import body_mask
from medgan.evaluation.judging import map_beside, spearman, uncertainty_figures
from medgan.evaluation.matching import Case, ImageSet, Role, match, read_images
from medgan.evaluation.statistics import t_interval

SMOOTHING_VOXELS = 1.0
"""Of the steepness: noise is no edge."""


def main() -> None:
    """Judge every map, and print a row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", required=True, help="folder that convert --uncertainty wrote")
    parser.add_argument("--reference", required=True, help="FOLDER or cohort.csv:DOMAIN")
    parser.add_argument("--source", help="the inputs: FOLDER or cohort.csv:DOMAIN; for CT to CT")
    parser.add_argument("--maps", help="FOLDER of the maps, named like the outputs; else they lie beside these")
    parser.add_argument("--mask", help="FOLDER or cohort.csv; else the body of the reference")
    parser.add_argument("--out", type=Path, help="CSV with a row for each image")
    given = parser.parse_args()
    others: dict[Role, ImageSet] = {}
    if given.mask:
        others["mask"] = read_images(given.mask, "mask")
    if given.source:
        others["source"] = read_images(given.source)
    found = match(read_images(given.synthetic), read_images(given.reference), others, paired=True)
    rows = [judged(case, map_of(case, given.synthetic, given.maps)) for case in found.cases]
    frame = pd.DataFrame(rows)
    if given.out:
        frame.to_csv(given.out, index=False)
    console = Console()
    for failure in found.failures:
        console.print(f"not judged: {failure.image}: {failure.reason}", highlight=False, markup=False)
    if frame.empty:
        parser.exit(2, "nothing was judged\n")
    by_subject = frame.drop(columns="image").groupby("subject").mean()
    summary = {name: vars(t_interval(by_subject[name])) for name in by_subject}
    console.print(pd.DataFrame(summary).T.round(3).to_string())


def map_of(case: Case, synthetic: str, maps: str | None) -> Path:
    """The map of an output: beside it, or at its place in another folder."""
    beside = map_beside(case.synthetic)
    if maps is None:
        return beside
    return Path(maps) / beside.relative_to(synthetic)


def judged(case: Case, map_path: Path) -> dict[str, str | float]:
    """The figures of one image."""
    output, truth, unsure = (
        read_volume(path).voxels for path in (case.synthetic, case.partners["reference"], map_path)
    )
    inside = read_volume(case.partners["mask"]).voxels > 0 if "mask" in case.partners else body_mask(truth)
    steepness = ndimage.gaussian_gradient_magnitude(output, (SMOOTHING_VOXELS, SMOOTHING_VOXELS, 0))
    orders = {"spearman_of_steepness": steepness}
    if "source" in case.partners:
        orders["spearman_of_change"] = np.abs(output - read_volume(case.partners["source"]).voxels)
    error = np.abs(output - truth)
    moving = inside & (unsure > 0)
    figures: dict[str, str | float] = {**uncertainty_figures(unsure, error, inside)}
    figures |= {name: spearman(order[inside], error[inside]) for name, order in orders.items()}
    figures |= {f"{name}_where_unsure": spearman(order[moving], error[moving]) for name, order in orders.items()}
    return {"subject": case.subject, "image": case.name} | figures


if __name__ == "__main__":
    main()
