"""Patches to learn classes from: a few whose class is known and many whose class is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.utils.data import Dataset

from medgan.config import Config
from medgan.data.cache import Cache
from medgan.data.patches import Batch
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled
from medgan.synthesis.generator import unvaried
from medgan.synthesis.patches import LesionConfig, LesionPatches, class_of

CLASS, UNLABELLED = "class", "unlabelled"


class VariationConfig(Config):
    """How patches are varied in training, labelled and unlabelled ones alike; intensities by shares of the window.

    The few patches are cut once and varied here: MONAI's chain takes 20 times as long, longer than a small network
    takes to learn from one.
    """

    mirroring: bool = True
    """Mirror along each axis of the plane in half of the patches, and swap the two axes of a square one."""
    contrast: float = Field(default=0.2, ge=0, lt=1)
    """Largest relative change of the distances to the patch's mean."""
    brightness: NonNegativeFloat = 0.1
    """Largest shift of all intensities."""
    noise: NonNegativeFloat = 0.05
    """Largest standard deviation of added noise."""


@dataclass(frozen=True, eq=False)
class ClassPatches:
    """Patches and what they are."""

    images: Tensor
    """(N, 1, *shape) in [-1, 1]."""
    classes: Tensor
    """(N,) of whole numbers: 0 is healthy, n the n-th name."""

    def __len__(self) -> int:
        return len(self.classes)

    def counts(self, names: Sequence[str]) -> dict[str, int]:
        """How many there are of each class; ``names`` are all classes, healthy first."""
        return dict(zip(names, torch.bincount(self.classes, minlength=len(names)).tolist(), strict=True))


class FewLabels(Dataset[Batch]):
    """A labelled and an unlabelled patch by number, each varied; a pure function of the seed and the number.

    ``unlabelled`` (M, 1, *shape) in [-1, 1] may be empty; no batch has any then.
    """

    def __init__(self, labelled: ClassPatches, unlabelled: Tensor, variation: VariationConfig, *, seed: int) -> None:
        self.labelled, self.unlabelled, self.variation, self.seed = labelled, unlabelled, variation, seed

    def __getitem__(self, number: int) -> Batch:
        """Number ``number``: "image" (1, *shape) with its "class" (), and "unlabelled" (1, *shape)."""
        random = np.random.default_rng([self.seed, number])
        drawn = int(random.integers(len(self.labelled)))
        item = {
            IMAGE: _vary(self.labelled.images[drawn], self.variation, random),
            CLASS: self.labelled.classes[drawn],
        }
        if len(self.unlabelled):
            other = int(random.integers(len(self.unlabelled)))
            item[UNLABELLED] = _vary(self.unlabelled[other], self.variation, random)
        return item


def _vary(patch: Tensor, config: VariationConfig, random: np.random.Generator) -> Tensor:
    """A patch (1, *shape) in [-1, 1], turned over and changed in contrast, brightness and noise."""
    if config.mirroring:
        patch = patch.flip([axis for axis in (1, 2) if random.random() < 0.5])
        if patch.shape[1] == patch.shape[2] and random.random() < 0.5:
            patch = patch.transpose(1, 2)
    mean = patch.mean()
    # [-1, 1] is the whole window: a share of it is twice as much.
    factor, shift = 1 + config.contrast * random.uniform(-1, 1), 2 * config.brightness * random.uniform(-1, 1)
    deviation = 2 * config.noise * random.uniform()
    noise = torch.from_numpy(random.standard_normal(patch.shape, dtype=np.float32))
    return ((patch - mean) * factor + mean + shift + deviation * noise).clamp(-1, 1)


def cut_labelled(cases: Sequence[Labelled], lesions: LesionConfig, count: int, *, seed: int) -> ClassPatches:
    """Unvaried patches of cases with their classes, by the masks; ``lesions`` says which patches."""
    patches = LesionPatches(cases, unvaried(lesions), seed=seed)
    drawn = [patches[number] for number in range(count)]
    classes = [class_of(patch[LABELS].numpy(), len(lesions.names)) for patch in drawn]
    return ClassPatches(torch.stack([patch[IMAGE] for patch in drawn]), torch.tensor(classes))


def cut_unlabelled(
    cases: Sequence[Labelled], unmasked: Sequence[Labelled], lesions: LesionConfig, count: int, *, seed: int
) -> Tensor:
    """Unvaried patches whose class is not shown, (count, 1, *shape) in [-1, 1]; each case as often as any other.

    The labels of ``cases`` only say where to cut, as for labelled patches; ``unmasked`` are cut anywhere on tissue.
    """
    anywhere = lesions.model_copy(update={"lesion_share": 0.0})
    from_unmasked = round(count * len(unmasked) / max(len(cases) + len(unmasked), 1))
    parts = ((cases, lesions, count - from_unmasked), (unmasked, anywhere, from_unmasked))
    drawn = []
    for own, places, number in parts:
        # Not the seed of the labelled ones: theirs would be the same patches.
        patches = LesionPatches(own, unvaried(places), seed=seed + 1) if number else None
        drawn += [patches[each][IMAGE] for each in range(number)] if patches else []
    return torch.stack(drawn) if drawn else torch.zeros(0, 1, *lesions.shape)


def read_unmasked(cohort: Cohort, split: Split, lesions: LesionConfig, cache: Cache) -> list[Labelled]:
    """The training subjects' images without a mask, on the networks' grid; their label maps are empty."""
    domain, studies = lesions.domain, split.part(cohort, "train").of_domain(lesions.domain.name).studies
    images = [(each.subject, cache.prepared(each, domain, lesions.grid)) for each in studies if not each.mask]
    return [Labelled(subject, image, np.zeros(image.voxels.shape, np.uint8)) for subject, image in images]
