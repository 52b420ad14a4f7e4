"""``medgan train`` and ``medgan segment-train``."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from typer import Option

from medgan import catalog
from medgan.commands import early
from medgan.commands.common import (
    Data,
    Machine,
    Overrides,
    PipelineName,
    Quiet,
    Reading,
    Run,
    Sharing,
    TrainedDomain,
    command,
    console,
    say,
)
from medgan.commands.plan import Planning
from medgan.errors import ConfigError


@command
def train(
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Data = None,
    *,
    reading: Reading,
    run: Run,
    register: Annotated[str | None, Option(help="Register the model in MLflow under this name.")] = None,
    seed: Annotated[int | None, Option(help="The same as seed=N.")] = None,
    planning: Planning,
    machine: Machine,
    sharing: Sharing,
    quiet: Quiet = False,
) -> None:
    """Train a pipeline's translator or lesion generator and record the run in MLflow.

    Examples:
        medgan train --pipeline ct_contrast --data cohort.csv --name first
        medgan train -p ct_contrast --name first --resume
    """
    early.check_use(
        pipeline=pipeline, settings=pipeline, overrides=overrides, config=run.config, data=data,
        device=machine.device, threads=machine.threads, name=run.name, resume_or_start=run.resume_or_start,
    )  # fmt: skip
    planning.check(pipeline, resume=run.resume)
    first = sharing.check(machine.device, alone="--plan" if planning.plan else "")
    if run.resume and not run.config and not overrides and first:
        from medgan.training.run_folder import run_to_resume

        run_to_resume(run.out / pipeline, run.name)
    with ExitStack() as stack:
        if first and data is None and not (run.resume or run.resume_or_start):
            from medgan.phantom.cohort import rendering

            # One core imports for seconds what follows.
            stack.enter_context(rendering(catalog.phantom(pipeline) or ""))
        from medgan.training.run import Order
        from medgan.training.run import train as run_training

        layers = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
        order = Order(
            pipeline, reading.located_if_given(data), overrides=layers, register=register, tracking=machine.tracking,
            device=machine.device, threads=machine.threads, **vars(sharing), **vars(run),
        )  # fmt: skip
        if planning.plan:
            from medgan.planning.plan import planned

            order = planned(order, console(quiet), planning.minutes, planning.memory)
        trained = run_training(order, console(quiet))
    if not first:
        return
    from medgan.report.page import report_line, write_report  # what the first step need not wait for

    say(quiet, f"model: {trained.run.model} (averages after epoch {trained.description.epoch})")
    say(quiet, trained.tracked)
    say(quiet, report_line(lambda: write_report(trained.run.path)))
    say(quiet, f"next:  {trained.used_by} --model {trained.run.model}")


@command
def segment_train(
    overrides: Overrides = None,
    data: Annotated[Path | None, Option(help="Cohort with masks: CSV, folders, BIDS or nnU-Net raw.")] = None,
    *,
    reading: Reading,
    domain: TrainedDomain = None,
    run: Run,
    seed: Annotated[int, Option(min=0, help="Of weights and patches.")] = 0,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Train a segmenter on a cohort's masks and record the run in MLflow.

    Examples:
        medgan segment-train --data cohort.csv --domain plain:CT
        medgan segment-train --data cohort.csv patch.dimensions=3 --seed 1
    """
    early.check_use(
        settings="segmentation", overrides=overrides, config=run.config, data=data, device=machine.device,
        threads=machine.threads, name=run.name, resume_or_start=run.resume_or_start,
    )  # fmt: skip
    from medgan.training.run_folder import is_begun, run_to_resume

    runs = run.out / "segmenter"
    if run.resume and not (run.config or overrides or domain):
        run_to_resume(runs, run.name)
    if data is None and not run.resume and not (run.resume_or_start and is_begun(runs, run.name)):
        raise ConfigError("there is nothing to learn from; name a cohort with masks by --data.")
    from medgan.segmentation.settings import domain_called
    from medgan.training.run import Order
    from medgan.training.run import train as run_training

    settings = {"domain": domain_called(domain).model_dump()} if domain else {}
    layers = [*(overrides or ()), *([f"seed={seed}"] if seed and not run.resume else [])]
    order = Order(
        "segmentation", reading.located_if_given(data), overrides=layers, settings=settings,
        tracking=machine.tracking, device=machine.first(quiet), threads=machine.threads, **vars(run),
    )  # fmt: skip
    trained = run_training(order, console(quiet))
    from medgan.report.page import report_line, write_report  # what the first step need not wait for

    dice = trained.description.metrics.get("val/dice", float("nan"))
    say(quiet, f"model: {trained.run.model} (epoch {trained.description.epoch}, validation Dice {dice:.3f})")
    say(quiet, trained.tracked)
    say(quiet, report_line(lambda: write_report(trained.run.path)))
    say(quiet, f"next:  {trained.used_by} --model {trained.run.model}")
