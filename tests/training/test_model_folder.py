import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.preparation import GridConfig
from medgan.data.transforms import PatchConfig
from medgan.data.volumes import file_hash
from medgan.errors import ModelError
from medgan.training.architecture import GeneratorConfig, ResNetConfig, UNetConfig
from medgan.training.model_folder import SCHEMA_VERSION, read_description, read_model, write_model

DIRECTIONS = ("to_target", "to_source")
CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
    for name in ("contrast", "plain")
)
NETWORKS = {
    "resnet": ResNetConfig(channels=4, downs=1, blocks=1, norm="group", skips=True),
    "unet": UNetConfig(channels=4, downs=2, norm="batch"),
}
PATCHES = {
    dimensions: PatchConfig(dimensions=dimensions, size_voxels=8, depth_voxels=8 if dimensions == "3" else None)
    for dimensions in ("2", "2.5", "3")
}


def describe(network="resnet", dimensions="2", change="one-sided"):
    return {
        "name": "tiny",
        "pair": DomainPair(source=CONTRAST, target=PLAIN, paired=False),
        "grid": GridConfig(spacing_mm=(1.5, 1.5, None)),
        "patch": PATCHES[dimensions],
        "generator": GeneratorConfig(network=NETWORKS[network], change=change),
        "intensities": {"contrast": (-1024.0, 1500.0), "plain": (-1000.0, 1200.0)},
        "split_hash": "5" * 64,
        "data_fingerprint": "d" * 64,
        "metrics": {"val/score_hu": 12.5, "val/worst_hu": float("nan")},
        "epoch": 7,
        "phantom": True,
    }


def build(description, directions=DIRECTIONS):
    networks = {
        direction: description["generator"].build(description["pair"], description["patch"], direction)
        for direction in directions
    }
    for network in networks.values():
        for number, parameter in enumerate(network.parameters()):
            torch.nn.init.normal_(parameter, 0.0, 0.1 + 0.01 * number)
    return {name: network.eval() for name, network in networks.items()}


@pytest.fixture
def folder(tmp_path):
    description = describe()
    write_model(tmp_path / "model", build(description), description)
    return tmp_path / "model"


def alter(folder, **changes):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("change", ["one-sided", "signed", "none"])
@pytest.mark.parametrize("dimensions", PATCHES)
def test_the_folder_alone_gives_the_same_networks_again(tmp_path, network, change, dimensions):
    description = describe(network, dimensions, change)
    networks = build(description)
    write_model(tmp_path, networks, description)
    model = read_model(tmp_path)
    patch = description["patch"]
    image = torch.rand(2, patch.channels, *patch.shape) * 2 - 1
    for direction in DIRECTIONS:
        assert torch.equal(model.generator(direction)(image), networks[direction](image))
    assert not model.generator("to_target").training
    assert not any(parameter.requires_grad for parameter in model.generator("to_target").parameters())


def test_all_that_was_described_is_read_back(folder):
    written, read = describe(), read_model(folder).description
    for key, value in written.items():
        assert key == "metrics" or getattr(read, key) == value
    assert read.metrics["val/score_hu"] == 12.5
    assert read.metrics["val/worst_hu"] != read.metrics["val/worst_hu"]
    assert (read.schema_version, read.directions) == (SCHEMA_VERSION, DIRECTIONS)
    assert {"medgan", "torch", "monai"} <= read.versions.keys()


def test_equal_networks_give_equal_bytes(tmp_path):
    description = describe()
    networks = build(description)
    hashes = {write_model(tmp_path / name, networks, description).weights_sha256 for name in ("one", "other")}
    assert len(hashes) == 1


def test_a_direction_tells_what_goes_in_and_what_comes_out(folder):
    model = read_model(folder)
    assert model.domains("to_target") == (CONTRAST, PLAIN)
    assert model.domains("to_source") == (PLAIN, CONTRAST)


def test_a_model_of_one_direction_refuses_the_other(tmp_path):
    description = describe()
    write_model(tmp_path, build(description, ("to_target",)), description)
    with pytest.raises(ModelError, match="'tiny' cannot translate to_source; it was trained for: to_target"):
        read_model(tmp_path).generator("to_source")


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_changed_byte_of_the_weights_is_refused(folder, place):
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[place] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match=r"weights.safetensors: is not the file that model.json describes .*SHA-256"):
        read_model(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"is not a model folder, {name} is missing; give the `model` folder of a run"):
        read_model(folder)


def test_a_newer_schema_asks_for_a_newer_medgan(folder):
    alter(folder, schema_version=SCHEMA_VERSION + 1, what_is_new=1)
    with pytest.raises(ModelError, match=rf"written by a newer medgan \(schema {SCHEMA_VERSION + 1}, .*update medgan"):
        read_model(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"schema_version": 1}', '{"schema_version": "x"}', "\xff"], ids=repr
)
def test_a_description_that_describes_no_model_is_named(folder, text):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"model.json: cannot be read \(.+\); copy the model folder again"):
        read_description(folder)


@pytest.mark.parametrize("damage", ["missing", "shape", "surplus"])
def test_weights_of_other_networks_are_refused_even_with_the_right_hash(folder, damage):
    weights = load_file(folder / "weights.safetensors")
    name = next(iter(weights))
    if damage == "missing":
        weights.pop(name)
    elif damage == "shape":
        weights[name] = weights[name][..., :1].contiguous()
    else:
        weights["to_target.surplus"] = torch.zeros(1)
    save_file(weights, folder / "weights.safetensors")
    alter(folder, weights_sha256=file_hash(folder / "weights.safetensors"))
    with pytest.raises(ModelError, match=r"weights do not fit the networks described \(.+\); copy the folder again"):
        read_model(folder)


def test_nothing_but_safetensors_is_loaded(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"to_target.weight": Trap()}, folder / "weights.safetensors", pickle_module=pickle)
    alter(folder, weights_sha256=file_hash(folder / "weights.safetensors"))
    with pytest.raises(ModelError, match="weights do not fit"):
        read_model(folder)
    assert not (tmp_path / "ran").exists()
