"""``medgan faithfulness``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from medgan.commands import early
from medgan.commands.common import Bids, Debug, Device, Input, Quiet, Root, TrackingUri, console, explained, say
from medgan.commands.convert import Part


def faithfulness(
    source: Input,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Folder for faithfulness.csv and faithfulness.json.")
    ],
    model: Annotated[str, typer.Option(help="Model folder, runs:/ID/model or models:/NAME@ALIAS.")],
    root: Root = None,
    bids: Bids = None,
    direction: Annotated[Literal["to_target", "to_source"], typer.Option(help="Which way.")] = "to_target",
    part: Annotated[Part | None, typer.Option(help="Of a cohort, only these subjects of the model's split.")] = None,
    split: Annotated[Path | None, typer.Option(help="split.json for --part; else the one beside the model.")] = None,
    input_segmenter: Annotated[
        Path | None, typer.Option(help="Model folder of a frozen segmenter of the inputs: which labels are kept?")
    ] = None,
    output_segmenter: Annotated[
        Path | None, typer.Option(help="The one of the translations, with the same labels.")
    ] = None,
    lesion: Annotated[list[str] | None, typer.Option(help="Label that is counted piece by piece, as `lesion`.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Dice of an organ below which a translation is rejected.")
    ] = 0.7,
    tracking: TrackingUri = None,
    device: Device = "auto",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """What translations keep: labels, by two frozen segmenters, and no hidden input, by a disturbed way back."""
    with explained(debug):
        early.check_use(source=source, models=[model, input_segmenter, output_segmenter], device=device)
        from medgan.data.location import Location, options
        from medgan.evaluation.faithfulness import KeepingRule
        from medgan.faithfulness import FaithfulnessOrder, check_faithfulness, means
        from medgan.inference.convert import ConvertOrder

        conversion = ConvertOrder(
            Location(source, options(root, bids)),
            output,
            model,
            direction=direction,
            part=part,
            split=split,
            tracking=tracking,
            device=device,
        )
        order = FaithfulnessOrder(
            conversion, input_segmenter, output_segmenter, tuple(lesion or ()), KeepingRule(dice=threshold)
        )
        found = check_faithfulness(order, console(quiet))
        _say_figures(means(found.unseen), quiet)
        if found.rejected:
            say(quiet, "rejected: {} of {}".format(*found.rejected))
        for note in found.notes:
            say(quiet, note)
        _say_figures(means(found.seen), quiet, "seen by the model: ")
        if found.exit_code:
            raise typer.Exit(found.exit_code)


def _say_figures(figures: Mapping[str, Mapping[str, float | int | None]], quiet: bool, before: str = "") -> None:
    for figure, interval in figures.items():
        bounds = "" if interval["lower"] is None else f" [{interval['lower']:.3g}, {interval['upper']:.3g}]"
        mean = "not defined" if interval["mean"] is None else f"{interval['mean']:.3g}"
        say(quiet, f"{before}{figure}: {mean}{bounds}, n = {interval['n']}")
