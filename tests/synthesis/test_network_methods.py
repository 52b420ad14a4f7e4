"""A painter that fills masks, and a sampler that draws image and labels, as methods."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from medgan.config import load
from medgan.errors import ConfigError, InsertionError
from medgan.networks.painter import Painter
from medgan.synthesis.generators import LEARNERS, SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.methods import by_network
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.shapes import lesions_of, organ_of

FLAT = (48, 48, 1)


def settings(shape, domain, names=("lesion",), *, size=16, depth=4, spatial=None, **changes):
    """What a network learnt from; of slices where the cases are flat."""
    slices = shape[2] == 1 or spatial == 2
    patch = {"size_voxels": size} | ({} if slices else {"dimensions": 3, "depth_voxels": depth})
    labels = {name: number for number, name in enumerate(names, start=1)}
    return LesionConfig(labels=labels, domain=domain, patch=patch, **changes)


ORGAN = ("front", "behind")


def test_a_network_with_a_latent_vector_samples_and_any_other_paints(domain):
    sampler = nn.Identity()
    sampler.latent = 8
    lesions, whole = LesionConfig(domain=domain), InsertionConfig(placement="whole")
    assert by_network(sampler, lesions, whole).name == "sampled"
    assert by_network(nn.Identity(), lesions, InsertionConfig()).name == "painted"
    with pytest.raises(ConfigError, match="painted does not"):
        by_network(nn.Identity(), lesions, whole)


@pytest.mark.parametrize("kind", [config().kind for config in LEARNERS])
def test_every_generator_there_is_makes_cases(kind, shape, domain, with_lesions):
    patch = {"size_voxels": 16} if shape[2] == 1 else {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}
    asked = {"generator": {"kind": kind}, "patch": patch, "condition": {"classes": True}}
    config = load(SynthesisConfig, asked, {"domain": domain.model_dump()})
    network = config.generator.build(config).eval()
    recipient, *donors = with_lesions(shape, 3, radii=(1.5,))
    insertion = InsertionConfig(placement="whole" if hasattr(network, "latent") else "add")
    method = by_network(network, config, insertion)
    first, again = (method.synthesise(recipient, donors, np.random.default_rng(1)).case for _ in range(2))
    np.testing.assert_array_equal(first.image.voxels, again.image.voxels)
    assert first.labels.any()
    assert np.isfinite(first.image.voxels).all()


class Paint(nn.Module):
    """Paints lesions of each name at a value of its own, and what else is hidden at 0; notes what it was asked."""

    def __init__(self, values=(0.6,), background=0.0):
        super().__init__()
        self.values, self.background, self.asked = values, background, []

    def forward(self, context, hidden, masks, condition):
        self.asked.append((context, hidden, masks, condition))
        content = self.background + sum(
            (value - self.background) * masks[:, number : number + 1] for number, value in enumerate(self.values)
        )
        return torch.where(hidden > 0, content, context)


def paint(network, lesions, recipient, donors, seed=0, source="real", **changes):
    method = by_network(network, lesions, InsertionConfig(**changes), source)
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


@pytest.mark.parametrize("source", ["real", "generated"])
def test_what_is_painted_is_where_the_new_labels_are_and_all_else_stays(shape, domain, with_lesions, source):
    recipient, *donors = with_lesions(shape, 3)
    synthetic = paint(Paint(), settings(shape, domain, size=24, depth=12), recipient, donors, source=source)
    case = synthetic.case
    new = (case.labels > 0) & (recipient.labels == 0)
    assert new.any()
    np.testing.assert_allclose(case.image.voxels[new], 160, rtol=1e-5)  # 0.6 of -1 to 1 over 0 to 200
    near = ndimage.distance_transform_edt(~new, sampling=(1, 1, 2)) < 3
    np.testing.assert_array_equal(case.image.voxels[~near], recipient.image.voxels[~near])
    np.testing.assert_array_equal(case.labels[~new], recipient.labels[~new])
    assert (synthetic.how["method"], len(synthetic.parents) > 1) == ("painted", source == "real")


def test_the_painter_sees_the_recipient_around_what_is_hidden_and_the_masks_inside(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Paint()
    paint(network, settings(shape, domain, size=24, depth=12), recipient, donors, most=1)
    ((context, hidden, masks, condition),) = network.asked
    assert context.shape[1:] == (1, 24, 24) + ((12,) if shape[2] > 1 else ())
    assert condition.shape == (len(context), 0)
    assert not context[hidden > 0].any()
    assert ((masks > 0) <= (hidden > 0)).all()
    assert masks.sum() < hidden.sum()
    visible = context[(hidden == 0) & (context > -0.9)]
    assert visible.numel() > 100
    assert visible.median() == pytest.approx(0, abs=0.05)


def test_a_painter_of_slices_paints_each_slice_of_a_deep_lesion(domain, with_lesions):
    shape = (36, 36, 12)
    recipient, *donors = with_lesions(shape, 3, radii=(3, 4))
    network = Paint()
    case = paint(network, settings(shape, domain, size=24, spatial=2), recipient, donors, most=1).case
    new = (case.labels > 0) & (recipient.labels == 0)
    assert len(network.asked[0][0]) >= np.count_nonzero(new.any(axis=(0, 1))) > 1
    np.testing.assert_allclose(case.image.voxels[new], 160, rtol=1e-5)


def test_an_organ_is_painted_anew_and_the_old_one_is_gone(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 3)
    for source in ("real", "generated"):
        lesions = settings(shape, domain, ORGAN, size=24, depth=12)
        case = paint(Paint((0.2, 0.4), -0.2), lesions, recipient, donors, source=source, placement="replace").case
        for number, value in ((1, 120), (2, 140)):
            np.testing.assert_allclose(case.image.voxels[case.labels == number], value, rtol=1e-5)
        gone = (recipient.labels > 0) & (case.labels == 0)
        np.testing.assert_allclose(case.image.voxels[gone], 80, rtol=1e-5)


def test_an_organ_may_keep_what_does_not_change_its_label(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 3)
    lesions = settings(shape, domain, ORGAN, size=24, depth=12)
    network = Paint((0.2, 0.4), -0.2)
    ask = {"placement": "replace", "renew": "changed", "feather_mm": 0}
    case = paint(network, lesions, recipient, donors, **ask).case
    changed = case.labels != recipient.labels
    assert changed.any()
    stays = ~changed & (recipient.labels > 0)
    assert stays.any()
    np.testing.assert_array_equal(case.image.voxels[~changed], recipient.image.voxels[~changed])
    for number, value in ((1, 120), (2, 140)):
        np.testing.assert_allclose(case.image.voxels[changed & (case.labels == number)], value, rtol=1e-5)
    np.testing.assert_allclose(case.image.voxels[changed & (case.labels == 0)], 80, rtol=1e-5)


def test_what_is_asked_for_is_what_the_mask_shows(domain, with_lesions):
    shape = FLAT
    recipient, *donors = with_lesions(shape, 3)
    condition = {"classes": True, "location": True, "scanners": {"a": ["s0"], "b": ["s9"]}}
    network = Paint()
    synthetic = paint(network, settings(shape, domain, size=24, condition=condition), recipient, donors, most=1)
    asked = network.asked[0][3][0].numpy()
    np.testing.assert_array_equal(asked[:2], [0, 1])
    np.testing.assert_array_equal(asked[5:], [1, 0])
    x, y, _ = synthetic.how["lesions"][0]["place"]
    (left, right), (back, front), _ = recipient.image.body
    np.testing.assert_allclose(
        asked[2:5], [2 * (x + 0.5 - left) / (right - left) - 1, 2 * (y + 0.5 - back) / (front - back) - 1, 0], rtol=1e-5
    )


def test_noise_comes_from_the_generator_of_chance(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    spatial = 2 if shape[2] == 1 else 3
    network = Painter({2: nn.Conv2d, 3: nn.Conv3d}[spatial](Painter.inputs(1, 0, 2), 1, 1), 2).eval()
    images = [
        paint(network, settings(shape, domain, size=24, depth=12), recipient, donors, seed).case.image.voxels
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(images[0], images[1])
    changed = images[0] != recipient.image.voxels
    assert np.unique(images[0][changed]).size > 20


def test_what_is_larger_than_the_painters_patch_is_not_painted(shape, domain, with_organ, with_lesions):
    lesions = settings(shape, domain, ORGAN, size=8, depth=12)
    recipient, *donors = with_organ(shape, 3)
    with pytest.raises(InsertionError, match="use larger patches"):
        paint(Paint((0.2, 0.4)), lesions, recipient, donors, placement="replace")
    one, *others = with_lesions(shape, 4, radii=(0.8, 5))
    synthetic = paint(Paint(), settings(shape, domain, size=8, depth=12), one, others, feather_mm=1)
    assert synthetic.how["refused"] > 0
    assert max(lesion["voxels"] for lesion in synthetic.how["lesions"]) < max(
        lesion.voxels for case in others for lesion in lesions_of(case)
    )


def test_a_painter_that_broke_down_is_said(domain, with_lesions):
    recipient, *donors = with_lesions(FLAT, 3)
    with pytest.raises(InsertionError, match="no numbers"):
        paint(Paint((float("nan"),)), settings(FLAT, domain, size=24), recipient, donors)


class Draw(nn.Module):
    """Draws a lesion in the middle of a patch, as bright as z says, on a level of its own; notes what it was asked."""

    latent = 2

    def __init__(self, shape, names=1, radius=2.6, level=-0.5):
        super().__init__()
        axes = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
        away = sum(
            ((axis - size // 2) / (radius if size > 4 else 0.5)) ** 2 for axis, size in zip(axes, shape, strict=True)
        )
        self.inside, self.names, self.level, self.asked = away <= 1, names, level, []

    def forward(self, z, condition):
        self.asked.append((z, condition))
        contrast = 0.4 + 0.2 * torch.tanh(z[0, 0])
        maps = [torch.where(self.inside, 1.0, -1.0)] + [-torch.ones(self.inside.shape)] * (self.names - 1)
        return torch.stack([self.level + contrast * self.inside, *maps])[None]


def patch_shape(shape):
    return (16, 16) if shape[2] == 1 else (16, 16, 4)


def sample(network, lesions, recipient, donors, seed=0, **changes):
    method = by_network(network, lesions, InsertionConfig(**changes))
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


def test_a_drawn_lesion_is_placed_on_the_recipients_level(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Draw(patch_shape(shape))
    synthetic = sample(network, settings(shape, domain), recipient, donors, most=1)
    case, (lesion,) = synthetic.case, synthetic.how["lesions"]
    new = (case.labels > 0) & (recipient.labels == 0)
    assert np.count_nonzero(new) == lesion["voxels"] == int(network.inside.sum())
    contrast = float(0.4 + 0.2 * torch.tanh(network.asked[0][0][0, 0]))
    # The sample's own level is -0.5: 50 below the recipient's 100. Its contrast stays.
    assert case.image.voxels[new].mean() == pytest.approx(100 + 100 * contrast, abs=5)
    near = ndimage.distance_transform_edt(~new, sampling=(1, 1, 2)) < 3
    np.testing.assert_array_equal(case.image.voxels[~near], recipient.image.voxels[~near])
    assert synthetic.parents == ("s0",)


def test_an_organ_takes_the_drawn_shape(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 2)
    lesions = settings(shape, domain, ORGAN)
    case = sample(Draw(patch_shape(shape), names=2), lesions, recipient, donors, placement="replace").case
    assert set(np.unique(case.labels)) == {0, 1}
    np.testing.assert_allclose(organ_of(case).centre, organ_of(recipient).centre, atol=1)


def test_a_whole_case_is_the_sample_in_the_recipients_unit_and_place(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 2)
    network = Draw(patch_shape(shape))
    synthetic = sample(network, settings(shape, domain), recipient, donors, placement="whole")
    case = synthetic.case
    assert case.image.voxels.shape == (*patch_shape(shape), 1)[:3]
    np.testing.assert_array_equal(case.labels.reshape(patch_shape(shape)), network.inside)
    assert case.image.voxels[case.labels == 0].mean() == pytest.approx(50, abs=1e-3)
    centres = [(each.image.affine @ (*np.argwhere(each.labels).mean(axis=0), 1))[:3] for each in (case, recipient)]
    assert np.abs(np.subtract(*centres)).max() <= 2
    assert case.image.bounds == recipient.image.bounds
    assert (synthetic.parents, synthetic.how) == (("s0",), {"method": "sampled", "placement": "whole"})


def test_a_sample_is_asked_for_what_real_lesions_show(domain, with_lesions):
    shape = FLAT
    recipient, *donors = with_lesions(shape, 3, radii=(1.5, 5))
    network = Draw((16, 16))
    condition = {"classes": True, "size_edges_voxels": [20]}
    lesions = settings(shape, domain, condition=condition)
    for seed in range(20):
        sample(network, lesions, recipient, donors, seed, placement="whole")
    asked = np.array([each.numpy()[0] for _, each in network.asked])
    assert asked.shape[1] == 4
    assert (asked[:, 1] == 1).all()
    assert 0 < asked[:, 2].sum() < 20  # small and large ones


def test_equal_draws_give_equal_samples(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Draw(patch_shape(shape))
    first, again, other = (sample(network, settings(shape, domain), recipient, donors, seed).case for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.voxels, again.image.voxels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image.voxels, other.image.voxels)


@pytest.mark.parametrize("placement", ["add", "whole"])
def test_a_network_that_draws_nothing_or_nonsense_is_said(domain, with_lesions, placement):
    shape = FLAT
    recipient, *donors = with_lesions(shape, 3)
    nothing = Draw((16, 16))
    nothing.inside = torch.zeros(16, 16, dtype=torch.bool)
    with pytest.raises(InsertionError, match="draws no lesion"):
        sample(nothing, settings(shape, domain), recipient, [donors[0]], placement=placement)
    with pytest.raises(InsertionError, match="no numbers"):
        sample(Draw((16, 16), level=float("nan")), settings(shape, domain), recipient, donors, placement=placement)
    with pytest.raises(InsertionError, match="no donor has a lesion"):
        sample(
            Draw((16, 16)), settings(shape, domain), recipient, with_lesions(shape, 1, radii=()), placement=placement
        )
