"""Training patches by number: patch ``n`` is the same whenever and wherever drawn, so that a run can go on anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from monai.data import MetaTensor, get_track_meta, set_track_meta
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from medgan.data.preparation import Prepared
from medgan.data.transforms import PatchConfig, patch_chain

Batch = dict[str, Tensor]


class PatchDataset(Dataset[Batch]):
    """Patches of both domains, each a pure function of the seed and its number.

    Args:
        source: Prepared studies of the source domain.
        target: Prepared studies of the target domain; with ``paired``, the same subjects in the same order and grid.
        paired: One place and motion for both sides, or independent ones.
        config: The patch.
        seed: Of the whole sequence.
        regions: For paired studies, where each pair may be compared; see :mod:`medgan.data.agreement`.
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
        self.regions = regions
        self.chance = [chances(studies) for studies in (source, target)]

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number``: {"source": (C, *shape), "target": (C, *shape)} in [-1, 1].

        Where there are regions, "region" is 1 where the two may be compared and 0 elsewhere, (C, *shape).
        """
        random = np.random.default_rng([self.seed, number])
        chosen = [int(random.choice(len(chance), p=chance)) for chance in self.chance]
        seeds = [int(seed) for seed in random.integers(2**31, size=2)]
        if self.paired:
            return self._pair(chosen[0], seeds[0])
        source = patch_chain(self.config, ["source"], seeds[0])({"source": self.source[chosen[0]]})
        target = patch_chain(self.config, ["target"], seeds[1])({"target": self.target[chosen[1]]})
        return plain(source | target)

    def _pair(self, number: int, seed: int) -> Batch:
        images = {"source": self.source[number], "target": self.target[number]}
        if self.regions:
            images["region"] = self.regions[number]
        patch = plain(patch_chain(self.config, list(images), seed)(images))
        if self.regions:
            patch["region"] = (patch["region"] > 0).float()
        return patch


class AnchoredDataset(Dataset[Batch]):
    """Patches of real, unpaired studies, each beside a patch of simulated pairs whose truth is known.

    Args:
        patches: The real studies.
        anchors: The simulated pairs.
    """

    def __init__(self, patches: PatchDataset, anchors: PatchDataset) -> None:
        self.patches, self.anchors = patches, anchors

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number`` of both, the simulated one as "anchor_source" and "anchor_target"."""
        pair = self.anchors[number]
        return self.patches[number] | {"anchor_source": pair["source"], "anchor_target": pair["target"]}


class From(Sampler[list[int]]):
    """Batches of consecutive patch numbers from one iteration to another."""

    def __init__(self, first: int, last: int, batch_size: int) -> None:
        self.first, self.last, self.batch_size = first, last, batch_size

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self.last):
            yield list(range(iteration * self.batch_size, (iteration + 1) * self.batch_size))


def batches(dataset: Dataset[Batch], first: int, last: int, batch_size: int, workers: int) -> DataLoader[Batch]:
    """The batches of iterations ``first`` to ``last`` (excluded), each (B, C, *shape)."""
    # A generator of its own: a loader draws its workers' seeds, which must not move the random state of the training.
    return DataLoader(
        dataset, batch_sampler=From(first, last, batch_size), num_workers=workers, generator=torch.Generator()
    )


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
