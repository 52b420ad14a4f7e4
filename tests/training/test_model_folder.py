import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgan.classification.classifier import ClassifierDescription
from medgan.data.belonging import Scans
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.hashes import file_hash
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.errors import DataError, ModelError
from medgan.segmentation.settings import SegmenterDescription
from medgan.synthesis.generators import GeneratorDescription
from medgan.training.architecture import GeneratorConfig, ResNetConfig, TranslationDescription, UNetConfig
from medgan.training.model_folder import SCHEMA_VERSION, Origin, read_description, read_model, write_model

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
        "origin": Origin(split_hash="5" * 64, data_fingerprint="d" * 64, phantom=True),
        "metrics": {"val/score_hu": 12.5, "val/worst_hu": float("nan")},
        "epoch": 7,
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


def write(folder, description, directions=DIRECTIONS):
    return write_model(folder, build(description, directions), TranslationDescription, **description)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "model", describe())
    return tmp_path / "model"


def alter(folder, **changes):
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | changes))


def refused(folder, message, read=read_model):
    with pytest.raises(ModelError, match=message):
        read(folder, TranslationDescription)


@pytest.mark.parametrize(
    ("network", "dimensions", "change"),
    [("resnet", "2", "one-sided"), ("resnet", "3", "none"), ("unet", "2.5", "signed"), ("unet", "3", "one-sided")],
)
def test_the_folder_alone_gives_the_same_networks_again(tmp_path, network, change, dimensions):
    description = describe(network, dimensions, change)
    networks = build(description)
    for name in ("a", "b"):
        write_model(tmp_path / name, networks, TranslationDescription, **description)
    models = [read_model(tmp_path / name, TranslationDescription) for name in ("a", "b")]
    assert len({model.description.weights_sha256 for model in models}) == 1
    patch = description["patch"]
    image = torch.rand(2, patch.channels, *patch.shape) * 2 - 1
    for direction, own in models[0].networks.items():
        assert torch.equal(own(image), networks[direction](image))
        assert not own.training
        assert not any(parameter.requires_grad for parameter in own.parameters())


def test_all_that_was_described_is_read_back(tmp_path):
    scans = Scans(spacing_mm=((1, 2), (1, 2), (5, 5)), field_mm=((300, 400),) * 3, modalities=("CT",))
    written = describe() | {"scans": {"contrast": scans}}
    write(tmp_path, written)
    read = read_description(tmp_path, TranslationDescription)
    for key, value in written.items():
        assert key == "metrics" or getattr(read, key) == value
    assert read.metrics == pytest.approx(written["metrics"], nan_ok=True)
    assert (read.schema_version, read.directions) == (SCHEMA_VERSION, DIRECTIONS)
    assert {"medgan", "torch", "monai"} <= read.versions.keys()
    assert read.domains("to_target") == (CONTRAST, PLAIN)
    assert read.domains("to_source") == (PLAIN, CONTRAST)
    content = json.loads((tmp_path / "model.json").read_text())
    del content["scans"]  # as in folders from before they were told
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert read_description(tmp_path, TranslationDescription).scans == {}


def test_a_model_of_one_direction_refuses_the_other(tmp_path):
    description = write(tmp_path, describe(), ("to_target",)).description
    with pytest.raises(ModelError, match="'tiny' cannot translate to_source; it was trained for: to_target"):
        description.domains("to_source")


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_changed_byte_of_the_weights_is_refused(folder, place):
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[place] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    refused(folder, r"weights.safetensors: is not the file that model.json describes .*SHA-256")


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    refused(folder, f"is not a model folder, {name} is missing; give the `model` folder of a run")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"schema_version": 1}', '{"schema_version": "x"}', "\xff", '{"a":' + "[" * 100_000],
    ids=lambda text: repr(text)[:24],
)
def test_a_description_that_describes_no_model_is_named(folder, text):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    refused(folder, r"model.json: cannot be read \(.+\); copy the model folder again", read_description)


FITS_NOT = r"weights do not fit the networks described \(.+\); copy the folder again"


def rewritten(folder, content, **changes):
    """Another weight file, of tensors or bytes, which the description says is its own."""
    path = folder / "weights.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file(content, path)
    alter(folder, weights_sha256=file_hash(path), **changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", FITS_NOT),
        ("surplus", FITS_NOT),
        ("shape", FITS_NOT),
        ("type", r"weights do not fit .*{name} is torch.float16 .*, not torch.float32"),
        (float("inf"), "weights of {name} are not finite"),
        (float("nan"), "weights of {name} are not finite"),
    ],
)
def test_weights_of_other_networks_are_refused_even_with_the_right_hash(folder, damage, message):
    weights = load_file(folder / "weights.safetensors")
    name = sorted(weights)[3]
    if damage == "missing":
        weights.pop(name)
    elif damage == "surplus":
        weights["to_target.surplus"] = torch.zeros(1)
    elif damage == "shape":
        weights[name] = weights[name][..., :1].contiguous()
    elif damage == "type":
        weights[name] = weights[name].half()
    else:
        weights[name].view(-1)[-1] = damage
    rewritten(folder, weights)
    refused(folder, message.format(name=name))


def test_nothing_but_safetensors_is_loaded(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"to_target.weight": Trap()}, tmp_path / "trap.pt", pickle_module=pickle)
    rewritten(folder, (tmp_path / "trap.pt").read_bytes())
    refused(folder, "weights do not fit")
    assert not (tmp_path / "ran").exists()


def bytes_of(header, data=b""):
    """A weight file of any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps({"to_target.x": header}).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 7,
        (2**62).to_bytes(8, "little") + b"{}",
        bytes_of({"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
        bytes_of({"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}),
        bytes_of({"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}, b"\0" * 16),
        bytes_of({"dtype": "F9", "shape": [1], "data_offsets": [0, 4]}, b"\0" * 4),
        bytes_of(b"[" * 100_000),
        bytes_of(b'{"a": '),
    ],
    ids=["empty", "short", "long header", "tera", "overflow", "offsets", "type", "deep", "cut"],
)
def test_a_weight_file_that_lies_of_itself_is_refused(folder, content):
    rewritten(folder, content)
    refused(folder, FITS_NOT)


@pytest.mark.parametrize(
    "network",
    [{"kind": "resnet", "channels": 4096, "downs": 12, "blocks": 256}, {"kind": "unet", "channels": 4096, "downs": 12}],
    ids=["resnet", "unet"],
)
def test_the_largest_network_that_can_be_described_costs_nothing_to_refuse(folder, network):
    content = json.loads((folder / "model.json").read_text())
    content["generator"]["network"] = network
    content["patch"] |= {"dimensions": "3"}
    alter(folder, **content)
    refused(folder, "weights do not fit the networks described")


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, [1], 10**19, SCHEMA_VERSION + 1])
def test_a_schema_that_was_never_written_is_refused(folder, version):
    alter(folder, schema_version=version, what_is_new=1)
    newer = rf"written by a newer medgan \(schema {version}, known {SCHEMA_VERSION}\); update medgan"
    is_newer = type(version) is int and version > 0
    refused(folder, newer if is_newer else r"cannot be read \(its schema_version is .*; medgan writes 2")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("name", "tiny\x1b[2J"),
        ("name", "x" * 10_000),
        ("origin.split_hash", "a\nb"),
        ("versions", {"medgan": "1\r"}),
        ("directions", []),
        ("directions", ["to_target", "to_source", "to_target"]),
        ("generator.network.channels", 10**12),
        ("generator.network.channels", 0),
        ("generator.network.downs", 64),
        ("generator.network.blocks", 10**9),
        ("generator.network.dropout", "Infinity"),
        ("generator.largest", "NaN"),
        ("generator.upper", "Infinity"),
        ("grid.spacing_mm", [1e-9, 1e-9, 1e-9]),
        ("grid.spacing_mm", [1e30, 1, 1]),
        ("grid.spacing_mm", [1] * 1000),
        ("patch.size_voxels", 10**9),
        ("patch.length_voxels", 10**9),
        ("patch.neighbours", 10**9),
        ("patch.rotation_degrees", "NaN"),
        ("patch", {"dimensions": "3", "size_voxels": 4096}),
        ("pair.source.window.lower", "-Infinity"),
        ("pair.source.window.headroom", "Infinity"),
        ("pair.source.air", "NaN"),
        ("pair.source.name", "../../x"),
        ("pair.source.name", "x" * 10_000),
        ("intensities", {"contrast": ["NaN", "NaN"]}),
        ("epoch", 1e300),
        ("unknown", 1),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_no_model_of_ours_says_is_refused_by_its_name(folder, place, value):
    content = json.loads((folder / "model.json").read_text())
    *groups, key = place.split(".")
    inner = content
    for group in groups:
        inner = inner[group]
    inner[key] = value
    alter(folder, **content)
    refused(folder, rf"model.json: cannot be read \({place.split('.')[0]}.*: .+\); copy", read_description)


def test_others_may_read_a_model_as_any_file(tmp_path):
    (tmp_path / "any").touch()
    write(tmp_path / "model", describe())
    allowed = (tmp_path / "any").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "model").iterdir()} == {allowed}


def test_a_full_disk_is_named_and_leaves_no_weights(tmp_path, full_disk):
    full_disk(100)
    with pytest.raises(DataError, match=r"weights.safetensors: cannot be written \(File too large\); make room"):
        write(tmp_path / "model", describe())
    assert list((tmp_path / "model").iterdir()) == []


def test_the_card_tells_how_it_was_made_and_is_no_medical_device(tmp_path):
    write(tmp_path, describe() | {"trained": 10, "validated": 3})
    text = (tmp_path / "MODEL_CARD.md").read_text()
    rows = {
        "# tiny: contrast to plain",
        "| Translates | to_target, to_source |",
        "| Grid | 1.5 mm x 1.5 mm x own |",
        "| Input | 2D, of 8 x 8 voxels |",
        "| Window | -300 to 700 |",
        "| Training subjects | 10 train, 3 validation; the built-in digital phantom, no patient |",
        f"| Split | `{'5' * 12}` |",
        "| Networks kept | averages after epoch 7 |",
        "| `val/score_hu` | 12.5 |",
        "| `val/worst_hu` | nan |",
    }
    assert rows <= set(text.splitlines())
    assert "**Not a medical device: for research only, not for diagnosis.**" in text
    assert "Convert studies with `medgan convert INPUT OUTPUT --model THIS_FOLDER`" in text
    table = text[text.index("|---|---|") :].partition("\n\n")[0].splitlines()
    assert len(table) == 1 + 7 + 2
    assert all(line.count("|") == 3 for line in table)


OLD = {
    "translation": (TranslationDescription, "9f85c7c20ace54fc200ce61c9d6577b462fe9265d59035e983155bf30dc08a04"),
    "segmentation": (SegmenterDescription, "8f84d8700f41e0980ea19489ab6b3fcdf39da5882acb90e834ee107d693a9f20"),
    "synthesis": (GeneratorDescription, "21c7230f0a01aebdffc9909a3c1f9c352911501cdcf515f7687a775b5249c965"),
    "classification": (ClassifierDescription, "b6cfa9aa94b63c42f79de8c701d4c3db9543dee1edc11aebccc3d3241485a06f"),
}
"""By task, the description, and the hash by which outputs know the model, as the medgan that wrote it told it."""


@pytest.mark.parametrize("task", OLD)
def test_a_folder_of_the_first_schema_loads_and_outputs_know_its_model_again(tmp_path, task):
    kind, sha256 = OLD[task]
    written = Path(__file__).with_name("schema_1") / f"{task}.json"
    (tmp_path / "weights.safetensors").touch()
    shutil.copy(written, tmp_path / "model.json")
    description = read_description(tmp_path, kind)
    assert (description.sha256, description.task, description.schema_version) == (sha256, task, SCHEMA_VERSION)
    content = json.loads(written.read_text())
    origin = content.get("origin", content)
    assert description.origin.split_hash == origin["split_hash"] != ""
    assert description.origin.model_dump(mode="json")["trained_on"] == origin["trained_on"] != {}
    networks = torch.nn.ModuleDict(description.build())
    rewritten(tmp_path, {key: value.contiguous() for key, value in networks.state_dict().items()})
    assert read_model(tmp_path, kind).networks.keys() == networks.keys()
    for other, command in (("translation", "convert"), ("segmentation", "segment"), ("classification", "classify")):
        if other != task:
            with pytest.raises(ModelError, match=f"is a model for {task}, not for {other}; use it with `medgan "):
                read_model(tmp_path, OLD[other][0])
            alter(tmp_path, task=other)
            with pytest.raises(ModelError, match=f"is a model for {other}, .*; use it with `medgan {command}`"):
                read_model(tmp_path, kind)
            alter(tmp_path, task=task)
    alter(tmp_path, weights_sha256="0" * 64)
    with pytest.raises(ModelError, match="was changed or damaged"):
        read_model(tmp_path, kind)
