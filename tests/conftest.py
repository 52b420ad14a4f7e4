"""What every test may ask for: the real data's folder, made-up scans in memory and on disk, tiny networks."""

import functools
import json
import os
import resource
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import typer.testing
from hypothesis import settings
from numpy.typing import NDArray

import medgan  # noqa: F401 - before any test can import MLflow, which is told here to send nothing

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from playwright.sync_api import Browser

    from golden.studies import GoldenStudies
    from medgan.training.learner import HeldOut
    from medgan.training.run import Order
    from medgan.translators.translator import Translator
    from stores import Server

BONE, VESSEL = (16, 7), (16, 18)
LONG = "test_pages_run.py", "comparison/test_server.py", "training/test_run.py", "test_notebook.py"
"""Files of a quarter of a minute and more."""

settings.register_profile("medgan", max_examples=25, deadline=None)
settings.load_profile("medgan")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes none is left alone with a long file at the end: those come first, then the most tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (not item.path.as_posix().endswith(LONG), -tests[item.path], item.path))


@pytest.fixture(scope="session")
def medgan_data() -> Path:
    """The folder of real volumes; tests that need it skip where MEDGAN_DATA is unset and fail where it is wrong."""
    folder = os.environ.get("MEDGAN_DATA")
    if not folder:
        pytest.skip("MEDGAN_DATA is not set: no real volumes to test on")
    path = Path(folder)
    assert path.is_dir(), f"MEDGAN_DATA={folder} is not a folder"
    return path


@pytest.fixture(autouse=True, scope="session")
def no_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's folders and MLflow's store, moved: no test reads or writes what is the user's."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(home / "cache"))
        patch.setenv("MEDGAN_HOME", str(home / "data"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield home


@pytest.fixture(autouse=True, scope="session")
def no_waiting() -> Iterator[None]:
    """What outlives no test is not waited for: SQLite not for the disk at each write, MLflow not for a lost server."""
    from sqlalchemy import Engine, event

    def hurry(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hurry)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"):
            patch.setenv(name, "0")
        yield
    event.remove(Engine, "connect", hurry)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window; tests skip where it is missing and fail so in CI."""
    from browsing import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, which it takes seconds to lay out; to be copied."""
    from medgan.tracking import check_store

    path = tmp_path_factory.mktemp("database") / "empty.db"
    check_store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def database(empty_database: Path) -> str:
    """The URI of a SQLite file."""
    path = empty_database.parent / "a folder" / "runs.db"
    path.parent.mkdir()
    return f"sqlite:///{shutil.copy(empty_database, path)}"


@pytest.fixture(scope="session")
def server(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A real MLflow server on loopback."""
    from stores import serving

    with serving(empty_database, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=["sqlite", "server"])
def store(request: pytest.FixtureRequest) -> str:
    """The URI of a store; a claim about runs holds for both kinds."""
    return request.getfixturevalue("database") if request.param == "sqlite" else request.getfixturevalue("server").uri


@pytest.fixture(scope="session")
def golden(tmp_path_factory) -> "GoldenStudies":
    """The seven studies at their smallest setting: ``golden.resumed("arms").folder`` is that of one that has run."""
    from golden.studies import GoldenStudies

    root = tmp_path_factory.getbasetemp()
    return GoldenStudies((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "golden")


@pytest.fixture(autouse=True, scope="session")
def parsed_once() -> Iterator[None]:
    """The command line is built once, and not anew for each command that a test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """``full_disk(bytes)``: from then on no file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def slab(seed: int, vessel_hu: float, shape: tuple[int, int, int] = (32, 32, 3)) -> NDArray[np.float32]:
    """A slab of a trunk in HU: air, fat, soft tissue, a lung, a bone, and a vessel as bright as asked."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    grow = random.uniform(0.95, 1.05)
    hu = np.full(shape[:2], -1000.0)
    rings = ((16, 16), 15, -100), ((16, 16), 13, 50), ((9, 16), 4, -750), (BONE, 3.2, 900), (VESSEL, 4, vessel_hu)
    for (centre_x, centre_y), radius, value in rings:
        hu[np.hypot(x - centre_x, y - centre_y) < radius * grow] = value
    return (hu[..., None] + random.normal(0, 8, shape)).astype(np.float32)


@pytest.fixture(scope="session")
def ct() -> Callable[..., NDArray[np.float32]]:
    """A made-up scan (X, Y, Z) in HU: ``ct(seed, contrast=True)``; equal seeds are one subject before and after."""
    return lambda seed, contrast, **shape: slab(seed, 300.0 if contrast else 45.0, **shape)


@pytest.fixture(scope="session")
def save_cohort() -> Callable[..., Path]:
    """Write a cohort: ``save_cohort(folder, paired=False, subjects=6, split=False)`` gives the path of its CSV."""

    def save(folder, *, paired=False, subjects=6, split=False):
        folder.mkdir(parents=True, exist_ok=True)
        parts = ["train", "train", "validation", "validation", *["test"] * (subjects - 4)]
        rows = ["subject,domain,image,split"]
        for number in range(subjects):
            both = ("contrast", "plain")
            for domain in both if paired else (both[number % 2],):
                voxels = slab(number, 300.0 if domain == "contrast" else 45.0)
                image = nib.Nifti1Image(np.rint(voxels).astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
                image.to_filename(folder / f"s{number}_{domain}.nii.gz")
                rows.append(f"s{number},{domain},s{number}_{domain}.nii.gz,{parts[number] if split else ''}")
        (folder / "cohort.csv").write_text("\n".join(rows) + "\n")
        return folder / "cohort.csv"

    return save


@pytest.fixture(scope="session")
def unpaired(save_cohort, tmp_path_factory) -> Path:
    """The CSV of a cohort whose subjects have one scan each."""
    return save_cohort(tmp_path_factory.mktemp("unpaired"))


@pytest.fixture(scope="session")
def paired(save_cohort, tmp_path_factory) -> Path:
    """The CSV of a cohort whose subjects have both scans on one grid."""
    return save_cohort(tmp_path_factory.mktemp("paired"), paired=True, subjects=4)


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings, all of them, under which a training of ``ct_contrast`` takes a second; shipped files play no part."""
    from medgan import catalog
    from medgan.config import flattened, from_overrides, merged

    changes = [
        "size=small",
        "grid.spacing_mm=[null, null, null]",
        "patch.size_voxels=16",
        "generator.change=one-sided",
        "generator.network={channels: 4, downs: 1, blocks: 1, skips: true}",
        "discriminator={receptive_field: 16, channels: 4}",
        "cyclegan={ramp_iterations: 5, pool: 3}",
        "fit={epochs: 2, iterations_per_epoch: 4, batch_size: 2}",
    ]
    defaults = catalog.load("ct_contrast").settings().model_dump(mode="json")
    settings = flattened(merged(defaults, from_overrides(changes)))
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


@pytest.fixture
def small_phantom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the built-in phantom of the abdomen is kept, of which there are five small subjects."""
    from dataclasses import replace

    from medgan.phantom.kinds import KINDS

    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("medgan.pipeline.PHANTOM_SUBJECTS", 5)
    monkeypatch.setattr("medgan.pipeline.KINDS", {"abdomen_ct": replace(KINDS["abdomen_ct"], shape=(32, 32, 8))})
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder for the runs of one test file."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def order(work, unpaired, tiny) -> Callable[..., "Order"]:
    """What a user asks of a training: ``order(name="one", overrides=["seed=3"])``, else a tiny one on made-up scans."""
    from medgan.training.run import Order

    def make(*, overrides=(), **changes):
        asked = {"data": unpaired, "out": work / "runs", "device": "cpu"} | changes
        return Order("ct_contrast", overrides=() if changes.get("resume") else [*tiny, *overrides], **asked)

    return make


@pytest.fixture(scope="session")
def mlflow_runs() -> Callable[..., tuple["MlflowClient", list["Run"]]]:
    """The runs of a name in the store that the tests use, and a client to ask for more."""
    from mlflow.tracking import MlflowClient

    from medgan.tracking import resolve_uri

    def find(name):
        client = MlflowClient(resolve_uri())
        experiment = client.get_experiment_by_name("ct_contrast")
        return client, client.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")

    return find


@pytest.fixture(scope="session")
def held_out(ct) -> Callable[..., "HeldOut"]:
    """Prepared subjects: ``held_out(first=0, count=2, depth=8)``; source and target of one subject run together."""
    from medgan.data.preparation import Prepared
    from medgan.training.learner import HeldOut

    def prepared(seed, contrast, depth):
        voxels = ct(seed, contrast, shape=(32, 32, depth))
        return Prepared(voxels, np.diag([2.0, 2.0, 5.0, 1.0]), ((1, 31), (1, 31), (0, depth)), (-300.0, 700.0))

    def make(first=0, count=2, depth=8):
        seeds = range(first, first + count)
        sides = ([prepared(seed, contrast, depth) for seed in seeds] for contrast in (True, False))
        return HeldOut(*sides)

    return make


@pytest.fixture(scope="session")
def make_translator() -> Callable[..., "Translator"]:
    """A tiny translator of CT, or of MR to CT: ``make_translator("cut", "2.5", source="mr", output="none", nce=0)``."""
    from medgan.data.domains import Domain, DomainPair, Window
    from medgan.data.patches import PatchConfig
    from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, ResNetConfig
    from medgan.translators.cut import CUT, CUTConfig
    from medgan.translators.cyclegan import CycleGAN, CycleGANConfig
    from medgan.translators.pix2pix import Pix2Pix, Pix2PixConfig
    from medgan.translators.registered import RegisteredPix2Pix, RegisteredPix2PixConfig

    window = Window(lower=-300.0, upper=700.0)
    contrast, plain = (
        Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=window) for name in ("contrast", "plain")
    )

    percentiles = Window(lower=1.0, upper=99.0, percentiles=True)
    mr = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=percentiles)
    sources = {"ct": contrast, "mr": mr}
    paired = {"pix2pix": (Pix2Pix, Pix2PixConfig), "registered": (RegisteredPix2Pix, RegisteredPix2PixConfig)}

    def make(
        kind="cyclegan", dimensions="2", *, source="ct", output="one-sided", norm="instance", dropout=0.0, skips=True,
        seed=0, **game,
    ):  # fmt: skip
        network = ResNetConfig(channels=4, downs=1, blocks=1, norm=norm, dropout=dropout, skips=skips)
        parts = {
            "pair": DomainPair(source=sources[source], target=plain, paired=kind in paired),
            "patch": PatchConfig(dimensions=dimensions, size_voxels=16, depth_voxels=8 if dimensions == "3" else None),
            "generator": GeneratorConfig(network=network, change=output),
            "discriminator": DiscriminatorConfig(receptive_field=16, channels=4),
        }
        if kind in paired:
            translator, config = paired[kind]
            return translator(config(**game), **parts)
        if kind == "cut":
            return CUT(CUTConfig(**game), **parts)
        return CycleGAN(CycleGANConfig(**game), **parts, seed=seed)

    return make


@pytest.fixture(scope="session")
def segmenters(ct, tmp_path_factory) -> Callable[..., Path]:
    """The model folder of a segmenter that was trained to find the vessel of ``ct``: ``segmenters("2.5", seed=1)``."""
    from medgan.data.domains import Domain, Window
    from medgan.data.patches import PatchConfig
    from medgan.data.preparation import GridConfig, Prepared
    from medgan.segmentation.labelled import Labelled
    from medgan.segmentation.segmenter import segmenter_task
    from medgan.segmentation.settings import SegmenterConfig, SegmenterNetworkConfig
    from medgan.training.device import make_fabric
    from medgan.training.fit import FitConfig

    window = Window(lower=-200.0, upper=1000.0)
    box, affine = ((1, 31), (1, 31), (0, 8)), np.diag([2.0, 2.0, 5.0, 1.0])
    made: dict[tuple[str, int, int], Path] = {}

    def subject(number):
        voxels = ct(number, contrast=True, shape=(32, 32, 8))
        labels = ((voxels > 150) & (voxels < 500)).astype(np.uint8)
        return Labelled(f"s{number}", Prepared(voxels, affine, box, (window.lower, window.upper)), labels)

    def make(dimensions="2", seed=0, iterations=60):
        if (dimensions, seed, iterations) not in made:
            config = SegmenterConfig(
                labels={"vessel": 1},
                domain=Domain(name="contrast", modality="CT", unit="HU", air=-1024.0, window=window),
                grid=GridConfig(spacing_mm=(None, None, None)),
                augmentation="none",
                patch=PatchConfig(dimensions=dimensions, size_voxels=16, depth_voxels=8 if dimensions == "3" else None),
                network=SegmenterNetworkConfig(channels=8, downs=1, norm="instance"),
                rate=1e-2,
                fit=FitConfig(epochs=1, iterations_per_epoch=iterations, batch_size=4, average_decay=0.5, keep="last"),
            )
            folder = tmp_path_factory.mktemp("segmenter")
            fabric = make_fabric("cpu", "32")
            segmenter_task([subject(n) for n in range(3)], [], config, seed=seed).train(folder, fabric)
            made[dimensions, seed, iterations] = folder / "model"
        return made[dimensions, seed, iterations]

    return make
