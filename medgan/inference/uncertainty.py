"""How unsure a model is of each voxel: the spread of its answers to a study that is varied a little.

The varied studies are what the training showed the network, too: shifted, turned, scaled, mirrored where the anatomy
allows it, and with intensities as another scanner might give them. A motion is an affine between two voxel grids, so
that each answer is carried from its own grid straight to the study's, as a translation is. Dropout, where the network
has any, is active (Gal and Ghahramani 2016, arXiv:1506.02142); normalisation keeps the statistics of its training.

Source: test-time augmentation as a measure of uncertainty, Wang et al. 2019, doi:10.1016/j.neucom.2019.01.103.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from threading import Lock

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from medgan.data.domains import Domain
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, prepare
from medgan.data.volumes import Volume
from medgan.inference.translate import Slab, answer, apply, looked_at, on_grid
from medgan.networks.outputs import ChangeOutput
from medgan.training.architecture import Direction, TranslationModel

LARGEST_SHIFT_VOXELS = 0.5
"""Whole voxels change nothing for a convolution; half a voxel is the farthest from what it was."""

LARGEST_GAIN = 0.02
"""Largest relative change of contrast."""

LARGEST_OFFSET = 0.005
"""Largest change of brightness as a share of the window: 5 HU of 1000, about what scanners differ by in water."""

_RANDOM_STATE = Lock()


class _Spread:
    """Standard deviation of volumes that come one after the other; holds two of them, (X, Y, Z), however many come.

    Source: Welford 1962, doi:10.1080/00401706.1962.10490022.
    """

    def __init__(self, size: tuple[int, int, int]) -> None:
        self.count = 0
        self.mean = np.zeros(size, np.float32, order="F")
        self.squares = np.zeros(size, np.float32, order="F")

    def add(self, slabs: Iterable[Slab]) -> None:
        """One more volume, in slabs of slices along Z."""
        self.count += 1
        for place, values in slabs:
            step = values - self.mean[..., place]
            self.mean[..., place] += step / self.count
            self.squares[..., place] += step * (values - self.mean[..., place])

    def deviation(self) -> NDArray[np.float32]:
        """(X, Y, Z), with one degree of freedom taken by the mean; at least two volumes must have come."""
        return np.asarray(np.sqrt(self.squares / np.float32(self.count - 1)))


def uncertainty(
    volume: Volume, model: TranslationModel, direction: Direction, fabric: Fabric, *, samples: int, seed: Sequence[str],
    strength: float = 1.0,
) -> NDArray[np.float32]:  # fmt: skip
    """The standard deviation of a study's translations of a strength, of the change where the model predicts that.

    There are two ``samples`` or more; hashes of what the map is made of seed the variations and dropout.

    Returns:
        (X, Y, Z) in the output's unit, before rounding; 0 where the output is what it is by construction.
    """
    description = model.description
    source = description.domains(direction)[0]
    generator = fabric.to_device(model.networks[direction])
    study = prepare(volume, source, description.grid)
    body = body_mask(study.voxels, source, to_the_edge=True)
    spread = _Spread(volume.grid.size)
    if not body.any():
        return spread.mean
    number = int.from_bytes(hashlib.sha256("\n".join(seed).encode()).digest()[:8], "big")
    random = np.random.default_rng(number)
    with _dropout_active(generator, fabric, number):
        for _ in range(samples):
            varied = _moved(_rescaled(study, source, random), _motion(description.patch, random))
            output = apply(generator, varied, description.patch, description.generator.network.multiple, fabric)
            spread.add(answer(volume, model, direction, varied, output, strength=strength))
    result = spread.deviation()
    for place, share in on_grid(_answered(study, body, generator), study.affine, volume.grid):
        result[..., place] *= share
    return result


def uncertainty_in_words(model: TranslationModel, direction: Direction, samples: int) -> str:
    """What the map holds."""
    patch, unit = model.description.patch, model.description.domains(direction)[1].unit
    ways = ["shifted", "turned" * bool(patch.rotation_degrees), "scaled" * bool(patch.scaling), "mirrored" * patch.flip]
    varied = f"{', '.join(filter(None, ways))} and with other intensities"
    dropout = ", with dropout" if any(layer.p > 0 for layer in _dropout_layers(model.networks[direction])) else ""
    return f"{unit}, standard deviation of {samples} translations of the study {varied}{dropout}"


def _motion(patch: PatchConfig, random: np.random.Generator) -> NDArray[np.float64]:
    """A random motion within the training's ranges: (4, 4), from moved voxels to where they were, about the origin.

    It turns and scales in plane, mirrors left and right, and shifts by up to half a voxel: along superior too in 3D
    only, where the network convolves over slices.
    """
    angle = np.deg2rad(patch.rotation_degrees) * random.uniform(-1, 1)
    scale = 1 + patch.scaling * random.uniform(-1, 1, 2)
    mirror = -1.0 if patch.flip and random.random() < 0.5 else 1.0
    shift = LARGEST_SHIFT_VOXELS * random.uniform(-1, 1, 3)
    result = np.eye(4)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    result[:2, :2] = np.array(turn) @ np.diag(scale * (mirror, 1.0))
    result[: patch.spatial, 3] = shift[: patch.spatial]
    return result


def _moved(study: Prepared, motion: NDArray[np.float64]) -> Prepared:
    """All that the network would see of a study, on a grid that is moved about its middle; its affine tells where.

    ``motion`` (4, 4) takes moved voxels to the study's, about the origin.
    """
    box = looked_at(study)
    # A whole voxel, so that slices stay on slices where nothing moves them.
    middle = np.array([(part.start + part.stop - 1) // 2 for part in box])
    corners = np.array(list(product(*((part.start, part.stop - 1) for part in box))))
    about = np.linalg.inv(motion[:3, :3]) @ (corners - middle - motion[:3, 3]).T
    first = np.floor(about.min(axis=1).round(6))
    size = (np.ceil(about.max(axis=1).round(6)) - first).astype(int) + 1
    index = motion.copy()
    index[:3, 3] += middle + motion[:3, :3] @ first
    voxels = ndimage.affine_transform(
        study.voxels, index[:3, :3], index[:3, 3], output_shape=tuple(size), order=1, mode="nearest"
    )
    return Prepared(voxels, study.affine @ index, body=tuple((0, int(n)) for n in size), bounds=study.bounds)


def _rescaled(study: Prepared, domain: Domain, random: np.random.Generator) -> Prepared:
    """A study with a little more or less contrast, and in HU brightness; arbitrary units have a zero, which stays."""
    lower, upper = study.bounds
    contrast, offset = 1 + LARGEST_GAIN * random.uniform(-1, 1), LARGEST_OFFSET * random.uniform(-1, 1)
    shift = (upper - lower) * offset if domain.unit == "HU" else 0.0
    voxels = (study.voxels - np.float32(lower)) * np.float32(contrast) + np.float32(lower + shift)
    return replace(study, voxels=voxels)


def _answered(study: Prepared, body: NDArray[np.bool_], generator: nn.Module) -> NDArray[np.float32]:
    """1 where an output follows the network, 0 where it is air or the input whatever the network says: (X, Y, Z)."""
    if not isinstance(generator, ChangeOutput):
        return body.astype(np.float32)
    result = np.zeros(study.voxels.shape, np.float32)
    result[looked_at(study)] = 1
    return result


def _dropout_layers(network: nn.Module) -> list[nn.Dropout2d | nn.Dropout3d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Dropout2d | nn.Dropout3d)]


@contextmanager
def _dropout_active(network: nn.Module, fabric: Fabric, seed: int) -> Iterator[None]:
    """Dropout as in training, and nothing else of it; torch's random state is afterwards what it was."""
    layers = _dropout_layers(network)
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    # One at a time: all threads of a process share torch's random state.
    with _RANDOM_STATE if layers else nullcontext(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer in layers:
                layer.eval()
