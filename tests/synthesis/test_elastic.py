from dataclasses import replace

import numpy as np
import pytest

from medgan.data.preparation import Prepared
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Synthetic
from medgan.synthesis.methods import Bent, Elastic
from medgan.synthesis.shapes import ShapeConfig

SHAPES = {"one slice": (40, 40, 1), "3d": (40, 40, 16)}
BENT = ShapeConfig(deformation_mm=2.0, smoothness_mm=6.0)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def case(request):
    shape = request.param
    labels = np.zeros(shape, dtype=np.uint8)
    labels[10:22, 12:30], labels[22:28, 12:30] = 1, 2
    image = Prepared((50.0 * labels).astype(np.float32), np.eye(4), tuple((0, size) for size in shape), (0.0, 100.0))
    return Labelled("s1", image, labels)


def bent(case, config=BENT, seed=0):
    return Elastic(config).synthesise(case, [], np.random.default_rng(seed))


def test_image_and_labels_are_bent_alike(case):
    made = bent(case).case
    marked = np.rint(made.image.voxels / 50).astype(np.uint8)
    assert not np.array_equal(made.labels, case.labels)
    # Between two labels a bent image takes every value on the way; elsewhere it says which label lies there.
    assert np.mean(marked != made.labels) < 0.03


def test_nothing_is_bent_by_no_deformation(case):
    made = bent(case, ShapeConfig(deformation_mm=0)).case
    assert np.array_equal(made.labels, case.labels)
    assert np.array_equal(made.image.voxels, case.image.voxels)


def test_equal_chance_gives_equal_cases_and_leaves_the_recipient(case):
    before = case.image.voxels.copy(), case.labels.copy()
    one, again, other = (bent(case, seed=seed).case for seed in (1, 1, 2))
    assert np.array_equal(one.image.voxels, again.image.voxels)
    assert np.array_equal(one.labels, again.labels)
    assert not np.array_equal(one.labels, other.labels)
    assert np.array_equal(before[0], case.image.voxels)
    assert np.array_equal(before[1], case.labels)


def test_it_says_whose_it_is_and_how_much_was_bent(case):
    made = bent(case)
    assert made.parents == ("s1",)
    assert made.how == {"method": "elastic", "deformation_mm": 2.0}


class Brighter:
    name = "brighter"

    def synthesise(self, recipient, donors, rng):
        image = replace(recipient.image, voxels=recipient.image.voxels + 100)
        return Synthetic(replace(recipient, image=image), ("s1", "s2"), {"method": self.name})


def test_cases_of_another_method_are_bent_and_stay_its_own(case):
    made = Bent(Brighter(), Elastic(BENT)).synthesise(case, [], np.random.default_rng(0))
    assert (made.parents, made.how["method"], made.how["deformation_mm"]) == (("s1", "s2"), "brighter", 2.0)
    alone = bent(case).case
    assert np.array_equal(made.case.labels, alone.labels)
    np.testing.assert_allclose(made.case.image.voxels, alone.image.voxels + 100, atol=1e-3)


def test_labels_move_by_about_what_was_asked():
    shape = (64, 64, 24)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[:32] = 1
    image = Prepared(labels.astype(np.float32), np.eye(4), tuple((0, size) for size in shape), (0.0, 1.0))
    made = bent(Labelled("s1", image, labels)).case.labels
    moved = made.sum(axis=0).astype(float) - 32
    assert 1.0 < np.sqrt((moved**2).mean()) < 3.5
