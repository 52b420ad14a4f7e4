import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from medgan.errors import InsertionError
from medgan.synthesis.insertion import InsertionConfig
from medgan.synthesis.network_methods import Sampled
from medgan.synthesis.patches import LesionConfig
from medgan.synthesis.shapes import organ_of


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


def settings(shape, domain, names=("lesion",), **changes):
    patch = (
        {"dimensions": 2, "size_voxels": 16}
        if shape[2] == 1
        else {"dimensions": 3, "size_voxels": 16, "depth_voxels": 4}
    )
    labels = {name: number for number, name in enumerate(names, start=1)}
    return LesionConfig(labels=labels, domain=domain, patch=patch, **changes)


def patch_shape(shape):
    return (16, 16) if shape[2] == 1 else (16, 16, 4)


def run(network, lesions, recipient, donors, seed=0, **changes):
    return Sampled(network, lesions, InsertionConfig(**changes)).synthesise(
        recipient, donors, np.random.default_rng(seed)
    )


def test_a_drawn_lesion_is_placed_on_the_recipients_level(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Draw(patch_shape(shape))
    synthetic = run(network, settings(shape, domain), recipient, donors, most=1)
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
    lesions = settings(shape, domain, names=("front", "behind"))
    case = run(Draw(patch_shape(shape), names=2), lesions, recipient, donors, placement="replace").case
    assert set(np.unique(case.labels)) == {0, 1}
    np.testing.assert_allclose(organ_of(case).centre, organ_of(recipient).centre, atol=1)


def test_a_whole_case_is_the_sample_in_the_recipients_unit_and_place(shape, domain, with_organ):
    recipient, *donors = with_organ(shape, 2)
    network = Draw(patch_shape(shape))
    synthetic = run(network, settings(shape, domain), recipient, donors, placement="whole")
    case = synthetic.case
    assert case.image.voxels.shape == (*patch_shape(shape), 1)[:3]
    np.testing.assert_array_equal(case.labels.reshape(patch_shape(shape)), network.inside)
    assert case.image.voxels[case.labels == 0].mean() == pytest.approx(50, abs=1e-3)
    centres = [(each.image.affine @ (*np.argwhere(each.labels).mean(axis=0), 1))[:3] for each in (case, recipient)]
    assert np.abs(np.subtract(*centres)).max() <= 2
    assert case.image.bounds == recipient.image.bounds
    assert (synthetic.parents, synthetic.how) == (("s0",), {"method": "sampled", "placement": "whole"})


def test_what_is_asked_for_is_what_real_lesions_show(domain, with_lesions):
    shape = (48, 48, 1)
    recipient, *donors = with_lesions(shape, 3, radii=(1.5, 5))
    network = Draw((16, 16))
    condition = {"classes": True, "size_edges_voxels": [20]}
    lesions = settings(shape, domain, condition=condition)
    for seed in range(20):
        run(network, lesions, recipient, donors, seed, placement="whole")
    asked = np.array([each.numpy()[0] for _, each in network.asked])
    assert asked.shape[1] == 4
    assert (asked[:, 1] == 1).all()
    assert 0 < asked[:, 2].sum() < 20  # small and large ones


def test_equal_draws_give_equal_cases(shape, domain, with_lesions):
    recipient, *donors = with_lesions(shape, 3)
    network = Draw(patch_shape(shape))
    first, again, other = (run(network, settings(shape, domain), recipient, donors, seed).case for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.voxels, again.image.voxels)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image.voxels, other.image.voxels)


@pytest.mark.parametrize("placement", ["add", "whole"])
def test_a_network_that_draws_nothing_or_nonsense_is_said(domain, with_lesions, placement):
    shape = (48, 48, 1)
    recipient, *donors = with_lesions(shape, 3)
    nothing = Draw((16, 16))
    nothing.inside = torch.zeros(16, 16, dtype=torch.bool)
    with pytest.raises(InsertionError, match="draws no lesion"):
        run(nothing, settings(shape, domain), recipient, [donors[0]], placement=placement)
    with pytest.raises(InsertionError, match="no numbers"):
        run(Draw((16, 16), level=float("nan")), settings(shape, domain), recipient, donors, placement=placement)
    with pytest.raises(InsertionError, match="no donor has a lesion"):
        run(Draw((16, 16)), settings(shape, domain), recipient, with_lesions(shape, 1, radii=()), placement=placement)
