"""``medgan study NAME``, the one door to studies, and its short names."""

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medgan import catalog
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
    Root,
    StudyName,
    TrackingUri,
    console,
    explained,
    say,
)
from medgan.errors import ConfigError
from medgan.training.device import parse_devices

if TYPE_CHECKING:
    from medgan.studies.base import Order

Name = Annotated[str, typer.Argument(metavar="NAME", help="Which study; `medgan studies` lists them.")]
Seeds = Annotated[str | None, typer.Option(help="How many seeds, or which: 3 or 0,1,2; else the study's own number.")]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", help="Model folder of a finished run, of each fold for routes; else the study trains."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Minutes instead of an hour: shows it runs, no more.")]
Jobs = Annotated[int, typer.Option(min=1, help="Trainings at the same time.")]
Only = Annotated[
    Literal["losses", "discriminators", "generators"] | None, typer.Option(help="Of ablation, this group alone.")
]
Shifts = Annotated[
    str | None, typer.Option(help="Of misalignment, voxels by which training targets are moved: 0,1,2,3,4,6.")
]
Metric = Annotated[str | None, typer.Option(help="Of misalignment, what the crossover is in; else the main error.")]


def study(
    kind: Name,
    pipeline: PipelineName,
    overrides: Overrides = None,
    data: Data = None,
    root: Root = None,
    bids: Bids = None,
    seeds: Seeds = None,
    model: Models = None,
    quick: Quick = False,
    jobs: Jobs = 1,
    only: Only = None,
    shifts: Shifts = None,
    metric: Metric = None,
    config: ConfigFile = None,
    out: Out = Path("runs"),
    name: StudyName = None,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare on subjects that no model has seen, over seeds, with paired intervals: sweep, ablation, arms and others.

    The same command resumes a study that was stopped.
    """
    options = {key: value for key, value in {"only": only, "shifts": shifts, "metric": metric}.items() if value}
    models = tuple(model or ())
    with explained(debug):
        catalog.check_study(kind)
        given = {"data": data, "model": models, "a second model": models[1:], "quick": quick, **options}
        _refuse_what_it_does_not_heed(kind, [option for option, value in given.items() if value])
        early.check_use(
            pipeline=pipeline, settings=early.settings_of(kind, pipeline), overrides=overrides, data=data,
            config=None if kind == "lesion-prevalence" else config, models=models, device=device, name=name,
            several=kind == "sweep",
        )  # fmt: skip
        from medgan.data.studies import located
        from medgan.studies.base import Order, seeds_of

        order = Order(
            kind, pipeline, name, located(data, root, bids), config, tuple(overrides or ()),
            seeds_of(seeds) if seeds else None, models, quick, out, tracking, parse_devices(device), jobs, options,
        )  # fmt: skip
        _run(order, quiet)


def _run(order: "Order", quiet: bool) -> None:
    """Run a study, say where its results are, and end with 1 if a part of it failed."""
    from medgan.studies.engine import run_study

    result = run_study(catalog.load_study(order.kind), order, console(quiet))
    study, folder = result.study, result.study.order.folder
    if result.page:
        say(quiet, f"report: {result.page}")
    tables = ", ".join(str(folder / table) for table in result.summary.tables)
    say(quiet, f"{f'table: {tables}; ' if tables else ''}by subject: {folder / study.rows_file}")
    say(quiet, result.tracked)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _refuse_what_it_does_not_heed(kind: str, given: Sequence[str]) -> None:
    """Refuse options that a study would not heed.

    Raises:
        ConfigError: Names them.
    """
    heeds = catalog.studies()[kind][1]
    if unheeded := [option for option in given if option not in heeds]:
        named = " or ".join("a second --model" if " " in option else f"--{option}" for option in unheeded)
        raise ConfigError(f"the study {kind} does not take {named}; leave it out.")


class Benefit(StrEnum):
    """What is asked of a translation or a synthesis."""

    ARMS = "arms"
    ROUTES = "routes"
    AUGMENTATION = "augmentation"
    LESION_PREVALENCE = "lesion-prevalence"


BenefitKind = Annotated[
    Benefit,
    typer.Option(
        help="arms: segmenters trained with and without translations. routes: labels on MR, or on synthetic CT. "
        "augmentation: few real cases, with and without synthetic ones. "
        "lesion-prevalence: do translators invent or erase what their targets had more or less of?"
    ),
]


def _short_name(kind: str, summary: str, choice: object = None) -> Callable[..., None]:
    """A command that is ``medgan study KIND``, with the same options.

    Args:
        kind: Which study, where nobody chooses.
        summary: The command's help.
        choice: The type of an option ``--study`` that chooses another kind; None has no such option.
    """
    signature = inspect.signature(study)
    parameters = [each for each in signature.parameters.values() if each.name != "kind"]
    if choice is not None:
        option = inspect.Parameter("study", inspect.Parameter.KEYWORD_ONLY, default=Benefit(kind), annotation=choice)
        parameters.append(option)

    def command(**options: Any) -> None:
        study(str(options.pop("study", kind)), **options)

    command.__doc__ = summary
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


sweep = _short_name(
    "sweep",
    """Train, convert and judge every combination of settings on one split; the first is the reference.

    The same command resumes a sweep that was stopped, and more values add to it.
    """,
)
benefit = _short_name(
    "arms",
    """Does it help, on subjects that no model has seen? By default one segmenter with and without translation, in arms.

    The same command resumes a study that was stopped.
    """,
    BenefitKind,
)


def studies() -> None:
    """List the studies."""
    for name, (summary, _) in catalog.studies().items():
        typer.echo(f"{name:20} {summary}")
