"""``medgan benefit --study augmentation``: do synthetic cases help a segmenter that has few real ones?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medgan.commands.common import console, say

if TYPE_CHECKING:
    from medgan.data.studies import Location


def augmentation(
    pipeline: str,
    *,
    data: "Location | None",
    overrides: Sequence[str] = (),
    seeds: str | None = None,
    quick: bool = False,
    jobs: int = 1,
    config: Path | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
    tracking: str | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Run a study of augmentation, say where its results are, and end with 1 if a child failed.

    Raises:
        MedganError: Whatever keeps the study from starting.
    """
    from medgan.benefit.augmentation.plan import AugmentationOrder
    from medgan.benefit.augmentation.study import COMPARISONS, ROWS, run_augmentation
    from medgan.studies.base import seeds_of as read_seeds

    order = AugmentationOrder(
        pipeline, name or ("augmentation-quick" if quick else "augmentation"), data, config, tuple(overrides),
        read_seeds(seeds or ("1" if quick else "3")), quick, out, tracking, device, jobs,
    )  # fmt: skip
    found = run_augmentation(order, console(quiet))
    say(quiet, f"comparisons: {found.folder / COMPARISONS}; by subject: {found.folder / ROWS}")
    say(quiet, found.tracked)
    if found.exit_code:
        raise typer.Exit(found.exit_code)
