"""``medgan benefit --study lesion-prevalence``: do translators invent or erase what targets have more or less of?"""

from collections.abc import Sequence
from pathlib import Path

import typer

from medgan.commands.common import console, say

KIND = "lesion-prevalence"


def lesion_prevalence(
    pipeline: str,
    *,
    overrides: Sequence[str] = (),
    seeds: str | None = None,
    settings: Path | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
    tracking: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Run a lesion-prevalence study, say where its results are, and end with 1 if a translator failed.

    Args:
        pipeline: Whose translators are trained.
        overrides: Their settings.
        seeds: How many, or which; else 1.
        settings: YAML with the study's own, ``medgan.study.prevalence.PrevalenceConfig``.
        out: Where runs are kept.
        name: The study's; the same name goes on with it.
        tracking: MLflow URI.
        device: Where to train.
        quiet: Print errors only.

    Raises:
        MedganError: Whatever keeps the study from starting.
    """
    from medgan.config import load
    from medgan.study.grid import read_seeds
    from medgan.study.plan import StudyOrder
    from medgan.study.prevalence import ROWS, TABLE, PrevalenceConfig, run_prevalence

    order = StudyOrder(
        pipeline, KIND, name or KIND, None, None, tuple(overrides), read_seeds(seeds or "1"), out, tracking, device
    )
    study = run_prevalence(order, load(PrevalenceConfig, *([settings] if settings else [])), console(quiet))
    for title, finding in study.findings.items():
        say(quiet, f"{title}: {finding}")
    say(quiet, f"table: {study.folder / TABLE}; by subject: {study.folder / ROWS}")
    say(quiet, study.tracked)
    if study.exit_code:
        raise typer.Exit(study.exit_code)
