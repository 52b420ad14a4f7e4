"""Training patches: cut from prepared studies in 2D, 2.5D or 3D, varied at random, and drawn by number.

Translators vary the intensities of sources in arbitrary units only: Hounsfield units mean something, and are left
alone. Segmenters vary both, so that they do not hang on one scanner's. Patch ``n`` is the same whenever and wherever it
is drawn, so that a run can go on anywhere.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import numpy as np
import torch
from monai.data import MetaTensor, get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrast,
    RandAffined,
    RandBiasField,
    RandFlipd,
    RandGaussianNoise,
    RandomizableTransform,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
)
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medgan.config import Config, Voxels, check_size
from medgan.data.preparation import Prepared, normalise


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


class _RandIntensityd(Compose):
    """Gamma, coil profile, contrast, brightness and noise, each in half of the patches; all slices of a patch alike.

    The image under ``key`` is (channels, *shape) in [-1, 1]; amounts are shares of the window.
    """

    def __init__(self, key: str, config: IntensityConfig) -> None:
        self.key = key
        gamma, field = config.gamma, config.bias_field
        steps = {
            "gamma": RandAdjustContrast(prob=0.5, gamma=(1 - gamma, 1 / (1 - gamma))),
            "bias_field": RandBiasField(prob=0.5, degree=3, coeff_range=(-field, field)),
            "contrast": RandScaleIntensityFixedMean(prob=0.5, factors=config.contrast),
            "brightness": RandShiftIntensity(offsets=config.brightness, prob=0.5),
            "noise": RandGaussianNoise(prob=0.5, std=config.noise),
        }
        super().__init__([step for name, step in steps.items() if getattr(config, name)])

    def __call__(self, data: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]  # named as in Transform
        """{key: image in [-1, 1]} to the same, varied."""
        varied = torch.as_tensor(super().__call__((data[self.key] + 1) / 2, *args, **options))
        return data | {self.key: varied.clamp(0, 1) * 2 - 1}


Dimensions = Literal["2", "2.5", "3"]
SOURCE = "source"
"""The key of the image that is translated."""
CENTRE = "centre"
"""The key of the voxel that a patch is asked around."""
MARGIN = 1.5
"""How much larger than the patch the read region is, so that rotation and scaling find voxels at the corners."""


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


def patch_chain(
    config: PatchConfig,
    keys: Sequence[str],
    seed: int | None = None,
    *,
    labels: Collection[str] = (),
    cut: "type[_RandBodyPatchd] | None" = None,
) -> Compose:
    """Prepared studies under ``keys`` to patches (channels, *shape) in [-1, 1], one place and motion for all keys.

    Those of the keys that are in ``labels`` hold label maps (X, Y, Z) instead, on the first study's grid: their values
    stay what they are, the nearest voxel's, and beyond the volume there is background (0). ``cut`` says around which
    point the patch lies; by default any of the body.
    """
    steps: list[Any] = [(cut or _RandBodyPatchd)(keys, config)]
    if config.flip:
        steps.append(RandFlipd(keys, prob=0.5, spatial_axis=0))
    turn = float(np.deg2rad(config.rotation_degrees))
    steps.append(
        RandAffined(
            keys,
            prob=1.0,
            spatial_size=config.shape,
            rotate_range=turn if config.spatial == 2 else (0.0, 0.0, turn),
            scale_range=(config.scaling, config.scaling),
            mode=["nearest" if key in labels else "bilinear" for key in keys],
            padding_mode="border",
        )
    )
    if config.intensity.varies and SOURCE in keys:
        steps.append(_RandIntensityd(SOURCE, config.intensity))
    chain = Compose(steps)
    chain.set_random_state(seed)
    return chain


class _RandBodyPatchd(RandomizableTransform, MapTransform):
    """Cut a region around a random point of the body, in [-1, 1]; what lies beyond the volume is air.

    The region is 1.5 times the patch in plane. Slices become channels in 2D and 2.5D: (channels, X, Y); a block is
    (1, X, Y, Z). All keys must hold studies or label maps on one grid, and the first one's body says where.
    """

    def __init__(self, keys: Sequence[str], config: PatchConfig) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.config = config
        self.share = np.zeros(3)

    def randomize(self, data: Any = None) -> None:
        """Where in the body the patch is centred, as shares of its extent."""
        super().randomize(data)
        self.share = self.R.uniform(size=3)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """{key: Prepared or label map} to {key: tensor}."""
        self.randomize()
        result = {key: value for key, value in data.items() if key != CENTRE}
        block, plane = self.config.spatial == 3, [int(size * MARGIN) for size in self.config.shape[:2]]
        extent = [*plane, self.config.shape[2] if block else self.config.channels]
        keys = list(self.key_iterator(result))
        # The first study's body places all of them: MR and CT of one patient have bodies that differ by some voxels.
        start = [self._start(axis, size, result[keys[0]]) for axis, size in enumerate(extent)]
        for key in keys:
            region = cut(result[key], start, extent)
            result[key] = torch.from_numpy(region[None] if block else np.ascontiguousarray(region.transpose(2, 0, 1)))
        return result

    def _start(self, axis: int, size: int, study: Prepared) -> int:
        """First index of the region: its patch stays over the body where the body is larger than the patch."""
        first, last = study.body[axis]
        patch = self.config.shape[axis] if axis < 2 else size
        if axis == 2 and self.config.spatial == 2:
            return min(first + int(self.share[2] * (last - first)), last - 1) - size // 2
        # A sixth of the patch may reach over the body's edge, so that skin and air are learnt too.
        lower, upper = first + patch / 3, last - patch / 3
        centre = lower + self.share[axis] * (upper - lower) if upper > lower else (first + last) / 2
        return round(centre - size / 2)


class CentredPatchd(_RandBodyPatchd):
    """Cut the region around the voxel that ``data["centre"]`` names, (x, y, z); the key is used up."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """{key: Prepared or label map, "centre": (3,)} to {key: tensor}."""
        self.centre = data[CENTRE]
        return super().__call__(data)

    def _start(self, axis: int, size: int, study: Prepared) -> int:
        del study
        return round(float(self.centre[axis]) - (size - 1) / 2)


def cut(study: Prepared | NDArray[np.uint8], start: Sequence[int], extent: Sequence[int]) -> NDArray[np.float32]:
    """The region of ``extent`` voxels from ``start``: of a study in [-1, 1], of a label map (X, Y, Z) its values.

    It must share a voxel with the volume, beyond which there is air or background in plane, and the last slice along z.
    """
    shape = study.voxels.shape if isinstance(study, Prepared) else study.shape
    inside, pads = [], []
    for limit, first, size in zip(shape, start, extent, strict=True):
        low, high = min(max(first, 0), limit - 1), max(min(first + size, limit), 1)
        inside.append(slice(low, high))
        pads.append((max(low - first, 0), max(first + size - high, 0)))
    if isinstance(study, Prepared):
        region, beyond = normalise(np.asarray(study.voxels[tuple(inside)]), study.bounds), -1.0
    else:
        region, beyond = study[tuple(inside)].astype(np.float32), 0.0
    region = np.pad(region, [*pads[:2], (0, 0)], constant_values=beyond)
    return np.pad(region, [(0, 0), (0, 0), pads[2]], mode="edge")


Batch = dict[str, Tensor]


class PatchDataset(Dataset[Batch]):
    """Patches of both domains, each a pure function of the seed and its number.

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
        self.regions, self.chance = regions, [chances(studies) for studies in (source, target)]

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number``: {"source": (C, *shape), "target": (C, *shape)} in [-1, 1].

        Where there are regions, "region" is 1 where the two may be compared and 0 elsewhere, (C, *shape).
        """
        random = np.random.default_rng([self.seed, number])
        chosen = [int(random.choice(len(chance), p=chance)) for chance in self.chance]
        seeds = [int(seed) for seed in random.integers(2**31, size=2)]
        images = {"source": self.source[chosen[0]], "target": self.target[chosen[0 if self.paired else 1]]}
        if not self.paired:
            source, target = (
                patch_chain(self.config, [key], seed)({key: image})
                for (key, image), seed in zip(images.items(), seeds, strict=True)
            )
            return plain(source | target)
        if self.regions:
            images["region"] = self.regions[chosen[0]]
        patch = plain(patch_chain(self.config, list(images), seeds[0])(images))
        if self.regions:
            patch["region"] = (patch["region"] > 0).float()
        return patch


class AnchoredDataset(Dataset[Batch]):
    """Patches of real, unpaired studies, each beside a patch of simulated pairs (``anchors``) whose truth is known."""

    def __init__(self, patches: PatchDataset, anchors: PatchDataset) -> None:
        self.patches, self.anchors = patches, anchors

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number`` of both, the simulated one as "anchor_source" and "anchor_target"."""
        return self.patches[number] | {f"anchor_{side}": patch for side, patch in self.anchors[number].items()}


def batches(dataset: Dataset[Batch], first: int, last: int, batch_size: int, workers: int) -> DataLoader[Batch]:
    """The batches of iterations ``first`` to ``last`` (excluded), each (B, C, *shape)."""
    numbers = np.arange(first * batch_size, last * batch_size).reshape(-1, batch_size).tolist()
    # A generator of its own: a loader draws its workers' seeds, which must not move the random state of the training.
    return DataLoader(dataset, batch_sampler=numbers, num_workers=workers, generator=torch.Generator())


def chances(studies: Sequence[Prepared]) -> NDArray[np.float64]:
    """How likely each study is drawn: by its slices, so that every slice of all studies is as likely as any other."""
    slices = np.array([study.body[2][1] - study.body[2][0] for study in studies], dtype=np.float64)
    return np.asarray(slices / slices.sum())


def plain(patch: dict[str, Tensor]) -> Batch:
    """MONAI's tensors with metadata to plain ones: networks and loaders want nothing else."""
    return {
        key: value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)
        for key, value in patch.items()
    }


@contextmanager
def plain_tensors() -> Iterator[None]:
    """MONAI without metadata, which costs a third of a small patch and is dropped in the end."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
