"""``medgan compare`` and ``medgan promote``."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from medgan.commands.common import Quiet, Tracking, command, console, say


@command
def compare(
    experiment: Annotated[str, Argument(metavar="EXPERIMENT", help="Its name in MLflow: ct_contrast.")],
    runs: Annotated[
        list[str] | None, Argument(metavar="[RUN]...", help="Names or ids; else all that have test figures.")
    ] = None,
    *,
    metric: Annotated[
        str | None, Option(help="What to compare in: mae_hu or val/score_hu; else the main error.")
    ] = None,
    reference: Annotated[
        str | None, Option(metavar="RUN", help="Whom the others are compared with; else the best on validation.")
    ] = None,
    json: Annotated[Path | None, Option(metavar="FILE", help="Also write everything as JSON.")] = None,
    force: Annotated[bool, Option("--force", help="Put runs of different splits into one table.")] = False,
    tracking: Tracking = None,
    quiet: Quiet = False,
) -> None:
    """Compare recorded runs on the same test subjects, with paired differences and what sets the runs apart.

    Runs that were judged on other subjects are not compared.

    Examples:
        medgan compare ct_contrast
        medgan compare ct_contrast first second --metric mae_hu --json table.json
    """
    from medgan.comparison.compare import CompareOrder, compare_runs
    from medgan.comparison.render import content, render
    from medgan.tracking import RunStore

    store = RunStore(tracking)
    comparison = compare_runs(CompareOrder(experiment, runs or (), metric, reference, force=force), store)
    console(quiet).print(render(comparison))
    if json:
        from medgan.data.streams import write_json

        say(quiet, f"table: {write_json(json, content(comparison))}")
