import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from medgan.errors import InsertionError
from medgan.networks.painter import Painter
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.network_methods import Painted
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.shapes import lesions_of

PATCHES = {1: {"dimensions": 2, "size_voxels": 24}, 12: {"dimensions": 3, "size_voxels": 24, "depth_voxels": 12}}


def settings(shape, domain, dimensions=None, names=("lesion",), **changes):
    patch = PATCHES[shape[2]] if dimensions is None else dimensions
    return LesionConfig(
        labels={name: number for number, name in enumerate(names, start=1)}, domain=domain, patch=patch, **changes
    )


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


def run(network, lesions, recipient, donors, seed=0, source="real", **changes):
    method = Painted(network, lesions, InsertionConfig(**changes), source)
    return method.synthesise(recipient, donors, np.random.default_rng(seed))


@pytest.mark.parametrize("source", ["real", "generated"])
def test_what_is_painted_is_where_the_new_labels_are_and_all_else_stays(shape, domain, with_lesions, source):
    recipient, *donors = with_lesions(shape, 3)
    synthetic = run(Paint(), settings(shape, domain), recipient, donors, source=source)
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
    run(network, settings(shape, domain), recipient, donors, most=1)
    ((context, hidden, masks, condition),) = network.asked
    patch = PATCHES[shape[2]]
    assert context.shape[1:] == (1, 24, 24) + ((12,) if patch["dimensions"] == 3 else ())
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
    case = run(network, settings(shape, domain, {"dimensions": 2, "size_voxels": 24}), recipient, donors, most=1).case
    new = (case.labels > 0) & (recipient.labels == 0)
    assert len(network.asked[0][0]) >= np.count_nonzero(new.any(axis=(0, 1))) > 1
    np.testing.assert_allclose(case.image.voxels[new], 160, rtol=1e-5)


def test_an_organ_is_painted_anew_and_the_old_one_is_gone(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 3)
    for source in ("real", "generated"):
        lesions = settings(shape, domain, names=("front", "behind"))
        case = run(Paint((0.2, 0.4), -0.2), lesions, recipient, donors, source=source, placement="replace").case
        for number, value in ((1, 120), (2, 140)):
            np.testing.assert_allclose(case.image.voxels[case.labels == number], value, rtol=1e-5)
        gone = (recipient.labels > 0) & (case.labels == 0)
        np.testing.assert_allclose(case.image.voxels[gone], 80, rtol=1e-5)


def test_an_organ_may_keep_what_does_not_change_its_label(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 3)
    lesions = settings(shape, domain, names=("front", "behind"))
    network = Paint((0.2, 0.4), -0.2)
    ask = {"placement": "replace", "renew": "changed", "feather_mm": 0}
    case = run(network, lesions, recipient, donors, **ask).case
    changed = case.labels != recipient.labels
    assert changed.any()
    stays = ~changed & (recipient.labels > 0)
    assert stays.any()
    np.testing.assert_array_equal(case.image.voxels[~changed], recipient.image.voxels[~changed])
    for number, value in ((1, 120), (2, 140)):
        np.testing.assert_allclose(case.image.voxels[changed & (case.labels == number)], value, rtol=1e-5)
    np.testing.assert_allclose(case.image.voxels[changed & (case.labels == 0)], 80, rtol=1e-5)


def test_what_is_asked_for_is_what_the_mask_shows(domain, with_lesions):
    shape = (48, 48, 1)
    recipient, *donors = with_lesions(shape, 3)
    condition = {"classes": True, "location": True, "scanners": {"a": ["s0"], "b": ["s9"]}}
    network = Paint()
    synthetic = run(network, settings(shape, domain, condition=condition), recipient, donors, most=1)
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
    images = [run(network, settings(shape, domain), recipient, donors, seed).case.image.voxels for seed in (1, 1, 2)]
    np.testing.assert_array_equal(images[0], images[1])
    changed = images[0] != recipient.image.voxels
    assert np.unique(images[0][changed]).size > 20


def test_what_is_larger_than_the_painters_patch_is_not_painted(shape, domain, with_organ, with_lesions):
    small = {1: {"dimensions": 2, "size_voxels": 8}, 12: {"dimensions": 3, "size_voxels": 8, "depth_voxels": 12}}
    lesions = settings(shape, domain, small[shape[2]], names=("front", "behind"))
    recipient, *donors = with_organ(shape, 3)
    with pytest.raises(InsertionError, match="use larger patches"):
        run(Paint((0.2, 0.4)), lesions, recipient, donors, placement="replace")
    one, *others = with_lesions(shape, 4, radii=(0.8, 5))
    synthetic = run(Paint(), settings(shape, domain, small[shape[2]]), one, others, feather_mm=1)
    assert synthetic.how["refused"] > 0
    assert max(lesion["voxels"] for lesion in synthetic.how["lesions"]) < max(
        lesion.voxels for case in others for lesion in lesions_of(case)
    )


def test_a_painter_that_broke_down_is_said(domain, with_lesions):
    recipient, *donors = with_lesions((48, 48, 1), 3)
    with pytest.raises(InsertionError, match="no numbers"):
        run(Paint((float("nan"),)), settings((48, 48, 1), domain), recipient, donors)
