"""Untrained models of eight channels, and small studies to convert."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.volumes import Volume, read_volume
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription, TranslationModel
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model, write_model

NETWORK = ResNetConfig(channels=8, downs=4, blocks=1, norm="group", skips=True)


def ct(name, lower=-300.0, upper=700.0):
    return Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=lower, upper=upper))


def mr(name):
    window = Window(lower=0.0, upper=99.5, percentiles=True)
    return Domain(name=name, modality="MR", unit="arbitrary", air=0.0, window=window)


PAIRS = {
    "ct": DomainPair(source=ct("contrast"), target=ct("plain"), paired=False),
    "mr": DomainPair(source=mr("t1"), target=mr("t1_gd"), paired=True),
    "mr to ct": DomainPair(source=mr("mr"), target=ct("ct", -1000.0, 1000.0), paired=True),
}


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    return make_fabric("cpu", "32")


@pytest.fixture(scope="session")
def save_model() -> Callable[..., Path]:
    """Write a model folder: ``save_model(path, pair="ct", change="one-sided", ...)``; ``push`` moves the raw maps."""

    def save(
        path,
        pair="ct",
        change="one-sided",
        dimensions="2",
        spacing=(1.5, 1.5, None),
        push=2.0,
        directions=2,
        net=NETWORK,
        **changed,
    ):
        torch.manual_seed(0)
        pair, patch = PAIRS[pair], PatchConfig(dimensions=dimensions, size_voxels=32, depth_voxels=None)
        generator = GeneratorConfig(network=net, change=change)
        networks = {
            direction: generator.build(pair, patch, direction) for direction in ("to_target", "to_source")[:directions]
        }
        for network in networks.values():
            last = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d)][-1]
            torch.nn.init.constant_(last.bias, push)
        about = {key: changed.pop(key) for key in Origin.model_fields if key in changed}
        description = {
            "name": "tiny",
            "pair": pair,
            "grid": GridConfig(spacing_mm=spacing),
            "patch": patch,
            "generator": generator,
            "intensities": {pair.source.name: (-1024.0, 2500.0), pair.target.name: (-1024.0, 2500.0)},
            "origin": Origin(**{"split_hash": "none", "data_fingerprint": "none"} | about),
            "metrics": {},
            "epoch": 1,
        }
        write_model(path, networks, TranslationDescription, **description | changed)
        return path

    return save


@pytest.fixture(scope="session")
def model_folder(save_model, tmp_path_factory) -> Path:
    """A one-sided model of contrast CT."""
    return save_model(tmp_path_factory.mktemp("run") / "model")


def body_hu(shape, seed=0):
    """A slab of abdomen in whole HU, (X, Y, Z): air, a rim of fat, soft tissue, a vessel, bone, metal, noise."""
    x, y, z = (np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape)
    radius = np.hypot(x[:, None, None], y[None, :, None] * 1.2) + 0.05 * z[None, None, :]
    hu = np.select([radius < 0.12, radius < 0.3, radius < 0.6, radius < 0.75], [220.0, 60.0, 110.0, -90.0], -1000.0)
    hu[np.hypot(x[:, None] - 0.45, y[None] + 0.1) < 0.1] = 1100.0
    hu[np.hypot(x[:, None] + 0.45, y[None] + 0.1) < 0.06] = 3000.0
    return np.rint(hu + np.random.default_rng(seed).normal(0, 12, shape))


@pytest.fixture(scope="session")
def save_study() -> Callable[..., Path]:
    """Write a NIfTI study: ``save_study(path, shape, affine, dtype=np.int16, codes=(1, 1), unit="mm", seed=0)``."""

    def save(path, shape=(40, 33, 3), affine=None, *, voxels=None, dtype=np.int16, codes=(1, 1), unit="mm", seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        if voxels is None:
            voxels = body_hu((*shape, 1)[:3], seed).reshape(shape)
        affine = np.diag([2.0, 2.0, 5.0, 1.0]) if affine is None else affine
        image = nib.Nifti1Image(voxels.astype(dtype), affine)
        image.set_sform(affine, codes[1])
        image.set_qform(affine, codes[0])
        image.header.set_xyzt_units(unit)
        image.header["descrip"] = b"DOE^JANE"
        image.to_filename(path)
        return path

    return save


@pytest.fixture(scope="session")
def study(save_study, tmp_path_factory) -> Callable[..., Volume]:
    """A study as it is read from disk: ``study((40, 33, 3), affine, voxels=..., dtype=np.int16)``."""
    return lambda *given, **how: read_volume(
        save_study(tmp_path_factory.mktemp("study") / "study.nii.gz", *given, **how)
    )


@pytest.fixture(scope="session")
def model(save_model, tmp_path_factory) -> Callable[..., TranslationModel]:
    """A loaded model of its own: ``model(pair="ct", change="one-sided", ...)``, as ``save_model``."""
    return lambda **kind: read_model(
        save_model(tmp_path_factory.mktemp("run") / "model", **kind), TranslationDescription
    )
