"""``medgan study NAME``, the one door to studies, and its short names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from medgan import catalog
from medgan.commands import common, completion, early
from medgan.commands.common import Machine, Reading, command, console, end, say
from medgan.errors import ConfigError
from medgan.training.device import parse_devices


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The options of all studies; each heeds some of them."""

    pipeline: common.PipelineName
    overrides: common.Overrides = None
    data: common.Data = None
    reading: Reading
    seeds: Annotated[str | None, Option(help="How many seeds, or which: 3 or 0,1,2; else the study's own number.")] = (
        None
    )
    model: Annotated[
        list[Path] | None,
        Option(help="Model folder of a finished run, of each fold for routes; else the study trains."),
    ] = None
    quick: Annotated[bool, Option("--quick", help="Minutes instead of an hour: shows it runs, no more.")] = False
    jobs: Annotated[int, Option(min=1, help="Trainings at the same time.")] = 1
    only: Annotated[
        Literal["losses", "discriminators", "generators"] | None, Option(help="Of ablation, this group alone.")
    ] = None
    shifts: Annotated[
        str | None, Option(help="Of misalignment, voxels by which training targets are moved: 0,1,2,3,4,6.")
    ] = None
    metric: Annotated[str | None, Option(help="Of misalignment, what the crossover is in; else the main error.")] = None
    config: common.ConfigFile = None
    out: common.Out = Path("runs")
    name: Annotated[str | None, Option(help="The study's name; the same name goes on with it.")] = None
    machine: Machine
    quiet: common.Quiet = False


@command
def study(
    kind: Annotated[str, Argument(metavar="NAME", help="See `medgan studies`.", autocompletion=completion.studies)],
    options: StudyOptions,
) -> None:
    """Compare on subjects that no model has seen, over seeds, with paired intervals: sweep, ablation, arms and others.

    The same command resumes a study that was stopped.

    Examples:
        medgan study ablation -p mr_to_ct --only losses --seeds 3
        medgan study misalignment -p mr_to_ct --shifts 0,1,2,4
    """
    run(kind, options)


@command
def sweep(options: StudyOptions) -> None:
    """Train, convert and judge every combination of settings on one split; the first is the reference.

    The same command resumes a sweep that was stopped, and more values add to it.

    Examples:
        medgan sweep cyclegan.cycle=5,10 -p ct_contrast --seeds 3
        medgan sweep translator=pix2pix,cyclegan -p mr_to_ct --jobs 2
    """
    run("sweep", options)


@command
def benefit(
    options: StudyOptions,
    study: Annotated[
        Literal["arms", "routes", "augmentation", "lesion-prevalence"],
        Option(
            help="arms: segmenters trained with and without translations. routes: labels on MR, or on synthetic CT. "
            "augmentation: few real cases, with and without synthetic ones. "
            "lesion-prevalence: do translators invent or erase what their targets had more or less of?"
        ),
    ] = "arms",
) -> None:
    """Does it help, on subjects that no model has seen? By default one segmenter with and without translation, in arms.

    The same command resumes a study that was stopped.

    Examples:
        medgan benefit -p ct_contrast --data cohort.csv --jobs 2
        medgan benefit -p mr_to_ct --study routes --model M --model N
    """
    run(study, options)


def run(kind: str, options: StudyOptions) -> None:
    """Run a study, say where its results are, and end with 1 if a part of it failed."""
    catalog.check_study(kind)
    own = {name: value for name in ("only", "shifts", "metric") if (value := getattr(options, name))}
    models, machine, quiet = tuple(options.model or ()), options.machine, options.quiet
    values = {"data": options.data, "model": models, "a second model": models[1:], "quick": options.quick, **own}
    heeds = catalog.studies()[kind][1]
    if unheeded := [option for option, value in values.items() if value and option not in heeds]:
        named = " or ".join("a second --model" if " " in option else f"--{option}" for option in unheeded)
        raise ConfigError(f"the study {kind} does not take {named}; leave it out.")
    early.check_use(
        pipeline=options.pipeline, settings=early.settings_of(kind, options.pipeline), overrides=options.overrides,
        data=options.data, config=None if kind == "lesion-prevalence" else options.config, models=models,
        device=machine.device, threads=machine.threads, name=options.name, several=kind == "sweep",
    )  # fmt: skip
    from medgan.studies.base import StudyOrder, seeds_of
    from medgan.studies.engine import run_study

    order = StudyOrder(
        kind, options.pipeline, options.name, options.reading.located_if_given(options.data), options.config,
        tuple(options.overrides or ()), seeds_of(options.seeds) if options.seeds else None, models, options.quick,
        options.out, machine.tracking, parse_devices(machine.device), options.jobs, machine.threads, own,
    )  # fmt: skip
    result = run_study(catalog.load_study(kind), order, console(quiet))
    folder = result.study.order.folder
    if result.page:
        say(quiet, f"report: {result.page}")
    tables = ", ".join(str(folder / table) for table in result.summary.tables)
    say(quiet, f"{f'table: {tables}; ' if tables else ''}by subject: {folder / result.study.rows_file}")
    say(quiet, result.tracked)
    end(result.exit_code)


def studies() -> None:
    """List the studies.

    Examples:
        medgan studies
        medgan study ablation --help
    """
    for name, (summary, _) in catalog.studies().items():
        typer.echo(f"{name:20} {summary}")
