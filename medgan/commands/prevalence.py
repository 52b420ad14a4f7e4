"""The lesion-prevalence study, for every command that offers it."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medgan.commands.common import console, say

if TYPE_CHECKING:
    from medgan.study.plan import StudyOrder

KIND = "lesion-prevalence"


def lesion_prevalence(order: "StudyOrder", settings: Path | None, quiet: bool) -> None:
    """Run a lesion-prevalence study, say where its results are, and end with 1 if a translator failed.

    Args:
        order: What was asked; its settings are the translators'.
        settings: YAML with the study's own, ``medgan.study.prevalence.PrevalenceConfig``.
        quiet: Print errors only.
    """
    from medgan.config import load
    from medgan.study.prevalence import ROWS, TABLE, PrevalenceConfig, run_prevalence

    config = load(PrevalenceConfig, *([settings] if settings else []))
    study = run_prevalence(order, config, console(quiet))
    for name, finding in study.findings.items():
        say(quiet, f"{name}: {finding}")
    say(quiet, f"table: {study.folder / TABLE}; by subject: {study.folder / ROWS}")
    say(quiet, study.tracked)
    if study.exit_code:
        raise typer.Exit(study.exit_code)
