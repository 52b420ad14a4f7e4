"""``medgan segment-train``."""

from pathlib import Path
from typing import Annotated

import typer

from medgan.commands import early
from medgan.commands.common import (
    Bids,
    ConfigFile,
    Debug,
    Device,
    Out,
    Overrides,
    Quiet,
    ResumeOrStart,
    Root,
    RunName,
    TrackingUri,
    console,
    explained,
    say,
)


def segment_train(
    overrides: Overrides = None,
    data: Annotated[Path | None, typer.Option(help="Cohort with masks: CSV, folders, BIDS or nnU-Net raw.")] = None,
    root: Root = None,
    bids: Bids = None,
    domain: Annotated[
        str | None, typer.Option(help="Whose images to learn from: contrast, t1, plain:CT; else `domain.name`.")
    ] = None,
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: RunName = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that name, or the last one.")] = False,
    resume_or_start: ResumeOrStart = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and patches.")] = 0,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a segmenter on a cohort's masks and record the run in MLflow."""
    with explained(debug):
        early.check_use(
            settings="segmenter", overrides=overrides, config=config, data=data, device=device, name=name,
            resume_or_start=resume_or_start,
        )  # fmt: skip
        if resume and not (config or overrides or domain):
            from medgan.training.run_folder import run_to_resume

            run_to_resume(out / "segmenter", name)
        from medgan.data.studies import located
        from medgan.segmentation.run import SegmentTrainOrder, train_on_cohort

        order = SegmentTrainOrder(
            located(data, root, bids), domain, config, overrides or (), seed, out, name, resume, tracking, device,
            resume_or_start,
        )  # fmt: skip
        trained = train_on_cohort(order, console(quiet))
        description = trained.model.description
        dice = description.metrics.get("val/dice", float("nan"))
        say(quiet, f"model: {trained.run.model} (epoch {description.epoch}, validation Dice {dice:.3f})")
        say(quiet, trained.tracked)
        say(quiet, f"next:  medgan segment INPUT OUTPUT --model {trained.run.model}")
