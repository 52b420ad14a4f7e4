"""PatchGAN discriminators: one score for each patch of the image, in 2D and 3D."""

from typing import Literal

from torch import Tensor, nn

from medgan.networks.blocks import CONVOLUTION, Norm, before, initialise, keep_variance, normalisation

ReceptiveField = Literal[1, 16, 34, 70, 142, 286]

STRIDED_LAYERS: dict[int, int] = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""How many 4-wide layers of stride 2 give each receptive field, two 4-wide layers of stride 1 following."""


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches of ``receptive_field`` voxels along each axis.

    Source: Isola et al. 2017, arXiv:1611.07004, appendix 6.1.2 (70 is their default; 1 is the "PixelGAN"). 142 and 286
    continue the recipe by one and two strided layers. No norm on the first and last layer.
    """

    def __init__(
        self,
        spatial: int = 2,
        inputs: int = 1,
        *,
        receptive_field: ReceptiveField = 70,
        channels: int = 64,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        conv = CONVOLUTION[spatial]
        kernel, stride, padding = (1, 1, 0) if receptive_field == 1 else (4, 2, 1)
        strided, width = STRIDED_LAYERS.get(receptive_field, 1), channels
        self.layers = nn.Sequential(conv(inputs, channels, kernel, stride, padding), nn.LeakyReLU(0.2))
        for level in range(1, strided + 1):
            arriving, width = width, channels * min(2**level, 8)
            layer = before(norm, conv, arriving, width, kernel, stride if level < strided else 1, padding)
            self.layers.extend([layer, normalisation(norm, width, spatial), nn.LeakyReLU(0.2)])
        self.layers.append(conv(width, 1, kernel, 1, padding))
        initialise(self)
        if norm == "none":
            keep_variance(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, inputs, *spatial) to raw scores (B, 1, *patches)."""
        scores: Tensor = self.layers(image)
        return scores


class LastChannel(nn.Module):
    """Shows a network the last channel alone, (B, 1, *spatial): what is judged, without what it was made from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *spatial) to the network's scores."""
        scores: Tensor = self.network(image[:, -1:])
        return scores
