"""Semantic consistency with a tiny segmenter that was trained for it: of a vessel that contrast agent makes bright."""

import os
import signal

import pytest
import torch
from rich.console import Console

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig, normalise
from medgan.errors import ConfigError, ModelError
from medgan.networks.outputs import centre_channel
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.fit import Interrupted
from medgan.training.model_folder import read_model
from medgan.training.recorder import Recorder
from medgan.training.run import train
from medgan.translators.semantic import SemanticConsistency

NARROW = Window(lower=-200.0, upper=1000.0)
SEEN = Domain(name="contrast", modality="CT", unit="HU", air=-1024.0, window=NARROW)
OWN_SPACING = GridConfig(spacing_mm=(None, None, None))
DIMENSIONS = ["2", "2.5", "3"]


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_the_term_is_the_cross_entropy_of_the_paper_in_both_directions(attached, make_batch, segmenters, dimensions):
    folder = segmenters(dimensions, iterations=2)
    translator = attached(dimensions=dimensions, semantic=3.0, semantic_model=folder)
    batch = make_batch(translator)
    network = read_model(folder, SegmenterDescription).network

    def seen(image):
        hu = (image.numpy() + 1) / 2 * 1000 - 300  # the translator's window
        return torch.from_numpy(normalise(hu, (NARROW.lower, NARROW.upper)))

    expected = torch.zeros(())
    with torch.no_grad():
        for name, way in (("source", translator.to_target), ("target", translator.to_source)):
            image = batch[name]
            translated = translator.around(image, way(image))
            labels = network(seen(image)).argmax(dim=1, keepdim=True)
            surprise = -torch.log_softmax(network(seen(translated)), dim=1).gather(1, labels)
            expected += 3 * surprise.mean()
    torch.testing.assert_close(translator.training_step(batch)["semantic"], expected, rtol=1e-4, atol=1e-5)


def test_slices_are_segmented_one_by_one_where_the_segmenter_knows_no_neighbours(attached, make_batch, segmenters):
    translator = attached(dimensions="2.5", semantic=1.0, semantic_model=segmenters(iterations=2))
    image = make_batch(translator)["source"]
    one, other = image.clone(), image.clone()
    other[:, ::2] = 0
    losses = [translator.semantics.loss(each, centre_channel(image), translator.around) for each in (one, other)]
    assert losses[0] == losses[1]


def test_the_term_pulls_the_generators_and_leaves_the_segmenter_alone(attached, make_batch, segmenters):
    alone = {"output": "none", "cycle": 0.0, "identity": 0.0, "semantic": 100.0, "generator_rate": 0.01}
    translator = attached(semantic_model=segmenters(iterations=20), **alone)
    translator.discriminator_optimizer.param_groups[0]["lr"] = 0.0
    assert "semantic" not in translator.networks()
    assert "semantic" not in attached().training_step(make_batch(translator))
    frozen = {name: value.clone() for name, value in translator.semantics.network.state_dict().items()}
    batch = make_batch(translator)
    terms = [float(translator.training_step(batch)["semantic"]) for _ in range(6)]
    assert terms[-1] < 0.95 * terms[0]
    assert all(torch.equal(value, frozen[name]) for name, value in translator.semantics.network.state_dict().items())
    assert not translator.semantics.network.training
    assert all(parameter.grad is None for parameter in translator.semantics.network.parameters())


def test_another_segmenter_cannot_take_its_place_in_a_resumed_run(attached, segmenters):
    begun = attached(semantic=1.0, semantic_model=segmenters(iterations=2))
    attached(semantic=1.0, semantic_model=segmenters(iterations=2)).load_state_dict(begun.state_dict())
    for other in (attached(semantic=1.0, semantic_model=segmenters(seed=1, iterations=2)), attached()):
        with pytest.raises(ModelError, match="is not the segmenter that the run began with"):
            other.load_state_dict(begun.state_dict())
    memory = attached().state_dict()
    del memory["semantic"]  # a state from before there was any
    attached().load_state_dict(memory)


PATCH = PatchConfig(size_voxels=16)
MR = Domain(name="t1", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1.0, upper=99.0, percentiles=True))
CT = SEEN.model_copy(update={"name": "plain"})


@pytest.mark.parametrize(
    ("pair", "patch", "grid", "message"),
    [
        ((MR, CT), PATCH, None, r"cannot look at both t1 \(arbitrary\) and plain \(HU\).*cyclegan.semantic=0"),
        ((MR, MR), PATCH, None, r"segments contrast \(CT, HU.*not how the translator sees t1"),
        ((SEEN, CT), PatchConfig(dimensions="3", size_voxels=16), None, "in 2D and the translator in 3D"),
        ((SEEN, CT), PatchConfig(size_voxels=17), None, "multiples of 2, and the translator's patch has 17 x 17"),
        (
            (SEEN, CT),
            PATCH,
            GridConfig(spacing_mm=(2, 2, None)),
            "own x own x own mm and the translator of 2 x 2 x own",
        ),
    ],
    ids=["two units", "another modality", "other dimensions", "odd patch", "another grid"],
)
def test_a_segmenter_that_cannot_see_what_the_translator_sees_is_refused(segmenters, pair, patch, grid, message):
    domains = DomainPair(source=pair[0], target=pair[1], paired=False)
    with pytest.raises(ModelError, match=message):
        SemanticConsistency(segmenters(iterations=2), domains, patch, grid)
    SemanticConsistency(segmenters(iterations=2), DomainPair(source=SEEN, target=CT, paired=False), PATCH, OWN_SPACING)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["model", "cyclegan.semantic=1", "grid.spacing_mm=[3, 3, null]"], "3 x 3 x own"),
        (["cyclegan.semantic=1"], "setting 'cyclegan': semantic=1 and semantic_model=None belong together"),
        (["model"], "setting 'cyclegan': semantic=0 and semantic_model=.* belong together"),
    ],
)
def test_a_segmenter_that_is_refused_or_has_no_weight_leaves_no_run_behind(order, work, segmenters, asked, message):
    overrides = [each.replace("model", f"cyclegan.semantic_model={segmenters(iterations=2)}") for each in asked]
    with pytest.raises((ConfigError, ModelError), match=message):
        train(order(name="refused", overrides=overrides), Console(quiet=True))
    assert not (work / "runs/ct_contrast/refused").exists()


def test_a_stopped_training_goes_on_with_it_as_if_it_had_not_stopped(order, segmenters, mlflow_runs, monkeypatch):
    asked = [f"cyclegan.semantic_model={segmenters(iterations=2)}", "cyclegan.semantic=1"]
    iteration = Recorder.iteration
    whole = train(order(name="semantic_whole", overrides=asked), Console(quiet=True))

    def stopping(self, number):
        iteration(self, number)
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "iteration", stopping)
        with pytest.raises(Interrupted):
            train(order(name="semantic_parts", overrides=asked), Console(quiet=True))
    parts = train(order(name="semantic_parts", resume=True), Console(quiet=True))
    for name in ("model/weights.safetensors", "metrics.csv"):
        assert (whole.run.path / name).read_bytes() == (parts.run.path / name).read_bytes()
    _, (run,) = mlflow_runs("semantic_parts")
    assert run.data.metrics["train/semantic"] > 0
    assert run.data.params["cyclegan.semantic"] == "1.0"
