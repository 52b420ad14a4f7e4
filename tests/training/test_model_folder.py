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


@pytest.fixture
def folder(tmp_path):
    description = describe()
    write_model(tmp_path / "model", build(description), TranslationDescription, **description)
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
    write_model(tmp_path, networks, TranslationDescription, **description)
    model = read_model(tmp_path, TranslationDescription)
    patch = description["patch"]
    image = torch.rand(2, patch.channels, *patch.shape) * 2 - 1
    for direction in DIRECTIONS:
        assert torch.equal(model.networks[direction](image), networks[direction](image))
    assert not model.networks["to_target"].training
    assert not any(parameter.requires_grad for parameter in model.networks["to_target"].parameters())


def test_all_that_was_described_is_read_back(folder):
    written, read = describe(), read_model(folder, TranslationDescription).description
    for key, value in written.items():
        assert key == "metrics" or getattr(read, key) == value
    assert read.metrics["val/score_hu"] == 12.5
    assert read.metrics["val/worst_hu"] != read.metrics["val/worst_hu"]
    assert (read.schema_version, read.directions) == (SCHEMA_VERSION, DIRECTIONS)
    assert {"medgan", "torch", "monai"} <= read.versions.keys()


def test_equal_networks_give_equal_bytes(tmp_path):
    description = describe()
    networks = build(description)
    models = [write_model(tmp_path / name, networks, TranslationDescription, **description) for name in ("a", "b")]
    hashes = {model.description.weights_sha256 for model in models}
    assert len(hashes) == 1


def test_a_direction_tells_what_goes_in_and_what_comes_out(folder):
    description = read_description(folder, TranslationDescription)
    assert description.domains("to_target") == (CONTRAST, PLAIN)
    assert description.domains("to_source") == (PLAIN, CONTRAST)


def test_a_model_of_one_direction_refuses_the_other(tmp_path):
    description = describe()
    write_model(tmp_path, build(description, ("to_target",)), TranslationDescription, **description)
    with pytest.raises(ModelError, match="'tiny' cannot translate to_source; it was trained for: to_target"):
        read_model(tmp_path, TranslationDescription).description.domains("to_source")


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_changed_byte_of_the_weights_is_refused(folder, place):
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[place] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match=r"weights.safetensors: is not the file that model.json describes .*SHA-256"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"is not a model folder, {name} is missing; give the `model` folder of a run"):
        read_model(folder, TranslationDescription)


def test_a_newer_schema_asks_for_a_newer_medgan(folder):
    alter(folder, schema_version=SCHEMA_VERSION + 1, what_is_new=1)
    with pytest.raises(ModelError, match=rf"written by a newer medgan \(schema {SCHEMA_VERSION + 1}, .*update medgan"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"schema_version": 1}', '{"schema_version": "x"}', "\xff"], ids=repr
)
def test_a_description_that_describes_no_model_is_named(folder, text):
    (folder / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"model.json: cannot be read \(.+\); copy the model folder again"):
        read_description(folder, TranslationDescription)


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
        read_model(folder, TranslationDescription)


def test_nothing_but_safetensors_is_loaded(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"to_target.weight": Trap()}, folder / "weights.safetensors", pickle_module=pickle)
    alter(folder, weights_sha256=file_hash(folder / "weights.safetensors"))
    with pytest.raises(ModelError, match="weights do not fit"):
        read_model(folder, TranslationDescription)
    assert not (tmp_path / "ran").exists()


def rewritten(folder, weights, **changes):
    """The folder with other weights, which its description says are its own."""
    save_file(weights, folder / "weights.safetensors")
    alter(folder, weights_sha256=file_hash(folder / "weights.safetensors"), **changes)


def bytes_of(header, data=b""):
    """A weight file of any header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    weights = load_file(folder / "weights.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[-1] = value
    rewritten(folder, weights)
    with pytest.raises(ModelError, match=rf"weights of {name} are not finite"):
        read_model(folder, TranslationDescription)


def test_weights_of_another_type_are_refused(folder):
    weights = load_file(folder / "weights.safetensors")
    name = min(weights)
    rewritten(folder, weights | {name: weights[name].half()})
    with pytest.raises(ModelError, match=rf"weights do not fit .*{name} is F16 .*, not F32"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 7,
        (2**62).to_bytes(8, "little") + b"{}",
        bytes_of({"to_target.x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        bytes_of({"to_target.x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}),
        bytes_of({"to_target.x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}}, b"\0" * 16),
        bytes_of({"to_target.x": {"dtype": "F9", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        bytes_of(b"[" * 100_000),
        bytes_of(b'{"a": '),
    ],
    ids=["empty", "short", "long header", "tera", "overflow", "offsets", "type", "deep", "cut"],
)
def test_a_weight_file_that_lies_of_itself_is_refused(folder, content):
    (folder / "weights.safetensors").write_bytes(content)
    alter(folder, weights_sha256=file_hash(folder / "weights.safetensors"))
    with pytest.raises(ModelError, match=r"weights do not fit the networks described \(.+\); copy the folder again"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize(
    "network",
    [
        {"kind": "resnet", "channels": 4096, "downs": 12, "blocks": 256},
        {"kind": "unet", "channels": 4096, "downs": 12},
    ],
    ids=["resnet", "unet"],
)
def test_the_largest_network_that_can_be_described_costs_nothing_to_refuse(folder, network):
    content = json.loads((folder / "model.json").read_text())
    content["generator"]["network"] = network
    content["patch"] |= {"dimensions": "3"}
    alter(folder, **content)
    with pytest.raises(ModelError, match="weights do not fit the networks described"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize("kept", [b'{"schema_version": 1}', None])
def test_a_bomb_in_the_description_is_named(folder, kept):
    (folder / "model.json").write_bytes(kept or b'{"a":' + b"[" * 100_000)
    with pytest.raises(ModelError, match=r"model.json: cannot be read \((nested deeper|metrics: Field required)"):
        read_model(folder, TranslationDescription)


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, [1], 10**19])
def test_a_schema_that_was_never_written_is_refused(folder, version):
    alter(folder, schema_version=version)
    with pytest.raises(ModelError, match=r"cannot be read \(its schema_version is|written by a newer medgan"):
        read_model(folder, TranslationDescription)


def test_a_description_without_schema_is_refused(folder):
    content = json.loads((folder / "model.json").read_text())
    del content["schema_version"]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="its schema_version is None; medgan writes 2"):
        read_model(folder, TranslationDescription)


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
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=rf"model.json: cannot be read \({groups[0] if groups else key}.*: .+\); copy"):
        read_description(folder, TranslationDescription)


def test_others_may_read_a_model_as_any_file(tmp_path):
    description = describe()
    (tmp_path / "any").touch()
    write_model(tmp_path / "model", build(description), TranslationDescription, **description)
    allowed = (tmp_path / "any").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "model").iterdir()} == {allowed}


def test_a_full_disk_is_named_and_leaves_no_weights(tmp_path, full_disk):
    description = describe()
    networks = build(description)
    full_disk(100)
    with pytest.raises(DataError, match=r"weights.safetensors: cannot be written \(File too large\); make room"):
        write_model(tmp_path / "model", networks, TranslationDescription, **description)
    assert list((tmp_path / "model").iterdir()) == []


def test_a_folder_from_before_scans_were_told_still_loads(folder):
    content = json.loads((folder / "model.json").read_text())
    assert content.pop("scans") == {}
    (folder / "model.json").write_text(json.dumps(content))
    assert read_model(folder, TranslationDescription).description.scans == {}


def test_scans_of_the_training_are_read_back(tmp_path):
    scans = Scans(spacing_mm=((1, 2), (1, 2), (5, 5)), field_mm=((300, 400),) * 3, modalities=("CT",))
    description = describe() | {"scans": {"contrast": scans}}
    write_model(tmp_path, build(description), TranslationDescription, **description)
    assert read_model(tmp_path, TranslationDescription).description.scans == {"contrast": scans}


@pytest.mark.parametrize(
    "row",
    [
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
    ],
)
def test_the_card_tells_how_it_was_made_and_is_no_medical_device(tmp_path, row):
    description = describe() | {"trained": 10, "validated": 3}
    write_model(tmp_path, build(description), TranslationDescription, **description)
    text = (tmp_path / "MODEL_CARD.md").read_text()
    assert row in text.splitlines()
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
    networks = description.build()
    save_file(
        {
            f"{name}.{key}": value.contiguous()
            for name, each in networks.items()
            for key, value in each.state_dict().items()
        },
        tmp_path / "weights.safetensors",
    )
    alter(tmp_path, weights_sha256=file_hash(tmp_path / "weights.safetensors"))
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
