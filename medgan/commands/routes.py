"""``medgan benefit --study routes``: bone on MR by labels on MR, by a segmenter of synthetic CT, or by a threshold."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medgan.commands.common import console, say
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.data.studies import Location


def routes(
    pipeline: str,
    *,
    models: Sequence[Path],
    data: "Location | None",
    overrides: Sequence[str] = (),
    seeds: str | None = None,
    config: Path | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
    tracking: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Run a study of routes, say where its results are, and end with 1 if a child failed.

    Raises:
        MedganError: Whatever keeps the study from starting.
    """
    from medgan.benefit.routes.plan import RoutesOrder
    from medgan.benefit.routes.study import ROWS, TABLE, run_routes
    from medgan.studies.base import seeds_of as read_seeds

    if data is None:
        raise ConfigError(
            "--study routes tests finished models, and trains none: give each fold's model folder by --model and the "
            f"cohort that they were trained on by --data (`medgan train -p {pipeline} --data COHORT split.fold=0`)."
        )
    order = RoutesOrder(
        pipeline, tuple(models), data, name or "routes", config, tuple(overrides), read_seeds(seeds or "1"), out,
        tracking, device,
    )  # fmt: skip
    found = run_routes(order, console(quiet))
    say(quiet, f"table: {found.folder / TABLE}; by subject: {found.folder / ROWS}")
    say(quiet, found.tracked)
    if found.exit_code:
        raise typer.Exit(found.exit_code)
