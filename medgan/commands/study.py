"""``medgan sweep`` and ``medgan study``: settings compared over seeds, with paired intervals."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medgan.commands import early
from medgan.commands.common import (
    Bids,
    ConfigFile,
    Data,
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

if TYPE_CHECKING:
    import pandas as pd

    from medgan.study.grid import Cell
    from medgan.study.plan import StudyOrder

app = typer.Typer(
    no_args_is_help=True,
    help="Named studies of a pipeline: children of one MLflow run, over seeds, with paired intervals. "
    "The same command goes on with a study that was stopped.",
)

Axes = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=A,B", help="Settings; several values, cut at commas outside [], {} and quotes."),
]
Seeds = Annotated[str, typer.Option(help="How many seeds, or which: 3 or 0,1,2.")]
Only = Annotated[Literal["losses", "discriminators", "generators"] | None, typer.Option(help="This ablation alone.")]


def sweep(
    pipeline: PipelineName,
    axes: Axes = None,
    data: Data = None,
    root: Root = None,
    bids: Bids = None,
    seeds: Seeds = "1",
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: StudyName = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train, convert and judge every combination of settings on one split; the first is the reference.

    The same command goes on with a sweep that was stopped, and more values add to it.
    """
    with explained(debug):
        early.check_use(
            pipeline=pipeline, settings=pipeline, overrides=axes, config=config, data=data, device=device, several=True,
            name=name,
        )  # fmt: skip
        from medgan.data.studies import located
        from medgan.study.grid import grid, read_seeds
        from medgan.study.plan import StudyOrder

        asked = grid(axes or [])
        named = name or "-".join(["sweep", *asked.keys])
        given = located(data, root, bids)
        order = StudyOrder(
            pipeline, "sweep", named, given, config, asked.shared, read_seeds(seeds), out, tracking, device
        )
        run(order, asked.cells, quiet)


@app.command()
def ablation(
    pipeline: PipelineName,
    overrides: Overrides = None,
    only: Only = None,
    data: Data = None,
    root: Root = None,
    bids: Bids = None,
    seeds: Seeds = "1",
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: StudyName = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """The pix2pix paper's ablations: losses, discriminators, generators, each against L1 + cGAN."""
    with explained(debug):
        early.check_use(
            pipeline=pipeline, settings=pipeline, overrides=overrides, config=config, data=data, device=device,
            name=name,
        )  # fmt: skip
        from medgan.data.studies import located
        from medgan.study.ablation import ablation as ablated
        from medgan.study.grid import read_seeds
        from medgan.study.plan import StudyOrder

        given = located(data, root, bids)
        order = StudyOrder(
            pipeline, "ablation", name or "ablation", given, config, overrides or [], read_seeds(seeds), out, tracking,
            device,
        )  # fmt: skip
        run(*(ablated(order, [only]) if only else ablated(order)), quiet)


@app.command()
def misalignment(
    pipeline: PipelineName,
    overrides: Overrides = None,
    shifts: Annotated[str, typer.Option(help="Voxels by which training targets are moved.")] = "0,1,2,3,4,6",
    metric: Annotated[str | None, typer.Option(help="Of the crossover; else the main error.")] = None,
    data: Data = None,
    root: Root = None,
    bids: Bids = None,
    seeds: Seeds = "1",
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: StudyName = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Paired training on pairs moved apart, against unpaired training: where does unpaired become better?"""
    with explained(debug):
        early.check_use(
            pipeline=pipeline, settings=pipeline, overrides=overrides, config=config, data=data, device=device,
            name=name,
        )  # fmt: skip
        from medgan.data.studies import located
        from medgan.study.grid import read_seeds
        from medgan.study.misalignment import crossovers, read_shifts
        from medgan.study.misalignment import misalignment as misaligned
        from medgan.study.plan import StudyOrder

        given = located(data, root, bids)
        order = StudyOrder(
            pipeline, "misalignment", name or "misalignment", given, config, overrides or [], read_seeds(seeds), out,
            tracking, device,
        )  # fmt: skip
        wanted = read_shifts(shifts)
        run(order, misaligned(order, wanted), quiet, lambda rows: crossovers(rows, wanted, metric))


def run(
    order: "StudyOrder",
    cells: "Sequence[Cell]",
    quiet: bool,
    findings: "Callable[[pd.DataFrame], Mapping[str, str]] | None" = None,
) -> None:
    """Run a study, say where its results are, and end with 1 if a child failed."""
    from medgan.study.study import ROWS, TABLE, run_study

    study = run_study(order, cells, console(quiet), findings)
    say(quiet, f"table: {study.folder / TABLE}; by subject: {study.folder / ROWS}")
    say(quiet, study.tracked)
    if study.exit_code:
        raise typer.Exit(study.exit_code)
