"""``medgan convert``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medgan.commands import early
from medgan.commands.common import Bids, Debug, Device, Force, Input, Quiet, Root, TrackingUri, console, explained

Part = Literal["train", "validation", "test"]


def convert(
    source: Input,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="File name, or folder that mirrors the input's names.")
    ],
    model: Annotated[str, typer.Option(help="Model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    root: Root = None,
    bids: Bids = None,
    direction: Annotated[Literal["to_target", "to_source"], typer.Option(help="Which way.")] = "to_target",
    part: Annotated[Part | None, typer.Option(help="Of a cohort, only these subjects of the model's split.")] = None,
    split: Annotated[Path | None, typer.Option(help="split.json for --part; else the one beside the model.")] = None,
    change_map: Annotated[
        bool, typer.Option("--change-map", help="Also write the change in HU (an iodine map).")
    ] = False,
    uncertainty: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also write the standard deviation of N >= 2 translations of the varied study; the output itself "
            "stays as it is without, to the bit. Takes as long as N + 1 conversions.",
        ),
    ] = None,
    suffix: Annotated[
        str, typer.Option(help="Added to the outputs' names, for example _desc-synthetic; folders only.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs of other inputs or models.")] = False,
    force: Force = False,
    jobs: Annotated[int, typer.Option(min=1, help="Studies read and written ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Translate studies; every output lies on its input's voxel grid."""
    with explained(debug):
        early.check_use(source=source, models=[model], device=device)
        from medgan.data.location import Location, options
        from medgan.inference.convert import ConvertOrder
        from medgan.inference.convert import convert as run_conversion

        given = Location(source, options(root, bids))
        order = ConvertOrder(
            given, output, model, direction=direction, part=part, split=split, change_map=change_map,
            uncertainty=uncertainty, suffix=suffix, overwrite=overwrite, force=force, jobs=jobs, tracking=tracking,
            device=device,
        )  # fmt: skip
        summary = run_conversion(order, console(quiet))
        if summary.failed:
            raise typer.Exit(1)
