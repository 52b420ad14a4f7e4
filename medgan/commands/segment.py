"""``medgan segment`` and ``medgan segment-train``."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands.common import Debug, Device, Quiet, TrackingUri, console, explained


def segment(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, DICOM series, folder or cohort CSV.")],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="File name, or folder that mirrors the input's names.")
    ],
    model: Annotated[str, typer.Option(help="Segmenter's model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    domain: Annotated[
        str | None, typer.Option(help="Of a cohort CSV, the domain to segment; else the one the model was trained on.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs of other inputs or models.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Studies read and written ahead.")] = 1,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Segment studies; every label map lies on its input's voxel grid, and labels.json says what its values mean."""
    with explained(debug):
        from medgan.segmentation.segment import SegmentOrder
        from medgan.segmentation.segment import segment as run_segmentation

        order = SegmentOrder(
            source, output, model, domain=domain, overwrite=overwrite, jobs=jobs, tracking=tracking, device=device
        )
        if run_segmentation(order, console(quiet)).failed:
            raise typer.Exit(1)
