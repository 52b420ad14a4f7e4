from dataclasses import replace

import numpy as np
import pytest
import torch

from labelled_cases import case_of
from medgan.config import load
from medgan.errors import ConfigError, DataError
from medgan.synthesis.patches import ConditionConfig, LesionConfig, LesionPatches, class_of
from medgan.synthesis.placement import body_coordinates

SHAPE = (40, 40, 12)
PATCHES = {"2d": {"dimensions": 2, "size_voxels": 12}, "3d": {"dimensions": 3, "size_voxels": 12, "depth_voxels": 6}}
STILL = {"rotation_degrees": 0, "scaling": 0}


def case(subject="s1", lesions=((20, 20, 5), (8, 30, 9))):
    """Noise with a lesion at each place; the first two voxels along x lie beside the body."""
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for x, y, z in lesions:
        labels[x - 1 : x + 2, y - 1 : y + 2, z : z + 2] = 1
    whole = case_of(labels, 100 + 60 * labels, subject, noise=5, seed=len(lesions))
    whole.image.voxels[:2] = 0
    return replace(whole, image=replace(whole.image, body=((2, 40), (0, 40), (0, 12))))


def config(patch, **changes):
    return LesionConfig(patch=PATCHES[patch] | changes.pop("vary", STILL), **changes)


@pytest.fixture(params=PATCHES)
def kind(request):
    return request.param


def test_a_patch_is_a_function_of_seed_and_number(kind):
    vary = {"rotation_degrees": 20, "scaling": 0.2, "flip": True, "intensity": {"noise": 0.05}}
    first, again, other = (LesionPatches([case()], config(kind, vary=vary), seed=seed) for seed in (3, 3, 4))
    for number in (5, 0, 5):
        assert all(torch.equal(first[number][key], again[number][key]) for key in first[number])
    assert not torch.equal(first[0]["image"], other[0]["image"])
    assert not torch.equal(first[0]["image"], first[1]["image"])


def test_a_lesion_lies_in_the_middle_of_its_patch_but_for_the_jitter(kind):
    def reach(jitter, count):
        patches = LesionPatches([case()], config(kind, lesion_share=1, jitter=jitter), seed=0)
        middle = (torch.tensor(patches.config.shape) - 1) / 2
        off = [torch.nonzero(patches.patch(n)["labels"][0]).double().mean(dim=0) - middle for n in range(count)]
        return torch.stack(off).abs().amax(dim=0)

    assert reach(0, 8).max() <= 0.5
    assert 1.5 < reach(0.25, 40)[:2].max() <= 0.25 * 12 + 0.5


def test_image_and_labels_show_the_same_place(kind):
    patches = LesionPatches([case()], config(kind, lesion_share=1), seed=0)
    patch = patches.patch(3)
    inside = patch["labels"] > 0
    assert patch["image"].shape == patch["labels"].shape == (1, *patches.config.shape)
    assert patch["image"][inside].min() > patch["image"][~inside].max()


def test_the_others_are_healthy_and_on_tissue_where_there_is_any(kind):
    patches = LesionPatches([case()], config(kind, lesion_share=0), seed=0)
    middle = tuple(size // 2 for size in patches.config.shape)
    for number in range(16):
        patch = patches.patch(number)
        assert not patch["labels"].any()
        assert patch["image"][(0, *middle)] > -0.9
    full = replace(case(), labels=np.ones(SHAPE, dtype=np.uint8))
    assert LesionPatches([full], config(kind, lesion_share=0), seed=0).patch(0)["labels"].any()


def test_as_many_patches_have_a_lesion_as_is_asked(kind):
    patches = LesionPatches([case()], config(kind, lesion_share=0.5, jitter=0), seed=0)
    share = np.mean([bool(patches.patch(number)["labels"].any()) for number in range(60)])
    assert 0.35 < share < 0.65


def test_every_lesion_is_drawn_as_often_whoever_has_it():
    lesions = [case("one", ((20, 20, 5),)), case("many", ((8, 8, 2), (8, 30, 2), (30, 8, 8)))]
    ask = config("3d", lesion_share=1, condition=ConditionConfig(scanners={"a": ("one",), "b": ("many",)}))
    patches = LesionPatches(lesions, ask, seed=0)
    of_one = np.mean([patches.patch(number)["condition"][0].item() for number in range(120)])
    assert 0.15 < of_one < 0.35


def test_the_condition_is_what_the_patch_shows(kind):
    ask = config(kind, lesion_share=0.5, condition=ConditionConfig(classes=True, size_edges_voxels=(9, 18)))
    patches = LesionPatches([case()], ask, seed=0)
    for number in range(12):
        patch = patches.patch(number)
        vector = patch["condition"].tolist()
        marked = int(patch["labels"].gt(0).sum())
        assert vector[:2] == ([0, 1] if marked else [1, 0])
        assert vector[2:] == [float(0 < marked < 9), float(9 <= marked < 18), float(marked >= 18)]
    assert patches.config.condition_size == 5


def test_a_place_is_told_in_the_bodys_box_as_where_lesions_are_inserted(kind):
    ask = config(kind, lesion_share=1, jitter=0, condition=ConditionConfig(location=True))
    subject = case(lesions=((20, 20, 5),))
    x, y, z = LesionPatches([subject], ask, seed=0).patch(0)["condition"].tolist()
    assert (x, y) == pytest.approx(body_coordinates(subject.image, (20, 20, 0))[:2])
    heights = [body_coordinates(subject.image, (20, 20, at))[2] for at in ((5, 6) if kind == "2d" else (5.5,))]
    assert min(abs(z - height) for height in heights) < 1e-6


def test_healthy_patches_keep_clear_of_lesions_however_they_are_scaled():
    """In one case every place is 47 or 48 voxels from a lesion: a patch of 64 that shows more than half as much again
    reaches it. The other case is healthy.
    """
    labels = np.zeros((128, 128, 1), dtype=np.uint8)
    free = case_of(labels, 100)
    labels[10] = 1
    near = replace(case_of(labels, 100), image=replace(free.image, body=((57, 59), (0, 128), (0, 1))))
    wide = LesionConfig(patch={"size_voxels": 64, "rotation_degrees": 0, "scaling": 0.9}, lesion_share=0)
    patches = LesionPatches([near, free], wide, seed=0)
    assert not any(patches.patch(number)["labels"].any() for number in range(40))


def test_what_touches_at_a_corner_is_one_lesion():
    corners = np.zeros(SHAPE, dtype=np.uint8)
    corners[10, 10, 4], corners[11, 11, 5] = 1, 1
    patches = LesionPatches([replace(case(), labels=corners)], config("3d", lesion_share=1, jitter=0), seed=0)
    assert all(patches.patch(number)["labels"].sum() == 2 for number in range(4))
    middle = torch.nonzero(patches.patch(0)["labels"][0]).double().mean(dim=0)
    assert (middle - (torch.tensor(patches.config.shape) - 1) / 2).abs().max() <= 0.5


def test_subjects_without_a_lesion_teach_none():
    with pytest.raises(DataError, match="none of 1 subjects has a voxel of lesion; check `labels` and the masks"):
        LesionPatches([case(lesions=())], config("2d"), seed=0)


NAMES = ("core", "oedema")
ALL = ConditionConfig(
    classes=True, size_edges_voxels=(4, 16), location=True, scanners={"one": ("s1", "s2"), "two": ("s3",)}
)


def marked(shape, core=0, oedema=0):
    labels = np.zeros(np.prod(shape), dtype=np.int64)
    labels[:core], labels[core : core + oedema] = 1, 2
    return labels.reshape(shape)


CLASSES, EDGES = {"classes": True}, {"size_edges_voxels": (4, 16)}


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)], ids=["2d", "3d"])
@pytest.mark.parametrize(
    ("blocks", "counts", "vector"),
    [
        ({}, (3, 0), []),
        (CLASSES, (0, 0), [1, 0, 0]),
        (CLASSES, (3, 0), [0, 1, 0]),
        (CLASSES, (3, 4), [0, 0, 1]),
        (CLASSES, (3, 3), [0, 1, 0]),  # the first of equals
        (EDGES, (0, 0), [0, 0, 0]),  # a healthy patch is in no bin
        (EDGES, (3, 0), [1, 0, 0]),
        (EDGES, (4, 0), [0, 1, 0]),  # a bin begins at its edge
        (EDGES, (15, 0), [0, 1, 0]),
        (EDGES, (8, 8), [0, 0, 1]),
    ],
)
def test_a_patch_is_of_the_name_that_most_of_its_voxels_have_and_in_the_bin_of_its_size(shape, blocks, counts, vector):
    assert ConditionConfig(**blocks).vector(NAMES, marked(shape, *counts), (0, 0, 0), "s1").tolist() == vector
    assert class_of(marked(shape), 2) == 0


def test_blocks_follow_one_another_places_end_at_the_bodys_edge_and_who_was_in_no_scanner_is_of_none():
    vector = ALL.vector(NAMES, marked((8, 8), oedema=5), (-1.4, 0.5, 3.0), "s3")
    assert list(ALL.blocks(NAMES)) == ["class", "size", "location", "scanner"]
    assert vector.tolist() == [0, 0, 1, 0, 1, 0, -1, 0.5, 1, 0, 1]
    assert len(vector) == sum(ALL.blocks(NAMES).values())
    assert ALL.vector(NAMES, marked((8, 8)), (0, 0, 0), "new")[-2:].tolist() == [0, 0]


@pytest.mark.parametrize(("dimensions", "shape"), [(2, (24, 24)), (3, (24, 24, 8))])
def test_patch_and_condition_have_the_sizes_that_networks_are_built_for(dimensions, shape):
    depth = {"depth_voxels": 8} if dimensions == 3 else {}
    config = LesionConfig(
        labels={"a": 1, "b": 2},
        patch={"dimensions": dimensions, "size_voxels": 24, **depth},
        condition=ConditionConfig(classes=True, location=True),
    )
    assert (config.names, config.spatial, config.shape, config.condition_size) == (("a", "b"), dimensions, shape, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition": {"size_edges_voxels": (4, 4)}}, "size_edges_voxels must rise"),
        ({"condition": {"size_edges_voxels": (9, 4)}}, "size_edges_voxels must rise"),
        ({"patch": {"dimensions": 2.5}}, r"patch.dimensions=2.5 translates a slice by its neighbours"),
        ({"labels": {"a": 1, "b": [1, 2]}}, "labels: value 1 belongs to both a and b"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        load(LesionConfig, settings)


def test_labels_that_are_named_are_the_only_ones_and_a_value_may_stand_for_a_list_of_one():
    both = load(LesionConfig, {"labels": {"anterior": 1}}, {"labels": {"posterior": [2, 3]}})
    assert both.labels == {"anterior": (1,), "posterior": (2, 3)}
    assert load(LesionConfig, {}).names == ("lesion",)
