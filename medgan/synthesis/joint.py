"""Image and labels as one stack of channels, so that one network draws both (Bowles et al. 2018, arXiv:1810.10863)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def joint(image: Tensor, labels: Tensor, names: int) -> Tensor:
    """An image and a map for each name, +1 inside and -1 outside.

    Args:
        image: (B, 1, *shape) in [-1, 1].
        labels: (B, 1, *shape), 0 or the number of a name.
        names: How many there are.

    Returns:
        (B, 1 + names, *shape) in [-1, 1].
    """
    return torch.cat([image, 2 * masks(labels, names).to(image.dtype) - 1], dim=1)


def masks(labels: Tensor, names: int) -> Tensor:
    """One map for each name: (B, 1, *shape) of whole numbers to (B, names, *shape) of 0 and 1."""
    hot = F.one_hot(labels[:, 0].long(), names + 1).movedim(-1, 1)
    return hot[:, 1:]


def split_joint(stack: Tensor) -> tuple[Tensor, Tensor]:
    """A stack, (B, 1 + names, *shape), as image (B, 1, *shape) and labels (B, 1, *shape) of whole numbers.

    A voxel has the name whose map is highest there, and none where no map is positive.
    """
    highest, number = stack[:, 1:].max(dim=1, keepdim=True)
    return stack[:, :1], torch.where(highest > 0, number + 1, torch.zeros_like(number))
