"""``medgan benefit``: does translation help a segmenter on subjects that no model has seen?"""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands.common import (
    ConfigFile,
    Debug,
    Device,
    Overrides,
    PipelineName,
    Quiet,
    TrackingUri,
    console,
    explained,
    say,
)


def benefit(
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Annotated[
        Path | None, typer.Option(help="Cohort CSV with masks, or a folder with cohort.csv; else a phantom.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds, or which; else 3, and with --quick 1.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model folder of a finished run; else the study trains its translator.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour: shows it runs, no more.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Segmenters that are trained at the same time.")] = 1,
    config: ConfigFile = None,
    out: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="The study's name; the same name goes on with it.")] = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train one segmenter with and without translated images, and compare them on unseen subjects of both domains.

    The same command goes on with a study that was stopped.
    """
    with explained(debug):
        from medgan.benefit.plan import BenefitOrder
        from medgan.benefit.study import ROWS, run_benefit
        from medgan.report.benefit import write_report
        from medgan.study.grid import read_seeds

        order = BenefitOrder(
            pipeline,
            name or ("benefit-quick" if quick else "benefit"),
            data,
            config,
            overrides or [],
            read_seeds(seeds or ("1" if quick else "3")),
            model,
            quick,
            out,
            tracking,
            device,
            jobs,
        )
        found = run_benefit(order, console(quiet))
        if not found.rows.empty:
            say(quiet, f"report: {write_report(found.folder)}")
        say(quiet, f"figures: {found.folder / ROWS}")
        say(quiet, found.tracked)
        if found.exit_code:
            raise typer.Exit(found.exit_code)
