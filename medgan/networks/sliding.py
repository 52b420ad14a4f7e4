"""A network over a whole volume: slice by slice, with neighbours, or in blended blocks; one volume in memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Network = Callable[[Tensor], Tensor]


def smaller_where_needed(network: Network) -> Network:
    """The same network, which takes this batch and the next in halves where a GPU's memory is too small for it."""
    most = 2**31

    def run(batch: Tensor) -> Tensor:
        nonlocal most
        try:
            parts = [network(part) for part in batch.split(most)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except torch.OutOfMemoryError:
            if min(most, len(batch)) == 1:
                raise
        most = (min(most, len(batch)) + 1) // 2
        return run(batch)

    return run


def maps_over_slices(
    network: Network, volume: Tensor, *, neighbours: int, multiple: int, batch_size: int = 4
) -> Tensor:
    """A network's maps of every axial slice of (X, Y, Z), as (n, X, Y, Z); a slice's neighbours enter as channels.

    Whole slices are seen at once: statistics of a normalisation are the slice's own, and no tile leaves a seam. The
    network maps (B, 2 * neighbours + 1, X, Y) to (B, n, X, Y); at the ends the last slice repeats. Slices are grown by
    their edge until their axes are multiples of ``multiple``, and cut back.
    """
    width, height, depth, network = *volume.shape, smaller_where_needed(network)
    slices, growth = volume.permute(2, 0, 1)[:, None], (0, -height % multiple, 0, -width % multiple)
    results = torch.empty(0)
    for first in range(0, depth, batch_size):
        centres = torch.arange(first, min(first + batch_size, depth))
        stack = [slices[(centres + offset).clamp(0, depth - 1)] for offset in range(-neighbours, neighbours + 1)]
        maps = network(F.pad(torch.cat(stack, dim=1), growth, mode="replicate")).float()[..., :width, :height]
        if first == 0:
            results = maps.new_empty(depth, *maps.shape[1:])
        results[first : first + batch_size] = maps
    return results.permute(1, 2, 3, 0)


def maps_over_blocks(network: Network, volume: Tensor, *, block: tuple[int, ...], overlap: float = 0.5) -> Tensor:
    """A network's maps of overlapping blocks, blended by a Gaussian so that no border shows, as (n, X, Y, Z).

    The network maps (B, 1, *block) to (B, n, *block), the training patch's shape. Where a block is larger than the
    volume, (X, Y, Z) in [-1, 1], that is grown as training patches are: in plane with air (-1), along z with its last
    slices. ``overlap`` is the share of a block that its neighbour sees too.
    """
    from monai.inferers import sliding_window_inference  # takes seconds, and slices need none of it

    depth, network = volume.shape[2], smaller_where_needed(network)
    missing = max(block[2] - depth, 0)
    below = missing // 2
    grown = F.pad(volume[None, None].float(), (below, missing - below, 0, 0, 0, 0), mode="replicate")
    blended = sliding_window_inference(
        grown, block, 2, lambda part: network(part).float(), overlap, cval=-1.0, roi_weight_map=_weights(block)
    )
    assert isinstance(blended, Tensor)
    return blended[0, ..., below : below + depth]


def _weights(block: tuple[int, ...]) -> Tensor:
    """A Gaussian over the block, its deviation an eighth of each axis.

    MONAI's own is cut at 1/1000: away from a block's middle all its weights are alike, and blocks meet in a seam.
    """
    weights = torch.ones(())
    for size in block:
        place = torch.arange(size) - (size - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (8 * place / size) ** 2)
    return weights
