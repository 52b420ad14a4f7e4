"""Training patches: cut from prepared studies in 2D, 2.5D or 3D, drawn by number, and varied at random.

A dataset cuts regions and draws random numbers; :mod:`medgan.data.augmentation` normalises and varies whole batches of
them on the device that trains. Translators vary the intensities of sources in arbitrary units only: Hounsfield units
mean something, and are left alone. Segmenters vary both, so that they do not hang on one scanner's. Patch ``n`` is the
same whenever and wherever it is drawn, so that a run can go on anywhere.
"""

import math
import signal
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from medgan.config import Config, Voxels, check_size
from medgan.data.augmentation import DEGREE, Batch, augmented
from medgan.data.preparation import Prepared, normalise
from medgan.processes import STOPS


class IntensityConfig(Config):
    """How much a source's intensities are varied; zeros vary nothing."""

    gamma: float = Field(default=0.0, ge=0, lt=1)
    """The exponent lies between 1 - gamma and 1 / (1 - gamma)."""
    bias_field: NonNegativeFloat = 0.0
    """Largest coefficient of the logarithm of a smooth coil profile (Legendre polynomials of third degree)."""
    contrast: float = Field(default=0.0, ge=0, lt=1)
    """Largest relative change of the distances to the patch's mean."""
    brightness: NonNegativeFloat = 0.0
    """Largest shift of all intensities, as a share of the window."""
    noise: NonNegativeFloat = 0.0
    """Largest standard deviation of added noise, as a share of the window."""

    @property
    def varies(self) -> bool:
        """Whether anything is varied."""
        return self != type(self)()


Dimensions = Literal["2", "2.5", "3"]
SOURCE = "source"
"""The key of the image that is translated."""


class PatchConfig(Config):
    """What a network sees at once, and how it is varied."""

    dimensions: Dimensions = "2"
    """2: single slices. 2.5: a slice with its neighbours as channels. 3: blocks."""
    size_voxels: Voxels = 128
    """Edge of the patch in plane, and along superior in 3D when ``depth_voxels`` is not set."""
    length_voxels: Voxels | None = None
    """Extent along anterior of a patch that is not square in plane."""
    depth_voxels: Voxels | None = None
    """Extent of a 3D patch along superior; thin stacks want fewer than in plane."""
    neighbours: int = Field(default=1, gt=0, le=64)
    """Slices on each side that a 2.5D network sees beside the one it translates."""
    flip: bool = False
    """Mirror left and right in half of the patches; only where the anatomy allows it."""
    rotation_degrees: NonNegativeFloat = 10.0
    """Largest rotation in plane."""
    scaling: float = Field(default=0.1, ge=0, lt=1)
    """Largest relative change of size along each axis in plane."""
    intensity: IntensityConfig = IntensityConfig()
    """How the source's intensities are varied, for units that mean nothing (MR)."""
    mirroring: bool = False
    """Translate a study and its mirror image and take the mean: twice the time; for networks trained with ``flip``."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.depth_voxels and self.dimensions != "3":
            raise ValueError(f"depth_voxels is for 3D patches; with dimensions={self.dimensions} set neighbours")
        if self.mirroring and not self.flip:
            raise ValueError("mirroring shows the network mirror images, which it learns with flip=true only")
        check_size((self.channels, *self.shape))
        return self

    def still(self) -> Self:
        """The same patch without turning, scaling, mirroring and change of intensities."""
        unmoved = {"flip": False, "mirroring": False, "rotation_degrees": 0.0, "scaling": 0.0}
        return self.model_copy(update=unmoved | {"intensity": IntensityConfig()})

    @property
    def spatial(self) -> int:
        """Axes that the network convolves over: 2 or 3."""
        return 3 if self.dimensions == "3" else 2

    @property
    def channels(self) -> int:
        """Slices that enter as channels."""
        return 2 * self.neighbours + 1 if self.dimensions == "2.5" else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The patch's spatial shape, (H, W) or (H, W, D)."""
        plane = (self.size_voxels, self.length_voxels or self.size_voxels)
        return (*plane, self.depth_voxels or self.size_voxels) if self.spatial == 3 else plane

    @property
    def volume(self) -> tuple[int, int, int]:
        """The patch's extent along X, Y and Z."""
        x, y, *_ = self.shape
        return x, y, self.shape[2] if self.spatial == 3 else self.channels

    @property
    def margins(self) -> tuple[int, int, int]:
        """How many voxels are read beyond a patch on each side, so that it has its corners however it is moved."""
        x, y, _ = self.volume
        return self._margin(x, y), self._margin(y, x), 0

    def _margin(self, size: int, across: int) -> int:
        half, reach = (size - 1) / 2, (across - 1) / 2
        turn = min(math.radians(self.rotation_degrees), math.atan2(reach, half))  # this far, corners move outwards
        return math.ceil((1 + self.scaling) * (half * math.cos(turn) + reach * math.sin(turn)) - half)


ALIGNED = 64
"""Bytes at whose multiples the tensors of a batch lie in memory."""
T = TypeVar("T")
Image = Prepared | NDArray[Any]
"""A study, or a map (X, Y, Z) on its grid."""


def cut(study: Image, start: Sequence[int], extent: Sequence[int]) -> NDArray[Any]:
    """The region of ``extent`` voxels from ``start``: of a study in [-1, 1], of a map (X, Y, Z) as it is.

    It must share a slice with the volume, beyond which there is air or background in plane, and the last slice along z.
    """
    if isinstance(study, Prepared):
        return normalise(_read(study, start, extent), study.bounds)
    return _read(study, start, extent)


def _read(image: Image, start: Sequence[int], extent: Sequence[int]) -> NDArray[Any]:
    """A copy of a region; see :func:`cut`. Of a study it is in the study's unit, and air is what becomes -1."""
    voxels, beyond = (image.voxels, image.bounds[0]) if isinstance(image, Prepared) else (image, 0)
    inside, place = [], []
    for limit, first, size in zip(voxels.shape, start, extent, strict=True):
        low = max(first, 0)
        high = max(min(first + size, limit), low)
        inside.append(slice(low, high))
        place.append(slice(low - first, high - first))
    region = np.empty(extent, voxels.dtype)
    if [at.stop - at.start for at in place[:2]] != list(extent[:2]):
        region[...] = beyond
    region[tuple(place)] = voxels[tuple(inside)]
    first, last = place[2].start, place[2].stop
    region[:, :, :first] = region[:, :, first, None]
    region[:, :, last:] = region[:, :, last - 1, None]
    return region


class Patches(Dataset[Batch]):
    """Patches by number, each a pure function of the seed and its number.

    An item has a region (X, Y, Z) of each image, with the numbers by which :meth:`augmented` makes a patch of it; what
    is a patch already has none, and stays as it is.
    """

    shape: tuple[int, ...] = ()
    """Of the patches that are made of regions, (H, W) or (H, W, D)."""

    def augmented(self, batch: Batch) -> Batch:
        """A loader's batch to patches (B, C, *shape), on the batch's device: see :mod:`medgan.data.augmentation`."""
        return augmented(batch, self.shape)

    def patch(self, number: int) -> Batch:
        """Patch ``number`` as a network sees it: tensors without the batch's axis."""
        return {key: each[0] for key, each in self.augmented(default_collate([self[number]])).items()}


class PatchDataset(Patches):
    """Patches of both domains.

    If ``paired``, source and target are of the same subjects in the same order and on one grid, and each pair has one
    place and motion. ``regions`` then say where each pair may be compared, as ``preparation.agreement`` does.
    """

    def __init__(
        self,
        source: Sequence[Prepared],
        target: Sequence[Prepared],
        *,
        paired: bool,
        config: PatchConfig,
        seed: int,
        regions: Sequence[Prepared] = (),
    ) -> None:
        self.source, self.target, self.paired, self.config, self.seed = source, target, paired, config, seed
        self.regions, self.shape = regions, config.shape
        self.chance = [chances(studies) for studies in (source, target)]

    def __getitem__(self, number: int) -> Batch:
        """Item ``number``, of which come "source" and "target" (C, *shape) in [-1, 1].

        Where there are regions, "region" is 1 where the two may be compared and 0 elsewhere, (C, *shape).
        """
        random = np.random.default_rng([self.seed, number])
        chosen = [int(random.choice(len(chance), p=chance)) for chance in self.chance]
        source, target = self.source[chosen[0]], self.target[chosen[0 if self.paired else 1]]
        if not self.paired:
            one, other = random.spawn(2)  # neither side's draws depend on the other's
            return item({SOURCE: source}, self.config, one) | item({"target": target}, self.config, other)
        images: dict[str, Image] = {SOURCE: source, "target": target}
        if self.regions:
            images["region"] = self.regions[chosen[0]].voxels
        result = item(images, self.config, random)
        if self.regions:
            result["region"] = result["region"] > 0
        return result


class AnchoredDataset(Patches):
    """Patches of real, unpaired studies, each beside a patch of simulated pairs (``anchors``) whose truth is known."""

    def __init__(self, patches: PatchDataset, anchors: PatchDataset) -> None:
        self.patches, self.anchors, self.shape = patches, anchors, patches.shape

    def __getitem__(self, number: int) -> Batch:
        """Item ``number`` of both, the simulated one as "anchor_source" and "anchor_target"."""
        return self.patches[number] | {f"anchor_{side}": patch for side, patch in self.anchors[number].items()}


def item(
    images: Mapping[str, Image],
    config: PatchConfig,
    random: np.random.Generator,
    *,
    centre: Sequence[float] | NDArray[np.float64] | None = None,
    varied: str = SOURCE,
) -> Batch:
    """Regions (X, Y, Z) of images on one grid, with the numbers that make patches of them.

    All have one place and motion. The place is around the voxel ``centre``, or anywhere in the body of the first image,
    a study. Studies have a "window", (2,): what becomes -1, and how far from it lies what becomes 1. Maps keep their
    type and values, and beyond the volume they are 0. The image ``varied`` has its intensities varied.
    """
    # Always the same draws, so that no setting changes what is drawn for another.
    share, flip, turn, stretch = random.random(3), random.random(), random.uniform(-1, 1), random.uniform(-1, 1, 2)
    if centre is None:
        # The first study's body places all of them: MR and CT of one patient have bodies that differ by some voxels.
        first = next(iter(images.values()))
        assert isinstance(first, Prepared)
        start = [_start(config, axis, float(share[axis]), first.body[axis]) for axis in range(3)]
    else:
        # Of an even size the second of both voxels in the middle: not now and then one beside the body.
        start = [math.ceil(float(at) - size / 2) for at, size in zip(centre, config.volume, strict=True)]
    start = [at - margin for at, margin in zip(start, config.margins, strict=True)]
    extent = [size + 2 * margin for size, margin in zip(config.volume, config.margins, strict=True)]
    angle = np.deg2rad(config.rotation_degrees) * turn
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    motion = rotation * (1 + config.scaling * stretch)
    if config.flip and flip < 0.5:
        motion[0] *= -1
    result = {}
    for key, image in images.items():
        result[key] = torch.from_numpy(_read(image, start, extent))
        result[f"{key}/motion"] = torch.from_numpy(motion.astype(np.float32))
        if isinstance(image, Prepared):
            lower, upper = image.bounds
            result[f"{key}/window"] = torch.tensor([lower, upper - lower])
    if varied in images:
        result |= {f"{varied}/{name}": amount for name, amount in _intensities(config, random).items()}
    return result


def _start(config: PatchConfig, axis: int, share: float, body: tuple[int, int]) -> int:
    """First index of the patch, which stays over the body where the body is larger."""
    first, last = body
    size = config.volume[axis]
    if axis == 2 and config.spatial == 2:
        return min(first + int(share * (last - first)), last - 1) - size // 2
    # A sixth of the patch may reach over the body's edge, so that skin and air are learnt too.
    lower, upper = first + size / 3, last - size / 3
    centre = lower + share * (upper - lower) if upper > lower else (first + last) / 2
    return round(centre - size / 2)


def _intensities(config: PatchConfig, random: np.random.Generator) -> Batch:
    """The numbers of each variation that the settings ask for, neutral in half of the patches.

    A coil profile is a sum of Legendre polynomials up to the third degree; all but those of the last axis are summed
    here, which takes no time.
    """
    given, shape, on = config.intensity, config.shape, random.random(5) < 0.5
    result: dict[str, Any] = {}
    if given.gamma:
        result["gamma"] = random.uniform(1 - given.gamma, 1 / (1 - given.gamma)) if on[0] else 1.0
    if given.bias_field:
        powers = np.indices((DEGREE + 1,) * len(shape))
        # The terms that MONAI's RandBiasField has.
        terms = powers[1] <= powers[0] if len(shape) == 2 else powers.sum(axis=0) <= DEGREE
        field = on[1] * terms * random.uniform(-given.bias_field, given.bias_field, terms.shape)
        for size in shape[:-1]:
            field = np.tensordot(field, legvander(np.linspace(-1, 1, size), DEGREE), (0, 1))
        result["bias_field"] = field  # (DEGREE + 1, *shape[:-1])
    if given.contrast:
        result["contrast"] = on[2] * random.uniform(-given.contrast, given.contrast)
    if given.brightness:
        result["brightness"] = on[3] * random.uniform(-given.brightness, given.brightness)
    if given.noise:
        # Drawn here, and not on a device, whose generator would draw other numbers than the next one's.
        deviation, seed = on[4] * random.uniform(0, given.noise), int(random.integers(2**63))
        result["noise"] = torch.zeros(config.channels, *shape)
        if deviation:
            result["noise"].normal_(0, deviation, generator=torch.Generator().manual_seed(seed))
    return {name: torch.as_tensor(each, dtype=torch.float32) for name, each in result.items()}


def batches(
    dataset: Dataset[Batch],
    first: int,
    last: int,
    batch_size: int,
    workers: int,
    *,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Generator[Batch]:
    """The items of iterations ``first`` to ``last`` (excluded) in batches of ``batch_size``, on the CPU.

    Of ``world`` processes, the one of this ``rank`` gets its share of each batch. ``workers`` processes read ahead, as
    long as the iterator is not closed; with ``pin`` into memory from which a GPU copies while it computes. What goes
    wrong in a worker is raised here.
    """
    # A generator of its own: a loader draws its workers' seeds, which must not move the random state of the training.
    loader = DataLoader(
        _Shares(dataset, batch_size, rank, world), batch_size=None, sampler=range(first, last), num_workers=workers,
        generator=torch.Generator(), pin_memory=pin, worker_init_fn=_heed_no_stop, collate_fn=_as_it_is,
    )  # fmt: skip
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch if isinstance(batch, dict) else _unpacked(*batch)


Places = Mapping[str, tuple[int, torch.dtype, Sequence[int]]]
"""Where each tensor of a batch begins in a buffer, in bytes, and what it is."""


def _packed(items: Sequence[Batch]) -> tuple[Tensor, Places]:
    """A batch in one buffer of shared memory: what the process that trains takes over costs it time by the piece."""
    places, size = {}, 0
    for key, first in items[0].items():
        places[key] = (size, first.dtype, (len(items), *first.shape))
        size += -(-len(items) * first.nbytes // ALIGNED) * ALIGNED
    buffer = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size))
    for key, each in _unpacked(buffer, places).items():
        torch.stack([item[key] for item in items], out=each)
    return buffer, places


def _unpacked(buffer: Tensor, places: Places) -> Batch:
    return {
        key: buffer[first : first + math.prod(shape) * dtype.itemsize].view(dtype).view(*shape)
        for key, (first, dtype, shape) in places.items()
    }


class _Shares(Dataset[Batch | tuple[Tensor, Places] | Exception]):
    """A process' share of each batch, by iteration; or what went wrong, which a loader would tell with a traceback."""

    def __init__(self, dataset: Dataset[Batch], batch_size: int, rank: int, world: int) -> None:
        self.dataset, self.batch_size, self.rank, self.world = dataset, batch_size, rank, world

    def __getitem__(self, iteration: int) -> Batch | tuple[Tensor, Places] | Exception:
        numbers = np.arange(self.batch_size) + iteration * self.batch_size
        share = np.array_split(numbers, self.world)[self.rank].tolist()
        try:
            items = [self.dataset[each] for each in share]
            return _packed(items) if get_worker_info() else default_collate(items)
        except Exception as error:
            return error


def _as_it_is(batch: T) -> T:
    return batch


def _heed_no_stop(worker: int) -> None:
    """Signals reach every process of a terminal or a job: what they mean is told by the one that trains."""
    del worker
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)


def chances(studies: Sequence[Prepared]) -> NDArray[np.float64]:
    """How likely each study is drawn: by its slices, so that every slice of all studies is as likely as any other."""
    slices = np.array([study.body[2][1] - study.body[2][0] for study in studies], dtype=np.float64)
    return np.asarray(slices / slices.sum())
