"""A network over a whole volume: slice by slice, with neighbours, or in blended blocks; one volume in memory."""

from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
from torch import Tensor
from torch.nn import functional as F

Network = Callable[[Tensor], Tensor]


def over_slices(network: Network, volume: Tensor, *, neighbours: int, multiple: int, batch_size: int = 4) -> Tensor:
    """Translate every axial slice of (X, Y, Z); a slice's neighbours enter as channels.

    Whole slices are seen at once: statistics of a normalisation are the slice's own, and no tile leaves a seam.

    Args:
        network: (B, 2 * neighbours + 1, X, Y) to (B, 1, X, Y).
        volume: (X, Y, Z) in [-1, 1].
        neighbours: Slices on each side; at the ends the last one repeats.
        multiple: What the network's axes must be multiples of; slices are grown by their edge and cut back.
        batch_size: Slices at a time.
    """
    width, height, depth = volume.shape
    slices = F.pad(volume.permute(2, 0, 1)[:, None], _growth((width, height), multiple), mode="replicate")
    results = []
    for first in range(0, depth, batch_size):
        wanted = torch.arange(first, min(first + batch_size, depth))
        stack = [slices[(wanted + offset).clamp(0, depth - 1)] for offset in range(-neighbours, neighbours + 1)]
        results.append(network(torch.cat(stack, dim=1)).float()[:, 0, :width, :height])
    return torch.cat(results).permute(1, 2, 0)


def over_blocks(network: Network, volume: Tensor, *, block: tuple[int, ...], overlap: float = 0.5) -> Tensor:
    """Translate (X, Y, Z) in overlapping blocks, blended by a Gaussian so that no border shows.

    Args:
        network: (B, 1, *block) to (B, 1, *block).
        volume: (X, Y, Z) in [-1, 1]; grown with air (-1) where a block is larger.
        block: The blocks' shape, the training patch's.
        overlap: Share of a block that its neighbour sees too.
    """
    blended = sliding_window_inference(
        volume[None, None].float(), block, 2, lambda part: network(part).float(), overlap, mode="gaussian", cval=-1.0
    )
    assert isinstance(blended, Tensor)
    return blended[0, 0]


def _growth(sizes: tuple[int, int], multiple: int) -> list[int]:
    """Padding at the end of (X, Y) in ``F.pad``'s order, last axis first."""
    return [pad for size in reversed(sizes) for pad in (0, -size % multiple)]
