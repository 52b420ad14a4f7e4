"""What is hidden of a patch, a painter's step, that a resumed run is the same run, and that painters learn."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from labelled_cases import boxed_case
from medgan.config import load
from medgan.losses import grain
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis.generator import masks
from medgan.synthesis.painting import (
    HidingConfig,
    Inpainting,
    InpaintingConfig,
    MaskToLesion,
    MaskToLesionConfig,
    _of_hidden,
    hide,
)
from medgan.synthesis.patches import LesionConfig
from medgan.training.device import make_fabric

BOTH = pytest.mark.parametrize("dimensions", ["2", "3"], ids=["2d", "3d"])

# What is hidden: lesions with a margin or healthy holes, never a part of a lesion by chance.

SHAPES = pytest.mark.parametrize("shape", [(24, 24), (24, 24, 8)], ids=["2d", "3d"])
MARGINS = HidingConfig(margin_voxels=(1, 3), margin_slices=(0, 1))
BARE = {"margin_voxels": (0, 0), "margin_slices": (0, 0)}


def body(shape, count=16, lesions=2):
    """Dark beside the body in the first columns, tissue elsewhere, two separate lesions; the last patch has none."""
    image, labels = torch.zeros(count, 1, *shape), torch.zeros(count, 1, *shape, dtype=torch.long)
    image[:, :, :4] = -1
    labels[:-1, :, 8:11, 8:12] = 1
    if lesions == 2:
        labels[:-1, :, 18:20, 17:20] = 2
    return image, labels


def hidden_of(patches, seed=0, *, holes_only=False, **changes):
    """What is hidden, (B, *shape), and of each patch the share of each lesion that is."""
    config = MARGINS.model_copy(update=changes)
    regions = hide(*patches, config, np.random.default_rng(seed), holes_only=holes_only)
    assert set(regions.unique().tolist()) == {0.0, 1.0}
    regions, shares = regions[:, 0].numpy() > 0, []
    for region, marked in zip(regions, patches[1][:, 0].numpy() > 0, strict=True):
        numbered, count = ndimage.label(marked)
        shares.append(tuple(region[numbered == number].mean() for number in range(1, count + 1)))
    return regions, shares


@SHAPES
def test_a_lesion_is_hidden_whole_and_with_a_margin_or_not_at_all_and_all_chance_is_the_generators(shape):
    patches = body(shape)
    (regions, shares), (same, _), (other, _) = (hidden_of(patches, seed) for seed in (0, 0, 1))
    assert np.array_equal(regions, same)
    assert not np.array_equal(regions, other)
    assert {(), (0, 0), (1, 1)} < set(shares) <= {(), (0, 0), (1, 1), (0, 1), (1, 0)}
    for region, marked, of_lesions in zip(regions, patches[1][:, 0].numpy() > 0, shares, strict=True):
        assert region.any()
        if 1 in of_lesions:
            numbered, _ = ndimage.label(marked)
            seen = np.isin(numbered, [number for number, share in enumerate(of_lesions, start=1) if share])
            margin = np.abs(np.argwhere(region)[:, None] - np.argwhere(seen)[None]) <= [3, 3, 1][: len(shape)]
            assert margin.all(axis=2).any(axis=1).all()
            assert (region & ~marked).any()


@SHAPES
def test_a_margin_is_so_many_voxels_along_each_axis(shape):
    image, labels = torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape, dtype=torch.long)
    middle, margins = [size // 2 for size in shape], [2, 2, 1][: len(shape)]
    labels[(0, 0, *middle)] = 1
    (region,), _ = hidden_of((image, labels), healthy_share=0, margin_voxels=(2, 2), margin_slices=(1, 1))
    assert np.abs(np.argwhere(region) - middle).max(axis=0).tolist() == margins
    assert region.sum() == np.prod([2 * margin + 1 for margin in margins])
    with pytest.raises(ValidationError, match=r"margin_voxels is the smallest and the largest margin, not \[4, 1\]"):
        HidingConfig(margin_voxels=(4, 1))


@SHAPES
def test_of_several_lesions_one_is_hidden_for_sure_and_others_by_chance_and_shares_of_0_and_1_leave_no_chance(shape):
    _, shares = hidden_of(body(shape, count=24), healthy_share=0, visible_share=0.9)
    assert {sum(each) for each in shares[:-1]} == {1, 2}
    image, labels = (each[:-1] for each in body(shape, lesions=1))
    for healthy_share, hidden in ((0, 1.0), (1, 0.0)):
        assert set(hidden_of((image, labels), healthy_share=healthy_share)[1]) == {(hidden,)}


@SHAPES
def test_holes_touch_no_lesion_and_lie_on_tissue(shape):
    patches = body(shape, lesions=1)
    regions, _ = hidden_of(patches, holes_only=True, **BARE)
    touched = ndimage.maximum_filter(patches[1][:, 0].numpy() > 0, [1, *[3] * len(shape)])
    assert not (regions & touched).any()
    centres = [np.argwhere(region).mean(axis=0) for region in regions if region.any()]
    assert all(centre[0] >= 2 for centre in centres)
    assert np.unique(np.round(centres), axis=0).shape[0] > 8


@SHAPES
@pytest.mark.parametrize("tissue", [True, False])
def test_without_any_lesion_an_ellipsoid_of_up_to_a_quarter_lies_on_tissue(shape, tissue):
    image, labels = torch.full((12, 1, *shape), -1.0), torch.zeros(12, 1, *shape, dtype=torch.long)
    at = np.array((12, 13, 4) if tissue else (12, 12, 4))[: len(shape)]  # where nothing is tissue: the middle
    if tissue:
        image[(slice(None), 0, *at)] = 0
    regions, _ = hidden_of((image, labels), **BARE)
    for region in regions:
        voxels = np.argwhere(region)
        assert np.abs(voxels.mean(axis=0) - at).max() <= 1
        radii = (np.ptp(voxels, axis=0) + 1) / 2
        assert (radii >= 0.5).all()
        assert (radii <= np.array(shape) / 4 + 1).all()


@SHAPES
def test_only_outlines_are_hidden_where_that_is_asked(shape):
    image, labels = torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape, dtype=torch.long)
    labels[:, :, :8], labels[:, :, 8:16] = 1, 2
    (region,), _ = hidden_of((image, labels), outline_share=1, healthy_share=0, **BARE)
    assert np.unique(np.argwhere(region)[:, 0]).tolist() == [7, 8, 15, 16]  # on both sides of every edge


# A painter's step.

SMALL = {
    "network": {"kind": "spade", "channels": 4, "hidden": 4},
    "discriminator": {"receptive_field": 16, "channels": 4, "norm": "none"},
    "warm_up_iterations": 0,
}
CONCATENATION = {"kind": "resnet", "channels": 4, "blocks": 1, "skips": True}


def lesions(dimensions):
    patch = {"dimensions": dimensions, "size_voxels": 16, "depth_voxels": 8 if dimensions == "3" else None}
    return LesionConfig(labels={"bright": 1, "dark": 2}, patch=patch, condition={"classes": True})


def painting(dimensions, **settings):
    """A tiny painter of lesions, its networks wrapped."""
    torch.manual_seed(0)
    learner, fabric = (
        MaskToLesion(load(MaskToLesionConfig, SMALL, settings), lesions(dimensions)),
        make_fabric("cpu", "32"),
    )
    wrapped = {name: fabric.setup_module(network) for name, network in learner.networks().items()}
    learner.attach(
        fabric, wrapped, {name: fabric.setup_optimizers(each) for name, each in learner.optimizers().items()}
    )
    return learner


def batch(dimensions):
    shape = lesions(dimensions).shape
    labels = torch.zeros(2, 1, *shape, dtype=torch.long)
    labels[:, :, 5:8, 6:9], labels[1, :, 5:8, 6:9] = 1, 2
    condition = torch.nn.functional.one_hot(labels.flatten(1).amax(1), 3).float()
    image = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image, "labels": labels, "condition": condition}


def weights(network):
    return torch.cat([value.detach().flatten().clone() for value in network.parameters()])


@BOTH
@pytest.mark.parametrize("adversarial", ["vanilla", "least_squares", "hinge", "wasserstein", "none"])
@pytest.mark.parametrize("network", ["spade", "concatenation"])
def test_every_game_trains_all_networks(dimensions, adversarial, network):
    settings = {"network": CONCATENATION} if network == "concatenation" else {}
    learner = painting(dimensions, adversarial=adversarial, **settings)
    before = {name: weights(each) for name, each in learner.networks().items()}
    terms = learner.training_step(batch(dimensions))
    assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
    assert not any(torch.equal(before[name], weights(each)) for name, each in learner.networks().items())
    assert ("gradient_penalty" in terms) == (adversarial == "wasserstein")
    assert ("discriminator" in before) == (adversarial != "none")
    assert learner.optimizers().keys() == before.keys()


@BOTH
def test_the_terms_are_weighted_l1_in_the_hidden_region_and_the_conditional_game(dimensions):
    learner = painting(dimensions, adversarial="least_squares", l1=10.0, grain=5.0, lesion_weight=3.0, noise=0)
    given = batch(dimensions)
    painter, judge = (copy.deepcopy(learner.networks()[name].module) for name in ("generator", "discriminator"))
    torch.manual_seed(5)
    hidden = learner.hidden(given, np.random.default_rng(int(torch.randint(2**31, (1,)))))
    torch.manual_seed(5)
    terms = learner.training_step(given)
    wanted = masks(given["labels"], 2) * hidden
    real = given["image"]
    with torch.no_grad():
        fake = painter(real * (1 - hidden), hidden, wanted, given["condition"])
        scores = [judge(torch.cat([hidden, wanted, patch], dim=1)) for patch in (real, fake)]
        scores = [each[_of_hidden(each, hidden) > 0] for each in scores]
    assert 0 < hidden.mean() < 1
    weight = hidden * torch.where(wanted.sum(dim=1, keepdim=True) > 0, 3.0, 1.0)
    torch.testing.assert_close(terms["l1"], 10 * (weight * (fake - real).abs()).sum() / weight.sum())
    torch.testing.assert_close(terms["grain"], 5 * grain(fake, real, hidden))
    game = (((scores[0] - 1) ** 2).mean() + (scores[1] ** 2).mean()) / 2
    torch.testing.assert_close(terms["discriminator"], game)


@BOTH
def test_the_game_is_about_places_where_something_is_hidden(dimensions):
    hidden = torch.zeros(1, 1, *lesions(dimensions).shape)
    scores = torch.arange(4.0**2 if dimensions == "2" else 4.0**3).view(1, 1, *[4] * (hidden.dim() - 2))
    assert (_of_hidden(scores, hidden) == 1).all(), "nothing is hidden: all places count"
    hidden[(0, 0, 5, 9, 3)[: hidden.dim()]] = 1
    counted = scores * _of_hidden(scores, hidden) / scores.numel()
    assert counted.sum() == counted.max() == scores[(0, 0, 1, 2, 1)[: hidden.dim()]]


@BOTH
def test_the_game_begins_after_the_warm_up(dimensions):
    learner, given = painting(dimensions, warm_up_iterations=2), batch(dimensions)
    before = weights(learner.discriminator)
    assert [set(learner.iterate(given)) for _ in range(2)] == [{"l1"}, {"l1"}]
    assert torch.equal(before, weights(learner.discriminator))
    assert set(learner.iterate(given)) == {"l1", "generator", "discriminator"}


def test_each_step_moves_its_own_network_only():
    learner, given = painting("2"), batch("2")
    for moved, still in (("discriminator", "generator"), ("generator", "discriminator")):
        rates = {moved: 1e-3, still: 0.0}
        for name, optimizer in learner.optimizers().items():
            optimizer.param_groups[0]["lr"] = rates[name]
        before = {name: weights(network) for name, network in learner.networks().items()}
        learner.training_step(given)
        assert torch.equal(before[still], weights(learner.networks()[still]))
        assert not torch.equal(before[moved], weights(learner.networks()[moved]))


class Perfect(torch.nn.Module):
    """Knows what lies in the hidden region of its patches, but for a constant."""

    def __init__(self, truth, error):
        super().__init__()
        self.truth, self.error = truth, error

    def forward(self, context, hidden, wanted, condition, noise=None):
        return torch.where(hidden > 0, self.truth + self.error, context)


@BOTH
def test_validation_measures_the_hidden_region_alone_and_whether_noise_is_used(dimensions):
    learner = painting(dimensions)
    boxes = [np.s_[6:9, 6:9, 3:6], np.s_[15:18, 15:18, 4:7]]
    held_out = LabelledHeldOut.of([boxed_case((24, 24, 10), boxes, number) for number in range(2)])
    truth = learner.held_out_patches(held_out)["image"]
    exact, off = (learner.validate(held_out, {"generator": Perfect(truth, error)}) for error in (0.0, 0.1))
    assert exact.metrics["val/mae_percent"] == exact.metrics["val/noise_percent"] == 0
    assert exact.metrics["val/sliced_wasserstein"] == 0 < off.metrics["val/sliced_wasserstein"]
    assert off.metrics["val/mae_percent"] == pytest.approx(5, rel=1e-4)
    assert learner.best in off.metrics
    assert len(off.panel.rows) == 4 * (int(dimensions) - 1)
    for row in exact.panel.rows:
        context, painted, real = row.tiles
        np.testing.assert_allclose(painted.view.pixels, real.view.pixels, atol=1e-6)
        hidden = context.view.pixels == context.view.pixels.min()
        assert hidden.sum() > sum(outline.mask.sum() for outline in real.outlines)
    assert any(outline.mask.any() for row in exact.panel.rows for outline in row.tiles[0].outlines)
    painter = copy.deepcopy(learner.generator.module).eval()
    assert learner.validate(held_out, {"generator": painter}).metrics["val/noise_percent"] > 0


# A painter of lesions learns a world in which they are so much brighter, or darker, than the tissue around them.

CONTRAST = {1: 0.6, 2: -0.3}
WORLD = {"2": (16, 16), "3": (16, 16, 4)}
NETWORKS = {
    "spade": {"kind": "spade", "channels": 8, "hidden": 8, "downs": 1},
    "concatenation": {"kind": "resnet", "channels": 8, "blocks": 1, "downs": 1, "skips": True, "norm": "group"},
}


def attached(learner_type, config_type, settings, dimensions, **changes):
    """A painter of patches of ``WORLD`` that learns by L1 alone."""
    torch.manual_seed(0)
    config = load(config_type, {"adversarial": "none", "noise": 0, "momentum": 0.9} | settings)
    patch = {"dimensions": dimensions, "size_voxels": 32, "depth_voxels": 4 if dimensions == "3" else None}
    learner = learner_type(config, LesionConfig(patch=patch, **changes))
    learner.attach(make_fabric("cpu", "32"), learner.networks(), learner.optimizers())
    return learner


def world(dimensions, count, seed):
    """Tissue of a level of its own in each patch; a lesion of either name, its brightness known, in most of them."""
    rng = np.random.default_rng(seed)
    shape = WORLD[dimensions]
    images, labels = np.empty((count, 1, *shape), np.float32), np.zeros((count, 1, *shape), np.int64)
    for number in range(count):
        if rng.random() < 0.8:
            corner, size = rng.integers(3, 8, 2), rng.integers(3, 6, 2)
            labels[number, 0, corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]] = rng.integers(1, 3)
        contrast = np.select([labels[number] == name for name in CONTRAST], list(CONTRAST.values()), 0.0)
        images[number] = rng.uniform(-0.5, 0.3) + contrast
    condition = torch.zeros(count, 0)
    return {"image": torch.from_numpy(images), "labels": torch.from_numpy(labels), "condition": condition}


@torch.enable_grad()
def trained(dimensions, network):
    """A painter after some steps."""
    hiding = {"margin_voxels": [1, 2], "margin_slices": [0, 0], "healthy_share": 0.3}
    settings = {"network": NETWORKS[network], "hiding": hiding}
    learner = attached(MaskToLesion, MaskToLesionConfig, settings, dimensions, labels={"bright": 1, "dark": 2})
    count, rate = (8, 5e-3) if dimensions == "2" else (4, 3e-3)
    for step in range(80):
        learner.generator_optimizer.param_groups[0]["lr"] = rate * (1 - step / 80)
        learner.training_step(world(dimensions, count, seed=step))
    return learner.generator.eval()


def case(dimensions, name):
    """A new patch of tissue at level 0, a mask of a name in its middle, and the region hidden around it."""
    shape = WORLD[dimensions]
    labels, hidden = torch.zeros(1, 1, *shape, dtype=torch.long), torch.zeros(1, 1, *shape)
    hidden[:, :, 3:13, 4:12] = 1
    labels[:, :, 5:10, 6:10] = name
    return torch.zeros(1, 1, *shape), hidden, masks(labels, 2).float(), torch.zeros(1, 0)


@pytest.mark.parametrize(("dimensions", "network"), [("2", "spade"), ("2", "concatenation"), ("3", "spade")])
@torch.no_grad()
def test_the_mask_says_what_is_painted_and_where_and_the_lesion_follows_the_level_of_the_tissue(dimensions, network):
    painter = trained(dimensions, network)
    for name in (0, 1, 2):  # none, bright, dark
        context, hidden, wanted, condition = case(dimensions, name)
        painted = painter(context, hidden, wanted, condition)
        inside = wanted.sum(dim=1, keepdim=True) > 0 if name else hidden > 0
        margin = (hidden > 0) & ~inside
        assert float((painted[inside] - CONTRAST.get(name, 0.0)).abs().mean()) < 0.15, name
        assert not margin.any() or float(painted[margin].abs().mean()) < 0.15, name
        assert torch.equal(painted[hidden == 0], context[hidden == 0])
        if name == 1:
            low, high = (painter(context + level, hidden, wanted, condition)[inside].mean() for level in (-0.4, 0.2))
            # The levels differ by 0.6; a painter that did not look around would draw the same twice.
            assert 0.2 < float(high - low) < 0.8


# A painter of healthy tissue.


def waves(dimensions, count, seed):
    """Stripes of one width and any phase: what is hidden of them follows from what is seen, but not smoothly."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    planes = np.stack([0.7 * np.sin(1.1 * x + rng.uniform(0, 2 * np.pi)) + 0 * y for _ in range(count)])
    image = planes[:, None].astype(np.float32)
    return torch.from_numpy(image if dimensions == "2" else np.repeat(image[..., None], 4, axis=-1))


@BOTH
def test_learnt_on_holes_it_beats_the_mean_and_a_smooth_surface(dimensions):
    settings = {"network": NETWORKS["spade"] | {"channels": 4, "hidden": 4}, "generator_rate": 8e-3}
    learner = attached(Inpainting, InpaintingConfig, settings, dimensions)
    steps, count = (60, 8) if dimensions == "2" else (40, 4)
    for step in range(steps):
        image = waves(dimensions, count, seed=step)
        labels = torch.zeros(image.shape, dtype=torch.long)
        learner.training_step({"image": image, "labels": labels, "condition": torch.zeros(count, 0)})
    truth, hidden = waves(dimensions, 4, seed=1000), torch.zeros(4, 1, *WORLD[dimensions])
    hidden[:, :, 5:11, 5:11] = 1
    context, inside = truth * (1 - hidden), hidden > 0
    with torch.no_grad():
        painted = learner.generator.eval()(context, hidden, torch.zeros_like(hidden), torch.zeros(4, 0))
    pairs = zip(context[:, 0].numpy(), inside[:, 0].numpy(), strict=True)
    smooth = torch.from_numpy(np.stack([inpaint_biharmonic(*each) for each in pairs]))[:, None]
    fills = {"mean": truth[~inside].mean(), "smooth": smooth[inside], "learnt": painted[inside]}
    error = {name: float((fill - truth[inside]).abs().mean()) for name, fill in fills.items()}
    assert error["learnt"] < 0.5 * min(error["mean"], error["smooth"]), error


@BOTH
def test_a_painter_of_healthy_tissue_never_hides_a_lesion(dimensions):
    given = batch(dimensions)
    hidden = Inpainting(InpaintingConfig(), LesionConfig()).hidden(given, np.random.default_rng(0))
    assert hidden.any()
    assert not hidden[given["labels"] > 0].any()
