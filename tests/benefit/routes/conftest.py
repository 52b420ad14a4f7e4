"""Phantom MR and CT of six subjects, untrained translators of two folds, and orders whose segmenters train at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medgan.benefit.routes.plan import RoutesOrder, RoutesPlan, make_plan
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import find_cohort
from medgan.phantom.cohort import write_phantom
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription
from medgan.training.model_folder import Origin, write_model

SUBJECTS = tuple(f"sub-{number:03}" for number in range(1, 7))
MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.5, upper=99.5, percentiles=True))
CT = Domain(name="ct", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-1000.0, upper=1500.0))
PAIR = DomainPair(source=MR, target=CT, paired=True)
SMALL = (
    "labelled=[1, 2]",
    "segmenter.patch={dimensions: 2, size_voxels: 16}",
    "segmenter.network={channels: 4, downs: 1}",
    "segmenter.fit={epochs: 2, iterations_per_epoch: 2, batch_size: 2}",
)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory) -> Path:
    """The CSV of six phantom subjects with both scans."""
    folder = tmp_path_factory.mktemp("routes")
    return write_phantom(folder, kind="abdomen_mr_ct", subjects=6, seed=0, shape=(40, 40, 3), lesions=0.0)


@pytest.fixture(scope="session")
def save_run(cohort) -> Callable[..., Path]:
    """Write a run with an untrained translator: ``save_run(folder, test=("sub-005",))`` gives its model folder."""

    def save(folder, test, *, data=cohort, pair=PAIR, **changed):
        studies = find_cohort(data, pair)
        train = tuple(subject for subject in studies.subjects() if subject not in test)
        split = Split(train=train, validation=(), test=tuple(test), files=studies.file_hashes())
        split.save(folder / "split.json")
        torch.manual_seed(0)
        patch = PatchConfig(dimensions="2", size_voxels=16)
        network = ResNetConfig(channels=4, downs=1, blocks=1, norm="group")
        generator = GeneratorConfig(network=network, change="none")
        description = {
            "name": "mr_to_ct",
            "pair": pair,
            "grid": GridConfig(spacing_mm=(None, None, None)),
            "patch": patch,
            "generator": generator,
            "intensities": {},
            "origin": Origin(split_hash=split.hash, phantom=True),
            "metrics": {},
            "epoch": 1,
        }
        networks = {"to_target": generator.build(pair, patch, "to_target")}
        write_model(folder / "model", networks, TranslationDescription, **description | changed)
        return folder / "model"

    return save


@pytest.fixture(scope="session")
def folds(save_run, tmp_path_factory) -> tuple[Path, Path]:
    """Two translators: one has not seen the last two subjects, the other the two before them."""
    folder = tmp_path_factory.mktemp("folds")
    return save_run(folder / "0", SUBJECTS[4:]), save_run(folder / "1", SUBJECTS[2:4])


@pytest.fixture(scope="session")
def asked(cohort, folds) -> Callable[..., RoutesOrder]:
    """What a user asks: ``asked(tmp_path, overrides=["labelled=[3]"], models=...)``, else two folds and one seed."""

    def make(out, *, overrides=(), **changes):
        order = {"pipeline": "mr_to_ct", "models": folds, "data": cohort, "device": "cpu"} | changes
        return RoutesOrder(out=out, overrides=[*SMALL, *overrides], **order)

    return make


@pytest.fixture(scope="session")
def plan(asked, tmp_path_factory) -> RoutesPlan:
    """A study that no test changes."""
    return make_plan(asked(tmp_path_factory.mktemp("plan")))
