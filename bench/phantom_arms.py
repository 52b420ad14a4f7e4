"""The phantom's three arms side by side: CycleGAN, the GAN without cycle, and L1 on the true pairs as the ceiling.

Each arm trains on the phantom's training subjects with the shipped small settings and converts the test subjects, whose
plain scans no arm has seen. Printed by arm: the error inside enhancing organs against doing nothing, the change where
nothing may change, and SSIM to the truth.

    python bench/phantom_arms.py --out bench/results [KEY=VALUE ...]
"""

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console

from medgan.evaluation.evaluate import evaluate
from medgan.inference.convert import ConvertOrder, convert
from medgan.phantom.cohort import write_phantom
from medgan.phantom.tissues import Tissue
from medgan.training.run import Order, train
from medgan.training.run_folder import RunFolder

ARMS = {
    "cyclegan": [],
    "gan_without_cycle": ["cyclegan.cycle=0"],
    "l1_on_true_pairs": ["translator=pix2pix", "pix2pix.adversarial=none"],
}
ENHANCING: dict[str, int | list[int]] = {
    "aorta": Tissue.AORTA.value,
    "vena_cava": Tissue.VENA_CAVA.value,
    "kidneys": [Tissue.KIDNEY_CORTEX.value, Tissue.KIDNEY_MEDULLA.value],
    "liver": Tissue.LIVER.value,
    "spleen": Tissue.SPLEEN.value,
}
UNTOUCHABLE: dict[str, int | list[int]] = {
    "bone": [Tissue.CORTICAL_BONE.value, Tissue.TRABECULAR_BONE.value, Tissue.RIB.value],
    "fat": [Tissue.SUBCUTANEOUS_FAT.value, Tissue.VISCERAL_FAT.value],
    "lung_and_gas": [Tissue.LUNG.value, Tissue.GAS.value],
    "air": Tissue.AIR.value,
}


def main() -> None:
    """Train, convert and judge every arm, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--arm", action="append", choices=sorted(ARMS), help="only these arms")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    console = Console()
    truth = write_phantom(given.out / "phantom", subjects=24, seed=0)
    tables = [judged(arm, given.out, truth, given.overrides, console) for arm in given.arm or ARMS]
    table = pd.concat([tables[0][["do_nothing", "intensity_lookup"]], *(each.iloc[:, -1:] for each in tables)], axis=1)
    table.to_csv(given.out / "phantom_arms.csv")
    console.print(table.round(2).to_string())


def judged(arm: str, out: Path, truth: Path, overrides: list[str], console: Console) -> pd.DataFrame:
    """One arm's mean figures over the test subjects, beside the baselines': a row a metric, a column an arm."""
    run = RunFolder(out / "runs" / "ct_contrast" / arm)
    if not (run.model / "model.json").exists():
        resume = run.config.exists()
        asked = [] if resume else [*ARMS[arm], *overrides]
        train(Order("ct_contrast", overrides=asked, out=out / "runs", name=arm, resume=resume), console)
    convert(ConvertOrder(truth, out / arm, str(run.model), part="test", split=run.split, overwrite=True), console)
    found = evaluate(
        out / arm,
        f"{truth}:plain",
        out / arm / "evaluation",
        source=f"{truth}:contrast",
        labels=truth,
        label_names=ENHANCING | UNTOUCHABLE,
    )
    means = found.summary.pivot_table(index="metric", columns="arm", values="mean")
    inside = [f"mae_in_{organ}_hu" for organ in ENHANCING]
    means.loc["mae_in_enhancing_organs_hu"] = means.loc[inside].mean()
    columns = means[["do_nothing", "intensity_lookup", "synthetic"]]
    return columns.rename(columns={"synthetic": arm})


if __name__ == "__main__":
    main()
