"""What a patch is asked to show, as one vector: class, size, place and scanner, one block after another."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from medgan.config import Config
from medgan.segmentation.settings import Name


class ConditionConfig(Config):
    """Which blocks the vector has; with none a generator is unconditional."""

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
        """The length of each block that there is, in the vector's order.

        Args:
            names: Of the labels.
        """
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
        """The condition that a patch fulfils, (D,).

        Args:
            names: Of the labels.
            labels: The patch's label map, n the n-th name; any shape.
            place: Right, anterior and superior of its centre in the body, as
                :func:`medgan.synthesis.places.body_coordinates` gives it; what lies beyond -1 to 1 is taken as there.
            subject: Whose it is.
        """
        parts: list[NDArray[np.float32]] = []
        marked = int(np.count_nonzero(labels))
        if self.classes:
            parts.append(one_hot(class_of(labels, len(names)), len(names) + 1))
        if self.size_edges_voxels:
            bins = len(self.size_edges_voxels) + 1
            number = int(np.searchsorted(self.size_edges_voxels, marked, side="right"))
            parts.append(one_hot(number if marked else None, bins))
        if self.location:
            parts.append(np.clip(np.asarray(place, dtype=np.float32), -1, 1))
        if self.scanners:
            number_of = {who: number for number, seen in enumerate(self.scanners.values()) for who in seen}
            parts.append(one_hot(number_of.get(subject), len(self.scanners)))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def class_of(labels: NDArray[np.integer], names: int) -> int:
    """The name that most labelled voxels have, the first of equals; 0 where none is labelled."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64).ravel(), minlength=names + 1)[1 : names + 1]
    return int(np.argmax(counts)) + 1 if counts.any() else 0


def one_hot(number: int | None, length: int) -> NDArray[np.float32]:
    """Zeros with a one at ``number``, or without where it is None."""
    vector = np.zeros(length, dtype=np.float32)
    if number is not None:
        vector[number] = 1.0
    return vector
