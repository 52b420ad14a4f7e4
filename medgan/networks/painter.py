"""A painter: fills what is hidden of an image, with lesions where masks ask for them, and returns the rest as it is."""

import torch
from torch import Tensor, nn

from medgan.networks.blocks import constant_maps


class Painter(nn.Module):
    """Composites what a network draws into what is known.

    The network, (B, :meth:`inputs`, *spatial) to a raw map (B, 1, *spatial), sees as channels: the context, which
    voxels are hidden, a mask for each name, the condition spread over all voxels, and ``noise`` channels of noise. One
    map serves all sizes of the network, so that it may vary texture and brightness. Masks count inside the hidden
    region only: outside, the context shows what is there.
    """

    def __init__(self, network: nn.Module, noise: int) -> None:
        super().__init__()
        self.network, self.noise = network, noise

    @staticmethod
    def inputs(names: int, condition: int, noise: int) -> int:
        """Channels that the network must take."""
        return 2 + names + condition + noise

    def forward(
        self, context: Tensor, hidden: Tensor, masks: Tensor, condition: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """The patch (B, 1, *spatial) in [-1, 1], hidden voxels painted, all others the context's to the bit.

        Args:
            context: (B, 1, *spatial) in [-1, 1], whatever its hidden voxels hold.
            hidden: (B, 1, *spatial) of 0 and 1.
            masks: (B, names, *spatial) of 0 and 1; all 0 asks for healthy tissue.
            condition: (B, D), D may be 0.
            noise: (B, ``self.noise``, *spatial), standard normal; equal noise paints equal lesions. Without it a
                network in training draws it, and one in evaluation takes the same draw each time, so that its arguments
                say everything. Zeros are outside its training: from them it paints brighter lesions with darker rims.
        """
        shape = (len(context), self.noise, *context.shape[2:])
        if noise is None and self.training:
            noise = torch.randn(shape, device=context.device, dtype=context.dtype)
        elif noise is None:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(context)
        shown = [context * (1 - hidden), hidden, masks * hidden, constant_maps(condition, context), noise]
        raw = self.network(torch.cat([channel.to(context.dtype) for channel in shown], dim=1))
        return composite(context, hidden, torch.tanh(raw))


def composite(context: Tensor, hidden: Tensor, painted: Tensor) -> Tensor:
    """``painted`` where ``hidden`` is 1, else ``context`` to the bit; all (B, 1, *spatial)."""
    return torch.where(hidden > 0, painted.to(context.dtype), context)
