"""CycleGAN's generator as anybody writes it in torch, for other packages to train: the same layers as medgan's."""

from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        self.layers = nn.Sequential(*half, nn.ReLU(inplace=True), *other)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        added: Tensor = image + self.layers(image)
        return added


def resnet(channels: int = 32, blocks: int = 9) -> nn.Sequential:
    """(B, 1, H, W) to (B, 1, H, W) in [-1, 1]."""
    wide = 4 * channels
    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(1, channels, 7), nn.InstanceNorm2d(channels), nn.ReLU(inplace=True),
        *_down(channels), *_down(2 * channels),
        *(Residual(wide) for _ in range(blocks)),
        *_up(wide), *_up(wide // 2),
        nn.ReflectionPad2d(3), nn.Conv2d(channels, 1, 7), nn.Tanh(),
    )  # fmt: skip


def _down(channels: int) -> list[nn.Module]:
    halved = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
    return [halved, nn.InstanceNorm2d(2 * channels), nn.ReLU(inplace=True)]


def _up(channels: int) -> list[nn.Module]:
    doubled = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return [doubled, nn.InstanceNorm2d(channels // 2), nn.ReLU(inplace=True)]
