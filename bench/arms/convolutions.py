"""An arm: the convolution that does most of a network's work, alone; its rate is the floor that a step is held against.

python bench/arms/convolutions.py PRECISION forward|backward BATCH CHANNELS SIZE DIMENSIONS
"""

import sys

import torch
from timing import serve


def main() -> None:
    """3 x 3 (x 3) taps on equal channels in one precision, direction and layout, channels first or last."""
    precision, direction, layout, *numbers = sys.argv[1:]
    batch, channels, size, dimensions = map(int, numbers)
    last = torch.channels_last if dimensions == 2 else torch.channels_last_3d
    kind = {
        "dtype": torch.bfloat16 if precision.startswith("bf16") else torch.float32,
        "memory_format": last if layout == "last" else torch.contiguous_format,
    }
    image = torch.randn(batch, channels, *[size] * dimensions).to(**kind)
    weight = torch.randn(channels, channels, *[3] * dimensions).to(**kind)
    ones, zeros = [1] * dimensions, [0] * dimensions

    def forward() -> None:
        torch.ops.aten.convolution(image, weight, None, ones, ones, ones, False, zeros, 1)

    def backward() -> None:
        wanted = [True, True, False]
        torch.ops.aten.convolution_backward(image, image, weight, None, ones, ones, ones, False, zeros, 1, wanted)

    work = forward if direction == "forward" else backward

    def repeat(calls: int) -> None:
        for _ in range(calls):
            work()

    once = 2.0 * image.numel() * channels * 3**dimensions
    serve(repeat, flops=once if direction == "forward" else 2 * once)


if __name__ == "__main__":
    with torch.no_grad():
        main()
