"""An arm: what a MONAI user writes to translate CT studies with a 2D network, slice by slice.

python bench/arms/plain_conversion.py NETWORK OUT LOWER UPPER MULTIPLE STUDY ...
"""

import sys

import numpy as np
import torch
from monai.data import decollate_batch
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.inferers import SliceInferer
from monai.transforms import (
    Compose,
    DivisiblePadd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    SaveImaged,
    ScaleIntensityRanged,
)


def main() -> None:
    """Each study on its own grid, written as int16."""
    network_file, out, *numbers = sys.argv[1:6]
    lower, upper, multiple = map(float, numbers)
    network = torch.load(network_file, weights_only=False).eval()
    before = Compose([
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Orientationd("image", axcodes="RAS", labels=None),
        ScaleIntensityRanged("image", lower, upper, -1, 1, clip=True),
        DivisiblePadd("image", (int(multiple), int(multiple), 1), mode="edge", method="end"),
    ])  # fmt: skip
    after = Compose([
        Invertd("converted", before, orig_keys="image", nearest_interp=False),
        ScaleIntensityRanged("converted", -1, 1, lower, upper),
        SaveImaged("converted", output_dir=out, output_dtype=np.int16, separate_folder=False, print_log=False),
    ])  # fmt: skip
    with torch.inference_mode():
        for batch in DataLoader(Dataset([{"image": study} for study in sys.argv[6:]], before), batch_size=1):
            inferer = SliceInferer(roi_size=batch["image"].shape[2:4], spatial_dim=2, sw_batch_size=4)
            batch["converted"] = inferer(batch["image"], network)
            for item in decollate_batch(batch):
                after(item)


if __name__ == "__main__":
    main()
