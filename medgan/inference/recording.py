"""What a batch leaves on the MLflow run of its model: how many studies ended how, and no name."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from medgan.inference.batch import BatchSummary
from medgan.tracking import record_of_model

if TYPE_CHECKING:  # with MLflow, which takes seconds
    from medgan.tracking import RecordedRun


def record_batch(summary: BatchSummary, tracking: str | None = None) -> str:
    """Record how a conversion ended on its model's run.

    Args:
        summary: How it ended.
        tracking: What ``--tracking`` says.

    Returns:
        One line for people: where it was recorded, or why it was not.
    """
    counts = summary.counts()
    figures = {
        "convert/converted": counts["done"],
        "convert/kept": counts["kept"],
        "convert/failed": counts["failed"],
        "convert/warned": sum(bool(outcome.warnings) for outcome in summary.outcomes),
        "convert/seconds": summary.seconds,
        **{f"convert/{part}": count for part, count in summary.seen_counts().items()},
    }

    def write(run: "RecordedRun") -> None:
        run.metrics(figures)
        run.tags({"converted_with": f"medgan {version('medgan')} on {summary.device}"})

    return record_of_model(tracking, summary.model_sha256, write)
