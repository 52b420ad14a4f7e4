"""The model folder: weights, a description from which the networks are built again, and a card for people.

All tasks have the same three files, one schema and one card; a task's own :class:`Description` adds its settings.
Loading a model needs no learner and runs no code of the folder: safetensors and JSON only.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import AllowInfNan, Field, PrivateAttr, ValidationError
from pydantic_core import to_json
from safetensors import SafetensorError

from medgan.config import Config, first_problem
from medgan.data.domains import Domain
from medgan.data.hashes import file_hash
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split, TrainedOn
from medgan.data.streams import replacing, write_text
from medgan.documents import read_json
from medgan.errors import ModelError

if TYPE_CHECKING:  # who reads a description, such as a page, need not wait for torch
    from torch import Tensor, nn

SCHEMA_VERSION: Literal[2] = 2
"""1 had the origin of a translation model's subjects beside its other fields, and no task and seed there."""
WEIGHTS, DESCRIPTION, CARD = "weights.safetensors", "model.json", "MODEL_CARD.md"
COMMANDS = {"translation": "convert", "segmentation": "segment", "synthesis": "augment", "classification": "classify"}
"""By task, the command that uses a model of it."""

Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Text that is shown to people: nothing in it moves their cursor or colours their screen."""
Metrics = dict[str, Annotated[float, AllowInfNan(True)]]

CARD_TEMPLATE = """# {title}

Trained by medgan {medgan}{networks}. **Not a medical device: for research only, not for diagnosis.**

| | |
|---|---|
{rows}
| Split | `{split}` |
| Networks kept | averages after epoch {epoch} |
{metrics}

{use}
"""


class Origin(Config):
    """Where a model's subjects come from."""

    split_hash: Line = ""
    """Of the split whose training and validation subjects it saw."""
    data_fingerprint: Line = ""
    phantom: bool = False
    """Trained on the built-in phantom: no model for patients."""
    trained_on: TrainedOn | None = None
    """Which images it may have seen, by hash; None in folders that an earlier medgan wrote."""

    @classmethod
    def of(cls, split: Split, *, phantom: bool, data_fingerprint: str = "") -> Self:
        """That of a model whose subjects are those of a split."""
        return cls(
            split_hash=split.hash, data_fingerprint=data_fingerprint, phantom=phantom, trained_on=split.trained_on
        )

    @property
    def data(self) -> str:
        """The kind of subjects, for cards."""
        return "the built-in digital phantom, no patient" if self.phantom else "real studies"


class Description(Config, ABC):
    """What ``model.json`` holds: how a model was trained and chosen, and what its task adds to build and use it."""

    schema_version: Literal[2] = SCHEMA_VERSION
    task: str
    seed: int | None = None
    """None in translation models of schema 1."""
    origin: Origin
    metrics: Metrics
    """Validation metrics of the networks that were kept."""
    epoch: int
    weights_sha256: str
    versions: dict[str, Line]
    _sha256: str = PrivateAttr("")

    use: ClassVar[str]
    """The card's last words."""
    called: ClassVar[str] = ""
    """What outputs call the model, where that is always the same."""
    loader: ClassVar[str | None] = None
    """The module by which MLflow's ``pyfunc`` makes a function of paths of the model folder, where there is one."""
    lists: ClassVar[str | None] = None
    """The field that lists the names of the networks, where these are not always the same."""

    @property
    def sha256(self) -> str:
        """Of the content of ``model.json`` as it was written, by whichever medgan."""
        return self._sha256 or hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @abstractmethod
    def build(self) -> "Mapping[str, nn.Module]":
        """Fresh networks by name."""

    def model_name(self) -> str:
        """What outputs call the model."""
        return self.called

    @abstractmethod
    def card(self) -> tuple[str, str, dict[str, str]]:
        """Of the model card its title, what it says of the networks, and its first rows."""


D = TypeVar("D", bound=Description)


@dataclass(frozen=True)
class Model(Generic[D]):
    """A loaded model: its description and its networks by name, on the CPU and in evaluation mode."""

    description: D
    networks: "Mapping[str, nn.Module]"

    @property
    def network(self) -> "nn.Module":
        """The network of a model that has one."""
        (network,) = self.networks.values()
        return network


def library_versions() -> dict[str, str]:
    """The libraries that shape the weights and what they give."""
    return {name: version(name) for name in ("medgan", "torch", "monai", "lightning-fabric", "numpy")}


def write_model(folder: Path, networks: "Mapping[str, nn.Module]", kind: type[D], **fields: Any) -> Model[D]:
    """Write a model folder; the model as it would be loaded.

    ``fields`` are those of the description but for the weights' hash, the versions and the list of networks.
    """
    from safetensors.torch import save
    from torch import nn

    listed = {kind.lists: tuple(networks)} if kind.lists else {}
    weights = nn.ModuleDict(networks).state_dict()
    with replacing(folder / WEIGHTS) as stream:
        stream.write(save({key: value.contiguous() for key, value in weights.items()}))
    digest = file_hash(folder / WEIGHTS)
    description = kind(weights_sha256=digest, versions=library_versions(), **listed, **fields)
    write_text(folder / DESCRIPTION, description.model_dump_json(indent=2) + "\n")
    write_text(folder / CARD, _model_card(description))
    return read_model(folder, kind)


def _model_card(description: Description) -> str:
    """The model card as Markdown: what a model does, what it was trained on, and what it must not be used for."""
    title, networks, rows = description.card()
    return CARD_TEMPLATE.format(
        title=title,
        networks=networks and f"; {networks}",
        medgan=description.versions["medgan"],
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        split=description.origin.split_hash[:12] or "none",
        epoch=description.epoch,
        metrics="\n".join(f"| `{key}` | {value:.4g} |" for key, value in sorted(description.metrics.items())),
        use=description.use,
    )


def input_rows(domain: Domain, grid: GridConfig) -> dict[str, str]:
    """Of a model card, which images go in, and on which grid."""
    window = domain.window
    unit = " percentile" if window.percentiles else f" {domain.unit}"
    return {
        "In": f"{domain.name}, {domain.modality}, window {window.lower:g} to {window.upper:g}{unit}",
        "Grid": " x ".join("own" if size is None else f"{size:g} mm" for size in grid.spacing_mm),
    }


def task_of(folder: Path) -> str:
    """What the model of a folder is for, a key of ``COMMANDS``; whoever reads it whole says what is wrong with it."""
    try:
        content = read_json(folder / DESCRIPTION)
    except (OSError, ValueError):
        return "translation"
    return str(content.get("task", "translation")) if isinstance(content, dict) else "translation"


def read_description(folder: Path, kind: type[D]) -> D:
    """The checked content of ``model.json``.

    Raises:
        ModelError: A missing or unreadable file, an unknown schema, or a model of another task.
    """
    for name in (DESCRIPTION, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: is not a model folder, {name} is missing; give the `model` folder of a run.")
    try:
        content = read_json(folder / DESCRIPTION)
        if not isinstance(content, dict):
            raise ValueError("no description of a model")
        description = kind.model_validate(_of_todays_schema(folder, content, kind))
    except (ValueError, OSError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else str(error).partition("\n")[0]
        raise ModelError(f"{folder / DESCRIPTION}: cannot be read ({reason}); copy the model folder again.") from None
    # Of the file, and not of what its fields are now: outputs keep their model whichever medgan reads it.
    description._sha256 = description_hash(content)
    return description


def description_hash(content: Mapping[str, Any]) -> str:
    """Of what a ``model.json`` holds: outputs and runs know their model by it."""
    return hashlib.sha256(to_json(content)).hexdigest()


def _of_todays_schema(folder: Path, content: Mapping[str, Any], kind: type[Description]) -> dict[str, Any]:
    """A description as today's medgan writes it; an unknown schema and another task are refused whatever else it says.

    What schema 1 holds without a task translates.
    """
    version = content.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its schema_version is {version!r:.50}; medgan writes {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise ModelError(
            f"{folder}: written by a newer medgan (schema {version}, known {SCHEMA_VERSION}); update medgan."
        )
    task, wanted = str(content.get("task", "translation")), kind.model_fields["task"].default
    if task != wanted and task in COMMANDS:
        raise ModelError(f"{folder}: is a model for {task}, not for {wanted}; use it with `medgan {COMMANDS[task]}`.")
    if version == 1 and "origin" not in content:
        moved = {key: content[key] for key in Origin.model_fields if key in content}
        own = {key: value for key, value in content.items() if key not in moved}
        content = {"task": "translation", **own, "origin": moved}
    return {**content, "schema_version": SCHEMA_VERSION}


def read_model(folder: Path, kind: type[D]) -> Model[D]:
    """Load and verify a model folder; its networks are in evaluation mode and frozen.

    They are first built without memory and held against the weights: a description that does not belong to these, or
    asks for more than they hold, is refused before a network is allocated.

    Raises:
        ModelError: A missing or altered file, a newer schema, weights of other networks, or a model of another task.
    """
    import torch
    from safetensors.torch import load_file
    from torch import nn

    description, path = read_description(folder, kind), folder / WEIGHTS
    if file_hash(path) != description.weights_sha256:
        raise ModelError(
            f"{path}: is not the file that {DESCRIPTION} describes (its SHA-256 differs); "
            "it was changed or damaged: copy the model folder again."
        )
    try:
        weights = load_file(path)
        with torch.device("meta"):
            _check_fit(weights, nn.ModuleDict(description.build()).state_dict())
        for key, value in weights.items():
            if not torch.isfinite(value).all():
                raise ModelError(f"{path}: weights of {key} are not finite; the model is useless, train it anew.")
        networks = description.build()
        nn.ModuleDict(networks).eval().requires_grad_(False).load_state_dict(weights)
    except (SafetensorError, RuntimeError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{folder}: weights do not fit the networks described ({reason}); copy the folder again."
        ) from None
    return Model(description, networks)


def _check_fit(weights: "Mapping[str, Tensor]", wanted: "Mapping[str, Tensor]") -> None:
    """Refuse weights that lack one of the networks' tensors, have another, or one of another type or shape."""
    for what, names in (("missing", wanted.keys() - weights.keys()), ("surplus", weights.keys() - wanted.keys())):
        if names:
            raise ValueError(f"{len(names)} {what}, {min(names)[:100]!r} first")
    for key, own in wanted.items():
        if (weights[key].dtype, weights[key].shape) != (own.dtype, own.shape):
            there = f"{weights[key].dtype} {tuple(weights[key].shape)}"
            raise ValueError(f"{key} is {there}, not {own.dtype} {tuple(own.shape)}")
