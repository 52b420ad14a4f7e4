"""What makes a new labelled case out of real ones: copy-paste, CarveMix and trained generators in one interface."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from medgan.segmentation.labelled import Labelled


@dataclass(frozen=True, eq=False)
class Synthetic:
    """A case that was made and not acquired."""

    case: Labelled
    """Outside the changed voxels image and labels equal the recipient's to the bit; so do affine, body and bounds.
    Only a case that is drawn whole (``placement: whole``) is as large as a patch, with affine and body of its own."""
    parents: tuple[str, ...]
    """The subjects that it was made from: the recipient first, then the donors that went into it."""
    how: dict[str, Any]
    """What was done, as JSON takes it: method, sizes, places; it goes into the case's sidecar."""


class Synthesiser(Protocol):
    """One way to make labelled cases; equal arguments give equal cases, whatever was made before."""

    name: str
    """As users ask for it: ``copy-paste``."""

    def synthesise(self, recipient: Labelled, donors: Sequence[Labelled], rng: np.random.Generator) -> Synthetic:
        """A new case in the recipient's anatomy; recipient and donors stay as they are.

        Args:
            recipient: Whose image is changed.
            donors: Real cases that lesions, their shapes and places are taken from; the recipient may be among them.
                All of them, and the recipient, belong to one training part.
            rng: All chance comes from here.

        Raises:
            InsertionError: Nothing can be placed in this recipient, and why.
        """
        ...
