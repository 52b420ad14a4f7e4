"""Labelled patches by number: patch ``n`` is the same whenever and wherever drawn, as in :mod:`medgan.data.patches`."""

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from medgan.data.patches import SOURCE, Batch, PatchConfig, chances, patch_chain, plain, plain_tensors
from medgan.segmentation.labelled import Labelled

IMAGE, LABELS = "image", "labels"


class LabelledPatches(Dataset[Batch]):
    """Patches of images and their labels, each a pure function of the seed and its number.

    Args:
        subjects: Prepared studies with labels.
        config: The patch; its variations are those that are applied.
        seed: Of the whole sequence.
        extra: More of them, such as synthetic ones.
        extra_share: The share of patches that are drawn from ``extra``.
    """

    def __init__(
        self,
        subjects: Sequence[Labelled],
        config: PatchConfig,
        *,
        seed: int,
        extra: Sequence[Labelled] = (),
        extra_share: float = 0.0,
    ) -> None:
        self.groups = subjects, extra
        self.config, self.seed, self.extra_share = config, seed, extra_share
        self.chance = [chances([each.image for each in group]) if group else None for group in self.groups]
        # Built once and seeded for each patch: building it takes as long as cutting a small patch.
        self.chain = patch_chain(config, [SOURCE, LABELS], labels=[LABELS])

    def __getitem__(self, number: int) -> Batch:
        """Patch ``number``: {"image": (C, *shape) in [-1, 1], "labels": (1, *shape) of whole numbers}."""
        random = np.random.default_rng([self.seed, number])
        which = int(random.random() < self.extra_share)
        group = self.groups[which]
        subject = group[int(random.choice(len(group), p=self.chance[which]))]
        self.chain.set_random_state(int(random.integers(2**31)))
        with plain_tensors():
            patch = plain(self.chain({SOURCE: subject.image, LABELS: subject.labels}))
        middle = self.config.channels // 2
        return {IMAGE: patch[SOURCE], LABELS: patch[LABELS][middle : middle + 1].long()}
