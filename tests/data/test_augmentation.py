"""A batch is varied as MONAI varies each image by the same random numbers, and each patch as if it were alone."""

import numpy as np
import pytest
import torch
from monai.transforms import (
    AdjustContrast,
    Affine,
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandGaussianNoise,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
    ScaleIntensityFixedMean,
    ShiftIntensity,
)
from numpy.polynomial.legendre import legvander
from scipy import ndimage, stats
from torch.utils.data import default_collate

from medgan.data import augmentation
from medgan.data.patches import IntensityConfig, PatchConfig, _intensities, item
from medgan.data.preparation import Prepared, normalise

WINDOW = 2.0  # of [-1, 1]
SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {"size_voxels": 17, "length_voxels": 30},
        {"dimensions": "2.5", "size_voxels": 18},
        {"dimensions": "3", "size_voxels": 15, "length_voxels": 20, "depth_voxels": 6},
    ],
    ids=["2d", "2.5d", "3d"],
)
EVERYTHING = {"gamma": 0.4, "bias_field": 0.5, "contrast": 0.2, "brightness": 0.1, "noise": 0.05}
STILL = {"rotation_degrees": 0, "scaling": 0}


def study(shape=(60, 70, 12), blur=0.0):
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).uniform(-1, 1, shape), blur)
    voxels = (voxels / np.abs(voxels).max()).astype(np.float32)
    return Prepared(voxels, np.eye(4), tuple((0, size) for size in shape), (-1.0, 1.0))


def labels(shape=(60, 70, 12)):
    return np.random.default_rng(1).integers(0, 5, shape, dtype=np.uint8)


def config_of(settings, **more):
    return PatchConfig(**settings, **more)


@SETTINGS
def test_standing_still_gives_the_regions_middle_to_the_bit(settings):
    config = config_of(settings, **STILL)
    image, label = study(), labels()
    for seed in range(4):
        assert not any(config.margins), "no more is read than is seen"
        drawn = item({"source": image, "labels": label}, config, np.random.default_rng(seed))
        patches = augmentation.augmented(default_collate([drawn]), config.shape)
        for key in ("source", "labels"):
            region = drawn[key].numpy()
            first = [(have - want) // 2 for have, want in zip(region.shape, config.shape, strict=False)]
            middle = region[tuple(slice(at, at + size) for at, size in zip(first, config.shape, strict=True))]
            middle = normalise(middle, image.bounds) if key == "source" else middle
            expected = middle[None] if len(config.shape) == 3 else middle.transpose(2, 0, 1)
            np.testing.assert_array_equal(patches[key][0].numpy(), expected)


@SETTINGS
def test_motion_is_that_of_monai(settings):
    config = config_of(settings, flip=True, rotation_degrees=30, scaling=0.2)
    image = study(blur=3.0)
    for seed in range(4):
        drawn = item({"source": image}, config, np.random.default_rng(seed))
        motion = drawn["source/motion"].numpy().astype(np.float64)
        stretch, mirrored = np.linalg.norm(motion, axis=0), np.linalg.det(motion) < 0
        rotation = motion / stretch * np.array([[-1 if mirrored else 1], [1]])
        angle, x, y = map(float, (np.arctan2(rotation[1, 0], rotation[0, 0]), *stretch))
        block = len(config.shape) == 3
        affine = Affine(
            (0.0, 0.0, angle) if block else (angle,), scale_params=(x, y, 1.0) if block else (x, y),
            padding_mode="border", image_only=True,
        )  # fmt: skip
        region = drawn["source"].flip(0) if mirrored else drawn["source"]
        expected = affine(region[None] if block else region.permute(2, 0, 1), spatial_size=config.shape)
        found = augmentation.augmented(default_collate([drawn]), config.shape)["source"][0]
        assert float((found - expected.as_tensor()).abs().max()) < 1e-5 * WINDOW


@SETTINGS
def test_a_patch_is_the_same_to_the_bit_in_any_batch(settings):
    config = config_of(settings, flip=True, intensity=IntensityConfig(**EVERYTHING))
    images = {"source": study(), "labels": labels(), "mask": labels() > 2}
    items = [item(images, config, np.random.default_rng(seed)) for seed in range(7)]
    together = augmentation.augmented(default_collate(items), config.shape)
    assert {key: each.dtype for key, each in together.items()} == {
        "source": torch.float32, "labels": torch.int64, "mask": torch.float32,
    }  # fmt: skip
    for number, alone in enumerate(items):
        patch = augmentation.augmented(default_collate([alone]), config.shape)
        assert all(torch.equal(patch[key][0], together[key][number]) for key in together)


def test_what_has_no_motion_stays_as_it_is():
    batch = {"image": torch.rand(2, 1, 8, 8), "condition": torch.rand(2, 3)}
    assert augmentation.augmented(batch, ()) == batch


RANDOM = {
    "gamma": (RandAdjustContrast(0.5, (0.6, 1 / 0.6)), "gamma_value", 1.0),
    "contrast": (RandScaleIntensityFixedMean(0.5, 0.2), "factor", 0.0),
    "brightness": (RandShiftIntensity(0.1, prob=0.5), "_offset", 0.0),
}


@pytest.mark.parametrize("name", RANDOM)
def test_amounts_are_as_likely_as_with_monai(name):
    transform, attribute, neutral = RANDOM[name]
    config = PatchConfig(size_voxels=8, intensity=IntensityConfig(**{name: EVERYTHING[name]}))
    ours = np.array([float(_intensities(config, np.random.default_rng(seed))[name]) for seed in range(2000)])
    transform.set_random_state(0)
    theirs = []
    while len(theirs) < 1000:
        transform.randomize()
        theirs += [getattr(transform, attribute)] * transform._do_transform
    assert abs((ours == neutral).mean() - 0.5) < 0.05
    assert stats.ks_2samp(ours[ours != neutral], theirs).pvalue > 1e-4


def test_motions_noise_and_profiles_are_as_likely_as_with_monai():
    config = PatchConfig(size_voxels=8, rotation_degrees=20, scaling=0.3, intensity={"noise": 0.1, "bias_field": 0.5})
    drawn = [item({"source": study()}, config, np.random.default_rng(seed)) for seed in range(1000)]
    affine = RandAffine(1.0, np.deg2rad(20), scale_range=(0.3, 0.3), spatial_size=(8, 8)).set_random_state(0)
    matrices = []
    for _ in range(1000):
        affine.randomize()
        affine.rand_affine_grid((8, 8), randomize=False)
        matrices.append(affine.rand_affine_grid.get_transformation_matrix()[:2, :2])
    for ours, theirs in zip(
        np.stack([each["source/motion"] for each in drawn]).reshape(-1, 4).T,
        np.stack(matrices).reshape(-1, 4).T, strict=True,
    ):  # fmt: skip
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    noise, field = RandGaussianNoise(0.5, std=0.1), RandBiasField(3, (-0.5, 0.5), prob=0.5)
    deviations, corners = [], []
    for seed in range(1000):
        noise.set_random_state(seed)
        deviations.append(float((noise(torch.zeros(1, 8, 8))).std()))
        field.set_random_state(seed)
        corners.append(float(field(torch.ones(1, 8, 8)).log()[0, 0, 2]))
    assert stats.ks_2samp([float(each["source/noise"].std()) for each in drawn], deviations).pvalue > 1e-4
    third = legvander(np.linspace(-1, 1, 8), 3)[2]
    ours = [float(third @ each["source/bias_field"][:, 0].numpy()) for each in drawn]
    assert stats.ks_2samp(ours, corners).pvalue > 1e-4


SHAPES = pytest.mark.parametrize("shape", [(1, 24, 20), (5, 24, 20), (1, 16, 16, 12)], ids=["2d", "2.5d", "3d"])


def image(shape):
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32))


def varied(given, seed, **settings):
    """``given`` as a patch whose numbers are drawn by a seed."""
    length = {"length_voxels": given.shape[2]}
    if given.dim() == 4:
        config = PatchConfig(dimensions="3", size_voxels=given.shape[1], depth_voxels=given.shape[3], **length)
    else:
        neighbours = {"dimensions": "2.5", "neighbours": given.shape[0] // 2} if given.shape[0] > 1 else {}
        config = PatchConfig(size_voxels=given.shape[1], **length, **neighbours)
    config = config.model_copy(update={"intensity": IntensityConfig(**settings)})
    by = default_collate([_intensities(config, np.random.default_rng(seed))])
    return augmentation.varied(given[None], by)[0]


@SHAPES
def test_intensities_are_those_of_monai(shape):
    given = image(shape)
    unit = (given + 1) / 2
    changed = 0
    for seed in range(8):
        for name in EVERYTHING:
            config = PatchConfig(
                **({"dimensions": "3", "depth_voxels": shape[3]} if len(shape) == 4 else {}),
                size_voxels=shape[1], length_voxels=shape[2], intensity={name: EVERYTHING[name]},
            )  # fmt: skip
            by = _intensities(config, np.random.default_rng(seed))
            if name == "bias_field":
                random = np.random.default_rng(seed)
                on, coefficients = random.random(5)[1] < 0.5, random.uniform(-0.5, 0.5, (4,) * len(config.shape))
                field = RandBiasField(3, (-0.5, 0.5))
                powers = np.indices(coefficients.shape)
                kept = np.tril(np.ones((4, 4), bool)) if len(shape) == 3 else powers.sum(axis=0) <= 3
                profile = field._generate_random_field(shape[1:], 3, coefficients[kept] * on)
                expected = unit * torch.from_numpy(np.exp(profile))
            elif name == "noise":
                expected = unit + by["noise"][:1]
            else:
                monai = {"gamma": AdjustContrast, "contrast": ScaleIntensityFixedMean, "brightness": ShiftIntensity}
                expected = monai[name](float(by[name]))(unit)
            found = varied(given, seed, **{name: EVERYTHING[name]})
            if name == "noise" and shape[0] > 1:
                continue
            expected = torch.as_tensor(expected).clamp(0, 1) * 2 - 1
            assert float((found - expected).abs().max()) < 1e-5 * WINDOW
            changed += not torch.allclose(found, given)
    assert changed > 10


@SHAPES
def test_a_varied_patch_keeps_its_shape_and_range_and_is_a_function_of_the_seed(shape):
    given = image(shape)
    kept = given.clone()
    for seed in range(8):
        found = varied(given, seed, **EVERYTHING)
        assert found.shape == given.shape
        assert -1 <= float(found.min()) <= float(found.max()) <= 1
        assert torch.equal(found, varied(given, seed, **EVERYTHING))
    assert torch.equal(given, kept)
    assert any(
        not torch.equal(varied(given, 0, **EVERYTHING), varied(given, seed, **EVERYTHING)) for seed in range(1, 8)
    )


def test_gamma_is_a_power_of_the_unit_range_within_its_bounds():
    given = torch.linspace(-1, 1, 101).reshape(1, 101, 1)
    middles = [float(varied(given, seed, gamma=0.4)[0, 50, 0] + 1) / 2 for seed in range(40)]
    exponents = np.log(middles) / np.log(0.5)
    assert exponents.min() >= 0.6 - 1e-4
    assert exponents.max() <= 1 / 0.6 + 1e-4
    assert bool((varied(given, 1, gamma=0.4).diff(dim=1) >= -1e-6).all())
    assert np.ptp(exponents) > 0.2
    assert sum(abs(exponent - 1) < 1e-6 for exponent in exponents) in range(8, 33), "half of the patches stay"


@SHAPES
def test_contrast_scales_distances_to_the_mean_and_brightness_shifts_within_their_bounds(shape):
    given = 0.3 * image(shape)  # far enough from the window's ends
    scales, shifts = [], []
    for seed in range(30):
        scaled, shift = varied(given, seed, contrast=0.2), varied(given, seed, brightness=0.1) - given
        assert float(scaled.mean()) == pytest.approx(float(given.mean()), abs=1e-5)
        scales.append(float(scaled.std() / given.std()))
        torch.testing.assert_close((scaled - scaled.mean()) / scales[-1], given - given.mean(), atol=1e-5, rtol=0)
        torch.testing.assert_close(shift, torch.full_like(shift, float(shift.mean())), atol=1e-6, rtol=0)
        shifts.append(float(shift.mean()) / 2)  # the window is 2 wide
    assert 0.8 - 1e-4 <= min(scales) < max(scales) - 0.1
    assert max(scales) <= 1.2 + 1e-4
    assert sum(abs(scale - 1) < 1e-6 for scale in scales) in range(5, 26), "half of the patches stay"
    assert max(map(abs, shifts)) <= 0.1 + 1e-6
    assert np.ptp(shifts) > 0.05


def test_zeros_vary_nothing_and_any_amount_varies():
    assert not _intensities(PatchConfig(), np.random.default_rng(0))
    assert not IntensityConfig().varies
    assert all(IntensityConfig(**{name: 0.1}).varies for name in IntensityConfig.model_fields)


def test_a_coil_profile_is_smooth_and_the_same_in_every_slice():
    given = torch.full((3, 32, 32), -0.5)
    profiles = [varied(given, seed, bias_field=0.3) for seed in range(10)]
    changed = [profile for profile in profiles if not torch.allclose(profile, given)]
    assert changed
    for profile in changed:
        assert torch.equal(profile[0], profile[2])
        assert float(profile.diff(dim=1).abs().max()) < 0.4 * float(profile.max() - profile.min())
