"""The model folder: weights, a description from which the networks are built again, and a card for people.

Loading one needs no learner and runs no code of the folder: safetensors and JSON only.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import AllowInfNan, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from medgan.config import Config, first_problem
from medgan.data.belonging import Scans
from medgan.data.domains import Domain, DomainPair
from medgan.data.leaks import TrainedOn
from medgan.data.patches import PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.streams import replacing, write_text
from medgan.documents import read_json
from medgan.errors import ModelError
from medgan.training.architecture import Direction, GeneratorConfig

SCHEMA_VERSION: Literal[1] = 1
WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "MODEL_CARD.md"
TRANSLATION, SEGMENTATION, SYNTHESIS = "translation", "segmentation", "synthesis"
CLASSIFICATION = "classification"
COMMANDS = {TRANSLATION: "convert", SEGMENTATION: "segment", SYNTHESIS: "augment", CLASSIFICATION: "classify"}
"""By task, the command that uses a model of it."""
STORED = {torch.float32: "F32", torch.int64: "I64"}
"""What safetensors calls the types of our networks' tensors."""

Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Text that is shown to people: nothing in it moves their cursor or colours their screen."""
Metrics = dict[str, Annotated[float, AllowInfNan(True)]]

D = TypeVar("D", bound=Config)
N = TypeVar("N", bound=str)


class ModelDescription(Config):
    """All that must be known to convert a study with a model."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Line
    """The pipeline that trained it."""
    pair: DomainPair
    grid: GridConfig
    patch: PatchConfig
    generator: GeneratorConfig
    directions: tuple[Direction, ...] = Field(min_length=1, max_length=2)
    """What it can translate; a paired model knows only ``to_target``."""
    intensities: dict[str, tuple[float, float]]
    """By domain: the lowest and highest of the training subjects' intensities, .1 to 99.9 percentile."""
    scans: dict[str, Scans] = Field(default_factory=dict)
    """By domain, how the training subjects were scanned; empty in folders from before this was stored."""
    split_hash: Line
    data_fingerprint: Line
    weights_sha256: str
    metrics: Metrics
    """Validation metrics of the networks that were kept."""
    epoch: int
    versions: dict[str, Line]
    phantom: bool
    """Trained on the built-in phantom: no model for patients."""
    trained_on: TrainedOn | None = None
    """Which images it has seen, by hash; None in folders that an earlier medgan wrote."""


@dataclass(frozen=True)
class Model:
    """A loaded model: its description and its generators, on the CPU and in evaluation mode."""

    description: ModelDescription
    generators: Mapping[Direction, nn.Module]

    def domains(self, direction: Direction) -> tuple[Domain, Domain]:
        """What goes in and what comes out."""
        pair = self.description.pair
        return (pair.source, pair.target) if direction == "to_target" else (pair.target, pair.source)

    def generator(self, direction: Direction) -> nn.Module:
        """The generator of a direction.

        Raises:
            ModelError: The model was not trained for it.
        """
        if direction not in self.generators:
            known = ", ".join(self.generators)
            raise ModelError(
                f"model '{self.description.name}' cannot translate {direction}; it was trained for: {known}."
            )
        return self.generators[direction]


def library_versions() -> dict[str, str]:
    """The libraries that shape the weights and what they give."""
    return {name: version(name) for name in ("medgan", "torch", "monai", "lightning-fabric", "numpy")}


def write_model(folder: Path, networks: Mapping[str, nn.Module], description: Mapping[str, Any]) -> ModelDescription:
    """Write the model folder, but for its card.

    Args:
        folder: Made when missing.
        networks: Generators by direction.
        description: The fields of :class:`ModelDescription` but for the hash, the directions and the versions.
    """
    complete = ModelDescription(
        **description,
        directions=tuple(networks),
        weights_sha256=write_weights(folder, networks),
        versions=library_versions(),
    )
    write_description(folder, complete)
    return complete


def write_weights(folder: Path, networks: Mapping[str, nn.Module]) -> str:
    """Write all networks' weights by name into a model folder, made when missing; the file's SHA-256."""
    with replacing(folder / WEIGHTS) as stream:
        stream.write(save({key: value.contiguous() for key, value in _named(networks)}))
    return _sha256(folder / WEIGHTS)


def write_description(folder: Path, description: Config) -> None:
    """Write ``model.json``."""
    write_text(folder / DESCRIPTION, description.model_dump_json(indent=2) + "\n")


def read_model(folder: Path) -> Model:
    """Load and verify a model folder.

    Raises:
        ModelError: A missing file, an altered weight file, a newer schema, weights of other networks.
    """
    description = read_description(folder)

    def build() -> dict[Direction, nn.Module]:
        return {
            direction: description.generator.build(description.pair, description.patch, direction)
            for direction in description.directions
        }

    return Model(description, load_networks(folder, build, description.weights_sha256))


def read_description(folder: Path) -> ModelDescription:
    """The checked content of ``model.json``."""
    return described(folder, ModelDescription)


def load_networks(folder: Path, build: Callable[[], Mapping[N, nn.Module]], sha256: str) -> Mapping[N, nn.Module]:
    """The networks that :func:`write_weights` wrote, in evaluation mode and frozen.

    They are first built without memory and held against the weights' header: a description that does not belong to its
    weights, or that asks for more than they hold, is refused before anything is allocated.

    Args:
        folder: The model folder.
        build: Makes fresh networks by name; called twice.
        sha256: What the description says of the weights.

    Raises:
        ModelError: An altered weight file, weights of other networks, or some that are not finite.
    """
    path = folder / WEIGHTS
    if _sha256(path) != sha256:
        raise ModelError(
            f"{path}: is not the file that {DESCRIPTION} describes (its SHA-256 differs); "
            "it was changed or damaged: copy the model folder again."
        )
    try:
        with torch.device("meta"):
            wanted = {key: (value.dtype, tuple(value.shape)) for key, value in _named(build())}
        _check_header(path, wanted)
        networks = build()
        weights = load_file(path)
        for key, value in weights.items():
            if not torch.isfinite(value).all():
                raise ModelError(f"{path}: weights of {key} are not finite; the model is useless, train it anew.")
        for name, network in networks.items():
            own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
            network.load_state_dict(own)
            network.eval().requires_grad_(False)
    except (SafetensorError, RuntimeError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{folder}: weights do not fit the networks described ({reason}); copy the folder again."
        ) from None
    return networks


def _named(networks: Mapping[N, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the networks by the name that it has in a weight file."""
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            yield f"{name}.{key}", value


def _check_header(path: Path, wanted: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> None:
    """Hold a weight file's header against the networks' tensors; no tensor is read.

    Raises:
        ValueError: Names, shapes or types differ.
        SafetensorError: It is no weight file, or one whose header says more than it holds.
    """
    with safe_open(path, "pt") as weights:
        missing, surplus = wanted.keys() - weights.keys(), weights.keys() - wanted.keys()
        if missing or surplus:
            what, names = ("missing", missing) if missing else ("surplus", surplus)
            raise ValueError(f"{len(names)} {what}, {min(names)[:100]!r} first")
        for key, (dtype, shape) in wanted.items():
            there = weights.get_slice(key)
            if (there.get_dtype(), tuple(there.get_shape())) != (STORED.get(dtype), shape):
                raise ValueError(
                    f"{key} is {there.get_dtype()} {tuple(there.get_shape())}, not {STORED.get(dtype)} {shape}"
                )


def described(folder: Path, kind: type[D]) -> D:
    """The checked content of ``model.json`` as a description of one kind.

    Raises:
        ModelError: A missing or unreadable file, an unknown schema, or a model of another kind.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is not a model folder, {name} is missing; give the `model` folder of a run.")
    try:
        content = read_json(folder / DESCRIPTION)
        if not isinstance(content, dict):
            raise ValueError("no description of a model")
        _check_schema(folder, content)
        _check_task(folder, content, kind)
        return kind.model_validate(content)
    except (ValueError, OSError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else str(error).partition("\n")[0]
        raise ModelError(f"{folder / DESCRIPTION}: cannot be read ({reason}); copy the model folder again.") from None


def _check_schema(folder: Path, content: Mapping[str, Any]) -> None:
    """Refuse a description that this medgan does not know, whatever else it says."""
    version = content.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its schema_version is {version!r:.50}; medgan writes {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise ModelError(
            f"{folder}: written by a newer medgan (schema {version}, known {SCHEMA_VERSION}); update medgan."
        )


def _check_task(folder: Path, content: Mapping[str, Any], kind: type[Config]) -> None:
    """Refuse a model that does something else than is asked of it; those that do not say translate."""
    does = str(content.get("task", TRANSLATION))
    wanted = kind.model_fields["task"].default if "task" in kind.model_fields else TRANSLATION
    if does != wanted and does in COMMANDS:
        raise ModelError(f"{folder}: is a model for {does}, not for {wanted}; use it with `medgan {COMMANDS[does]}`.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
