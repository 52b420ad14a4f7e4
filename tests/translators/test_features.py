"""Features of a frozen segmenter: the term, its controls, and the segmenter that a run trains for itself."""

import copy
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from medgan import catalog
from medgan.data.cache import Cache
from medgan.data.domains import Domain, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.splits import split_subjects
from medgan.errors import ConfigError, DataError, ModelError
from medgan.networks.outputs import centre_channel
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.device import make_fabric
from medgan.training.fit import FitConfig, Interrupted
from medgan.training.model_folder import read_model
from medgan.training.recorder import Recorder
from medgan.training.run import train
from medgan.translators.features import Features, FeaturesConfig

CT = Domain(name="plain", modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
OWN_SPACING = GridConfig(spacing_mm=(None, None, None))
SHAPES = pytest.mark.parametrize("shape", [(16, 16), (16, 16, 8)], ids=["2d", "3d"])
QUIET = Console(quiet=True)


def features(shape=(16, 16), domain=CT, **settings):
    patch = PatchConfig(
        dimensions="3" if len(shape) == 3 else "2", size_voxels=16, depth_voxels=8 if len(shape) == 3 else None
    )
    config = FeaturesConfig(**{"weight": 0.5, "control": "random"} | settings)
    return Features(config, domain=domain, patch=patch, grid=OWN_SPACING, seed=0)


def images(shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [torch.rand((2, 1, *shape), generator=random) * 2 - 1 for _ in range(2)]


@SHAPES
def test_the_distance_is_that_of_unit_vectors_at_each_halving(shape):
    term, (fake, target) = features(shape), images(shape)
    inside = torch.zeros_like(target)
    inside[:, :, :8] = 1
    expected, sizes, maps = [], [], [fake, target]
    for layer in term.encoder:
        maps = [layer(each) for each in maps]
        sizes.append(maps[0].shape[2])
        ours, theirs = (each / each.square().sum(dim=1, keepdim=True).sqrt() for each in maps)
        expected.append((ours - theirs).abs()[:, :, : sizes[-1] // 2].mean())
    assert sizes == ([8, 4, 2, 2] if len(shape) == 2 else [8, 4, 4])
    torch.testing.assert_close(term.distance(fake, target, inside), torch.stack(expected).mean())
    assert term.distance(target, target) == 0
    assert term.distance(fake, target, torch.zeros_like(target)) == 0


def test_an_untrained_network_is_the_same_each_time_and_disturbs_no_random_numbers():
    torch.manual_seed(3)
    undisturbed = torch.rand(1)
    torch.manual_seed(3)
    one, (fake, target) = features(), images((16, 16))
    assert torch.rand(1) == undisturbed
    assert one.distance(fake, target) == features().distance(fake, target)


@pytest.mark.parametrize("kind", ["pix2pix", "registered"])
@pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])
def test_the_term_joins_l1_after_the_warm_up_and_takes_its_share(attached, make_batch, kind, dimensions):
    settings = {"adversarial": "none", "l1": 10.0, "features": {"weight": 0.25, "warm_up": 0.5, "control": "random"}}
    alone, both = (attached(kind, dimensions, **settings) for _ in range(2))
    alone.features = None
    both.features = features((16, 16, 8) if dimensions == "3" else (16, 16), weight=0.25, warm_up=0.5)
    batch = make_batch(both)
    batch["region"] = torch.ones_like(batch["target"])
    both.budget = 4
    with torch.no_grad():
        fake = both.to_target(batch["source"])
        before = both.l1_terms(batch, fake)
        both.iteration = 2
        after = both.l1_terms(batch, fake)
        reference = alone.l1_terms(batch, fake)
    assert before == reference
    torch.testing.assert_close(after["l1"], 0.75 * reference["l1"])
    target = centre_channel(batch["target"])
    # An untrained registration network moves nothing, but for the rounding of an interpolation.
    expected = 0.25 * 10 * both.features.distance(fake, target)
    torch.testing.assert_close(after["features"], expected, rtol=1e-3, atol=1e-5)


def test_the_term_pulls_the_generator_and_leaves_the_segmenter_alone(attached, make_batch):
    translator = attached("pix2pix", output="none", adversarial="none", generator_rate=0.01)
    translator.features = features(warm_up=0.0)
    translator.config = translator.config.model_copy(update={"features": translator.features.config})
    frozen = copy.deepcopy([layer.state_dict() for layer in translator.features.encoder])
    batch = make_batch(translator)
    terms = [float(translator.training_step(batch)["features"]) for _ in range(8)]
    assert terms[-1] < 0.95 * terms[0]
    for layer, before in zip(translator.features.encoder, frozen, strict=True):
        assert not layer.training
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert translator.networks().keys() == {"to_target"}


@pytest.mark.parametrize("settings", [{"labels": "masks"}, {"weight": 0.5, "model": "x", "control": "random"}])
def test_settings_that_would_do_nothing_are_refused(settings):
    with pytest.raises(ValidationError, match=r"without a weight|exclude each other"):
        FeaturesConfig(**settings)


@pytest.fixture
def task(paired):
    """What a run on pairs trains first, and the split of its cohort: ``task("pix2pix.features.weight=0.5")``."""

    def make(tmp_path, **own):
        settings = {
            "translator": "pix2pix", "patch": {"size_voxels": 16}, "grid": {"spacing_mm": [None, None, None]},
            "fit": {"epochs": 8, "iterations_per_epoch": 4}, "generator": {"network": {"downs": 1}},
            "discriminator": {"receptive_field": 16}, "pix2pix": {"features": {"weight": 0.5, **own}},
        }  # fmt: skip
        pipeline = catalog.load("ct_contrast").configured(settings, on_phantom=False, on_cpu=True)
        cohort = pipeline.cohort(paired)
        split = split_subjects(cohort, pipeline.pair, pipeline.config.split)
        return pipeline.task(cohort, split, Cache(tmp_path)).first, split

    return make


def test_the_segmenter_learns_bands_of_hu_from_training_subjects_alone(task, tmp_path):
    first, split = task(tmp_path)
    (subjects, nobody) = first.patches.groups
    assert {each.subject for each in subjects} == set(split.train)
    assert not nobody
    assert not first.held_out.source
    assert (first.fit.epochs * first.fit.iterations_per_epoch, first.fit.keep) == (8, "last")
    for each in subjects:
        hu, labels = each.image.voxels, each.labels
        for lower, upper, number in [(-2000, -900, 0), (-300, -30, 2), (-30, 150, 3), (150, 400, 4), (400, 4000, 5)]:
            assert np.array_equal((hu >= lower) & (hu < upper), labels == number)


def test_shuffled_labels_are_as_many_at_other_places(task, tmp_path):
    true, shuffled = (task(tmp_path, control=control)[0].patches.groups[0] for control in ("none", "shuffled"))
    for one, other in zip(true, shuffled, strict=True):
        assert np.array_equal(np.bincount(one.labels.ravel()), np.bincount(other.labels.ravel()))
        assert (one.labels != other.labels).mean() > 0.2


def test_a_random_control_trains_nothing_and_masks_must_be_there(task, tmp_path):
    assert task(tmp_path, control="random")[0] is None
    with pytest.raises(DataError, match=r"no training pair has a mask.*features.labels=bands"):
        task(tmp_path, labels="masks")


@pytest.mark.parametrize(("dimensions", "seen"), [("2", "2"), ("2.5", "2"), ("3", "3")])
def test_a_trained_segmenter_sees_what_the_translator_draws(held_out, tmp_path, dimensions, seen):
    depth = 8 if dimensions == "3" else None
    patch = PatchConfig(dimensions=dimensions, size_voxels=16, depth_voxels=depth, flip=True, mirroring=True)
    term = Features(FeaturesConfig(weight=0.5), domain=CT, patch=patch, grid=OWN_SPACING, seed=0)
    fit = FitConfig(epochs=8, iterations_per_epoch=4, batch_size=2)
    first = term.training(None, [(None, SimpleNamespace(subject="s0"))], held_out(count=1).target, fit)
    assert (first.config.patch.dimensions, first.config.patch.intensity.gamma) == (seen, 0)
    term.take(first.train(tmp_path, make_fabric("cpu", "32")), tmp_path)
    assert 0 < term.distance(*images(term.patch.shape)) < 1


def test_bands_are_for_hu(segmenters):
    domain = Domain(
        name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1.0, upper=99.0, percentiles=True)
    )
    with pytest.raises(ConfigError, match=r"t1 is in arbitrary units; set features.labels=masks"):
        features(domain=domain).training(None, [], [], None)
    with pytest.raises(ModelError, match="not how the translator sees t1"):
        features(domain=domain, model=segmenters(iterations=2), control="none")


def test_a_named_segmenter_looks_through_its_own_window(segmenters):
    folder, (fake, target) = segmenters(iterations=2), images((16, 16))
    term = features(model=folder, control="none")
    layers = term.encoder
    assert term.sha256 == read_model(folder, SegmenterDescription).description.weights_sha256
    # -300 to 700 HU in the segmenter's -200 to 1000.
    ours, theirs = (layers[0]((((each + 1) * 500 - 100) / 600 - 1).clamp(-1, 1)) for each in (fake, target))
    ours, theirs = (torch.nn.functional.normalize(each, dim=1) for each in (ours, theirs))
    torch.testing.assert_close(term._maps(fake)[0], ours)
    assert term.distance(fake, target) > 0


ASKED = ["translator=pix2pix", "pix2pix.adversarial=none", "pix2pix.features={weight: 0.5, warm_up: 0.25}"]


@pytest.mark.parametrize("at", [(1, 1), (2, 3)], ids=["in the segmenter's training", "in the translator's"])
def test_a_stopped_run_trains_its_segmenter_once_and_goes_on_as_if_it_had_not_stopped(
    order, paired, work, monkeypatch, at
):
    iteration, calls, begun = Recorder.iteration, [], f"parts{at[0]}"
    if not (work / "runs/ct_contrast/whole/model").exists():
        train(order(data=paired, name="whole", overrides=ASKED), QUIET)
    whole = work / "runs/ct_contrast/whole"

    def stopping(self, number):
        iteration(self, number)
        calls.append(Path(self.folder).name)
        if (len(dict.fromkeys(calls)), number) == at:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "iteration", stopping)
        with pytest.raises(Interrupted):
            train(order(data=paired, name=begun, overrides=ASKED), QUIET)
    segmenter = work / "runs/ct_contrast" / begun / "first/model/weights.safetensors"
    trained = segmenter.stat().st_mtime_ns if at[0] == 2 else None
    parts = train(order(data=paired, name=begun, resume=True), QUIET).run.path
    for name in ("model/weights.safetensors", "first/model/weights.safetensors", "metrics.csv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert trained in (None, segmenter.stat().st_mtime_ns)
    assert "train/features" in (parts / "metrics.csv").read_text()


def test_another_segmenter_cannot_take_its_place_in_a_resumed_run(attached, segmenters):
    def asking(seed):
        translator = attached("pix2pix")
        translator.features = features(model=segmenters(seed=seed, iterations=2), control="none")
        return translator

    asking(0).load_state_dict(asking(0).state_dict())
    with pytest.raises(ModelError, match="not the one that the run began with"):
        asking(1).load_state_dict(asking(0).state_dict())
