"""An arm: MONAI's ``SupervisedTrainer`` on a plain network and L1, with patches in memory.

.bench/monai/bin/python bench/arms/monai_training.py BATCH
"""

import sys

import torch
from gate import Gated
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.engines import SupervisedTrainer
from plain_network import resnet
from torch import nn


def main() -> None:
    """Patches of 128²."""
    patches = [{key: torch.rand(1, 128, 128) * 2 - 1 for key in ("image", "label")} for _ in range(256)]
    loader = DataLoader(Dataset(patches), batch_size=int(sys.argv[1]), shuffle=True)

    def train(network: nn.Module) -> None:
        adam = torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999))
        SupervisedTrainer(torch.device("cpu"), 10_000, loader, network, adam, nn.L1Loss()).run()

    torch.manual_seed(0)
    Gated(resnet()).serve(train)


if __name__ == "__main__":
    main()
