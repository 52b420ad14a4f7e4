import json
import math
import os
import random
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from medgan.config import load
from medgan.data.patches import AnchoredDataset, PatchDataset, batches
from medgan.errors import ConfigError, TrainingError
from medgan.pictures.panels import Panel
from medgan.pictures.tiles import Row
from medgan.training.device import make_fabric
from medgan.training.fit import Fit, FitConfig, Interrupted, _stop_requests
from medgan.training.learner import Judgement, Learner
from medgan.training.recorder import Recorder
from medgan.training.state import load_checked

TRANSLATORS = {
    "cyclegan-2d": {"kind": "cyclegan", "pool": 3},
    "cyclegan-2.5d-wasserstein": {"kind": "cyclegan", "dimensions": "2.5", "adversarial": "wasserstein", "pool": 3},
    "cyclegan-3d": {"kind": "cyclegan", "dimensions": "3", "pool": 3, "ramp_iterations": 4},
    "cyclegan-anchored": {"kind": "cyclegan", "pool": 3, "anchor": 2.0, "anchor_iterations": 2},
    "pix2pix-2d-dropout": {"kind": "pix2pix", "dropout": 0.5, "norm": "batch"},
    "registered-2d": {"kind": "registered"},
    "registered-3d-alone": {"kind": "registered", "dimensions": "3", "adversarial": "none"},
    "cut-2.5d-bf16": {"kind": "cut", "dimensions": "2.5", "patches": 8, "precision": "bf16-mixed"},
    "cut-3d-dropout": {"kind": "cut", "dimensions": "3", "patches": 8, "dropout": 0.5},
}
FIT = FitConfig(epochs=2, iterations_per_epoch=3, batch_size=2, precision="32", average_decay=0.9)


class StoppingDataset(PatchDataset):
    """Patches, and a Ctrl-C of the user while a certain one is drawn."""

    stop_at = None

    def __getitem__(self, number):
        if number == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(number)


@pytest.fixture(scope="module")
def start(make_translator, held_out):
    """A training of a translator in a folder, with or without a Ctrl-C at a patch."""

    def make(folder, *, kind, precision="32", stop_at=None, workers=0, checkpointing=False, **translator):
        torch.manual_seed(0)
        learner = make_translator(kind, **translator)
        depth = 8 if translator.get("dimensions") == "3" else 3
        studies = held_out(depth=depth)
        sides, config = (studies.source, studies.target), learner.patch
        dataset = StoppingDataset(*sides, paired=learner.pair.paired, config=config, seed=0)
        dataset.stop_at = stop_at
        if "anchor" in translator:
            dataset = AnchoredDataset(dataset, PatchDataset(*sides, paired=True, config=config, seed=0))
        settings = FIT.model_copy(update={"workers": workers, "checkpointing": checkpointing})
        return fitting(learner, dataset, folder, held_out(5, 1, depth), settings, precision=precision)

    return make


def fitting(learner, dataset, folder, validation, config, precision="32"):
    recorder = Recorder(folder)
    fabric = make_fabric("cpu", precision)
    return Fit(learner, dataset, validation, config, fabric=fabric, folder=folder / "state", recorder=recorder)


def differences(one, other, place=""):
    """Where two nested states differ in a single bit; what is not a number equals itself."""
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [place]
    if isinstance(one, dict | list | tuple):
        keys = one.keys() if isinstance(one, dict) else range(len(one))
        assert len(one) == len(other), place
        return [found for key in keys for found in differences(one[key], other[key], f"{place}/{key}")]
    same = one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
    return [] if same else [place]


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A training that nobody stopped, trained once: its folder and what it gave."""
    trained = {}

    def run(**case):
        key = str(case)
        if key not in trained:
            folder = tmp_path_factory.mktemp("whole")
            trained[key] = folder, start(folder, **case).run()
        return trained[key]

    return run


def last_state(folder):
    return load_checked(folder / "state" / "last.pt")


def assert_equal(whole, folder, fitted):
    """That a training ended as a whole one did, to the bit."""
    its_folder, uninterrupted = whole
    assert differences(last_state(its_folder), last_state(folder)) == []
    weights = [{name: net.state_dict() for name, net in run.networks.items()} for run in (uninterrupted, fitted)]
    assert differences(*weights) == []
    assert (uninterrupted.epoch, uninterrupted.metrics) == (fitted.epoch, fitted.metrics)
    assert (its_folder / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()


@pytest.mark.parametrize("case", TRANSLATORS.values(), ids=TRANSLATORS)
def test_a_run_stopped_at_any_iteration_and_resumed_equals_one_that_was_not(start, whole, case, tmp_path):
    stop_at = random.SystemRandom().randrange(FIT.epochs * FIT.iterations_per_epoch * FIT.batch_size)
    with pytest.raises(Interrupted, match=f"stopped after iteration {stop_at // 2 + 1}; add --resume"):
        start(tmp_path, **case, stop_at=stop_at).run()
    assert last_state(tmp_path)["progress"]["iteration"] == stop_at // 2 + 1
    torch.rand(stop_at + 1)  # whatever happens to the random state in between
    assert_equal(whole(**case), tmp_path, start(tmp_path, **case).run(resume=True))


@pytest.mark.parametrize("kind", ["cyclegan-2d", "pix2pix-2d-dropout", "cut-2.5d-bf16"])
def test_too_small_a_memory_is_met_by_more_parts_as_if_they_had_been_asked_for(start, whole, kind, tmp_path):
    case = TRANSLATORS[kind]

    def small(folder):
        fit = start(folder, **case)
        step = fit.learner.training_step

        def training_step(batch):
            terms = torch.rand(3), step(batch)  # what is drawn before memory ends is drawn again
            return terms[1]

        def too_large(batch):
            if len(batch["source"]) > 1:
                torch.rand(5)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return training_step(batch)

        fit.learner.training_step = too_large if folder.name == "small" else training_step
        (folder / "run.json").write_text('{"seed": 0}')
        return fit

    folders = [tmp_path / name for name in ("asked", "small")]
    for folder in folders:
        folder.mkdir()
        fit = small(folder)
        if folder.name == "asked":
            fit.state.progress.parts = 2
        fit.run()
    assert differences(*map(last_state, folders)) == []
    assert json.loads((folders[1] / "run.json").read_text()) == {"seed": 0, "accumulate": 2}
    said = (folders[1] / "train.log").read_text()
    assert said.count("the memory of cpu is too small for 2 patches at iteration 1: from here on a batch goes") == 1
    assert "goes through in 2 parts of 1; set fit.accumulate=2 in the next run" in said
    resumed = small(folders[1])
    resumed.run(resume=True)
    assert resumed.state.progress.parts == 2


def test_a_memory_that_is_too_small_for_one_patch_ends_the_run_with_advice(fit_line):
    def training_step(batch):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    fit = fit_line(Line(), batch_size=3)
    fit.learner.training_step = training_step
    with pytest.raises(
        TrainingError, match=r"too small for a single patch; start a new run with fit\.checkpointing=true"
    ):
        fit.run()
    assert fit.state.progress.parts == 3


@pytest.mark.parametrize("kind", ["cut-3d-dropout", "pix2pix-2d-dropout"])
def test_activation_checkpointing_changes_no_bit_of_a_training(start, whole, kind, tmp_path):
    case = TRANSLATORS[kind]
    assert_equal(whole(**case), tmp_path, start(tmp_path, **case, checkpointing=True).run())


def test_activation_checkpointing_is_refused_where_it_saves_nothing(fit_line):
    with pytest.raises(ConfigError, match="checkpointing=true: these networks have nothing to compute again"):
        fit_line(Line(), checkpointing=True)
    with pytest.raises(ConfigError, match="leave one of them out"):
        load(FitConfig, {"checkpointing": True, "compile": True})


def test_parts_are_equal():
    with pytest.raises(ConfigError, match="accumulate=3 does not divide batch_size=4"):
        load(FitConfig, {"accumulate": 3})


@pytest.mark.parametrize(("kind", "number"), [("cyclegan", signal.SIGTERM), ("pix2pix", signal.SIGUSR1)])
def test_a_run_stopped_between_validation_subjects_and_resumed_equals_one_that_was_not(
    start, whole, tmp_path, monkeypatch, kind, number
):
    stopped = start(tmp_path, kind=kind)
    translated = []

    def translate(network, study):
        translated.append(study)
        if len(translated) == 2:
            os.kill(os.getpid(), number)
        return type(stopped.learner).translate(stopped.learner, network, study)

    monkeypatch.setattr(stopped.learner, "translate", translate)
    held_out = stopped.held_out
    stopped.held_out = replace(held_out, source=held_out.source * 3, target=held_out.target * 3)
    with pytest.raises(Interrupted, match="stopped while epoch 1 was validated; add --resume"):
        stopped.run()
    assert len(translated) == 2, "the third subject was not begun"
    progress = last_state(tmp_path)["progress"]
    assert (progress["iteration"], progress["history"]) == (FIT.iterations_per_epoch, [])
    torch.rand(7)
    assert_equal(whole(kind=kind), tmp_path, start(tmp_path, kind=kind).run(resume=True))


def test_a_run_that_was_killed_before_its_first_state_begins_again_and_alike(start, whole, tmp_path):
    assert_equal(whole(kind="cyclegan"), tmp_path, start(tmp_path, kind="cyclegan").run(resume=True))


def test_readers_in_processes_of_their_own_change_nothing(start, whole, tmp_path):
    case = TRANSLATORS["pix2pix-2d-dropout"]
    assert_equal(whole(**case), tmp_path, start(tmp_path, **case, workers=1).run())


def test_a_finished_run_resumed_gives_its_networks_again(start, whole):
    folder, uninterrupted = whole(kind="cyclegan")
    assert_equal((folder, uninterrupted), folder, start(folder, kind="cyclegan").run(resume=True))


class Line(Learner):
    """A weight that walks down a slope of 1; what is validated and what breaks is told by the test."""

    trained = optimized = kept = ("line",)
    best = "val/score"

    def __init__(self, scores=(), terms=None, advice=None, complete=1, late=None):
        super().__init__()
        self.complete, self.late = complete, late or {}
        self.line = nn.Linear(1, 1)
        nn.init.zeros_(self.line.weight)
        self.line_optimizer = torch.optim.SGD(self.line.parameters(), 1.0)
        self.scores, self.terms, self.advice, self.rates, self.judged = scores, terms or {}, advice, [], []

    def training_step(self, batch):
        self.rates.append(self.line_optimizer.param_groups[0]["lr"])
        self.descend(self.line_optimizer, {"height": self.line.weight.sum()})
        late = {"late": torch.tensor(self.late[len(self.rates)])} if len(self.rates) in self.late else {}
        return {"height": torch.tensor(self.terms.get(len(self.rates), 1.0))} | late

    def validate(self, held_out, kept):
        self.judged.append(kept["line"].weight.item())
        panel = Panel([Row([None])], "nothing")
        score = self.scores[len(self.judged) - 1] if self.scores else 0.0
        return Judgement({"val/score": score}, panel, complete=len(self.judged) >= self.complete)

    def diagnose(self, means):
        return self.advice


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    """Hundreds of short runs are looked into here, and nobody looks at their curves."""
    monkeypatch.setattr("medgan.pictures.curves.progress", lambda *_: b"")


@pytest.fixture
def fit_line(held_out, make_translator, tmp_path):
    def run(learner, **config):
        studies, patch = held_out(depth=1), make_translator().patch
        dataset = PatchDataset(studies.source, studies.target, paired=True, config=patch, seed=0)
        settings = {"epochs": 4, "iterations_per_epoch": 2, "batch_size": 1} | config
        return fitting(learner, dataset, tmp_path / "line", held_out(5, 1, 1), FitConfig(**settings))

    return run


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75, 1.0])
def test_the_learning_rate_is_constant_and_then_falls_along_a_line_to_almost_nothing(fit_line, share):
    learner = Line()
    fit_line(learner, constant_share=share, epochs=4, iterations_per_epoch=5).run()
    assert learner.rates == pytest.approx(np.interp(range(20), [20 * share, 20], [1.0, 0.0]))


def test_what_is_judged_and_kept_is_the_average_of_the_weights(fit_line):
    learner = Line()
    fitted = fit_line(learner, constant_share=1.0, average_decay=0.5, epochs=1, iterations_per_epoch=3).run()
    # Weights -1, -2, -3; shares kept min(.5, (1 + n) / (10 + n)) = .1, 2/11, .25.
    expected = 0.0
    for weight, kept in ((-1, 0.1), (-2, 2 / 11), (-3, 0.25)):
        expected = kept * expected + (1 - kept) * weight
    assert fitted.networks["line"].weight.item() == pytest.approx(expected)
    assert learner.judged == pytest.approx([expected])
    assert learner.line.weight.item() == -3


@pytest.mark.parametrize(
    ("scores", "complete", "keep", "epoch"),
    [
        ((5.0, 3.0, 4.0, 3.0), 1, "best", 2),
        ((5.0, 3.0, 4.0, 3.0), 1, "last", 4),
        ((math.nan,) * 4, 1, "best", 4),
        ((1.0, 2.0, 3.0, 4.0), 3, "best", 3),
        ((1.0, 2.0, 3.0, 4.0), 9, "best", 4),
    ],
    ids=["best", "last", "no numbers", "best that is complete", "none complete"],
)
def test_the_model_is_of_the_best_complete_epoch_or_the_last(fit_line, scores, complete, keep, epoch):
    learner = Line(scores=scores, complete=complete)
    fitted = fit_line(learner, keep=keep).run()
    assert fitted.epoch == epoch
    assert fitted.metrics == pytest.approx({"val/score": scores[epoch - 1]}, nan_ok=True)
    assert fitted.networks["line"].weight.item() == learner.judged[epoch - 1]


@pytest.mark.parametrize(("every", "judged"), [(1, 4), (2, 2), (3, 2), (9, 1)])
def test_the_last_epoch_is_always_judged(fit_line, every, judged):
    learner = Line()
    fitted = fit_line(learner, validate_every=every).run()
    assert (len(learner.judged), learner.budget) == (judged, 4 * 2)
    assert set(fitted.metrics) == {"val/score"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_term_that_is_no_number_stops_the_run_with_advice_and_the_state_before_is_kept(fit_line, value):
    fit = fit_line(Line(terms={6: value}))
    with pytest.raises(TrainingError, match=rf"'height' became {value} at iteration 6; lower the learning rate.*kept"):
        fit.run()
    kept = load_checked(fit.last)["progress"]
    assert (kept["iteration"], len(kept["history"])) == (4, 2)


def test_a_collapse_stops_the_run_with_the_learners_advice(fit_line):
    with pytest.raises(TrainingError, match="broke down in epoch 1: shrink it"):
        fit_line(Line(advice="shrink it")).run()


def test_a_metric_is_the_mean_over_the_iterations_that_have_it(fit_line, tmp_path):
    fit_line(Line(terms={1: 2.0, 2: 4.0, 3: 1.0, 4: 2.0}, late={4: 7.0}), epochs=2).run()
    rows = load_checked(tmp_path / "line" / "state" / "last.pt")["progress"]["history"]
    assert [row["train/height"] for row in rows] == [3.0, 1.5]
    assert [row.get("train/late") for row in rows] == [None, 7.0]


def test_a_ctrl_c_after_another_request_stops_at_once_and_the_handlers_return():
    before = signal.getsignal(signal.SIGINT)
    with _stop_requests() as stop:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        assert stop == [signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_moves_all_weights_in_one_kernel_and_a_state_from_before_goes_on(fit_line, kind):
    def learner():
        line = Line()
        line.line_optimizer = kind(line.line.parameters(), 0.1)
        return line

    fit = fit_line(learner())
    weight = fit.run().networks["line"].weight.item()
    assert fit.state.optimizers["line"].param_groups[0]["fused"]
    plain = fit_line(learner())
    plain.state.optimizers["line"].param_groups[0]["fused"] = None
    assert plain.run().networks["line"].weight.item() == pytest.approx(weight, rel=1e-5)
    again = fit_line(learner())
    again.state.load(plain.last)
    before = again.learner.line.weight.item()
    again.learner.iterate({"number": torch.zeros(1)})
    assert again.learner.line.weight.item() < before


def test_the_translators_terms_are_those_of_one_image_after_the_other(start, tmp_path, monkeypatch):
    def terms(name, **case):
        fit = start(tmp_path / name, **case)
        batch = fit._on_device(next(iter(batches(fit.dataset, 0, 1, 2, 0))))
        return fit.learner.iterate(batch)

    apart = lambda network, images, *others: [network(image, *others) for image in images]  # noqa: E731
    for name in ("cyclegan-2d", "cyclegan-3d", "cyclegan-anchored", "cut-2.5d-bf16"):
        case = TRANSLATORS[name] | {"precision": "32", "anchor_iterations": 0}
        case = case if "anchor" in case else {key: case[key] for key in case if key != "anchor_iterations"}
        together = terms(f"{name}-together", **case)
        for module in ("cyclegan", "cut", "translator"):
            monkeypatch.setattr(f"medgan.translators.{module}.joined", apart)
        torch.testing.assert_close(terms(f"{name}-apart", **case), together)
        monkeypatch.undo()
