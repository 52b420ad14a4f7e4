import numpy as np
import pytest
from pydantic import ValidationError

from medgan.synthesis.patches import ConditionConfig, class_of

NAMES = ("core", "oedema")
PATCHES = {"2d": (8, 8), "3d": (8, 8, 4)}
ALL = ConditionConfig(
    classes=True, size_edges_voxels=(4, 16), location=True, scanners={"one": ("s1", "s2"), "two": ("s3",)}
)


def marked(shape, core=0, oedema=0):
    labels = np.zeros(np.prod(shape), dtype=np.int64)
    labels[:core], labels[core : core + oedema] = 1, 2
    return labels.reshape(shape)


@pytest.mark.parametrize("shape", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize(
    ("counts", "block"),
    [((0, 0), [1, 0, 0]), ((3, 0), [0, 1, 0]), ((3, 4), [0, 0, 1]), ((3, 3), [0, 1, 0])],
    ids=["healthy", "core", "more oedema than core", "the first of equals"],
)
def test_a_patch_is_of_the_name_that_most_of_its_voxels_have(shape, counts, block):
    vector = ConditionConfig(classes=True).vector(NAMES, marked(shape, *counts), (0, 0, 0), "s1")
    assert vector.tolist() == block


@pytest.mark.parametrize("shape", PATCHES.values(), ids=PATCHES)
@pytest.mark.parametrize(
    ("voxels", "block"), [(0, [0, 0, 0]), (3, [1, 0, 0]), (4, [0, 1, 0]), (15, [0, 1, 0]), (16, [0, 0, 1])]
)
def test_a_bin_begins_at_its_edge_and_a_healthy_patch_is_in_none(shape, voxels, block):
    config = ConditionConfig(size_edges_voxels=(4, 16))
    assert config.vector(NAMES, marked(shape, voxels), (0, 0, 0), "s1").tolist() == block


def test_blocks_follow_one_another_in_the_order_that_is_told():
    vector = ALL.vector(NAMES, marked((8, 8), oedema=5), (-1, 0, 0.5), "s3")
    assert list(ALL.blocks(NAMES)) == ["class", "size", "location", "scanner"]
    assert vector.tolist() == [0, 0, 1, 0, 1, 0, -1, 0, 0.5, 0, 1]
    assert len(vector) == sum(ALL.blocks(NAMES).values())


def test_a_place_beside_the_body_is_taken_as_at_its_edge():
    vector = ConditionConfig(location=True).vector(NAMES, marked((8, 8)), np.array([-1.4, 0.25, 3.0]), "s1")
    assert vector.tolist() == [-1, 0.25, 1]


def test_a_subject_that_no_scanner_has_seen_is_in_none():
    assert ALL.vector(NAMES, marked((8, 8)), (0, 0, 0), "new")[-2:].tolist() == [0, 0]


def test_nothing_is_asked_by_default():
    assert ConditionConfig().blocks(NAMES) == {}
    assert ConditionConfig().vector(NAMES, marked((8, 8), 3), (0, 0, 0), "s1").shape == (0,)


def test_the_class_of_nothing_is_none_of_the_names():
    assert class_of(marked((8, 8)), 2) == 0


@pytest.mark.parametrize("edges", [(4, 4), (9, 4)])
def test_edges_must_rise(edges):
    with pytest.raises(ValidationError, match="size_edges_voxels must rise"):
        ConditionConfig(size_edges_voxels=edges)
