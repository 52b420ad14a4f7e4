"""``medgan compare`` and ``medgan promote``."""

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from medgan.commands.common import Quiet, Tracking, command, console, end, say


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
    html: Annotated[Path | None, Option(metavar="FILE", help="Also write a page with curves and plots.")] = None,
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
    if html:
        from medgan.comparison.page import write_page

        given = {"--metric": metric, "--reference": reference, "--html": html}
        options = [word for option, value in given.items() if value for word in (option, str(value))]
        order = shlex.join(["medgan", "compare", experiment, *(runs or ()), *options, *["--force"] * force])
        say(quiet, f"page: {write_page(html, comparison, store, order)}")
    if json:
        from medgan.data.streams import write_json

        say(quiet, f"table: {write_json(json, content(comparison))}")


@command
def promote(
    run: Annotated[str, Argument(metavar="RUN", help="Its name, or the beginning of its id.")],
    alias: Annotated[str, Option("--as", metavar="ALIAS", help="What its model is called from then on: champion.")],
    *,
    name: Annotated[str | None, Option(help="The registered model; else the run's own, or the pipeline's.")] = None,
    metric: Annotated[str | None, Option(help="What decides: mae_hu; else the main error.")] = None,
    force: Annotated[str, Option(metavar="REASON", help="Move the alias all the same; who did and why is kept.")] = "",
    tracking: Tracking = None,
    quiet: Quiet = False,
) -> None:
    """Let an alias such as champion stand for a run's model, if it does not lose to the one that has it now.

    Both must have been judged on the same test subjects; `medgan evaluate` does that.

    Examples:
        medgan promote cycle20 --as champion
        medgan promote 1f3a9c20 --as champion --name ct --metric ssim
    """
    from medgan.comparison.promote import PromoteOrder
    from medgan.comparison.promote import promote as run_promotion
    from medgan.tracking import RunStore

    promotion = run_promotion(PromoteOrder(run, alias, name, metric, force), RunStore(tracking))
    for line in promotion.findings:
        say(quiet and promotion.promoted, line)
    if promotion.promoted:
        say(quiet, f"next:  medgan convert INPUT OUTPUT --model {promotion.model_uri}")
    end(0 if promotion.promoted else 1)
