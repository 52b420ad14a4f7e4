"""Made-up labelled heads, flat and deep, with brighter lesions or an organ of two parts; tiny games of generators."""

from functools import cache

import numpy as np
import pytest
import torch

from medgan.data.domains import Domain, Window
from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis import generator, painting
from medgan.synthesis.generators import SynthesisConfig, learner_of
from medgan.training.device import make_fabric

SHAPES = {"2d": (48, 48, 1), "3d": (36, 36, 12)}
BOUNDS = (0.0, 200.0)


@pytest.fixture(autouse=True, scope="module")
def _few_are_judged():
    """Validation looks at eight patches: no claim here needs more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "JUDGED", 8)
        patch.setattr(generator, "PROJECTIONS", 16)
        patch.setattr(painting, "PROJECTIONS", 16)
        yield


def ball(shape, centre, radius):
    """A ball in millimetres of slices twice as thick; a disc in a single slice."""
    grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    reach = (1, 1, 2)
    return sum(((axis - at) * step / radius) ** 2 for axis, at, step in zip(grid, centre, reach, strict=True)) <= 1


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


@pytest.fixture(scope="session")
def domain():
    return Domain(
        name="flair", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=0.0, upper=100.0, percentiles=True)
    )


def head(shape, random):
    voxels = np.where(ball(shape, np.array(shape) // 2, shape[0] // 2 - 2), 100.0, 0.0)
    return voxels + random.normal(0, 2, shape) * (voxels > 0)


def labelled(subject, voxels, labels):
    body = tuple((int(at.min()), int(at.max()) + 1) for at in np.nonzero(voxels > 50))
    image = Prepared(voxels.astype(np.float32), np.diag([1.0, 1.0, 2.0, 1.0]), body, BOUNDS)
    return Labelled(subject, image, labels.astype(np.uint8))


@cache
def head_with_lesions(shape, seed, radii):
    random = np.random.default_rng(seed)
    voxels, labels = head(shape, random), np.zeros(shape, dtype=np.uint8)
    places = [(0.35, 0.4), (0.62, 0.6), (0.4, 0.66)][: len(radii)]
    for radius, place in zip(radii, places, strict=True):
        centre = [*np.rint(np.array(place) * shape[:2] + random.uniform(-1.5, 1.5, 2)), shape[2] // 2]
        labels[ball(shape, centre, radius)] = 1
    return labelled(f"s{seed}", voxels + 60 * labels, labels)


@cache
def head_with_organ(shape, seed):
    random = np.random.default_rng(seed)
    centre = [size // 2 for size in shape]
    organ = ball(shape, centre, random.uniform(4, 6))
    labels = np.where(organ, np.where(np.arange(shape[1])[None, :, None] < centre[1], 1, 2), 0)
    return labelled(f"s{seed}", head(shape, random) + 20 * labels, labels)


@pytest.fixture(scope="session")
def with_lesions():
    """Cases with bright lesions: ``with_lesions(shape, 3, radii=(2, 3))``; none where there are no radii."""
    return lambda shape, count, radii=(1.5, 2.5), first=0: [
        head_with_lesions(shape, seed, radii) for seed in range(first, first + count)
    ]


@pytest.fixture(scope="session")
def with_organ():
    """Cases with an organ of two parts, 1 in front and 2 behind: ``with_organ(shape, 3)``."""
    return lambda shape, count: [head_with_organ(shape, seed) for seed in range(count)]


PATCHES = {"2d": {"size_voxels": 16}, "3d": {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}}


@pytest.fixture(params=PATCHES)
def patch(request):
    return PATCHES[request.param]


@pytest.fixture(scope="session")
def game():
    """A tiny game of two names and its batch: ``game("acgan", patch, "hinge", class_weight=0.5)``."""

    def make(kind, patch=PATCHES["2d"], adversarial="vanilla", names=("dim", "bright"), number=6, **changes):
        torch.manual_seed(0)
        small = {
            "adversarial": adversarial,
            "generator": {"latent": 8, "channels": 8},
            "discriminator": {"channels": 8, "norm": "none" if adversarial == "wasserstein" else "batch"},
        }
        labels = {name: number for number, name in enumerate(names, start=1)}
        condition = {"classes": True, "location": True}
        generator = {"kind": kind, **small, **changes}
        learner = learner_of(SynthesisConfig(labels=labels, patch=patch, condition=condition, generator=generator))
        learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
        return learner, batch_of(learner, number)

    return make


def batch_of(learner, number):
    """Random patches, each with one class all over."""
    shape, count = (number, 1, *learner.lesions.shape), len(learner.lesions.names) + 1
    classes = torch.arange(number) % count
    labels = classes.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()
    condition = torch.cat([torch.eye(count)[classes], torch.rand(number, 3)], dim=1)
    return {"image": torch.rand(shape) * 2 - 1, "labels": labels, "condition": condition}
