"""A painter learns a world in which lesions are so much brighter, or darker, than the tissue around them."""

import numpy as np
import pytest
import torch

from medgan.config import load
from medgan.synthesis.generator import masks
from medgan.synthesis.painting import MaskToLesion, MaskToLesionConfig
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

CONTRAST = {1: 0.6, 2: -0.3}
SHAPES = {"2": (16, 16), "3": (16, 16, 4)}
NETWORKS = {
    "spade": {"kind": "spade", "channels": 8, "hidden": 8, "downs": 1},
    "concatenation": {"kind": "resnet", "channels": 8, "blocks": 1, "downs": 1, "skips": True, "norm": "group"},
}


def world(dimensions, count, seed):
    """Tissue of a level of its own in each patch; a lesion of either name, its brightness known, in most of them."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[dimensions]
    images, labels = np.empty((count, 1, *shape), np.float32), np.zeros((count, 1, *shape), np.int64)
    for number in range(count):
        if rng.random() < 0.8:
            corner, size = rng.integers(3, 8, 2), rng.integers(3, 6, 2)
            labels[number, 0, corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = rng.integers(1, 3)
        contrast = np.select([labels[number] == name for name in CONTRAST], list(CONTRAST.values()), 0.0)
        images[number] = rng.uniform(-0.5, 0.3) + contrast
    return {
        "image": torch.from_numpy(images),
        "labels": torch.from_numpy(labels),
        "condition": torch.zeros(count, 0),
    }


@pytest.fixture(scope="module", params=[("2", "spade"), ("2", "concatenation"), ("3", "spade")], ids=str)
def trained(request):
    """A painter after some hundred steps, and how many dimensions it has."""
    dimensions, network = request.param
    torch.manual_seed(0)
    settings = {"adversarial": "none", "network": NETWORKS[network], "noise": 0, "momentum": 0.9}
    settings["hiding"] = {"margin_voxels": [1, 2], "margin_slices": [0, 0], "healthy_share": 0.3}
    depth = 4 if dimensions == "3" else None
    lesions = {"labels": {"bright": 1, "dark": 2}, "patch": {"dimensions": dimensions, "depth_voxels": depth}}
    learner = MaskToLesion(load(MaskToLesionConfig, settings), LesionConfig(**lesions))
    learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
    steps, batch = (150, 8) if dimensions == "2" else (80, 4)
    for step in range(steps):
        for optimizer in learner.optimizers().values():
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        learner.training_step(world(dimensions, batch, seed=step))
    return learner.painter.eval(), dimensions


def case(dimensions, name):
    """A new patch of tissue at level 0, a mask of a name in its middle, and the region hidden around it."""
    shape = SHAPES[dimensions]
    labels = torch.zeros(1, 1, *shape, dtype=torch.long)
    hidden = torch.zeros(1, 1, *shape)
    hidden[:, :, 3:13, 4:12] = 1
    labels[:, :, 5:10, 6:10] = name
    return torch.zeros(1, 1, *shape), hidden, masks(labels, 2).float(), torch.zeros(1, 0)


@pytest.mark.parametrize("name", [0, 1, 2], ids=["healthy", "bright", "dark"])
def test_the_mask_says_what_is_painted_and_where(trained, name):
    painter, dimensions = trained
    given = case(dimensions, name)
    with torch.no_grad():
        painted = painter(*given)
    inside = given[2].sum(dim=1, keepdim=True) > 0 if name else given[1] > 0
    margin = (given[1] > 0) & ~inside
    assert float((painted[inside] - CONTRAST.get(name, 0.0)).abs().mean()) < 0.15
    assert not margin.any() or float(painted[margin].abs().mean()) < 0.15
    assert torch.equal(painted[given[1] == 0], given[0][given[1] == 0])


def test_the_lesion_follows_the_level_of_the_tissue(trained):
    painter, dimensions = trained
    context, hidden, wanted, condition = case(dimensions, 1)
    inside = wanted[:, :1] > 0
    with torch.no_grad():
        levels = [float(painter(context + level, hidden, wanted, condition)[inside].mean()) for level in (-0.4, 0.2)]
    # The levels differ by 0.6; a painter that did not look around would draw the same twice.
    assert 0.2 < levels[1] - levels[0] < 0.8
