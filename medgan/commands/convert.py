"""``medgan convert``, ``segment``, ``classify`` and ``augment``: many studies through one model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medgan.commands import early
from medgan.commands.common import (
    Bids,
    ConfigFile,
    Debug,
    Device,
    Force,
    Input,
    Overrides,
    Quiet,
    Root,
    TrackingUri,
    console,
    explained,
    say,
)

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
        from medgan.data.studies import Location, options
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


def segment(
    source: Input,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="File name, or folder that mirrors the input's names.")
    ],
    model: Annotated[str, typer.Option(help="Segmenter's model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    root: Root = None,
    bids: Bids = None,
    domain: Annotated[
        str | None, typer.Option(help="Of a cohort, the domain to segment; else the one the model was trained on.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs of other inputs or models.")] = False,
    force: Force = False,
    jobs: Annotated[int, typer.Option(min=1, help="Studies read and written ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Segment studies; every label map lies on its input's voxel grid, and labels.json says what its values mean."""
    with explained(debug):
        early.check_use(source=source, models=[model], device=device)
        from medgan.data.studies import Location, options
        from medgan.segmentation.segment import SegmentOrder
        from medgan.segmentation.segment import segment as run_segmentation

        order = SegmentOrder(
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
        if run_segmentation(order, console(quiet)).failed:
            raise typer.Exit(1)


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
        from medgan.data.studies import Location, options

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
        from medgan.data.studies import Location, options
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
