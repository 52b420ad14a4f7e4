"""Patches with a lesion in their middle, and healthy ones, by number: patch ``n`` is always the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from medgan.data.masks import voxels_of
from medgan.data.patches import CENTRE, MARGIN, SOURCE, Batch, CentredPatchd, patch_chain, plain, plain_tensors
from medgan.errors import DataError
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled
from medgan.synthesis.places import body_coordinates
from medgan.synthesis.settings import LesionConfig

CONDITION = "condition"
TRIES = 64
"""Places that are tried for a healthy patch; an organ that fills the image leaves none."""
TISSUE = -0.9
"""A healthy patch is centred on what is brighter than this, of -1 to 1: in the body, not beside it."""


@dataclass(frozen=True, eq=False)
class Component:
    """One lesion of a case: its voxels, (N, 3)."""

    voxels: NDArray[np.intp]

    def centre(self, random: np.random.Generator, spatial: int) -> NDArray[np.float64]:
        """Its centre; for slices that of one of its slices, large ones drawn more often."""
        if spatial == 3:
            return np.asarray(self.voxels.mean(axis=0))
        height = self.voxels[random.integers(len(self.voxels)), 2]
        return np.asarray(self.voxels[self.voxels[:, 2] == height].mean(axis=0))


class LesionPatches(Dataset[Batch]):
    """Patches of labelled cases, each a pure function of the seed and its number.

    Every lesion of all cases is drawn equally often, whatever its size and whoever has it.

    Args:
        cases: Prepared studies with labels.
        config: What is learnt from, and in which patches.
        seed: Of the whole sequence.

    Raises:
        DataError: Lesions are wanted, and nothing is labelled.
    """

    def __init__(self, cases: Sequence[Labelled], config: LesionConfig, *, seed: int) -> None:
        self.cases, self.config, self.seed = cases, config, seed
        self.components = [(number, lesion) for number, case in enumerate(cases) for lesion in components(case.labels)]
        if config.lesion_share and not self.components:
            raise DataError(
                f"none of {len(cases)} subjects has a voxel of {', '.join(config.names)}; check `labels` and the masks."
            )
        self.chain = patch_chain(config.patch, [SOURCE, LABELS], labels=[LABELS], cut=CentredPatchd)

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number``: "image" (1, *shape) in [-1, 1], "labels" (1, *shape), and the "condition" (D,) it meets."""
        random = np.random.default_rng([self.seed, number])
        case, centre = self._place(random)
        self.chain.set_random_state(int(random.integers(2**31)))
        with plain_tensors():
            patch = plain(self.chain({SOURCE: case.image, LABELS: case.labels, CENTRE: centre}))
        labels = patch[LABELS].long()
        condition = self.config.condition.vector(
            self.config.names, labels.numpy(), body_coordinates(case.image, centre), case.subject
        )
        return {IMAGE: patch[SOURCE], LABELS: labels, CONDITION: torch.from_numpy(condition)}

    def _place(self, random: np.random.Generator) -> tuple[Labelled, NDArray[np.float64]]:
        """A case and the voxel that the patch is centred on."""
        wants_lesion = random.random() < self.config.lesion_share
        if not wants_lesion:
            for _ in range(TRIES):
                case = self.cases[int(random.integers(len(self.cases)))]
                centre = self._anywhere(random, case)
                if self._healthy(case, centre):
                    return case, centre
        if not self.components:
            return case, centre
        number, lesion = self.components[int(random.integers(len(self.components)))]
        reach = self.config.jitter * np.array(self._extent())
        return self.cases[number], lesion.centre(random, self.config.spatial) + random.uniform(-reach, reach)

    def _anywhere(self, random: np.random.Generator, case: Labelled) -> NDArray[np.float64]:
        return np.array([random.integers(first, last) for first, last in case.image.body], dtype=np.float64)

    def _healthy(self, case: Labelled, centre: NDArray[np.float64]) -> bool:
        """Whether a patch there lies on tissue and shows no label, however it is turned and scaled."""
        lower, upper = case.image.bounds
        value = case.image.voxels[tuple(centre.astype(int))]
        if (value - lower) / (upper - lower) * 2 - 1 <= TISSUE:
            return False
        # Half the diagonal: a turned patch reaches as far, and a scaled one farther, but no farther than what is read.
        in_plane = min(0.71 * (1 + self.config.patch.scaling), MARGIN / 2)
        reach = np.ceil(np.array(self._extent()) * [in_plane, in_plane, 0.5]).astype(int)
        around = tuple(slice(max(int(c) - r, 0), int(c) + r + 1) for c, r in zip(centre, reach, strict=True))
        return not case.labels[around].any()

    def _extent(self) -> tuple[int, int, int]:
        """The patch along all three axes of a volume; a slice has no jitter along the third."""
        shape = self.config.shape
        return shape[0], shape[1], shape[2] if len(shape) == 3 else 0


def components(labels: NDArray[np.uint8]) -> list[Component]:
    """The lesions of a label map: what hangs together by faces, edges or corners, whatever its names."""
    return [Component(voxels) for voxels in voxels_of(labels)]
