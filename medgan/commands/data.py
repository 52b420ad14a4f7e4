"""``medgan data``: look at, check and make data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from medgan.commands import completion, early
from medgan.commands.common import Overrides, PipelineName, Quiet, Reading, command, console, end, say
from medgan.commands.help import Commands
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.data.domains import DomainPair

app = Commands(no_args_is_help=True, help="Look at, check and make data.")


@app.command("phantom")
@command
def _make_phantom(
    out: Annotated[Path, Argument(help="Folder to write.")],
    kind: Annotated[str, Option(help="What to render: abdomen_ct, abdomen_mr_ct or head_mr.")] = "abdomen_ct",
    subjects: Annotated[int, Option(min=1)] = 24,
    seed: Annotated[int, Option(min=0)] = 0,
    lesions: Annotated[
        float | None, Option(min=0, max=1, help="Share of subjects with lesions; by default the kind's.")
    ] = None,
) -> None:
    """Render the built-in phantom: seeded subjects with known truth.

    Examples:
        medgan data phantom phantom --subjects 12
        medgan data phantom heads --kind head_mr --lesions 0.5 --seed 3
    """
    from medgan.phantom.cohort import write_phantom

    say(False, f"cohort: {write_phantom(out, kind=kind, subjects=subjects, seed=seed, lesions=lesions)}")


@app.command("check")
@command
def _check_data(
    data: Annotated[Path, Argument(help="Cohort: CSV, folders, BIDS or nnU-Net raw.")],
    overrides: Overrides = None,
    pipeline: PipelineName = "ct_contrast",
    *,
    reading: Reading,
    every: Annotated[bool, Option("--all", help="Show every finding, and a line an image.")] = False,
    table: Annotated[Path | None, Option("--csv", help="Write the table here too, a row an image.")] = None,
) -> None:
    """Check a cohort before training: readable, geometry, intensities, duplicates, who is who. Exit code 1 on findings.

    Settings say what it shall be used for: translator=pix2pix also checks that pairs lie on one grid.

    Examples:
        medgan data check cohort.csv --pipeline ct_contrast
        medgan data check pairs -p mr_to_ct translator=pix2pix --all
    """
    early.check_use(pipeline=pipeline, settings=pipeline, overrides=overrides, data=data)
    from medgan import catalog
    from medgan.config import from_overrides
    from medgan.data.check import check_cohort, left_out
    from medgan.data.streams import inert_table, write_text
    from medgan.data.studies import find_cohort

    settings = from_overrides(overrides or [])
    pair = catalog.load(pipeline).configured(settings, on_phantom=False, on_cpu=True).pair
    cohort = find_cohort(reading.located(data), pair)
    report = check_cohort(cohort, pair, console())
    console().print(report.render(every=every))
    for line in left_out(data, cohort):
        console().print(line, highlight=False, markup=False)
    if table:
        write_text(table, inert_table(report.frame()).to_csv(index=False))
    end(bool(report.findings))


@app.command("csv")
@command
def _write_csv(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Where the images lie.")],
    out: Annotated[Path, Option(help="The table to write, such as cohort.csv; it must not be there yet.")],
    image: Annotated[
        list[str] | None,
        Option(help="'{domain}/{subject}_*.nii.gz', or contrast='scans/{subject}_ce*'; may be repeated."),
    ] = None,
    mask: Annotated[str | None, Option(help="The same for masks: 'masks/{subject}.nii.gz'.")] = None,
) -> None:
    """Write a cohort's table of what lies in a folder; every file that it leaves out is named with the reason.

    Without --image it guesses, and says what it took for subject and domain.

    Examples:
        medgan data csv scans --out cohort.csv
        medgan data csv scans --out c.csv --image '{domain}/{subject}_*.nii.gz'
    """
    early.check_use(data=folder)
    from medgan.data.table_writer import propose, write_table

    proposal = propose(folder, image or (), mask)
    for line in proposal.lines(folder):
        say(False, line)
    write_table(out, proposal.studies)
    say(False, f"table: {out}")
    say(False, f"next:  medgan data check {out}")


@app.command("register")
@command
def _register_data(
    data: Annotated[Path, Argument(metavar="COHORT", help="Raw pairs: CSV, folders, BIDS or nnU-Net raw.")],
    out: Annotated[Path, Argument(metavar="OUT", help="Folder to write.")],
    overrides: Overrides = None,
    pipeline: Annotated[
        str | None,
        Option(
            "--pipeline",
            "-p",
            help="Its domains are registered, target onto source.",
            autocompletion=completion.pipelines,
        ),
    ] = None,
    *,
    reading: Reading,
    fixed: Annotated[str | None, Option(help="Domain whose scans stay; say plain:CT where no name tells.")] = None,
    moving: Annotated[str | None, Option(help="Domain whose scans are moved; not with --pipeline.")] = None,
    qc: Annotated[float | None, Option(min=0, max=1, help="Refuse pairs whose outlines' Dice is lower.")] = None,
    n4: Annotated[bool, Option("--n4", help="Divide MR by its bias field (N4).")] = False,
    bspline: Annotated[float | None, Option(metavar="MM", help="Then bend, control points so far apart.")] = None,
    jobs: Annotated[int, Option(min=1, help="Processes.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Register raw pairs onto one grid; only trusted ones reach OUT/cohort.csv. Exit code 1 if some do not.

    Settings say how: rigid.samples=100000, limits.least_covered=0.8. What was registered before is not done again.

    Examples:
        medgan data register raw/cohort.csv pairs --pipeline mr_to_ct --qc 0.9
        medgan data register raw pairs --fixed ct --moving mr:MR --bspline 40
    """
    early.check_use(pipeline=pipeline, data=data)
    from medgan.config import from_overrides, load
    from medgan.data.studies import find_cohort
    from medgan.registration.cohort import PairConfig, register_cohort, render

    flags: dict[str, object] = {"n4": True} if n4 else {}
    flags |= {} if bspline is None else {"bspline_mm": bspline}
    flags |= {} if qc is None else {"limits": {"least_dice": qc}}
    config = load(PairConfig, from_overrides(overrides or []), flags)
    pair, stays = _pair(pipeline, fixed, moving)
    cohort = find_cohort(reading.located(data), pair)
    for note in filter(None, (*cohort.notes, cohort.note)):
        say(quiet, note)
    outcomes = register_cohort(cohort, pair, out, config, fixed=stays, jobs=jobs)
    console(quiet).print(render(outcomes))
    say(quiet, f"cohort: {out / 'cohort.csv'}")
    end(any(outcome.status != "accepted" for outcome in outcomes))


def _pair(pipeline: str | None, fixed: str | None, moving: str | None) -> tuple["DomainPair", str]:
    """The two domains, and the name of the one that stays."""
    from medgan import catalog
    from medgan.data.domains import DomainPair, domain_named

    if pipeline and not moving:
        pair = catalog.load(pipeline).configured({}, on_phantom=False, on_cpu=True).pair
        if fixed not in (None, *pair.names):
            raise ConfigError(f"--fixed {fixed}: {pipeline} has the domains {' and '.join(pair.names)}; name one.")
        return pair, fixed or pair.source.name
    if pipeline or not (fixed and moving):
        raise ConfigError("say which scans to register: --pipeline NAME, or --fixed DOMAIN --moving DOMAIN.")
    pair = DomainPair(source=domain_named(fixed), target=domain_named(moving), paired=True)
    if pair.source.name == pair.target.name:
        raise ConfigError(f"--fixed and --moving are both {pair.source.name}; name two domains.")
    return pair, pair.source.name
