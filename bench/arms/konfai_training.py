"""An arm: ``konfai.train_model`` on a plain network and L1, with patches of volumes that it keeps in memory.

.bench/konfai/bin/python bench/arms/konfai_training.py BATCH [channels-last]
"""

import os
import sys
import tempfile
from pathlib import Path

import konfai
import numpy as np
import SimpleITK
import torch
from gate import Gated
from konfai.metric.measure import MAE
from plain_network import resnet
from torch import nn


def main() -> None:
    """Slices of 128² of four cases."""
    batch, channels_last = int(sys.argv[1]), "channels-last" in sys.argv
    folder = Path(tempfile.mkdtemp(prefix="konfai-bench"))
    os.chdir(folder)
    random = np.random.default_rng(0)
    for path in (folder / "Dataset" / f"case{case}" / f"{side}.mha" for case in range(4) for side in "AB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = random.uniform(-1, 1, (64, 128, 128)).astype(np.float32)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels), str(path))

    def train(network: nn.Module) -> None:
        konfai.train_model(
            network, f"{folder}/Dataset:mha", inputs="A", targets="B", loss=MAE(), patch=[1, 128, 128], epochs=10_000,
            batch_size=batch, lr=2e-4, validation=None, channels_last=channels_last, quiet=True,
        )  # fmt: skip

    torch.manual_seed(0)
    Gated(resnet()).serve(train)


if __name__ == "__main__":
    main()
