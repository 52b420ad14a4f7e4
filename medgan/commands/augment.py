"""``medgan augment``."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands import early
from medgan.commands.common import (
    Bids,
    ConfigFile,
    Debug,
    Device,
    Overrides,
    Quiet,
    Root,
    TrackingUri,
    console,
    explained,
    say,
)


def augment(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Cohort with masks: CSV, folders, BIDS or nnU-Net raw.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Folder of the augmented cohort.")],
    overrides: Overrides = None,
    root: Root = None,
    bids: Bids = None,
    model: Annotated[
        str | None, typer.Option(help="Generator's model folder, runs:/ID/model or models:/NAME@ALIAS.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Instead of a model: copy-paste, carve-mix or soft-poisson.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="With --method, whose images are augmented: flair, t1, plain:CT.")
    ] = None,
    ratio: Annotated[float, typer.Option(min=0, help="Synthetic cases for a hundred real training cases.")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds make equal cases.")] = 0,
    subject: Annotated[
        list[str] | None, typer.Option(help="Only this training subject receives lesions; may be repeated.")
    ] = None,
    split: Annotated[Path | None, typer.Option(help="split.json; else the model's own, or the cohort's.")] = None,
    config: ConfigFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace cases made of something else.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Cases read and written ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a cohort with synthetic cases for training, made of its training subjects alone; --ratio says how many."""
    with explained(debug):
        early.check_use(data=data, models=[model], device=device)
        from medgan.data.location import Location, options
        from medgan.synthesis.augment import AugmentOrder
        from medgan.synthesis.augment import augment as run_augmentation

        given = Location(data, options(root, bids))
        order = AugmentOrder(
            given, output, model=model, method=method, domain=domain, ratio_percent=ratio, seed=seed,
            subjects=tuple(subject or ()), split=split, config=config, overrides=overrides or (),
            overwrite=overwrite, jobs=jobs, tracking=tracking, device=device,
        )  # fmt: skip
        failed = run_augmentation(order, console(quiet)).failed
        say(quiet, f"next:  medgan segment-train --data {output / 'cohort.csv'}")
        if failed:
            raise typer.Exit(1)
