from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medgan.data import grid as grid_module
from medgan.data.domains import Domain, Window
from medgan.data.grid import made_up_grid
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig, Prepared, prepare
from medgan.data.volumes import Volume
from medgan.errors import ConfigError, GeometryError, ModelError
from medgan.inference.translate import MARGIN_VOXELS, apply, looked_at, maps, on_grid, translate
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import ResNetConfig
from medgan.training.model_folder import Origin

AXES = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1, -1, 1]),
    "LIA": np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "SPR": np.array([[0, 0, 1], [0, -1, 0], [1, 0, 0]]),
    "oblique": Rotation.from_euler("xyz", [12, -7, 20], degrees=True).as_matrix(),
    "oblique and mirrored": Rotation.from_euler("z", 160, degrees=True).as_matrix() @ np.diag([1, -1, 1]),
}
GRIDS = {
    "thick slices": ((37, 29, 11), (0.8, 0.8, 5.0)),
    "one slice": ((24, 31, 1), (1.1, 0.9, 3.0)),
    "two slices": ((40, 33, 2), (0.7, 0.7, 8.0)),
    "fine": ((21, 26, 33), (2.0, 1.3, 0.7)),
}
AXIAL = ("RAS", "LPS", "oblique", "oblique and mirrored")
CASES = [(axes, grid) for axes in AXES for grid in GRIDS if axes in AXIAL or grid == "fine"]


def affine(axes, spacing, origin=(-31.0, 12.5, 400.0)):
    result = np.eye(4)
    result[:3, :3] = AXES[axes] * spacing
    result[:3, 3] = origin
    return result


@pytest.mark.parametrize(("axes", "kind"), CASES)
@pytest.mark.parametrize("spacing", [(1.5, 1.5, None), (0.6, 0.7, 2.0)], ids=["coarser", "finer"])
def test_a_field_comes_back_from_the_networks_grid_to_where_it_was(axes, kind, spacing):
    shape, voxel = GRIDS[kind]
    grid = made_up_grid(shape, affine(axes, voxel))
    index = np.indices(shape).reshape(3, -1)
    place = (grid.affine[:3, :3] @ index + grid.affine[:3, 3:]).reshape(3, *shape)
    domain = Domain(name="field", modality="MR", unit="arbitrary", air=0.0, window=Window())
    for axis in range(3):  # linear interpolation keeps a field that is linear in the patient
        field = (place[axis] - grid.affine[axis, 3]).astype(np.float32)
        study = prepare(Volume(field, grid, Path()), domain, GridConfig(spacing_mm=spacing))
        back = np.concatenate([slab for _, slab in on_grid(study.voxels, study.affine, grid)], axis=2)
        inner = tuple(slice(4, -4) if size > 9 else slice(None) for size in shape)

        assert np.abs(back - field)[inner].max() < 0.02


@pytest.mark.parametrize("slab_voxels", [1, 2000, 1 << 22])
def test_slabs_leave_no_seam(slab_voxels, monkeypatch):
    monkeypatch.setattr(grid_module, "SLAB_VOXELS", slab_voxels)
    values = np.random.default_rng(0).normal(size=(14, 15, 9)).astype(np.float32)
    own, grid = affine("RAS", (1.5, 1.5, 2.0)), made_up_grid((25, 21, 13), affine("oblique", (0.8, 0.9, 1.1)))
    index = np.linalg.inv(own) @ grid.affine
    whole = ndimage.affine_transform(values, index[:3, :3], index[:3, 3], grid.size, order=1, mode="nearest")
    for slab, found in on_grid(values, own, grid):
        np.testing.assert_allclose(found, whole[..., slab], atol=1e-6)


@pytest.fixture
def translated(fabric, model):
    """``translated(study, direction="to_target", change="one-sided", ...)``: by a model of that kind."""

    def make(study, direction="to_target", *, keep_change=False, use_up=False, **kind):
        return translate(study, model(**kind), direction, fabric, keep_change=keep_change, use_up=use_up)

    return make


def test_a_study_that_is_used_up_is_translated_as_any_other(study, translated):
    volume = study()
    kept = translated(volume, keep_change=True)
    used = translated(volume, keep_change=True, use_up=True)
    np.testing.assert_array_equal(kept.voxels, used.voxels)
    np.testing.assert_array_equal(kept.change, used.change)
    assert np.shares_memory(used.change, volume.voxels)


@pytest.mark.parametrize(("axes", "kind"), CASES[::3])
@pytest.mark.parametrize(("direction", "sign"), [("to_target", -1), ("to_source", 1)])
def test_one_sided_changes_stay_where_contrast_agent_can_be(study, translated, axes, kind, direction, sign):
    shape, spacing = GRIDS[kind]
    hu = study(shape, affine(axes, spacing))
    found = translated(hu, direction, keep_change=True)
    moved = found.voxels - hu.voxels
    assert found.voxels.dtype == np.int16
    assert found.voxels.shape == hu.grid.size
    assert not moved[(hu.voxels < -50) | (hu.voxels > 600)].any()
    assert (moved * sign >= 0).all()
    assert (moved * sign).max() > 20
    assert (found.change * sign >= 0).all()
    np.testing.assert_array_equal(found.voxels, np.rint(hu.voxels + found.change))


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ({"change": "signed", "push": -0.5}, -1),
        ({"change": "signed", "push": 0.5}, 1),
        ({"dimensions": "2"}, -1),
        ({"dimensions": "2.5"}, -1),
        ({"dimensions": "3", "spacing": (1.5, 1.5, 3.0)}, -1),
    ],
)
def test_a_change_of_any_kind_stays_where_something_may_change(study, translated, kind, sign):
    hu = study((40, 33, 5))
    moved = translated(hu, **kind).voxels - hu.voxels
    assert (moved * sign).max() > 20
    assert not moved[(hu.voxels < -50) | (hu.voxels > 600)].any()
    assert kind.get("change") == "signed" or moved.max() == 0


@pytest.mark.parametrize(
    ("kind", "direction", "push"),
    [
        ({"dimensions": "2"}, "to_target", 2.0),
        ({"dimensions": "2.5"}, "to_source", 6.0),
        ({"dimensions": "3", "spacing": (1.5, 1.5, 3.0)}, "to_target", 6.0),
        ({"pair": "mr"}, "to_target", 2.0),
    ],
    ids=["2d", "2.5d", "3d", "mr"],
)
def test_the_dial_turns_from_the_input_to_the_translation_and_a_little_further_within_the_limits(
    study, model, fabric, kind, direction, push
):
    mr = kind.get("pair") == "mr"
    volume, translator = study((40, 33, 5), dtype=np.float32 if mr else np.int16), model(push=push, **kind)
    if mr:
        volume.voxels[:] = np.maximum(volume.voxels + 1000, 0)
    whole = translate(volume, translator, direction, fabric, keep_change=True)
    strengths = (0.0, 0.1, 0.35, 0.5, 0.99, 1.0, 1.1, 1.2)
    dialled = [translate(volume, translator, direction, fabric, strength=each, keep_change=True) for each in strengths]
    assert {each.voxels.dtype for each in dialled} == {whole.voxels.dtype}
    assert dialled[0].voxels.tobytes() == volume.voxels.astype(whole.voxels.dtype).tobytes()
    assert (dialled[5].voxels.tobytes(), dialled[5].change.tobytes()) == (
        whole.voxels.tobytes(),
        whole.change.tobytes(),
    )
    sign = np.sign(whole.change.sum())
    for less, more in pairwise(dialled):
        assert (sign * (more.voxels.astype(float) - less.voxels) >= 0).all()
    for strength, each in zip(strengths[:6], dialled[:6], strict=True):
        exact = volume.voxels + np.float32(strength) * whole.change
        np.testing.assert_array_equal(each.voxels, exact if mr else np.rint(exact))
    # Beyond 1 no change is larger than the largest, and none is where there was none.
    beyond = dialled[-1].change
    largest = 500 * (1 if not mr else np.ptp(translator.description.pair.source.window.bounds(volume.voxels)) / 100)
    assert np.abs(beyond).max() <= largest * (1 + 1e-6)
    assert not beyond[whole.change == 0].any()
    capped = np.abs(beyond) < 1.2 * np.abs(whole.change) * (1 - 1e-5)
    assert capped.any() == (push > 2)


@pytest.mark.parametrize(
    ("kind", "strength", "reason"),
    [
        ({"change": "none"}, 0.5, "strength 0.5: model 'tiny' draws the image itself.*generator.change=one-sided"),
        ({"change": "signed"}, 0.0, "strength 0: model 'tiny' predicts a signed change.*leave strength at 1"),
        ({}, 1.21, "strength 1.21 is not between 0"),
        ({}, -0.1, "strength -0.1 is not between 0"),
        ({}, float("nan"), "strength nan is not between 0"),
    ],
)
def test_a_strength_that_a_model_cannot_give_is_refused_and_1_is_what_all_give(
    study, model, fabric, kind, strength, reason
):
    translator, volume = model(**kind), study()
    with pytest.raises(ConfigError, match=reason):
        translate(volume, translator, "to_target", fabric, strength=strength)
    one, same = (translate(volume, translator, "to_target", fabric, **own) for own in ({"strength": 1}, {}))
    assert one.voxels.tobytes() == same.voxels.tobytes()


def test_values_that_int16_cannot_hold_are_clipped_with_a_warning(study, translated):
    voxels = np.full((24, 24, 2), -1000)
    voxels[6:18, 6:18] = 60
    voxels[0, 0], voxels[8, 8] = -70_000, 40_000
    found = translated(study(voxels=voxels, dtype=np.int32))
    assert found.voxels[0, 0, 0] == -32768
    assert found.voxels[8, 8, 0] == 32767
    assert any("clipped to -32768 to 32767" in warning for warning in found.warnings)


def test_fractions_of_hu_are_rounded_with_a_warning(study, translated):
    voxels = np.full((24, 24, 2), -1000.4)
    voxels[6:18, 6:18] = 700.6
    volume = study(voxels=voxels, dtype=np.float32)
    found = translated(volume)
    np.testing.assert_array_equal(found.voxels, np.rint(volume.voxels))
    assert any("rounded to whole HU" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("offset", "origin", "warning"),
    [
        (0, Origin(), ""),
        (1024, Origin(), "outside what the model saw"),
        (2000, Origin(), "outside what the model saw"),
        (0, Origin(phantom=True), "phantom"),
    ],
)
def test_intensities_beyond_the_trainings_and_a_model_of_the_phantom_are_told(
    study, translated, offset, origin, warning
):
    volume = study()
    volume.voxels[:4] = -3024 - offset  # padding below air is no intensity
    volume.voxels[:] += offset
    found = translated(volume, origin=origin)
    assert len(found.warnings) == bool(warning)
    assert warning in "".join(found.warnings)
    assert (found.voxels[:4] == -3024).all()


def test_where_no_body_is_nothing_changes(study, translated):
    volume = study(voxels=np.full((24, 24, 2), -500))
    found = translated(volume)
    np.testing.assert_array_equal(found.voxels, volume.voxels)
    assert "no body found: nothing was changed" in found.warnings


@pytest.mark.parametrize("change", ["one-sided", "none"])
def test_a_model_that_answers_with_no_numbers_is_refused(study, model, fabric, change):
    broken = model(change=change)
    next(broken.networks["to_target"].parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"study\.nii\.gz: the model answers with \d+ values that are no numbers"):
        translate(study(), broken, "to_target", fabric)


def test_a_slice_that_is_not_axial_is_refused(study, translated):
    with pytest.raises(GeometryError, match=r"study.nii.gz: .* no axial image"):
        translated(study((40, 1, 40)))


def test_a_direction_that_was_not_trained_is_refused(study, translated):
    with pytest.raises(ModelError, match="cannot translate to_source"):
        translated(study(), "to_source", directions=1)


@pytest.mark.parametrize("shape", [(40, 33), (40, 33, 1), (40, 33, 4)])
def test_a_drawn_ct_is_air_around_the_body_and_within_the_window_inside(study, model, translated, shape):
    volume = study(shape)
    found = translated(volume, change="none")
    body = body_mask(volume.voxels, model().description.pair.source)
    outside = ~ndimage.binary_dilation(body, np.ones((5, 5, 1)))
    assert found.voxels.dtype == np.int16
    assert outside.any()
    assert (found.voxels[outside] == -1024).all()
    inside = ndimage.binary_erosion(body, np.ones((5, 5, 1)))
    assert (found.voxels[inside] >= -300).all()
    assert (found.voxels[inside] <= 700).all()


def test_a_drawn_mr_is_float_at_the_studys_own_scale(study, translated):
    voxels = np.pad(np.random.default_rng(0).uniform(2000, 9000, (30, 26, 3)), [(6, 6), (6, 6), (0, 0)])
    found = translated(study(voxels=voxels, dtype=np.float32), pair="mr", change="none")
    assert found.voxels.dtype == np.float32
    assert found.voxels[:2].max() == 0
    assert 1000 < found.voxels[12:-12, 12:-12].mean() < 10_000


def test_mr_drawn_from_ct_takes_the_trainings_scale(study, translated):
    seen = {"mr": (5.0, 905.0), "ct": (-1024.0, 1500.0)}
    found = translated(study(), "to_source", pair="mr to ct", change="none", push=0.0, intensities=seen)
    assert found.voxels.min() >= 0
    assert 5 < found.voxels[20, 16, 1] < 905


BOUNDS = (-1000.0, 1000.0)


def study(shape, body):
    voxels = np.random.default_rng(0).uniform(-1000, 1000, shape).astype(np.float32)
    return Prepared(voxels, np.eye(4), body=body, bounds=BOUNDS)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_output_is_the_networks_over_the_body_and_the_input_elsewhere(fabric, dimensions):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16)
    given = study((50, 44, 6), body=((20, 31), (18, 25), (1, 5)))
    found = apply(lambda image: -centre_channel(image), given, patch, 4, fabric)
    expected = given.normalised()
    expected[20 - MARGIN_VOXELS : 31 + MARGIN_VOXELS, 18 - MARGIN_VOXELS : 25 + MARGIN_VOXELS, 1:5] *= -1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_mirroring_averages_what_is_seen_in_the_mirror(fabric, dimensions):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, mirroring=True)
    size = 16 if dimensions == "3" else 40  # one block, or a plane that needs not be grown
    given = study((size, size, 16), body=((0, size), (0, size), (0, 16)))

    def brighter_to_the_right(image):
        ramp = torch.linspace(0, 1, image.shape[2]).reshape(1, 1, -1, *[1] * (image.dim() - 3))
        return centre_channel(image) * ramp

    found = apply(brighter_to_the_right, given, patch, 4, fabric)
    np.testing.assert_allclose(found, given.normalised() / 2, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 1), (40, 9, 2)])
def test_a_study_that_is_smaller_than_the_networks_halvings_converts(fabric, shape):
    network = ResNetConfig(channels=4, downs=4, blocks=1, skips=True).build(2, 1)
    given = study(shape, body=tuple((0, size) for size in shape))
    found = apply(network, given, PatchConfig(), 16, fabric)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_a_thin_stack_continues_with_its_last_slice_as_in_training(fabric):
    given = study((16, 16, 3), body=((0, 16), (0, 16), (0, 3)))
    given.voxels[:] = 500

    def mean_along_z(image):
        return image.mean(dim=-1, keepdim=True).repeat(1, 1, 1, 1, image.shape[-1])

    found = apply(mean_along_z, given, PatchConfig(dimensions="3", size_voxels=16), 4, fabric)
    np.testing.assert_allclose(found, given.normalised(), atol=1e-5)


@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
@pytest.mark.parametrize("mirroring", [False, True])
def test_all_maps_of_the_part_that_is_looked_at_are_given(fabric, dimensions, mirroring):
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, flip=True, mirroring=mirroring)
    given = study((50, 44, 16), body=((20, 31), (18, 25), (1, 15)))

    def two(image):
        return torch.cat([centre_channel(image), -centre_channel(image)], dim=1)

    found = maps(two, given, patch, 4, fabric)
    part = given.normalised()[looked_at(given)]
    np.testing.assert_allclose(found, np.stack([part, -part]), atol=1e-5)
