"""Methods without a network, and trained networks as methods: a painter of masks, a sampler of image and labels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from labelled_cases import case_of
from medgan.config import load
from medgan.errors import ConfigError, InsertionError
from medgan.networks.painter import Painter
from medgan.synthesis.generators import LEARNERS, SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig, Synthetic
from medgan.synthesis.methods import (
    BASELINES,
    Bent,
    CarveMix,
    CopyPaste,
    Elastic,
    SoftPoisson,
    _draw_distance,
    _signed_distance,
    baseline,
    by_network,
)
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.shapes import ShapeConfig, lesions_of, organ_of

FLAT = (48, 48, 1)


def made(method, recipient, donors, seed=0):
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


def imaged(case, voxels, **changes):
    """The case with another image; of one value, who a voxel comes from is seen."""
    return replace(case, image=replace(case.image, voxels=np.float32(1) * voxels + 0 * case.image.voxels, **changes))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("placement", ["add", "replace"])
def test_every_baseline_keeps_to_the_interface_and_equal_draws_give_equal_cases(
    name, placement, shape, domain, with_lesions
):
    cases = with_lesions(shape, 3, radii=(2,))
    before = [(case.image.voxels.copy(), case.labels.copy()) for case in cases]
    method = baseline(name, InsertionConfig(placement=placement), domain)
    synthetic, again, other = (made(method, cases[0], cases, seed) for seed in (0, 0, 3))
    assert (synthetic.parents, synthetic.how) == (again.parents, again.how)
    assert json.loads(json.dumps(synthetic.how)) == synthetic.how
    np.testing.assert_array_equal(synthetic.case.image.voxels, again.case.image.voxels)
    np.testing.assert_array_equal(synthetic.case.labels, again.case.labels)
    assert not np.array_equal(synthetic.case.image.voxels, other.case.image.voxels)
    assert (method.name, synthetic.how["method"], synthetic.parents[0]) == (name, name, "s0")
    assert set(synthetic.parents) <= {"s0", "s1", "s2"}
    case = synthetic.case
    assert (case.image.voxels.dtype, case.labels.dtype) == (np.float32, np.uint8)
    assert (case.image.bounds, case.image.body) == (cases[0].image.bounds, cases[0].image.body)
    assert (case.image.voxels != cases[0].image.voxels).any()
    for given, (voxels, labels) in zip(cases, before, strict=True):
        np.testing.assert_array_equal(given.image.voxels, voxels)
        np.testing.assert_array_equal(given.labels, labels)


@pytest.mark.parametrize("name", BASELINES)
def test_a_placement_that_a_baseline_does_not_know_and_unknown_methods_are_refused(name, domain):
    with pytest.raises(ConfigError, match=f"{name} does not"):
        baseline(name, InsertionConfig(placement="whole"), domain)
    with pytest.raises(ConfigError, match="'mixup' is none of copy-paste, carve-mix, soft-poisson"):
        baseline("mixup", InsertionConfig(), domain)


def test_an_unvaried_lesion_is_the_donors_to_the_bit(shape, domain, with_lesions):
    recipient, donor = with_lesions(shape, 2)
    unvaried = ShapeConfig(rotation_degrees=0, scaling=0, deformation_mm=0, mirroring=False)
    synthetic = made(CopyPaste(InsertionConfig(shape=unvaried, most=1), domain), recipient, [donor])
    (told,) = synthetic.how["lesions"]
    new = (synthetic.case.labels > 0) & (recipient.labels == 0)
    sources = [lesion for lesion in lesions_of(donor) if lesion.voxels == told["voxels"]]
    shifted = [np.argwhere(new) - told["place"] + lesion.centre for lesion in sources]
    donated = [donor.image.voxels[tuple(voxels.T)] for voxels in shifted]
    assert any(np.array_equal(values, synthetic.case.image.voxels[new]) for values in donated)


def test_a_donor_that_is_brighter_as_a_whole_gives_the_same_case(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    config, brighter = InsertionConfig(placement="replace"), imaged(donor, donor.image.voxels + 30)
    images = {
        method: [made(method(config, domain), recipient, [lent], 2).case.image.voxels for lent in (donor, brighter)]
        for method in (SoftPoisson, CopyPaste)
    }
    np.testing.assert_allclose(*images[SoftPoisson], atol=0.05)
    assert np.abs(np.subtract(*images[CopyPaste])).max() == pytest.approx(30, abs=0.1)


# CarveMix.


@pytest.fixture
def pair(shape, with_lesions):
    """Two cases whose bodies fill the image."""
    body = tuple((0, size) for size in shape)
    return [imaged(case, case.image.voxels, body=body) for case in with_lesions(shape, 2)]


def mixed(recipient, donors, domain, seed=0, placement="add"):
    return made(CarveMix(InsertionConfig(placement=placement), domain), recipient, donors, seed)


def test_signed_distance_by_hand():
    region = np.zeros((7, 1, 1), dtype=bool)
    region[2:5] = True
    np.testing.assert_array_equal(_signed_distance(region, np.ones(3))[:, 0, 0], [2, 1, -1, -2, -1, 1, 2])
    np.testing.assert_array_equal(_signed_distance(region, 3 * np.ones(3))[3], -6)
    np.testing.assert_array_equal(_signed_distance(np.ones((3, 1, 1), bool), np.ones(3))[:, 0, 0], [-1, -2, -1])


def test_distances_are_drawn_as_published():
    random = np.random.default_rng(0)
    drawn = np.array([_draw_distance(-8.0, random) for _ in range(2000)])
    assert -4 <= drawn.min() < -3.9
    assert 7.9 < drawn.max() <= 8
    assert (drawn < 0).mean() == pytest.approx(0.5, abs=0.04)
    assert drawn[drawn < 0].mean() == pytest.approx(-2, abs=0.15)
    assert drawn[drawn >= 0].mean() == pytest.approx(4, abs=0.3)


def test_the_region_is_what_lies_within_the_drawn_distance_and_label_follows_image(pair, domain):
    recipient, donor = imaged(pair[0], 40), imaged(pair[1], 600, bounds=(0.0, 1000.0))
    distance = _signed_distance(donor.labels > 0, np.array([1.0, 1.0, 2.0]))
    sizes = {}
    for seed in range(8):
        synthetic = mixed(recipient, [donor], domain, seed)
        region = synthetic.case.image.voxels > 40
        np.testing.assert_allclose(synthetic.case.image.voxels[region], 120, rtol=1e-5)  # 60 % of 0 to 200
        drawn = synthetic.how["carved_mm"]
        np.testing.assert_array_equal(region, distance <= drawn)
        np.testing.assert_array_equal(synthetic.case.image.voxels[~region], 40)
        np.testing.assert_array_equal(synthetic.case.labels, np.where(region, donor.labels, recipient.labels))
        sizes[drawn] = int(region.sum())
    ordered = [sizes[drawn] for drawn in sorted(sizes)]
    assert ordered == sorted(ordered)
    assert ordered[0] < np.count_nonzero(donor.labels) < ordered[-1]


def test_an_organ_is_carved_onto_the_recipients_own(shape, domain, with_organ):
    recipient, donor = with_organ(shape, 2)
    moved = replace(recipient, labels=np.roll(recipient.labels, 3, axis=0))
    case = mixed(imaged(moved, 40), [imaged(donor, 120)], domain, 1, placement="replace").case
    region = case.image.voxels == 120
    np.testing.assert_allclose(np.argwhere(region).mean(axis=0), np.argwhere(moved.labels).mean(axis=0), atol=1.1)


def test_it_needs_another_case_and_a_place(pair, shape, domain, with_lesions):
    (healthy,) = with_lesions(shape, 1, radii=(), first=7)
    for donor in (pair[0], healthy):
        with pytest.raises(InsertionError, match="no other labelled case"):
            mixed(pair[0], [donor], domain)
    with pytest.raises(InsertionError, match="no label that could be replaced"):
        mixed(healthy, pair, domain, placement="replace")


# Cases bent as a whole.

BENT = ShapeConfig(deformation_mm=2.0, smoothness_mm=6.0)


@pytest.fixture(params=[(40, 40, 1), (40, 40, 16)], ids=["one slice", "3d"])
def case(request):
    labels = np.zeros(request.param, dtype=np.uint8)
    labels[10:22, 12:30], labels[22:28, 12:30] = 1, 2
    return case_of(labels, 50 * labels, "s1", bounds=(0.0, 100.0))


def test_image_and_labels_are_bent_alike_by_chance_alone_and_the_recipient_stays(case):
    before = case.image.voxels.copy(), case.labels.copy()
    one, again, other = (made(Elastic(BENT), case, [], seed) for seed in (1, 1, 2))
    assert (one.parents, one.how) == (("s1",), {"method": "elastic", "deformation_mm": 2.0})
    assert not np.array_equal(one.case.labels, case.labels)
    # Between two labels a bent image takes every value on the way; elsewhere it says which label lies there.
    assert np.mean(np.rint(one.case.image.voxels / 50) != one.case.labels) < 0.03
    np.testing.assert_array_equal(one.case.image.voxels, again.case.image.voxels)
    np.testing.assert_array_equal(one.case.labels, again.case.labels)
    assert not np.array_equal(one.case.labels, other.case.labels)
    straight = made(Elastic(ShapeConfig(deformation_mm=0)), case, []).case
    for voxels, labels in (before, (straight.image.voxels, straight.labels)):
        np.testing.assert_array_equal(voxels, case.image.voxels)
        np.testing.assert_array_equal(labels, case.labels)


class Brighter:
    name = "brighter"

    def synthesise(self, recipient, donors, rng):
        case = imaged(recipient, recipient.image.voxels + 100)
        return Synthetic(case, ("s1", "s2"), {"method": self.name})


def test_cases_of_another_method_are_bent_and_stay_its_own(case):
    bent, alone = made(Bent(Brighter(), Elastic(BENT)), case, []), made(Elastic(BENT), case, []).case
    assert (bent.parents, bent.how["method"], bent.how["deformation_mm"]) == (("s1", "s2"), "brighter", 2.0)
    assert np.array_equal(bent.case.labels, alone.labels)
    np.testing.assert_allclose(bent.case.image.voxels, alone.image.voxels + 100, atol=1e-3)


def test_labels_move_by_about_what_was_asked():
    labels = np.zeros((64, 64, 24), dtype=np.uint8)
    labels[:32] = 1
    moved = made(Elastic(BENT), case_of(labels, labels), []).case.labels.sum(axis=0).astype(float) - 32
    assert 1.0 < np.sqrt((moved**2).mean()) < 3.5


# Trained networks.

ORGAN = ("front", "behind")


def settings(shape, domain, names=("lesion",), *, size=16, depth=4, spatial=None, **changes):
    """What a network learnt from; of slices where the cases are flat."""
    slices = shape[2] == 1 or spatial == 2
    patch = {"size_voxels": size} | ({} if slices else {"dimensions": 3, "depth_voxels": depth})
    labels = {name: number for number, name in enumerate(names, start=1)}
    return LesionConfig(labels=labels, domain=domain, patch=patch, **changes)


def drawn(network, lesions, recipient, donors, seed=0, source="real", **changes):
    return made(by_network(network, lesions, InsertionConfig(**changes), source), recipient, donors, seed)


def outside(new):
    """What lies farther from new labels than the feather reaches."""
    return ndimage.distance_transform_edt(~new, sampling=(1, 1, 2)) >= 3


def test_a_network_with_a_latent_vector_samples_and_any_other_paints(domain):
    sampler = nn.Identity()
    sampler.latent = 8
    lesions, whole = LesionConfig(domain=domain), InsertionConfig(placement="whole")
    assert by_network(sampler, lesions, whole).name == "sampled"
    assert by_network(nn.Identity(), lesions, InsertionConfig()).name == "painted"
    with pytest.raises(ConfigError, match="painted does not"):
        by_network(nn.Identity(), lesions, whole)


@pytest.mark.parametrize("kind", [config().kind for config in LEARNERS])
def test_every_generator_there_is_makes_cases_and_equal_draws_equal_ones(kind, shape, domain, with_lesions):
    patch = {"size_voxels": 16} if shape[2] == 1 else {"dimensions": 3, "size_voxels": 16, "depth_voxels": 8}
    asked = {"generator": {"kind": kind}, "patch": patch, "condition": {"classes": True}}
    config = load(SynthesisConfig, asked, {"domain": domain.model_dump()})
    network = config.generator.build(config).eval()
    recipient, *donors = with_lesions(shape, 3, radii=(1.5,))
    placement = "whole" if hasattr(network, "latent") else "add"
    first, again, other = (
        drawn(network, config, recipient, donors, seed, placement=placement).case for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.image.voxels, again.image.voxels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image.voxels, other.image.voxels)
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


@pytest.mark.parametrize("source", ["real", "generated"])
def test_what_is_painted_is_where_the_new_labels_are_and_all_else_stays(shape, domain, with_lesions, source):
    recipient, *donors = with_lesions(shape, 3)
    synthetic = drawn(Paint(), settings(shape, domain, size=24, depth=12), recipient, donors, source=source)
    case = synthetic.case
    new = (case.labels > 0) & (recipient.labels == 0)
    assert new.any()
    np.testing.assert_allclose(case.image.voxels[new], 160, rtol=1e-5)  # 0.6 of -1 to 1 over 0 to 200
    np.testing.assert_array_equal(case.image.voxels[outside(new)], recipient.image.voxels[outside(new)])
    np.testing.assert_array_equal(case.labels[~new], recipient.labels[~new])
    assert (synthetic.how["method"], len(synthetic.parents) > 1) == ("painted", source == "real")


def test_the_painter_sees_the_recipient_around_what_is_hidden_and_the_masks_inside(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Paint()
    drawn(network, settings(shape, domain, size=24, depth=12), recipient, donors, most=1)
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
    case = drawn(network, settings(shape, domain, size=24, spatial=2), recipient, donors, most=1).case
    new = (case.labels > 0) & (recipient.labels == 0)
    assert len(network.asked[0][0]) >= np.count_nonzero(new.any(axis=(0, 1))) > 1
    np.testing.assert_allclose(case.image.voxels[new], 160, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"source": "generated"}, {"renew": "changed", "feather_mm": 0}], ids=str)
def test_an_organ_is_painted_anew_or_only_where_its_label_changes_and_the_old_one_is_gone(
    shape, domain, with_organ, changes
):
    recipient, *donors = with_organ(shape, 3)
    lesions = settings(shape, domain, ORGAN, size=24, depth=12)
    case = drawn(Paint((0.2, 0.4), -0.2), lesions, recipient, donors, placement="replace", **changes).case
    changed = case.labels != recipient.labels
    assert changed.any()
    renewed = np.ones_like(changed)
    if "renew" in changes:
        renewed = changed
        assert (~changed & (recipient.labels > 0)).any()
        np.testing.assert_array_equal(case.image.voxels[~changed], recipient.image.voxels[~changed])
    for number, value in ((1, 120), (2, 140)):
        np.testing.assert_allclose(case.image.voxels[renewed & (case.labels == number)], value, rtol=1e-5)
    np.testing.assert_allclose(case.image.voxels[(recipient.labels > 0) & (case.labels == 0)], 80, rtol=1e-5)


def test_what_is_asked_for_is_what_the_mask_shows(domain, with_lesions):
    recipient, *donors = with_lesions(FLAT, 3)
    condition = {"classes": True, "location": True, "scanners": {"a": ["s0"], "b": ["s9"]}}
    network = Paint()
    synthetic = drawn(network, settings(FLAT, domain, size=24, condition=condition), recipient, donors, most=1)
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
    convolution = nn.Conv2d if shape[2] == 1 else nn.Conv3d
    network, lesions = (
        Painter(convolution(Painter.inputs(1, 0, 2), 1, 1), 2),
        settings(shape, domain, size=24, depth=12),
    )
    one, same = (drawn(network.eval(), lesions, recipient, donors, 1).case.image.voxels for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert np.unique(one[one != recipient.image.voxels]).size > 20


def test_what_is_larger_than_the_painters_patch_is_not_painted(shape, domain, with_organ, with_lesions):
    lesions = settings(shape, domain, ORGAN, size=8, depth=12)
    recipient, *donors = with_organ(shape, 3)
    with pytest.raises(InsertionError, match="use larger patches"):
        drawn(Paint((0.2, 0.4)), lesions, recipient, donors, placement="replace")
    one, *others = with_lesions(shape, 4, radii=(0.8, 5))
    synthetic = drawn(Paint(), settings(shape, domain, size=8, depth=12), one, others, feather_mm=1)
    assert synthetic.how["refused"] > 0
    largest = max(lesion.voxels for case in others for lesion in lesions_of(case))
    assert max(lesion["voxels"] for lesion in synthetic.how["lesions"]) < largest


class Draw(nn.Module):
    """Draws a lesion in the middle of a patch, as bright as z says, on a level of its own; notes what it was asked."""

    latent = 2

    def __init__(self, shape, names=1, radius=2.6, level=-0.5):
        super().__init__()
        self.shape = (16, 16) if shape[2] == 1 else (16, 16, 4)
        axes = torch.meshgrid(*(torch.arange(size) for size in self.shape), indexing="ij")
        steps = zip(axes, self.shape, strict=True)
        away = sum(((axis - size // 2) / (radius if size > 4 else 0.5)) ** 2 for axis, size in steps)
        self.inside, self.names, self.level, self.asked = away <= 1, names, level, []

    def forward(self, z, condition):
        self.asked.append((z, condition))
        contrast = 0.4 + 0.2 * torch.tanh(z[0, 0])
        maps = [torch.where(self.inside, 1.0, -1.0)] + [-torch.ones(self.inside.shape)] * (self.names - 1)
        return torch.stack([self.level + contrast * self.inside, *maps])[None]


def test_a_drawn_lesion_is_placed_on_the_recipients_level(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Draw(shape)
    synthetic = drawn(network, settings(shape, domain), recipient, donors, most=1)
    case, (lesion,) = synthetic.case, synthetic.how["lesions"]
    new = (case.labels > 0) & (recipient.labels == 0)
    assert np.count_nonzero(new) == lesion["voxels"] == int(network.inside.sum())
    contrast = float(0.4 + 0.2 * torch.tanh(network.asked[0][0][0, 0]))
    # The sample's own level is -0.5: 50 below the recipient's 100. Its contrast stays.
    assert case.image.voxels[new].mean() == pytest.approx(100 + 100 * contrast, abs=5)
    np.testing.assert_array_equal(case.image.voxels[outside(new)], recipient.image.voxels[outside(new)])
    assert synthetic.parents == ("s0",)


def test_an_organ_takes_the_drawn_shape_and_a_whole_case_is_the_sample_in_its_unit_and_place(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 2)
    case = drawn(Draw(shape, 2), settings(shape, domain, ORGAN), recipient, donors, placement="replace").case
    assert set(np.unique(case.labels)) == {0, 1}
    np.testing.assert_allclose(organ_of(case).centre, organ_of(recipient).centre, atol=1)
    network = Draw(shape)
    synthetic = drawn(network, settings(shape, domain), recipient, donors, placement="whole")
    case = synthetic.case
    np.testing.assert_array_equal(case.labels, network.inside.reshape((*network.shape, 1)[:3]))
    assert case.image.voxels[case.labels == 0].mean() == pytest.approx(50, abs=1e-3)
    centres = [(each.image.affine @ (*np.argwhere(each.labels).mean(axis=0), 1))[:3] for each in (case, recipient)]
    assert np.abs(np.subtract(*centres)).max() <= 2
    assert case.image.bounds == recipient.image.bounds
    assert (synthetic.parents, synthetic.how) == (("s0",), {"method": "sampled", "placement": "whole"})


def test_a_sample_is_asked_for_what_real_lesions_show(domain, with_lesions):
    recipient, *donors = with_lesions(FLAT, 3, radii=(1.5, 5))
    network, condition = Draw(FLAT), {"classes": True, "size_edges_voxels": [20]}
    lesions = settings(FLAT, domain, condition=condition)
    for seed in range(20):
        drawn(network, lesions, recipient, donors, seed, placement="whole")
    asked = np.array([each.numpy()[0] for _, each in network.asked])
    assert asked.shape[1] == 4
    assert (asked[:, 1] == 1).all()
    assert 0 < asked[:, 2].sum() < 20  # small and large ones


@pytest.mark.parametrize("placement", ["add", "whole"])
def test_a_network_that_draws_nothing_or_nonsense_is_said(domain, with_lesions, placement):
    recipient, *donors = with_lesions(FLAT, 3)
    nothing, nonsense = Draw(FLAT), Draw(FLAT, level=float("nan"))
    nothing.inside = torch.zeros(16, 16, dtype=torch.bool)
    for network, lending, message in (
        (nothing, [donors[0]], "draws no lesion"),
        (nonsense, donors, "no numbers"),
        (Draw(FLAT), with_lesions(FLAT, 1, radii=()), "no donor has a lesion"),
    ):
        with pytest.raises(InsertionError, match=message):
            drawn(network, settings(FLAT, domain), recipient, lending, placement=placement)
    with pytest.raises(InsertionError, match="no numbers"):
        drawn(Paint((float("nan"),)), settings(FLAT, domain, size=24), recipient, donors)
