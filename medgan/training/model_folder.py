"""The model folder: weights, a description from which the networks are built again, and a card for people.

Loading one needs no learner and runs no code of the folder: safetensors and JSON only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from medgan.config import Config
from medgan.data.domains import Domain, DomainPair
from medgan.data.preparation import GridConfig
from medgan.data.transforms import PatchConfig
from medgan.errors import ModelError
from medgan.training.architecture import Direction, GeneratorConfig

SCHEMA_VERSION = 1
WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "MODEL_CARD.md"
TRANSLATION, SEGMENTATION, SYNTHESIS = "translation", "segmentation", "synthesis"
CLASSIFICATION = "classification"
COMMANDS = {TRANSLATION: "convert", SEGMENTATION: "segment", SYNTHESIS: "augment", CLASSIFICATION: "classify"}
"""By task, the command that uses a model of it."""

D = TypeVar("D", bound=Config)
N = TypeVar("N", bound=str)


class ModelDescription(Config):
    """All that must be known to convert a study with a model."""

    schema_version: int = SCHEMA_VERSION
    name: str
    """The pipeline that trained it."""
    pair: DomainPair
    grid: GridConfig
    patch: PatchConfig
    generator: GeneratorConfig
    directions: tuple[Direction, ...]
    """What it can translate; a paired model knows only ``to_target``."""
    intensities: dict[str, tuple[float, float]]
    """By domain: the lowest and highest of the training subjects' intensities, .1 to 99.9 percentile."""
    split_hash: str
    data_fingerprint: str
    weights_sha256: str
    metrics: dict[str, float]
    """Validation metrics of the networks that were kept."""
    epoch: int
    versions: dict[str, str]
    phantom: bool
    """Trained on the built-in phantom: no model for patients."""


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
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"{name}.{key}": value.contiguous()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS)
    return _sha256(folder / WEIGHTS)


def write_description(folder: Path, description: Config) -> None:
    """Write ``model.json``."""
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_model(folder: Path) -> Model:
    """Load and verify a model folder.

    Raises:
        ModelError: A missing file, an altered weight file, a newer schema, weights of other networks.
    """
    description = read_description(folder)
    networks: dict[Direction, nn.Module] = {
        direction: description.generator.build(description.pair, description.patch, direction)
        for direction in description.directions
    }
    load_weights(folder, networks, description.weights_sha256)
    return Model(description, networks)


def read_description(folder: Path) -> ModelDescription:
    """The checked content of ``model.json``."""
    return described(folder, ModelDescription)


def load_weights(folder: Path, networks: Mapping[N, nn.Module], sha256: str) -> None:
    """Give networks the weights that :func:`write_weights` wrote; they are then in evaluation mode and frozen.

    Raises:
        ModelError: An altered weight file, or weights of other networks.
    """
    if _sha256(folder / WEIGHTS) != sha256:
        raise ModelError(
            f"{folder / WEIGHTS}: is not the file that {DESCRIPTION} describes (its SHA-256 differs); "
            "it was changed or damaged: copy the model folder again."
        )
    try:
        weights = load_file(folder / WEIGHTS)
        for name, network in networks.items():
            own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
            network.load_state_dict(own)
            network.eval().requires_grad_(False)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{folder}: weights do not fit the networks described ({reason}); copy the folder again."
        ) from None


def described(folder: Path, kind: type[D]) -> D:
    """The checked content of ``model.json`` as a description of one kind.

    Raises:
        ModelError: A missing or unreadable file, a newer schema, or a model of another kind.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is not a model folder, {name} is missing; give the `model` folder of a run.")
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        found = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(found, int) and found > SCHEMA_VERSION:
            raise ModelError(
                f"{folder}: written by a newer medgan (schema {found}, known {SCHEMA_VERSION}); update medgan."
            )
        _check_task(folder, content, kind)
        return kind.model_validate(content)
    except (ValidationError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{folder / DESCRIPTION}: cannot be read ({reason}); copy the model folder again.") from None


def _check_task(folder: Path, content: object, kind: type[Config]) -> None:
    """Refuse a model that does something else than is asked of it; those that do not say translate."""
    does = content.get("task", TRANSLATION) if isinstance(content, dict) else TRANSLATION
    wanted = kind.model_fields["task"].default if "task" in kind.model_fields else TRANSLATION
    if does != wanted and does in COMMANDS:
        raise ModelError(f"{folder}: is a model for {does}, not for {wanted}; use it with `medgan {COMMANDS[does]}`.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
