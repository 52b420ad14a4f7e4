"""``medgan data``: look at, check and make data."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands.common import Debug, Overrides, PipelineName, console, explained

app = typer.Typer(no_args_is_help=True, help="Look at, check and make data.")


@app.command("phantom")
def make_phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    kind: Annotated[str, typer.Option(help="What to render: abdomen_ct, abdomen_mr_ct or head_mr.")] = "abdomen_ct",
    subjects: Annotated[int, typer.Option(min=1)] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    lesions: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of subjects with lesions; by default the kind's.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Render the built-in phantom: seeded subjects with known truth."""
    with explained(debug):
        from medgan.phantom.cohort import write_phantom

        typer.echo(f"cohort: {write_phantom(out, kind=kind, subjects=subjects, seed=seed, lesions=lesions)}")


@app.command("check")
def check_data(
    data: Annotated[Path, typer.Argument(help="Cohort: CSV, folders, BIDS or nnU-Net raw.")],
    overrides: Overrides = None,
    pipeline: PipelineName = "ct_contrast",
    table: Annotated[Path | None, typer.Option("--csv", help="Write the table here too.")] = None,
    debug: Debug = False,
) -> None:
    """Check a cohort before training: readable, geometry, spacing, intensities, duplicates. Exit code 1 on findings.

    Settings say what it shall be used for: translator=pix2pix also checks that pairs lie on one grid.
    """
    with explained(debug):
        from medgan import catalog
        from medgan.config import from_overrides
        from medgan.data.check import check_cohort, render
        from medgan.data.studies import find_cohort

        asked = from_overrides(overrides or [])
        pair = catalog.load(pipeline).configured(asked, on_phantom=False, on_cpu=True).pair
        report = check_cohort(find_cohort(data, pair), pair)
        console().print(render(report))
        if table:
            report.frame().to_csv(table, index=False)
        if report.findings:
            raise typer.Exit(1)
