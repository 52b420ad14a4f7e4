"""SGAN against the same network trained on the labels alone, by number of labels: accuracy on unseen phantom subjects.

Patches of the head phantom with and without a lesion of the white matter, half of them each. Both arms have the same
network, the same labelled patches, the same variation of them and the same number of steps; SGAN sees besides all
training patches without their labels. On FLAIR a lesion is the brightest of all and a few labels say so; on T1 and T2
it looks much like grey matter. A seed draws other labels, other weights and another order. Printed by number of labels:
the accuracy of both arms, and the gain in points with Student's t interval over seeds.

    python bench/few_labels.py [--labels 25 50 100 1000] [--seeds 10] [KEY=VALUE ...]

What is done lies in --out and is not done again; KEY=VALUE are settings of FewLabelsConfig, and belong to one --out.
"""

import argparse
import csv
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from medgan.classification.classifier import ClassPatches, cut_labelled
from medgan.classification.few_labels import FewLabelsConfig, classifier_task
from medgan.config import load, read_yaml, to_yaml, user_layers
from medgan.data.cache import Cache
from medgan.data.tables import read_table
from medgan.errors import ConfigError
from medgan.evaluation.statistics import interval_text, t_interval
from medgan.phantom.cohort import PAIRED, write_phantom
from medgan.phantom.tissues import HEAD_LESIONS
from medgan.segmentation.labelled import Labelled, read_labelled
from medgan.synthesis.patches import FLAIR
from medgan.training.device import make_fabric

TRAINING, TESTING = 48, 16
"""Phantom subjects, all with lesions."""
POOL, JUDGED = 3000, 1000
"""Patches of the training subjects, from which labels are drawn, and those of the others."""
METHODS = ("supervised", "sgan")
COLUMNS = ("labels", "seed", "method", "accuracy", "cpu_s")
DEFAULTS = {
    "labels": {"lesion": [label.value for label in HEAD_LESIONS]},
    "network": {"channels": 16},
    "method": {"kind": "sgan", "channels": 16},
    "fit": {"epochs": 1, "iterations_per_epoch": 500, "batch_size": 16},
}


def main() -> None:
    """Do what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/results/few_labels"))
    parser.add_argument("--labels", type=int, nargs="+", default=[25, 50, 100, 1000])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--domain", default="t2", help="t1, t1_gd, t2 or flair")
    parser.add_argument("--method", action="append", choices=METHODS, help="only this arm")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = settings(given)
    pool, judged = patches(given.out, config)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    for seed in seeds:
        for labels in given.labels:
            for method in given.method or METHODS:
                measure(given.out / "results.csv", config, pool, judged, labels=labels, seed=seed, method=method)
    Console(width=110).print(table(given.out / "results.csv", given.labels, seeds), highlight=False)


def settings(given: argparse.Namespace) -> FewLabelsConfig:
    """The settings, which are those of all that lies in the folder."""
    layers = user_layers(None, given.overrides)
    config = load(FewLabelsConfig, DEFAULTS | {"domain": FLAIR.model_dump() | {"name": given.domain}}, *layers)
    path = given.out / "config.yaml"
    if path.exists() and load(FewLabelsConfig, read_yaml(path)) != config:
        raise ConfigError(f"{path}: what lies there was done with other settings; give another --out.")
    given.out.mkdir(parents=True, exist_ok=True)
    path.write_text(to_yaml(config))
    return config


def patches(out: Path, config: FewLabelsConfig) -> tuple[ClassPatches, ClassPatches]:
    """The training subjects' patches and the others'; the phantom is rendered where it is missing."""
    cohort = out.parent / "few_labels_phantom" / PAIRED
    if not cohort.exists():
        write_phantom(cohort.parent, kind="head_mr", subjects=TRAINING + TESTING, seed=5, lesions=1.0)
    studies = [study for study in read_table(cohort).studies if study.domain == config.domain.name]
    with TemporaryDirectory() as folder:
        cases: list[Labelled] = [
            read_labelled(study, config.domain, config.grid, config.labels, Cache(Path(folder))) for study in studies
        ]
        pool = cut_labelled(cases[:TRAINING], config, POOL, seed=0)
        return pool, cut_labelled(cases[TRAINING:], config, JUDGED, seed=1)


def measure(
    path: Path,
    config: FewLabelsConfig,
    pool: ClassPatches,
    judged: ClassPatches,
    *,
    labels: int,
    seed: int,
    method: str,
) -> None:
    """Train one arm and add its accuracy to the results, unless it is there."""
    done = rows(path)
    if ((done.labels == labels) & (done.seed == seed) & (done.method == method)).any():
        return
    started = time.process_time()
    if config.method.kind != method:
        config = load(FewLabelsConfig, config.model_dump(), {"method": {"kind": method}})
    with TemporaryDirectory() as folder:
        task = classifier_task(shown(pool, labels, seed), pool.images, (), config, seed=seed)
        model = task.train(Path(folder), make_fabric("cpu", "32"))
    with torch.no_grad():
        found = torch.cat([model.network(part) for part in judged.images.split(250)]).argmax(dim=1)
    accuracy = float((found == judged.classes).float().mean())
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(
            [*([COLUMNS] if new else []), (labels, seed, method, accuracy, round(time.process_time() - started, 2))]
        )


def shown(pool: ClassPatches, labels: int, seed: int) -> ClassPatches:
    """The patches whose labels are shown: as many of each class, as far as that goes."""
    random = np.random.default_rng([labels, seed])
    kinds = [random.permutation(np.flatnonzero(pool.classes.numpy() == number)) for number in (0, 1)]
    drawn = torch.from_numpy(np.concatenate([kinds[0][: labels // 2], kinds[1][: labels - labels // 2]]))
    return ClassPatches(pool.images[drawn], pool.classes[drawn])


def rows(path: Path) -> pd.DataFrame:
    """What has been done."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))


def table(path: Path, labels: Iterable[int], seeds: Iterable[int]) -> str:
    """A line for each number of labels."""
    done = rows(path)
    wide = done[done.seed.isin(seeds)].pivot(index=["labels", "seed"], columns="method", values="accuracy")
    lines = []
    for number in labels:
        own = wide.loc[number]
        line: dict[str, object] = {"labels": number} | {name: f"{own[name].mean():.3f}" for name in own}
        if set(METHODS) <= set(own):
            gain = t_interval(100 * (own["sgan"] - own["supervised"]))
            line |= {
                "gain (points)": interval_text(gain.mean, gain.lower, gain.upper, "+.1f"),
                "seeds": gain.n,
                "better in": int((own["sgan"] > own["supervised"]).sum()),
            }
        lines.append(line)
    return pd.DataFrame(lines).to_string(index=False)


if __name__ == "__main__":
    main()
