import numpy as np
import pytest
import torch

from medgan.classification.few_labels import (
    CLASS,
    UNLABELLED,
    ClassPatches,
    FewLabels,
    VariationConfig,
    _vary,
    cut_labelled,
)
from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.patches import LesionConfig

STILL = VariationConfig(mirroring=False, contrast=0, brightness=0, noise=0)
SHAPES = {"2d": (6, 6), "3d": (6, 6, 4)}


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def patches(count, shape):
    """Each patch is one value, by which it is known again; even ones are healthy."""
    values = torch.arange(count) / count - 0.5
    images = values.view(-1, 1, *[1] * len(shape)).expand(-1, 1, *shape).clone()
    return ClassPatches(images, torch.arange(count) % 2)


def test_an_item_is_a_function_of_seed_and_number(shape):
    known, unknown = patches(4, shape), torch.rand(9, 1, *shape)
    first, again, other = (FewLabels(known, unknown, VariationConfig(), seed=seed) for seed in (3, 3, 4))
    for number in (7, 0, 7):
        assert all(torch.equal(first[number][key], again[number][key]) for key in first[number])
    assert any(not torch.equal(first[number][UNLABELLED], other[number][UNLABELLED]) for number in range(3))


def test_a_patch_comes_with_its_own_class_and_all_are_drawn(shape):
    known = patches(5, shape)
    items = [FewLabels(known, torch.zeros(3, 1, *shape), STILL, seed=0)[number] for number in range(60)]
    drawn = {(item["image"].mean().item(), item[CLASS].item()) for item in items}
    assert drawn == set(zip(known.images.flatten(1).mean(1).tolist(), known.classes.tolist(), strict=True))


def test_without_unlabelled_patches_there_are_none_in_a_batch(shape):
    assert set(FewLabels(patches(2, shape), torch.zeros(0, 1, *shape), STILL, seed=0)[0]) == {"image", CLASS}


def test_labels_are_counted_by_name():
    assert patches(5, (4, 4)).counts(("healthy", "lesion", "cyst")) == {"healthy": 3, "lesion": 2, "cyst": 0}


def test_nothing_varies_where_nothing_is_asked(shape):
    patch = torch.rand(1, *shape) * 2 - 1
    torch.testing.assert_close(_vary(patch, STILL, np.random.default_rng(0)), patch)


def test_mirroring_turns_the_plane_over_in_every_way_and_leaves_the_third_axis(shape):
    patch = torch.rand(1, *shape) * 2 - 1
    config = STILL.model_copy(update={"mirroring": True})
    turned = {tuple(_vary(patch, config, np.random.default_rng(n)).flatten().tolist()) for n in range(100)}
    plane = [each.flip(axes) for each in (patch, patch.transpose(1, 2)) for axes in ([], [1], [2], [1, 2])]
    assert len(turned) == 8
    for found in turned:
        assert min((torch.tensor(found) - each.flatten()).abs().max() for each in plane) < 1e-6


@pytest.mark.parametrize(("name", "amount"), [("contrast", 0.2), ("brightness", 0.1), ("noise", 0.05)])
def test_intensities_vary_within_their_share_of_the_window(shape, name, amount):
    patch = torch.linspace(-0.4, 0.4, int(np.prod(shape))).reshape(1, *shape)
    config = STILL.model_copy(update={name: amount})
    changed = [_vary(patch, config, np.random.default_rng(n)) - patch for n in range(200)]
    if name == "contrast":
        sizes = [(change / patch).abs().max().item() for change in changed]
    elif name == "brightness":
        sizes = [change.abs().max().item() / 2 for change in changed]
    else:
        sizes = [change.std().item() / 2 for change in changed]
    assert 0.8 * amount < max(sizes) <= amount * (1.6 if name == "noise" else 1.0001)


def test_what_is_varied_stays_in_the_window(shape):
    config = VariationConfig(brightness=0.9)
    assert all(_vary(torch.ones(1, *shape), config, np.random.default_rng(n)).abs().max() <= 1 for n in range(20))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_cut_patch_is_of_the_class_that_its_mask_says(dimensions):
    labels = np.zeros((60, 60, 8), dtype=np.uint8)
    labels[10:14, 10:14, 3:5], labels[40:44, 12:16, 3:5] = 1, 2
    voxels = (100 + 30 * labels).astype(np.float32)
    case = Labelled("s", Prepared(voxels, np.eye(4), ((0, 60), (0, 60), (0, 8)), (0.0, 200.0)), labels)
    patch = {"dimensions": dimensions, "size_voxels": 8, "depth_voxels": 4 if dimensions == 3 else None}
    lesions = LesionConfig(labels={"dim": 1, "bright": 2}, patch=patch, lesion_share=0.6)
    cut = cut_labelled([case], lesions, 40, seed=0)
    brightest = cut.images.flatten(1).amax(1)
    assert set(cut.classes.tolist()) == {0, 1, 2}
    torch.testing.assert_close(brightest, cut.classes * 0.3)
