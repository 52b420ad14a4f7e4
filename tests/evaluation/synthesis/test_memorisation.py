"""Copies: planted ones are found and traced, others are not taken for copies; and the sheets that show them."""

import numpy as np
import pytest
from PIL import Image, ImageColor
from scipy import ndimage

from medgan.errors import DataError
from medgan.evaluation.synthesis.memorisation import (
    Nearest,
    Threshold,
    _aligned_distances,
    contact_sheet,
    nearest,
)
from medgan.evaluation.synthesis.patches import Patches, PatchOrigin, blurred, collapsed
from medgan.pictures.tiles import GAP, OUTLINES, SIDE, STRIP


@pytest.fixture(scope="module")
def world(shape, make_lesions):
    """Training patches, others of other subjects, and the threshold that both give."""
    training, held_out = make_lesions(40, shape), make_lesions(40, shape, seed=1)
    return training, held_out, Threshold.of(nearest(held_out, training, real=True))


def noisy(images):
    return images + np.random.default_rng(0).normal(0, 0.05, images.shape).astype(np.float32)


CHANGES = {
    "noisy": noisy,
    "shifted": lambda images: np.roll(images, 1, axis=(1, 2)),
    "mirrored": lambda images: images[:, ::-1].copy(),
    "brighter": lambda images: 0.7 * images + 0.2,
    "turned": lambda images: ndimage.rotate(images, 5, axes=(1, 2), reshape=False, order=1, mode="nearest"),
}


def test_copies_are_found_and_traced_to_what_they_copy(world, make_lesions):
    training, held_out, threshold = world
    ways, count = list(CHANGES.values()), len(CHANGES)
    images = np.concatenate([change(training.images[n : n + 1]) for n, change in enumerate(ways)])
    planted = Patches(images, training.labels[:count], make_lesions(count, (2, 2), seed=9).origins)
    found = nearest(Patches.joined([planted, held_out]), training, real=False)
    assert threshold.suspects(found)[:count].all()
    assert found.which[:count].tolist() == list(range(count))
    assert threshold.suspects(found)[count:].mean() <= 0.05
    assert "COPIES" in threshold.verdict(found)


def test_new_real_patches_are_no_copies(world, shape, make_lesions):
    training, _, threshold = world
    found = nearest(make_lesions(40, shape, seed=2), training, real=True)
    assert threshold.suspects(found).mean() < 0.1
    assert "none found" in threshold.verdict(found)


def test_smooth_or_equal_samples_are_not_taken_for_copies(world):
    training, held_out, threshold = world
    for broken in (blurred(held_out), collapsed(held_out, 0)):
        assert threshold.suspects(nearest(broken, training, real=False)).mean() < 0.1


def test_a_single_copy_among_many_is_enough(world):
    training, held_out, threshold = world
    one = Patches(np.concatenate([training.images[:1], held_out.images[1:]]), held_out.labels, held_out.origins)
    found = nearest(one, training, real=False)
    assert threshold.certainly(found).tolist() == [True] + [False] * 39
    assert "COPIES" in threshold.verdict(found)


def test_distance_is_of_the_highest_correlation_of_any_mirroring_and_shift():
    ramp = np.tile(np.arange(16.0, dtype=np.float32), (16, 1))
    patches = np.stack([ramp, ramp[:, ::-1], ramp.T, np.zeros_like(ramp)])
    found = _aligned_distances(patches, patches, np.ones(patches.shape, dtype=bool))
    # The distance is a root: what 32 bits round off a correlation of 1, some 1e-6, is 1e-3 of distance.
    assert found[0, 1] == pytest.approx(0, abs=5e-3), "a mirror image"
    assert found[0, 2] == pytest.approx(1, abs=1e-3), "a ramp along the other axis is not correlated"
    assert found[0, 3] == found[3, 3] == 1, "nothing correlates with nothing"


def placed(patches, subject, recipient, centre):
    return Patches(patches.images, patches.labels, (PatchOrigin(subject, f"{subject}#1", recipient, centre),))


def test_what_surrounds_an_inserted_lesion_is_no_copy_but_a_lesion_from_elsewhere_is(make_lesions):
    patch = make_lesions(1, (16, 16))
    training = placed(patch, "s1", None, (50.0, 50.0, 9.0))
    same_place = placed(patch, "made", "s1", (52.0, 49.0, 9.0))
    elsewhere = placed(patch, "made", "s1", (90.0, 49.0, 9.0))
    assert np.isinf(nearest(same_place, training, real=False).distance[0])
    assert nearest(elsewhere, training, real=False).distance[0] == pytest.approx(0, abs=1e-3)
    assert nearest(patch, patch, real=False).distance[0] == pytest.approx(0, abs=1e-3)
    assert np.isinf(nearest(patch, patch, real=True).distance[0]), "real ones, with other subjects only"
    assert Threshold.of(nearest(patch, patch, real=True)) == Threshold(0.0, 0.0, 0.0)


def test_a_lesion_pasted_with_its_rim_into_other_tissue_is_found(world):
    training, held_out, threshold = world
    cross = ndimage.generate_binary_structure(training.labels.ndim - 1, 1)[None]
    inside = ndimage.binary_dilation(training.labels[:10] == 1, cross, iterations=4)
    pasted = Patches(
        np.where(inside, noisy(training.images[:10]), held_out.images[:10]), training.labels[:10], held_out.origins[:10]
    )
    found = nearest(pasted, training, real=False)
    assert threshold.suspects(found).mean() >= 0.7
    assert "COPIES" in threshold.verdict(found)
    assert (found.which == np.arange(10))[threshold.suspects(found)].all()


def test_only_what_is_marked_is_correlated(make_lesions):
    one, other = make_lesions(2, (16, 16)).images, make_lesions(3, (16, 16), seed=1).images
    where = np.zeros(one.shape, dtype=bool)
    where[:, 5:12, 4:13] = True
    found = _aligned_distances(one, other, where)
    smooth = [ndimage.gaussian_filter(each, (0, 1, 1), mode="nearest") for each in (one, other)]
    marked = [
        (flip(smooth[0][0])[2 + x : 14 + x, 2 + y : 14 + y], flip(where[0])[2 + x : 14 + x, 2 + y : 14 + y])
        for flip in (lambda a: a, lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a[::-1, ::-1])
        for x in range(-2, 3)
        for y in range(-2, 3)
    ]
    best = max(np.corrcoef(image[at], smooth[1][2][2:14, 2:14][at])[0, 1] for image, at in marked)
    assert found[0, 2] == pytest.approx(np.sqrt(1 - best), abs=1e-3)


THRESHOLD = Threshold(distance=0.4, ratio=0.8, certain=0.1)


def near(distances, ratio=0.5):
    return Nearest(np.zeros(len(distances), int), np.array(distances), np.full(len(distances), ratio))


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (near([0.5] * 40), "none found. 0 of 40 samples (0%)"),
        (near([0.3, *[0.5] * 39]), "none found. 1 of 40 samples (2%)"),
        (near([0.3] * 10 + [0.5] * 30), "COPIES. 10 of 40 samples (25%) are copies of training patches; see"),
        (near([0.3] * 10 + [0.5] * 30, ratio=1.0), "none found. 0 of 40"),
        (near([0.05, *[0.5] * 39]), "COPIES. 1 of 40 samples (2%) are copies of training patches, 1 of them beyond"),
    ],
    ids=["none", "by chance", "too many", "smooth", "certain"],
)
def test_memorisation_is_said_where_chance_does_not_explain_it(found, verdict):
    assert THRESHOLD.verdict(found).startswith(f"Memorisation: {verdict}")


@pytest.fixture
def drawn(shape, make_lesions, tmp_path):
    def draw(order, suspects=(), samples=None):
        samples, training = samples or make_lesions(8, shape), make_lesions(9, shape, seed=1)
        found = nearest(samples, training, real=False)
        marked = np.isin(np.arange(len(samples)), suspects)
        contact_sheet(samples, training, found, marked, order, tmp_path / "sheet.png")
        return np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)

    return draw


def test_pairs_lie_in_rows_of_three_with_outlines_and_suspects_framed(drawn):
    whole, picture, unframed = drawn(list(range(7))), drawn([3], suspects=[3]), drawn([3])
    assert whole.shape == (3 * picture.shape[0], GAP + 6 * (SIDE + GAP), 3)
    assert picture.shape[1] == GAP + 2 * (SIDE + GAP)
    for left in (GAP, 2 * GAP + SIDE):
        tile = (slice(STRIP, STRIP + SIDE), slice(left, left + SIDE))
        assert (picture[tile][0] == (220, 30, 30)).all()
        assert (np.ptp(unframed[tile][0], axis=1) < 9).all()
        assert (picture[tile] == ImageColor.getrgb(OUTLINES[0])).all(axis=2).any()


def test_a_patch_is_shown_upright_from_the_feet(drawn, shape, make_lesions):
    """As training panels: x, towards the patient's right, runs to the picture's left, and y, to the front, up."""
    samples = make_lesions(1, shape)
    samples.images[:] = -1
    samples.labels[:] = 0
    samples.images[0, 15, 15] = 1
    tile = drawn([0], samples=samples)[STRIP:][:SIDE, GAP : GAP + SIDE]
    assert tile[:12, :12].mean() > 200
    assert tile[40:100, 40:100].mean() < 5


def test_a_sheet_that_cannot_be_written_is_said(make_lesions, tmp_path):
    samples = make_lesions(2, (16, 16))
    found = nearest(samples, samples, real=False)
    (tmp_path / "nowhere").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        contact_sheet(samples, samples, found, np.array([False, False]), [0], tmp_path / "nowhere" / "s.png")
