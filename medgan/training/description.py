"""What the models of one network say of themselves, whatever their task, and the rows that their cards share."""

from typing import Literal, Self

from medgan.config import Config
from medgan.data.domains import Domain
from medgan.data.leaks import TrainedOn
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.training.model_folder import SCHEMA_VERSION, Line, Metrics


class Origin(Config):
    """Where a model's subjects come from, as its model folder tells it."""

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


class TrainedDescription(Config):
    """How the network was trained and chosen; each task adds its name and its settings."""

    schema_version: Literal[1] = SCHEMA_VERSION
    seed: int
    origin: Origin
    metrics: Metrics
    """Validation metrics of the network that was kept."""
    epoch: int
    weights_sha256: str
    versions: dict[str, Line]

    @property
    def trained_on(self) -> TrainedOn | None:
        """As a translation model's description says it."""
        return self.origin.trained_on


def card_facts(description: TrainedDescription, domain: Domain, grid: GridConfig) -> dict[str, object]:
    """What every card's template asks for: what goes in, on which grid, and how the network was chosen."""
    window = domain.window
    return {
        "medgan": description.versions["medgan"],
        "domain": domain.name,
        "modality": domain.modality,
        "lower": window.lower,
        "upper": window.upper,
        "percentiles": " percentile" if window.percentiles else f" {domain.unit}",
        "spacing": " x ".join("own" if size is None else f"{size:g} mm" for size in grid.spacing_mm),
        "data": "the built-in digital phantom, no patient" if description.origin.phantom else "real studies",
        "split": description.origin.split_hash[:12] or "none",
        "epoch": description.epoch,
        "metrics": "\n".join(f"| `{key}` | {value:.4g} |" for key, value in sorted(description.metrics.items())),
    }
