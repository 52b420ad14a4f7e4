import functools
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medgan import catalog
from medgan.config import flattened, from_overrides, read_yaml
from medgan.data.cache import Cache
from medgan.data.preparation import direction
from medgan.data.splits import Split
from medgan.data.studies import find_cohort
from medgan.errors import ConfigError, DataError, GeometryError
from medgan.phantom.kinds import KINDS
from medgan.segmentation.segmenter import Segmenter
from medgan.synthesis.generators import learner_of

SHIPPED = {path.stem: path for path in Path(str(files("medgan.configs"))).glob("*.yaml")}
FORMS = [
    pytest.param(name, size, phantom, id=f"{name}-{size}{'-phantom' if phantom else ''}")
    for name in catalog.names()
    for size in ("small", "full")
    for phantom in (False, True)
]
LEARNERS = {
    "lesion_augmentation": learner_of,
    "lesion_classification": lambda config: config.method.learner(config.classifier, config),
    "segmentation": Segmenter,
}
"""Of pipelines that do not translate."""


def contrast(*layers, on_phantom=False, on_cpu=True):
    return catalog.load("ct_contrast").configured(*layers, on_phantom=on_phantom, on_cpu=on_cpu)


def shown(pipeline):
    return flattened(pipeline.config.model_dump(mode="json"))


def agrees(value, said):
    return value == said or str(value) == str(said)


@pytest.mark.parametrize(("name", "size", "phantom"), FORMS)
def test_every_form_that_is_shipped_is_whole_and_says_what_its_files_say(name, size, phantom):
    pipeline = catalog.load(name).configured({"size": size}, on_phantom=phantom, on_cpu=True)
    layers = [name, f"{name}_small" if size == "small" else "", f"{name}_phantom" if phantom else ""]
    said = {}
    for layer in layers:
        said |= flattened(read_yaml(SHIPPED[layer])) if layer in SHIPPED else {}
    values = shown(pipeline)
    assert {key: values[key] for key, wanted in said.items() if not agrees(values[key], wanted)} == {}
    assert pipeline.config.size == size
    learner = LEARNERS.get(name, lambda config: pipeline.learner())(pipeline.config)
    assert set(learner.kept) <= learner.networks().keys()


def test_every_shipped_file_belongs_to_a_pipeline():
    forms = ("_small", "_quick", "_phantom", "_benefit", "_cyclegan", "_progressive", "_conditional", "_acgan")
    for stem in SHIPPED:
        name = functools.reduce(str.removesuffix, forms, stem)
        assert name in catalog.names(), stem


@pytest.mark.parametrize(("on_phantom", "spacing_mm", "anchor"), [(False, 2.0, 10.0), (True, None, 0.0)])
def test_a_translator_that_is_asked_for_brings_its_own_settings(on_phantom, spacing_mm, anchor):
    kind = catalog.load("mr_to_ct")
    asked = kind.configured({"translator": "cyclegan"}, on_phantom=on_phantom, on_cpu=True).config
    assert (asked.grid.spacing_mm[0], asked.cyclegan.anchor) == (spacing_mm, anchor)
    assert kind.configured(on_phantom=on_phantom, on_cpu=True).config.grid.spacing_mm[0] is None
    own = {"translator": "cyclegan", "grid": {"spacing_mm": [1, 1, None]}}
    assert kind.configured(own, on_phantom=False, on_cpu=True).config.grid.spacing_mm[0] == 1
    assert asked.split == kind.settings().split, "a setting in no file is its default"


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("asked", [None, "auto", "small", "full"])
def test_auto_takes_the_size_from_the_device_and_what_is_asked_for_is_taken_on_any(asked, on_cpu):
    pipeline = contrast({"size": asked} if asked else {}, on_cpu=on_cpu)
    by_device = asked in (None, "auto")
    expected = ("small" if on_cpu else "full") if by_device else asked
    assert (pipeline.config.size, pipeline.sized_by_device) == (expected, by_device)


def test_the_users_file_wins_over_shipped_ones_and_overrides_win_over_all(tmp_path):
    (tmp_path / "own.yaml").write_text("size: full\npatch: {size_voxels: 64}\nfit: {epochs: 7, batch_size: 3}\n")
    pipeline = contrast(tmp_path / "own.yaml", {"fit": {"epochs": 9}}, on_phantom=True)
    config = pipeline.config
    assert (config.size, config.patch.size_voxels, config.fit.epochs, config.fit.batch_size) == ("full", 64, 9, 3)
    assert config.patch.scaling == read_yaml(SHIPPED["ct_contrast"])["patch"]["scaling"]
    network = contrast({"generator": {"network": {"kind": "unet", "downs": 3}}}).config.generator.network
    assert (network.kind, network.downs, network.channels) == ("unet", 3, 64), "another kind forgets the one before"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "huge"}, "setting 'size': .*'auto', 'small' or 'full'"),
        ({"window": {"lower": 0.0}}, "change from -50 to 600 reaches beyond the window"),
        ({"patch": {"size_voxels": 100}}, "patches of 100 x 100 voxels do not fit generator.network .*multiple of 16"),
        (
            {"patch": {"size_voxels": 32}, "discriminator": {"receptive_field": 142}},
            "patches of 32 x 32 voxels do not fit discriminator",
        ),
        (
            {"patch": {"dimensions": 3, "size_voxels": 64, "depth_voxels": 8}},
            "patches of 64 x 64 x 8 voxels do not fit generator.network",
        ),
        ({"phantom_pairs": {"subjects": 0}, "cyclegan": {"anchor": 3}}, "cyclegan.anchor=3 needs simulated pairs"),
        (
            {"cyclegan": {"anchor": 0, "anchor_iterations": 9}},
            "'cyclegan': anchor_iterations=9 train on an anchor of no",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(settings, message):
    with pytest.raises(ConfigError, match=message):
        contrast(settings)


@pytest.fixture
def small(tiny):
    """A pipeline for the made-up scans; shipped files play no part."""

    def make(paired=False, **settings):
        translator = "pix2pix" if paired else "cyclegan"
        return contrast(from_overrides(tiny), {"translator": translator, **settings})

    return make


FOUR = Split(train=("s0", "s1"), validation=("s2", "s3"), test=("s4", "s5"), files={})


def test_unpaired_subjects_are_prepared_domain_by_domain_and_never_misaligned(small, unpaired, tmp_path):
    pipeline, cache = small(misalignment_voxels=3), Cache(tmp_path)
    cohort = find_cohort(unpaired, pipeline.pair)
    data = pipeline.task(cohort, FOUR, cache)
    (target,) = data.patches.target
    assert np.array_equal(target.voxels, small().prepared(FOUR.part(cohort, "train"), cache)[1][0].voxels)
    sides = (data.patches.source, data.patches.target, data.held_out.source, data.held_out.target)
    assert [len(side) for side in sides] == [1, 1, 1, 1]
    assert all(side[0].voxels.max() > 500 for side in sides)
    assert data.facts["intensities"].keys() == data.facts["scans"].keys() == {"contrast", "plain"}
    bright = [np.count_nonzero((side[0].voxels > 200) & (side[0].voxels < 500)) for side in sides]
    assert min(bright[0], bright[2]) > 10 * max(bright[1], bright[3])


@pytest.mark.parametrize("voxels", [0, 3])
def test_only_training_targets_are_misaligned_each_in_its_subjects_direction(small, paired, tmp_path, voxels):
    pipeline = small(paired=True, misalignment_voxels=voxels, seed=1)
    cohort, cache = find_cohort(paired, pipeline.pair), Cache(tmp_path)
    split = Split(train=("s0", "s1", "s2"), validation=("s3",), test=(), files={})
    data = pipeline.task(cohort, split, cache)
    true_source, true_target = small(paired=True).prepared(cohort, cache)
    for number, target in enumerate(data.patches.target):
        right, anterior = direction(f"s{number}", 1)
        moved = (voxels * right, voxels * anterior, 0)
        expected = ndimage.shift(true_target[number].voxels, moved, order=0, mode="nearest")
        assert np.array_equal(target.voxels, expected)
        assert np.array_equal(data.patches.source[number].voxels, true_source[number].voxels)
    assert np.array_equal(data.held_out.target[0].voxels, true_target[3].voxels)
    assert len(true_source) == len(true_target) == 4
    for one, other in zip(true_source, true_target, strict=True):  # prepared pair by pair
        still = one.voxels < 0
        assert np.array_equal(one.voxels[still], other.voxels[still])
        assert one.voxels[16, 18].mean() > other.voxels[16, 18].mean() + 200


@pytest.mark.parametrize(
    ("paired", "train", "validation", "message"),
    [
        (False, ("s0", "s1"), ("s2",), "no validation subject has plain"),
        (False, ("s1",), ("s2", "s3"), "no training subject has contrast"),
        (False, ("s0", "s1"), (), "no validation subject has contrast or plain"),
        (True, ("s0",), ("s1",), "no training subject has both contrast and plain"),
    ],
)
def test_a_part_that_lacks_a_domain_is_refused_before_anything_is_prepared(
    small, unpaired, tmp_path, paired, train, validation, message
):
    pipeline = small(paired)
    cohort = find_cohort(unpaired, pipeline.pair)
    split = Split(train=train, validation=validation, test=(), files={})
    with pytest.raises(DataError, match=f"{message}; add subjects, or divide them anew"):
        pipeline.task(cohort, split, Cache(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("difference", ["shape", "position"])
def test_a_pair_on_two_grids_is_refused_by_name(small, save_cohort, tmp_path, difference):
    table = save_cohort(tmp_path / "cohort", paired=True, subjects=4)
    image = nib.load(tmp_path / "cohort" / "s1_plain.nii.gz")
    voxels, affine = np.asarray(image.dataobj), image.affine.copy()
    affine[0, 3] += difference == "position"
    nib.Nifti1Image(voxels[:-1] if difference == "shape" else voxels, affine).to_filename(
        tmp_path / "cohort" / "s1_plain.nii.gz"
    )
    pipeline = small(paired=True)
    with pytest.raises(GeometryError, match=r"s1_contrast.*s1_plain.* different voxel grids, .*medgan data register"):
        pipeline.prepared(find_cohort(table, pipeline.pair), Cache(tmp_path))


def test_the_phantom_is_rendered_once_and_kept_for_both_translators(small, small_phantom):
    unpaired = small().cohort(None)
    kept = {path: path.stat().st_mtime_ns for path in small_phantom.rglob("*") if path.is_file()}
    paired = small(paired=True).cohort(None)
    assert (len(unpaired.studies), len(paired.studies)) == (5, 10)
    assert len(paired.pairs(small(paired=True).pair)) == 5
    assert small().cohort(None) == unpaired
    assert {path: path.stat().st_mtime_ns for path in small_phantom.rglob("*") if path.is_file()} == kept


def test_simulated_pairs_stand_beside_the_real_studies(small, unpaired, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    pairs = {"subjects": 1, "shape_voxels": (32, 32, 8)}
    pipeline = small(phantom_pairs=pairs, cyclegan={"anchor": 1.0}, patch={"rotation_degrees": 0, "scaling": 0})
    cohort = find_cohort(unpaired, pipeline.pair)
    data = pipeline.task(cohort, FOUR, Cache(tmp_path))
    patch = data.patches.patch(0)
    assert patch.keys() == {"source", "target", "anchor_source", "anchor_target"}
    assert len(data.held_out.source) == 1
    sides = [np.stack([data.patches.patch(n)[f"anchor_{side}"] for n in range(8)]) for side in ("source", "target")]
    assert np.corrcoef(*(side.ravel() for side in sides))[0, 1] > 0.8
    assert sides[0].mean() > sides[1].mean()


@pytest.mark.parametrize("name", catalog.names())
def test_the_phantom_of_a_pipeline_has_its_domains(name):
    pipeline = catalog.load(name).configured(on_phantom=True, on_cpu=True)
    phantom = KINDS[pipeline.phantom]
    alone = pipeline.pair.source == pipeline.pair.target
    assert pipeline.pair.source.name in phantom.scans if alone else phantom.domains == pipeline.pair.names
    assert phantom.mask == "lesions" or not name.startswith("lesion")
