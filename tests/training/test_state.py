import pickle
import random

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from medgan.errors import TrainingError
from medgan.training.averages import Averages
from medgan.training.device import make_fabric
from medgan.training.state import Progress, State, load_checked, random_states, restore_random, save_atomic


@pytest.fixture
def make_state(make_translator):
    def make(fabric=None, **translator):
        learner = make_translator(**translator)
        learner.fabric = fabric or make_fabric("cpu", "32")
        averages = Averages({name: learner.networks()[name] for name in learner.kept}, 0.9)
        return State(learner.fabric, learner, learner.networks(), learner.optimizers(), averages, Progress())

    return make


def test_random_numbers_go_on_where_they_were():
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.gauss(0, 1) for _ in range(3)]

    random.gauss(0, 1)  # the second of a pair is kept for the next call
    np.random.standard_normal()
    states = random_states()
    drawn = draw()
    restore_random(states)
    assert draw() == drawn


def test_a_state_is_read_without_running_code_of_the_file(make_state, tmp_path):
    make_state().save(tmp_path / "last.pt")
    assert load_checked(tmp_path / "last.pt")["progress"]["iteration"] == 0
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return open, (str(ran), "w")

    torch.save({"progress": Trap()}, tmp_path / "trap.pt", pickle_module=pickle)
    with pytest.raises(TrainingError, match=r"trap.pt: the state cannot be read \("):
        load_checked(tmp_path / "trap.pt")
    assert not ran.exists()


@pytest.mark.parametrize("content", [b"", b"not a state", None], ids=["empty", "text", "truncated"])
def test_a_damaged_state_is_an_error_that_names_the_file(make_state, tmp_path, content):
    path = tmp_path / "last.pt"
    state = make_state()
    state.save(path)
    path.write_bytes(path.read_bytes()[:-5000] if content is None else content)
    with pytest.raises(TrainingError, match=r"last.pt: the state cannot be read \(.*\); start the run anew"):
        state.load(path)


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


def test_what_a_killed_save_left_is_written_over(tmp_path):
    (tmp_path / "last.pt.part").write_bytes(b"half of a state")
    save_atomic({"weights": torch.ones(3)}, tmp_path / "last.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
    assert torch.equal(load_checked(tmp_path / "last.pt")["weights"], torch.ones(3))
