"""``medgan train``."""

from pathlib import Path
from typing import Annotated

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
    ResumeOrStart,
    Root,
    RunName,
    TrackingUri,
    console,
    explained,
    say,
)


def train(
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Data = None,
    root: Root = None,
    bids: Bids = None,
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: RunName = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run of that name, or the last one.")] = False,
    resume_or_start: ResumeOrStart = False,
    register: Annotated[str | None, typer.Option(help="Register the model in MLflow under this name.")] = None,
    tracking: TrackingUri = None,
    seed: Annotated[int | None, typer.Option(help="The same as seed=N.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a pipeline's translator or lesion generator and record the run in MLflow."""
    with explained(debug):
        early.check_use(
            pipeline=pipeline, settings=pipeline, overrides=overrides, config=config, data=data, device=device,
            name=name, resume_or_start=resume_or_start,
        )  # fmt: skip
        if resume and not config and not overrides:
            from medgan.training.run_folder import run_to_resume

            run_to_resume(out / pipeline, name)
        from medgan.data.studies import located
        from medgan.training.run import Order
        from medgan.training.run import train as run_training

        asked = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
        order = Order(
            pipeline, located(data, root, bids), config, asked, out, name, resume, tracking, register, device,
            resume_or_start=resume_or_start,
        )  # fmt: skip
        trained = run_training(order, console(quiet))
        say(quiet, f"model: {trained.run.model} (averages after epoch {trained.description.epoch})")
        say(quiet, trained.tracked)
        say(quiet, f"next:  {trained.used_by} --model {trained.run.model}")
