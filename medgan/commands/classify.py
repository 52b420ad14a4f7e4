"""``medgan classify``."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands import early
from medgan.commands.common import Bids, Debug, Device, Force, Input, Quiet, Root, TrackingUri, console, explained


def classify(
    source: Input,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder for classes.csv and its records.")],
    model: Annotated[str, typer.Option(help="Classifier's model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    root: Root = None,
    bids: Bids = None,
    domain: Annotated[
        str | None, typer.Option(help="Of a cohort, the domain to classify; else the one the model was trained on.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a table of other inputs or models.")] = False,
    force: Force = False,
    jobs: Annotated[int, typer.Option(min=1, help="Images read ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify images by their patches; classes.csv has the class and the probability of each, image by image."""
    with explained(debug):
        early.check_use(source=source, models=[model], device=device)
        from medgan.classification.classify import ClassifyOrder
        from medgan.classification.classify import classify as run_classification
        from medgan.data.location import Location, options

        order = ClassifyOrder(
            Location(source, options(root, bids)),
            output,
            model,
            domain=domain,
            overwrite=overwrite,
            force=force,
            jobs=jobs,
            tracking=tracking,
            device=device,
        )
        if run_classification(order, console(quiet)).failed:
            raise typer.Exit(1)
