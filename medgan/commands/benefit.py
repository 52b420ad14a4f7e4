"""``medgan benefit``: does translation, or synthesis, help a segmenter on subjects that no model has seen?"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan.commands import early
from medgan.commands.common import (
    Bids,
    ConfigFile,
    Debug,
    Device,
    Out,
    Overrides,
    PipelineName,
    Quiet,
    Root,
    StudyName,
    TrackingUri,
    console,
    explained,
    say,
)
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.benefit.plan import BenefitOrder


class Kind(StrEnum):
    """What is asked of a translation or a synthesis."""

    ARMS = "arms"
    ROUTES = "routes"
    AUGMENTATION = "augmentation"
    LESION_PREVALENCE = "lesion-prevalence"


def benefit(
    pipeline: PipelineName,
    overrides: Overrides = None,
    study: Annotated[
        Kind,
        typer.Option(
            help="arms: segmenters trained with and without translations. routes: labels on MR, or on synthetic CT. "
            "augmentation: few real cases, with and without synthetic ones. "
            "lesion-prevalence: do translators invent or erase what their targets had more or less of?"
        ),
    ] = Kind.ARMS,
    data: Annotated[
        Path | None, typer.Option(help="Cohort with masks: CSV, folders, BIDS or nnU-Net raw; else a phantom.")
    ] = None,
    root: Root = None,
    bids: Bids = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="How many seeds, or which; else 3 for arms and augmentation, 1 with --quick or otherwise."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="Model folder of a finished run, of each fold for routes; else the study trains its own."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour: shows it runs, no more.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Segmenters that are trained at the same time.")] = 1,
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: StudyName = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Does it help, on subjects that no model has seen? By default one segmenter with and without translation, in arms.

    The same command goes on with a study that was stopped.
    """
    with explained(debug):
        _refuse_what_does_not_apply(study, data, model or [], quick)
        own = pipeline if study is Kind.LESION_PREVALENCE else study.value
        early.check_use(
            pipeline=pipeline, settings=own, overrides=overrides, config=None if own == pipeline else config, data=data,
            models=model or [], device=device, name=name,
        )  # fmt: skip
        settings = overrides or []
        from medgan.data.studies import located

        cohort = located(data, root, bids)
        if study in (Kind.ROUTES, Kind.LESION_PREVALENCE):
            from medgan.commands.study import study as run_study

            run_study(
                study.value, pipeline, settings, data=data, root=root, bids=bids, seeds=seeds, model=model, jobs=jobs,
                config=config, out=out, name=name, tracking=tracking, device=device, quiet=quiet, debug=True,
            )  # fmt: skip
        elif study is Kind.AUGMENTATION:
            from medgan.commands.augmentation import augmentation

            augmentation(
                pipeline, data=cohort, overrides=settings, seeds=seeds, quick=quick, jobs=jobs, config=config, out=out,
                name=name, tracking=tracking, device=device, quiet=quiet,
            )  # fmt: skip
        else:
            from medgan.benefit.plan import BenefitOrder
            from medgan.studies.base import seeds_of as read_seeds

            order = BenefitOrder(
                pipeline, name or ("benefit-quick" if quick else "benefit"), cohort, config, settings,
                read_seeds(seeds or ("1" if quick else "3")), model[0] if model else None, quick, out, tracking,
                device, jobs,
            )  # fmt: skip
            _compare_arms(order, quiet)


def _refuse_what_does_not_apply(study: Kind, data: Path | None, models: Sequence[Path], quick: bool) -> None:
    """Refuse options that the kind of study would not heed.

    Raises:
        ConfigError: Names them.
    """
    given = {
        Kind.ARMS: {"a second --model": len(models) > 1},
        Kind.AUGMENTATION: {"--model": bool(models)},
        Kind.ROUTES: {"--quick": quick},
        Kind.LESION_PREVALENCE: {"--quick": quick, "--data": data is not None, "--model": bool(models)},
    }[study]  # fmt: skip
    if unheeded := [option for option, is_given in given.items() if is_given]:
        raise ConfigError(f"--study {study} does not take {' or '.join(unheeded)}; leave it out.")


def _compare_arms(order: "BenefitOrder", quiet: bool) -> None:
    """Run a study of arms, say where its results are, and end with 1 if a segmenter failed."""
    from medgan.benefit.study import ROWS, run_benefit
    from medgan.report.benefit import write_report

    found = run_benefit(order, console(quiet))
    if not found.rows.empty:
        say(quiet, f"report: {write_report(found.folder)}")
    say(quiet, f"figures: {found.folder / ROWS}")
    say(quiet, found.tracked)
    if found.exit_code:
        raise typer.Exit(found.exit_code)
