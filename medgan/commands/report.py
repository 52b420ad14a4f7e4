"""``medgan report``: a page about a model, run, evaluation, study, or folder of translations."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from medgan.commands.common import Quiet, command, say


@command
def report(
    path: Annotated[
        Path, Argument(metavar="PATH", help="Model, run, evaluation, study, faithfulness or converted folder.")
    ],
    out: Annotated[Path | None, Option(metavar="FILE", help="Where the page goes; else into PATH.")] = None,
    run: Annotated[
        Path | None, Option(help="Run or model folder to tell of, too; of an evaluation else found nearby.")
    ] = None,
    model: Annotated[Path | None, Option(help="The same as --run.")] = None,
    evaluation: Annotated[Path | None, Option(help="Evaluation to tell of, too.")] = None,
    studies: Annotated[
        list[Path] | None, Option("--study", help="Study to tell of, too; may be given several times.")
    ] = None,
    faithfulness: Annotated[Path | None, Option(help="Folder of `medgan faithfulness` to tell of, too.")] = None,
    source: Annotated[Path | None, Option(help="Of a converted folder, the studies that were converted.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: the verdict in words, figures, worst cases, a slice viewer, curves and commands.

    The page needs no network. A study's report is its own page, written anew.

    Examples:
        medgan report evaluation --run runs/ct_contrast/first
        medgan report runs/ct_contrast/first --out page.html
    """
    from medgan.report.page import Beside, page_with_answers

    beside = Beside(run or model, evaluation, tuple(studies or ()), faithfulness, source)
    page, answers = page_with_answers(path, out, beside)
    for line in answers:
        say(quiet, line)
    say(quiet, f"report: {page}")
