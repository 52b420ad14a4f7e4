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
from medgan.data.volumes import Volume, read_volume
from medgan.inference.translate import on_grid, translate
from medgan.inference.uncertainty import _motion, _moved, _rescaled, _Spread, uncertainty, uncertainty_in_words
from medgan.training.architecture import ResNetConfig, TranslationDescription
from medgan.training.model_folder import read_model

DIMENSIONS = ("2", "2.5", "3")
COARSE = (4.0, 4.0, None)
"""A network's grid on which a small study is one block."""


def network(**changed):
    return ResNetConfig(channels=8, blocks=1, **changed)


def spread_of(study, model, fabric, *, samples=3, seed=("1",), direction="to_target"):
    return uncertainty(study, model, direction, fabric, samples=samples, seed=seed)


def prepared(voxels, body=None, bounds=(0.0, 100.0)):
    affine = np.diag([1.5, 1.5, 4.0, 1.0])
    affine[:3, 3] = -20, 30, 100
    body = body or tuple((0, size) for size in voxels.shape)
    return Prepared(voxels.astype(np.float32), affine, body=body, bounds=bounds)


def brought_back(varied, study):
    grid = made_up_grid(study.voxels.shape, study.affine)
    return np.concatenate([slab for _, slab in on_grid(varied.voxels, varied.affine, grid)], axis=2)


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


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("seed", range(5))
def test_the_inverse_of_a_motion_restores_a_field_that_is_linear_in_the_patient(dimensions, seed):
    x, y, z = np.indices((30, 26, 7)).astype(float)
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, rotation_degrees=15, scaling=0.2)
    study = prepared(3 * x - 2 * y + z)
    varied = _moved(study, _motion(patch, np.random.default_rng(seed)))
    difference = np.abs(brought_back(varied, study) - study.voxels)[3:-3, 3:-3, 1:-1]
    assert np.abs(varied.affine - study.affine)[:3, :3].max() > 0.01
    assert difference.max() < 1e-3


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_inverse_of_a_motion_restores_a_smooth_image(dimensions):
    noise = np.random.default_rng(0).normal(size=(40, 44, 9))
    smooth = ndimage.gaussian_filter(noise, 4)
    study = prepared(smooth / smooth.std())
    random = np.random.default_rng(3)
    for _ in range(4):
        varied = _moved(study, _motion(PatchConfig(dimensions=dimensions, flip=True), random))
        assert np.abs(brought_back(varied, study) - study.voxels)[4:-4, 4:-4, 1:-1].max() < 0.1


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


@pytest.mark.parametrize(("dimensions", "pair"), [("2", "ct"), ("2.5", "mr"), ("3", "ct")])
def test_a_network_that_ignores_its_input_is_sure(save_study, save_model, fabric, tmp_path, dimensions, pair):
    kind = {"pair": pair, "change": "none", "dimensions": dimensions, "directions": 1, "spacing": COARSE}
    model = read_model(save_model(tmp_path / "model", **kind), TranslationDescription)
    study = read_volume(save_study(tmp_path / "study.nii.gz", (34, 40, 5)))
    assert spread_of(study, model, fabric, samples=2).max() > 1
    model.networks["to_target"].network.last[1].weight.zero_()
    scale = np.abs(translate(study, model, "to_target", fabric).voxels).max()
    assert spread_of(study, model, fabric, samples=2).max() < 1e-5 * scale


@pytest.mark.parametrize("change", ["one-sided", "signed"])
def test_where_nothing_may_change_nothing_is_unsure(save_study, save_model, fabric, tmp_path, change):
    turned = np.array([[-1.2, 0.2, 0, 31.4], [0.2, 1.2, 0, -2], [0, 0, -4.5, 900.1], [0, 0, 0, 1]])
    model = read_model(save_model(tmp_path / "model", change=change, push=0.0), TranslationDescription)
    study = read_volume(save_study(tmp_path / "study.nii.gz", (37, 41, 4), turned))
    spread = spread_of(study, model, fabric)
    assert spread.dtype == np.float32
    assert spread.shape == study.grid.size
    assert not spread[(study.voxels < -50) | (study.voxels > 600)].any()
    assert spread[(study.voxels > 0) & (study.voxels < 300)].mean() > 0.1


def test_a_drawn_image_is_sure_of_the_air_around_the_body(save_study, save_model, fabric, tmp_path):
    model = read_model(save_model(tmp_path / "model", change="none", push=0.0), TranslationDescription)
    study = read_volume(save_study(tmp_path / "study.nii.gz"))
    air = translate(study, model, "to_target", fabric).voxels == -1024
    spread = spread_of(study, model, fabric)
    assert air.any()
    assert spread[air].max() < 0.5  # rounded to air
    assert spread[~air].mean() > 1


@pytest.mark.parametrize(("dimensions", "norm"), [("2", "group"), ("3", "batch")])
def test_dropout_makes_it_less_sure_and_is_off_again_afterwards(
    save_study, save_model, fabric, tmp_path, dimensions, norm
):
    study = read_volume(save_study(tmp_path / "study.nii.gz"))
    kind = {"change": "none", "dimensions": dimensions, "spacing": COARSE, "push": 0.0, "directions": 1}
    sure, unsure = (
        read_model(
            save_model(tmp_path / f"{dropout}", net=network(dropout=dropout, norm=norm, downs=2), **kind),
            TranslationDescription,
        )
        for dropout in (0.0, 0.5)
    )
    generator = unsure.networks["to_target"]
    assert words(PatchConfig(), generator).endswith(", with dropout")
    assert "dropout" not in words(PatchConfig(), sure.networks["to_target"])
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    image, state = translate(study, unsure, "to_target", fabric).voxels, torch.random.get_rng_state()
    spread = spread_of(study, unsure, fabric, samples=4)
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert not any(layer.training for layer in generator.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(image, translate(study, unsure, "to_target", fabric).voxels)
    np.testing.assert_array_equal(spread, spread_of(study, unsure, fabric, samples=4))
    assert spread.mean() > 1.1 * spread_of(study, sure, fabric, samples=4).mean()


def test_a_seed_gives_one_map_and_another_seed_another(save_study, model_folder, fabric, tmp_path):
    study, model = read_volume(save_study(tmp_path / "study.nii.gz")), read_model(model_folder, TranslationDescription)
    first = spread_of(study, model, fabric, seed=("5",))
    np.testing.assert_array_equal(first, spread_of(study, model, fabric, seed=("5",)))
    assert np.abs(first - spread_of(study, model, fabric, seed=("6",))).max() > 0.1


def test_more_samples_do_not_make_it_less_sure(save_study, model_folder, fabric, tmp_path):
    """A standard deviation settles; a standard error, or a sum of squares, would fall or grow with the samples."""
    study, model = read_volume(save_study(tmp_path / "study.nii.gz")), read_model(model_folder, TranslationDescription)
    few, many = (spread_of(study, model, fabric, samples=samples).mean() for samples in (3, 12))
    assert 0.6 < few / many < 1.6


@pytest.mark.parametrize("change", ["one-sided", "none"])
def test_where_no_body_is_it_is_sure(save_study, save_model, fabric, tmp_path, change):
    voxels = np.full((24, 24, 2), -1000)
    study = read_volume(save_study(tmp_path / "study.nii.gz", voxels=voxels))
    model = read_model(save_model(tmp_path / "model", change=change), TranslationDescription)
    assert not spread_of(study, model, fabric).any()


def test_a_body_that_fills_the_volume_is_seen_to_its_corners(save_model, fabric, tmp_path):
    """Turned, it reaches beyond its own grid: what is carried back must still be the network's answer everywhere."""
    voxels = np.random.default_rng(0).normal(60, 10, (32, 28, 3)).astype(np.float32)
    volume = Volume(voxels, made_up_grid(voxels.shape, np.diag([1.5, 1.5, 5.0, 1.0])), Path("full"))
    model = read_model(save_model(tmp_path / "model", push=0.0), TranslationDescription)
    spread = spread_of(volume, model, fabric, samples=4)
    assert (spread > 0).mean() > 0.99
    corners = spread[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert 0.1 < corners / spread.mean() < 10
