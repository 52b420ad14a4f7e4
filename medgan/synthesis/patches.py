"""What lesion generators learn from: patches of labelled cases, by number, and the condition that each one meets."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from medgan.config import Config
from medgan.data.augmentation import Batch, moved
from medgan.data.domains import Domain, Window
from medgan.data.masks import voxels_of
from medgan.data.patches import Image, PatchConfig, Patches, item
from medgan.data.preparation import GridConfig, normalise
from medgan.errors import DataError
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled
from medgan.segmentation.settings import MOST_LABELS, Labelling, Name
from medgan.synthesis.placement import body_coordinates

FLAIR = Domain(
    name="flair",
    modality="MR",
    unit="arbitrary",
    air=0.0,
    # Lesions are the brightest voxels of all: without room above, a percentile would cut them off.
    window=Window(lower=0.5, upper=99.5, percentiles=True, headroom=0.6),
)
CONDITION = "condition"
TRIES = 64
"""Places that are tried for a healthy patch; an organ that fills the image leaves none."""
TISSUE = -0.9
"""A healthy patch is centred on what is brighter than this, of -1 to 1: in the body, not beside it."""


class ConditionConfig(Config):
    """Which blocks the vector has that says what a patch shows; with none a generator is unconditional."""

    classes: bool = False
    """One-hot: healthy, then each name; a patch is of the name that most of its labelled voxels have."""
    size_edges_voxels: tuple[PositiveInt, ...] = Field(default=(), max_length=255)
    """One-hot bins of a patch's labelled voxels: the sizes at which one bin ends and the next begins. A healthy patch
    is in none."""
    location: bool = False
    """Where the patch is centred: right, anterior and superior in the body, from -1 to 1 each."""
    scanners: dict[Name, tuple[str, ...]] = Field(default_factory=dict, max_length=255)
    """One-hot: which subjects each scanner has seen; a subject of none is in none."""

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        if list(self.size_edges_voxels) != sorted(set(self.size_edges_voxels)):
            raise ValueError(f"size_edges_voxels must rise, not {list(self.size_edges_voxels)}")
        return self

    def blocks(self, names: Sequence[str]) -> dict[str, int]:
        """The length of each block that there is, in the vector's order; ``names`` are the labels'."""
        lengths = {
            "class": (len(names) + 1) * self.classes,
            "size": (len(self.size_edges_voxels) + 1) * bool(self.size_edges_voxels),
            "location": 3 * self.location,
            "scanner": len(self.scanners),
        }
        return {block: length for block, length in lengths.items() if length}

    def vector(
        self,
        names: Sequence[str],
        labels: NDArray[np.integer],
        place: Sequence[float] | NDArray[np.float64],
        subject: str,
    ) -> NDArray[np.float32]:
        """The condition (D,) of a subject's patch by its label map and its centre's body coordinates, clipped to 1."""
        parts = [np.zeros(0, dtype=np.float32)]
        if self.classes:
            parts.append(_one_hot(class_of(labels, len(names)), len(names) + 1))
        if self.size_edges_voxels:
            size = np.count_nonzero(labels)
            bin_number = int(np.searchsorted(self.size_edges_voxels, size, side="right"))
            parts.append(_one_hot(bin_number if size else None, len(self.size_edges_voxels) + 1))
        if self.location:
            parts.append(np.clip(np.asarray(place, dtype=np.float32), -1, 1))
        if self.scanners:
            scanner_of = {who: number for number, subjects in enumerate(self.scanners.values()) for who in subjects}
            parts.append(_one_hot(scanner_of.get(subject), len(self.scanners)))
        return np.concatenate(parts)


def class_of(labels: NDArray[np.integer], names: int) -> int:
    """The name that most labelled voxels have, the first of equals; 0 where none is labelled."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64).ravel(), minlength=names + 1)[1 : names + 1]
    return int(np.argmax(counts)) + 1 if counts.any() else 0


def _one_hot(number: int | None, length: int) -> NDArray[np.float32]:
    """Zeros with a one at ``number``, or without where it is None."""
    return np.array([number == place for place in range(length)], dtype=np.float32)


class LesionConfig(Labelling):
    """Settings of what is learnt from; "lesion" is whatever the labels mark, a small organ as well."""

    labels: dict[Name, tuple[PositiveInt, ...]] = Field(default={"lesion": (1,)}, min_length=1, max_length=MOST_LABELS)
    """What is synthesised, by name: the values that mark it in the masks, merged where there are several."""
    domain: Domain = FLAIR
    """Whose images are learnt from."""
    grid: GridConfig = GridConfig(spacing_mm=(None, None, None))
    patch: PatchConfig = PatchConfig(size_voxels=32)
    lesion_share: float = Field(default=0.8, ge=0, le=1)
    """The share of patches with a lesion in their middle; the others are healthy: nothing in them is labelled."""
    jitter: float = Field(default=0.1, ge=0, le=0.5)
    """How far a lesion's centre may lie from the patch's, as a share of the patch's edge."""
    condition: ConditionConfig = ConditionConfig()

    @model_validator(mode="after")
    def _no_neighbours(self) -> Self:
        if self.patch.dimensions == "2.5":
            raise ValueError("patch.dimensions=2.5 translates a slice by its neighbours; a generator draws 2 or 3")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """What the values of prepared label maps mean, from 1."""
        return tuple(self.labels)

    @property
    def spatial(self) -> int:
        """Axes of a patch: 2 or 3."""
        return self.patch.spatial

    @property
    def shape(self) -> tuple[int, ...]:
        """A patch's spatial shape, (H, W) or (H, W, D)."""
        return self.patch.shape

    @property
    def condition_size(self) -> int:
        """D, the length of a patch's condition; 0 without."""
        return sum(self.condition.blocks(self.names).values())

    def still(self) -> Self:
        """The same patches without turning, scaling, mirroring and change of intensities."""
        return self.model_copy(update={"patch": self.patch.still()})


class LesionPatches(Patches):
    """Patches of labelled cases with a lesion in their middle, and healthy ones.

    Each is a pure function of the seed and its number. Every lesion of all cases is drawn equally often, whatever its
    size and whoever has it. What hangs together by faces, edges or corners is one lesion, whatever its names.
    """

    def __init__(self, cases: Sequence[Labelled], config: LesionConfig, *, seed: int) -> None:
        self.cases, self.config, self.seed, self.shape = cases, config, seed, config.shape
        # A case's number and the voxels (N, 3) of one of its lesions.
        self._lesions = [(number, voxels) for number, case in enumerate(cases) for voxels in voxels_of(case.labels)]
        if config.lesion_share and not self._lesions:
            raise DataError(
                f"none of {len(cases)} subjects has a voxel of {', '.join(config.names)}; check `labels` and the masks."
            )
        # The patch along all three axes of a volume; a slice has no jitter along the third.
        self._extent = np.array((*config.shape, 0)[:3])

    def __getitem__(self, number: int) -> Batch:
        """Item ``number``, of which come "image" (1, *shape) in [-1, 1], "labels" (1, *shape), "condition" (D,)."""
        random = np.random.default_rng([self.seed, number])
        case, centre = self._place(random)
        images: dict[str, Image] = {IMAGE: case.image, LABELS: case.labels}
        result = item(images, self.config.patch, random, centre=centre, varied=IMAGE)
        # Moved here already: the condition tells what the patch shows.
        labels = moved(result[LABELS][None], result.pop(f"{LABELS}/motion")[None], self.shape)[0]
        condition = self.config.condition.vector(
            self.config.names, labels.numpy(), body_coordinates(case.image, centre), case.subject
        )
        return result | {LABELS: labels, CONDITION: torch.from_numpy(condition)}

    def _place(self, random: np.random.Generator) -> tuple[Labelled, NDArray[np.float64]]:
        """A case and the voxel that the patch is centred on."""
        if random.random() >= self.config.lesion_share:
            for _ in range(TRIES):
                case = self.cases[int(random.integers(len(self.cases)))]
                centre = np.array([random.integers(first, last) for first, last in case.image.body], dtype=np.float64)
                if self._healthy(case, centre):
                    return case, centre
            if not self._lesions:
                return case, centre
        number, lesion = self._lesions[int(random.integers(len(self._lesions)))]
        if self.config.spatial == 2:  # one of its slices, large ones drawn more often
            height = lesion[random.integers(len(lesion)), 2]
            lesion = lesion[lesion[:, 2] == height]
        reach = self.config.jitter * self._extent
        return self.cases[number], lesion.mean(axis=0) + random.uniform(-reach, reach)

    def _healthy(self, case: Labelled, centre: NDArray[np.float64]) -> bool:
        """Whether a patch there lies on tissue and shows no label, however it is turned and scaled."""
        if normalise(case.image.voxels[tuple(centre.astype(int))], case.image.bounds) <= TISSUE:
            return False
        patch = self.config.patch
        reach = [size // 2 + margin for size, margin in zip(patch.volume, patch.margins, strict=True)]
        around = tuple(slice(max(int(c) - r, 0), int(c) + r + 1) for c, r in zip(centre, reach, strict=True))
        return not case.labels[around].any()
