import pickle
import random

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from medgan.errors import TrainingError
from medgan.training.device import make_fabric
from medgan.training.state import (
    EMA,
    Progress,
    State,
    _random_states,
    _restore_random,
    load_checked,
    load_weights,
    save_atomic,
)


@pytest.fixture
def make_state(make_translator):
    def make(fabric=None, **translator):
        learner = make_translator(**translator)
        learner.fabric = fabric or make_fabric("cpu", "32")
        averages = EMA({name: learner.networks()[name] for name in learner.kept}, 0.9)
        return State(learner.fabric, learner, learner.networks(), learner.optimizers(), averages, Progress())

    return make


def test_random_numbers_go_on_where_they_were():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.gauss(0, 1) for _ in range(3)]

    random.gauss(0, 1)  # the second of a pair is kept for the next call
    np.random.standard_normal()
    states = _random_states()
    drawn = draw()
    _restore_random(states)
    assert draw() == drawn


class Trap:
    """Pickled, it asks whoever reads it to make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("content", [b"", b"not a state", "cut", "code"], ids=str)
def test_a_damaged_state_is_an_error_that_names_the_file_and_no_code_of_it_is_run(make_state, tmp_path, content):
    path, ran = tmp_path / "last.pt", tmp_path / "ran"
    state = make_state()
    state.save(path)
    assert load_checked(path)["progress"]["iteration"] == 0
    if content == "code":
        torch.save({"progress": Trap(ran)}, path, pickle_module=pickle)
    else:
        path.write_bytes(path.read_bytes()[:-5000] if content == "cut" else content)
    with pytest.raises(TrainingError, match=r"last.pt: the state cannot be read \(.*\); start the run anew"):
        state.load(path)
    assert not ran.exists()


def test_no_changed_byte_is_trained_on(tmp_path):
    path = tmp_path / "last.pt"
    content = {"weights": torch.arange(40.0), "progress": {"iteration": 7}}
    save_atomic(content, path)
    whole = path.read_bytes()
    weights = whole.find(content["weights"].numpy().tobytes())
    assert weights > 0
    for place in (*range(0, len(whole), 37), *range(weights, weights + 160, 13)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            read = load_checked(path)
        except TrainingError:
            continue
        # A byte between the parts, or of their names' dates.
        assert place not in range(weights, weights + 160)
        assert torch.equal(read["weights"], content["weights"])
        assert read["progress"] == content["progress"]


@pytest.mark.parametrize("other", [{"kind": "pix2pix"}, {"dimensions": "3"}, {"norm": "batch"}], ids=str)
def test_a_state_of_other_networks_is_refused(make_state, tmp_path, other):
    make_state(**other).save(tmp_path / "last.pt")
    with pytest.raises(TrainingError, match="a state of other networks"):
        make_state().load(tmp_path / "last.pt")


def test_the_scale_of_16_bit_losses_is_kept(make_state, tmp_path):
    def scaler_at(scale):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])

    make_state(scaler_at(8.0)).save(tmp_path / "last.pt")
    state = make_state(scaler_at(65536.0))
    state.load(tmp_path / "last.pt")
    assert state.fabric.strategy.precision.state_dict()["scale"] == 8.0


def test_a_full_disk_is_named_and_leaves_the_state_before(tmp_path, full_disk):
    path = tmp_path / "state" / "last.pt"
    save_atomic({"weights": torch.ones(3)}, path)
    full_disk(50_000)
    with pytest.raises(TrainingError, match=r"last.pt: .* cannot be written \(.*File too large\); make room"):
        save_atomic({"weights": torch.zeros(100_000)}, path)
    assert torch.equal(load_checked(path)["weights"], torch.ones(3))
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(TrainingError, match=r"state/last.pt: the state cannot be written \(.*File exists"):
        save_atomic({}, tmp_path / "state" / "last.pt")


@pytest.fixture
def trained():
    """Networks in training, in 2D and 3D, with a buffer each."""
    torch.manual_seed(0)
    return {
        "to_target": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)),
        "to_source": nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)),
    }


def moved(networks, iteration):
    """What an iteration of training does: every weight and buffer changes."""
    with torch.no_grad():
        for network in networks.values():
            for value in (*network.parameters(), *network.buffers()):
                value.copy_(torch.full_like(value, float(iteration + 1)))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_is_the_sum_of_all_weights_with_their_shares_and_has_the_last_buffers(trained, decay):
    ema = EMA(trained, decay)
    starts = {name: [value.clone() for value in network.parameters()] for name, network in trained.items()}
    decays = torch.tensor([min(decay, (1 + n) / (10 + n)) for n in range(12)], dtype=torch.float64)
    for iteration in range(12):
        moved(trained, iteration)
        ema.update(trained, iteration)
    seen = sum(decays[n + 1 :].prod() * (1 - decays[n]) * (n + 1) for n in range(12))
    for name, average in ema.networks.items():
        for value, start in zip(average.parameters(), starts[name], strict=True):
            torch.testing.assert_close(value.double(), decays.prod() * start.double() + seen, rtol=1e-5, atol=1e-5)
        assert [bool((value == 12).all()) for value in average.buffers()] == [True] * 3


def test_averages_are_copies_that_never_train(trained):
    ema = EMA(trained, 0.9)
    for name, average in ema.networks.items():
        assert (average.training, trained[name].training) == (False, True)
        assert not any(parameter.requires_grad for parameter in average.parameters())
        assert all(parameter.requires_grad for parameter in trained[name].parameters())
    before = {name: network[0].weight.clone() for name, network in ema.networks.items()}
    moved(trained, 0)
    assert all(torch.equal(ema.networks[name][0].weight, before[name]) for name in before)


def test_weights_of_other_networks_are_refused(trained):
    weights = {name: network.state_dict() for name, network in trained.items()}
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights({"to_target": trained["to_source"]}, weights)
    with pytest.raises(KeyError, match="to_source"):
        load_weights(trained, {"to_target": weights["to_target"]})
