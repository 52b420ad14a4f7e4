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
from medgan.errors import ConfigError


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
            settings="segmentation", overrides=overrides, config=config, data=data, device=device, name=name,
            resume_or_start=resume_or_start,
        )  # fmt: skip
        from medgan.training.run_folder import is_begun, run_to_resume

        runs = out / "segmenter"
        if resume and not (config or overrides or domain):
            run_to_resume(runs, name)
        if data is None and not resume and not (resume_or_start and is_begun(runs, name)):
            raise ConfigError("there is nothing to learn from; name a cohort with masks by --data.")
        from medgan.data.studies import located
        from medgan.segmentation.settings import domain_called
        from medgan.training.run import Order, train

        settings = {"domain": domain_called(domain).model_dump()} if domain else {}
        asked = [*(overrides or ()), *([f"seed={seed}"] if seed and not resume else [])]
        order = Order(
            "segmentation", located(data, root, bids), config, asked, out, name, resume, tracking, device=device,
            settings=settings, resume_or_start=resume_or_start,
        )  # fmt: skip
        trained = train(order, console(quiet))
        dice = trained.description.metrics.get("val/dice", float("nan"))
        say(quiet, f"model: {trained.run.model} (epoch {trained.description.epoch}, validation Dice {dice:.3f})")
        say(quiet, trained.tracked)
        say(quiet, f"next:  {trained.used_by} --model {trained.run.model}")
