from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from medgan.data.domains import Domain, Window
from medgan.data.grid import made_up_grid
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared
from medgan.data.volumes import Volume
from medgan.inference.translate import on_grid, translate
from medgan.inference.uncertainty import _motion, _moved, _rescaled, _Spread, uncertainty, uncertainty_in_words
from medgan.training.architecture import ResNetConfig

COARSE = (4.0, 4.0, None)
"""A network's grid on which a small study is one block."""


def prepared(voxels, body=None, bounds=(0.0, 100.0)):
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    affine[:3, 3] = -20, 30, 100
    body = body or tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), affine, body=body, bounds=bounds)


def words(patch, network=None):
    """What is said of the map of a model that was trained on such patches."""
    model = SimpleNamespace(
        description=SimpleNamespace(patch=patch, domains=lambda direction: [SimpleNamespace(unit="HU")] * 2),
        networks={"to_target": network or nn.Identity()},
    )
    return uncertainty_in_words(model, "to_target", 3)


@pytest.mark.parametrize("samples", [2, 3, 17])
def test_the_spread_of_a_stream_is_numpys_of_the_whole(samples):
    volumes = np.random.default_rng(samples).normal(300, 4, (samples, 5, 4, 6)).astype(np.float32)
    spread = _Spread((5, 4, 6))
    for volume in volumes:
        spread.add((slice(z, z + 2), volume[..., z : z + 2]) for z in (0, 2, 4))
    expected = volumes.astype(np.float64).std(axis=0, ddof=1)
    np.testing.assert_allclose(spread.deviation(), expected, rtol=1e-3)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("kind", ["linear in the patient", "smooth"])
def test_the_inverse_of_a_motion_restores_an_image(dimensions, kind):
    x, y, z = np.indices((40, 44, 9)).astype(float)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=x.shape), 4)
    linear = kind != "smooth"
    study = prepared(3 * x - 2 * y + z if linear else smooth / smooth.std())
    ranges = {"rotation_degrees": 15, "scaling": 0.2} if linear else {}
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, **ranges)
    for seed in range(5):
        varied = _moved(study, _motion(patch, np.random.default_rng(seed)))
        grid = made_up_grid(study.voxels.shape, study.affine)
        back = np.concatenate([slab for _, slab in on_grid(varied.voxels, varied.affine, grid)], axis=2)
        assert np.abs(varied.affine - study.affine)[:3, :3].max() > (0.01 if linear else 0)
        assert np.abs(back - study.voxels)[4:-4, 4:-4, 1:-1].max() < (1e-3 if linear else 0.1)


def test_slices_stay_whole_where_the_network_sees_slices():
    voxels = np.broadcast_to(np.array([5.0, -3.0, 11.0, 0.0]), (20, 22, 4))
    study = prepared(voxels, body=((4, 15), (5, 18), (1, 4)))
    for seed in range(5):
        varied = _moved(study, _motion(PatchConfig(), np.random.default_rng(seed)))
        np.testing.assert_allclose(varied.voxels, np.broadcast_to([-3.0, 11.0, 0.0], varied.voxels.shape), atol=1e-5)


def test_only_anatomy_that_may_be_mirrored_is():
    flips = {
        flip: [np.linalg.det(_motion(PatchConfig(flip=flip), np.random.default_rng(n))) < 0 for n in range(20)]
        for flip in (False, True)
    }
    assert not any(flips[False])
    assert 3 < sum(flips[True]) < 17
    assert "shifted, turned, scaled, mirrored and" in words(PatchConfig(flip=True))
    assert "mirrored" not in words(PatchConfig())


def test_motions_keep_to_the_trainings_ranges():
    still = PatchConfig(rotation_degrees=0, scaling=0)
    for seed in range(10):
        found = _motion(still, np.random.default_rng(seed))
        np.testing.assert_array_equal(found[:3, :3], np.eye(3))
        assert np.abs(found[:2, 3]).max() <= 0.5
        assert found[2, 3] == 0
        turned = _motion(PatchConfig(rotation_degrees=8, scaling=0.1), np.random.default_rng(seed))
        assert abs(np.degrees(np.arctan2(turned[1, 0], turned[0, 0]))) <= 8
        assert np.abs(np.linalg.norm(turned[:2, :2], axis=0) - 1).max() <= 0.1 + 1e-9
    assert words(still) == "HU, standard deviation of 3 translations of the study shifted and with other intensities"


@pytest.mark.parametrize(("unit", "moves"), [("HU", True), ("arbitrary", False)])
def test_brightness_varies_where_it_has_no_zero_of_its_own(unit, moves):
    modality = "CT" if unit == "HU" else "MR"
    domain = Domain(name="any", modality=modality, unit=unit, air=0.0, window=Window(lower=0.0, upper=100.0))
    found = _rescaled(prepared(np.full((2, 2, 2), 0.0)), domain, np.random.default_rng(0)).voxels
    assert (found != 0).all() == moves
    assert np.abs(found).max() <= 0.5
    bright = _rescaled(prepared(np.full((2, 2, 2), 100.0)), domain, np.random.default_rng(0)).voxels
    assert 0 < np.abs(bright - 100).max() <= 2.5


@pytest.fixture
def spread_of(fabric):
    """``spread_of(study, model, samples=3, seed=("1",))``."""

    def make(study, model, *, samples=3, seed=("1",), **how):
        return uncertainty(study, model, "to_target", fabric, samples=samples, seed=seed, **how)

    return make


@pytest.mark.parametrize(("dimensions", "pair"), [("2", "ct"), ("2.5", "mr"), ("3", "ct")])
def test_a_network_that_ignores_its_input_is_sure(study, model, spread_of, fabric, dimensions, pair):
    ignoring = model(pair=pair, change="none", dimensions=dimensions, directions=1, spacing=COARSE)
    volume = study((34, 40, 5))
    assert spread_of(volume, ignoring, samples=2).max() > 1
    ignoring.networks["to_target"].network.last[1].weight.zero_()
    scale = np.abs(translate(volume, ignoring, "to_target", fabric).voxels).max()
    assert spread_of(volume, ignoring, samples=2).max() < 1e-5 * scale


@pytest.mark.parametrize("change", ["one-sided", "signed"])
def test_where_nothing_may_change_nothing_is_unsure(study, model, spread_of, change):
    turned = np.array([[-1.2, 0.2, 0, 31.4], [0.2, 1.2, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])
    volume = study((37, 41, 4), turned)
    spread = spread_of(volume, model(change=change, push=0.0))
    assert spread.dtype == np.float32
    assert spread.shape == volume.grid.size
    assert not spread[(volume.voxels < -50) | (volume.voxels > 600)].any()
    assert spread[(volume.voxels > 0) & (volume.voxels < 300)].mean() > 0.1


def test_a_drawn_image_is_sure_of_the_air_around_the_body(study, model, spread_of, fabric):
    drawing, volume = model(change="none", push=0.0), study()
    air = translate(volume, drawing, "to_target", fabric).voxels == -1024
    spread = spread_of(volume, drawing)
    assert air.any()
    assert spread[air].max() < 0.5  # rounded to air
    assert spread[~air].mean() > 1


@pytest.mark.parametrize(("dimensions", "norm"), [("2", "group"), ("3", "batch")])
def test_dropout_makes_it_less_sure_and_is_off_again_afterwards(study, model, spread_of, fabric, dimensions, norm):
    volume = study()
    kind = {"change": "none", "dimensions": dimensions, "spacing": COARSE, "push": 0.0, "directions": 1}
    networks = (ResNetConfig(channels=8, blocks=1, downs=2, dropout=dropout, norm=norm) for dropout in (0.0, 0.5))
    sure, unsure = (model(net=network, **kind) for network in networks)
    generator = unsure.networks["to_target"]
    assert words(PatchConfig(), generator).endswith(", with dropout")
    assert "dropout" not in words(PatchConfig(), sure.networks["to_target"])
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    image, state = translate(volume, unsure, "to_target", fabric).voxels, torch.random.get_rng_state()
    spread = spread_of(volume, unsure, samples=4)
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert not any(layer.training for layer in generator.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(image, translate(volume, unsure, "to_target", fabric).voxels)
    np.testing.assert_array_equal(spread, spread_of(volume, unsure, samples=4))
    assert spread.mean() > 1.1 * spread_of(volume, sure, samples=4).mean()


def test_a_seed_gives_one_map_and_another_seed_another(study, model, spread_of):
    volume, one_sided = study(), model()
    first, again, other = (spread_of(volume, one_sided, seed=(seed,)) for seed in "556")
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_more_samples_do_not_make_it_less_sure(study, model, spread_of):
    """A standard deviation settles; a standard error, or a sum of squares, would fall or grow with the samples."""
    few, many = (spread_of(study(), model(), samples=samples).mean() for samples in (3, 12))
    assert 0.6 < few / many < 1.6


@pytest.mark.parametrize("change", ["one-sided", "none"])
def test_where_no_body_is_it_is_sure(study, model, spread_of, change):
    assert not spread_of(study(voxels=np.full((24, 24, 2), -1000)), model(change=change)).any()


def test_a_body_that_fills_the_volume_is_seen_to_its_corners(model, spread_of):
    """Turned, it reaches beyond its own grid: what is carried back must still be the network's answer everywhere."""
    voxels = np.random.default_rng(0).normal(60, 10, (32, 28, 3)).astype(np.float32)
    volume = Volume(voxels, made_up_grid(voxels.shape, np.diag([1.5, 1.5, 5.0, 1.0])), Path("full"))
    spread = spread_of(volume, model(push=0.0), samples=4)
    assert (spread > 0).mean() > 0.99
    corners = spread[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert 0.1 < corners / spread.mean() < 10


@pytest.mark.parametrize("dimensions", ["2", "3"])
def test_the_spread_is_that_of_the_change_at_its_strength(study, model, spread_of, dimensions):
    volume, translator = study((40, 33, 5)), model(spacing=COARSE, dimensions=dimensions)
    whole, half, none = (spread_of(volume, translator, strength=each) for each in (1.0, 0.5, 0.0))
    assert whole.max() > 1
    np.testing.assert_allclose(half, whole / 2, rtol=1e-3, atol=1e-3)
    assert not none.any()
