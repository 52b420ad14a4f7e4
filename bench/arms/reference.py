"""An arm: the authors' own networks and ``optimize_parameters``, from a checkout of pytorch-CycleGAN-and-pix2pix.

python bench/arms/reference.py CHECKOUT cyclegan|pix2pix [--batch N]
"""

import argparse
import sys
from types import SimpleNamespace

import torch
from timing import quiet, serve

SHARED = {
    "gpu_ids": [], "isTrain": True, "checkpoints_dir": ".", "name": "bench", "preprocess": "none", "direction": "AtoB",
    "input_nc": 1, "output_nc": 1, "ndf": 64, "netD": "basic", "n_layers_D": 3, "init_type": "normal",
    "init_gain": 0.02, "lr": 2e-4, "beta1": 0.5, "pool_size": 50,
}  # fmt: skip
"""The checkout's defaults for one channel; ``ngf`` differs by case."""
CASES = {
    "cyclegan": {
        "ngf": 32, "netG": "resnet_9blocks", "norm": "instance", "no_dropout": True, "gan_mode": "lsgan",
        "lambda_A": 10.0, "lambda_B": 10.0, "lambda_identity": 0.5, "size": 128,
    },
    "pix2pix": {
        "ngf": 64, "netG": "unet_256", "norm": "batch", "no_dropout": False, "gan_mode": "vanilla", "lambda_L1": 100.0,
        "pool_size": 0, "size": 256,
    },
}  # fmt: skip


def main() -> None:
    """Build the case and serve it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--batch", type=int, default=1)
    order = parser.parse_args()
    sys.path.insert(0, order.checkout)
    options = SimpleNamespace(**(SHARED | CASES[order.case]))
    torch.manual_seed(0)
    with quiet():
        if order.case == "cyclegan":
            from models.cycle_gan_model import CycleGANModel as Model
        else:
            from models.pix2pix_model import Pix2PixModel as Model
        model = Model(options)
    images = {name: torch.rand(order.batch, 1, options.size, options.size) * 2 - 1 for name in "AB"}

    def steps(calls: int) -> None:
        for _ in range(calls):
            model.set_input(images | {"A_paths": [], "B_paths": []})
            model.optimize_parameters()

    networks = [getattr(model, f"net{name}") for name in model.model_names]
    serve(
        steps,
        parameters=sum(each.numel() for network in networks for each in network.parameters()),
        precision="32-true",
    )


if __name__ == "__main__":
    main()
