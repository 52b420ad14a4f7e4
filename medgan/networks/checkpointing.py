"""Networks that compute inner maps again for their gradient instead of keeping them: less memory, a third more time.

Source: Chen et al. 2016, arXiv:1604.06174.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from medgan.networks.blocks import CONVOLUTIONS

MOST_CONVOLUTIONS = 3
"""Of a piece that is computed again as one: a residual block with its shortcut, or an up-sampling with its merge."""


def checkpoint_activations(network: nn.Module) -> int:
    """Let a network keep no maps within its pieces while it trains; outputs and gradients stay the same.

    Pieces are its outermost modules of up to ``MOST_CONVOLUTIONS`` convolutions. Dropout draws the same again, and
    batch norm counts a batch once.

    Returns:
        How many pieces there are; a network of bare convolutions has none.
    """
    pieces = list(_pieces(network))
    for piece in pieces:
        piece.forward = partial(_checkpointed, piece, piece.forward)
    return len(pieces)


def _pieces(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        count = sum(isinstance(each, CONVOLUTIONS) for each in child.modules())
        if count > MOST_CONVOLUTIONS or isinstance(child, nn.ModuleList):
            yield from _pieces(child)
        elif count and not isinstance(child, CONVOLUTIONS):
            yield child


def _checkpointed(piece: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not (piece.training and torch.is_grad_enabled()):
        return forward(*inputs)
    norms = [each for each in piece.modules() if isinstance(each, _BatchNorm)]
    return checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=any(isinstance(each, _DropoutNd) for each in piece.modules()),
        context_fn=lambda: (nullcontext(), _uncounted(norms)),
    )


@contextmanager
def _uncounted(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norms whose running statistics are afterwards what they were."""
    counted = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, counted, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:  # torch leaves by an error of its own as soon as it has what it needs
        for norm, buffers in zip(norms, counted, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
