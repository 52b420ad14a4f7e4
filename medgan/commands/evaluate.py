"""``medgan evaluate`` and ``medgan faithfulness``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medgan.commands import early
from medgan.commands.common import Bids, Debug, Device, Input, Quiet, Root, TrackingUri, console, explained, say
from medgan.commands.convert import Part
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Group

    from medgan.evaluation.statistics import Interval

SourceModality = Annotated[
    Literal["CT", "MR"], typer.Option(help="What the sources are. MR: its intensities are no HU; see docs/evaluate.md.")
]
ReferenceModality = Annotated[
    Literal["CT", "MR"], typer.Option(help="What references and synthetic images are. MR with MR: enhancement.")
]
TRAINING = "Cohort to fit baselines on, COHORT[:SOURCE,REFERENCE]; else the other evaluated subjects."


def evaluate(
    synthetic: Annotated[str, typer.Option(help="What `medgan convert` wrote, or an augmented cohort.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    reference: Annotated[
        str | None, typer.Option(help="The truth, or other subjects: FOLDER or COHORT:DOMAIN.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="The inputs, for the baselines: FOLDER or COHORT:DOMAIN.")] = None,
    mask: Annotated[str | None, typer.Option(help="Body masks: FOLDER or COHORT.")] = None,
    labels: Annotated[str | None, typer.Option(help="Label maps, for figures by organ: FOLDER or COHORT.")] = None,
    root: Root = None,
    bids: Bids = None,
    organ: Annotated[list[str] | None, typer.Option(help="NAME=VALUE[,VALUE] in the label maps; else all.")] = None,
    paired: Annotated[bool | None, typer.Option("--paired/--unpaired", help="Else as the subjects show.")] = None,
    source_modality: SourceModality = "CT",
    reference_modality: ReferenceModality = "CT",
    training: Annotated[str | None, typer.Option(help=TRAINING)] = None,
    split: Annotated[
        Path | None, typer.Option(help="split.json of the run: fits baselines on its training part, and refuses that.")
    ] = None,
    synthesis: Annotated[bool, typer.Option("--synthesis", help="Judge made lesions, not translations.")] = False,
    dimensions: Annotated[Literal["2", "3"], typer.Option(help="Of --synthesis's patches.")] = "2",
    patch_voxels: Annotated[int, typer.Option(help="Edge of --synthesis's patches around lesions.")] = 32,
    window_hu: Annotated[tuple[float, float], typer.Option(help="What --synthesis sees of a CT.")] = (-200.0, 300.0),
    seed: Annotated[int, typer.Option(help="Of --synthesis's features and draws.")] = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge synthetic images beside what needs no network, with intervals over subjects.

    CT from MR: --source-modality MR. Contrast MR from MR: --source-modality MR --reference-modality MR.

    Made lesions: --synthesis, with an augmented cohort; see docs/evaluate.md.
    """
    with explained(debug):
        early.check_use(places=[synthetic, reference, source, mask, labels, training])
        from medgan.data.studies import options

        how = options(root, bids)
        if synthesis:
            _refuse_what_synthesis_does_not_heed({
                "--source": source, "--mask": mask, "--labels": labels, "--organ": organ, "--training": training,
                "--paired or --unpaired": paired,
            })  # fmt: skip
            from medgan.evaluation.synthesis import evaluate as lesions

            question = lesions.Question(dimensions, patch_voxels, reference_modality, window_hu, seed)
            judged = lesions.evaluate_synthesis(synthetic, reference, out, question, split=split, options=how)
            _show(lesions.render(judged), judged.exit_code, quiet)
            return
        if reference is None:
            raise ConfigError("--reference is missing: give the real images, or judge made lesions with --synthesis.")
        from medgan.evaluation import evaluate as translations
        from medgan.evaluation.judging import Modalities

        found = translations.evaluate(
            synthetic, reference, out, source=source, masks=mask, labels=labels, label_names=named(organ),
            paired=paired, modalities=Modalities(source_modality, reference_modality), training=training, split=split,
            options=how,
        )  # fmt: skip
        _show(translations.render(found), found.exit_code, quiet)


def _show(figures: "Group", exit_code: int, quiet: bool) -> None:
    console(quiet).print(figures)
    if exit_code:
        raise typer.Exit(exit_code)


def _refuse_what_synthesis_does_not_heed(given: dict[str, object]) -> None:
    """Refuse options that concern translations alone; those that were not given are None."""
    if unheeded := [option for option, value in given.items() if value is not None and value != []]:
        raise ConfigError(f"--synthesis does not take {' or '.join(unheeded)}; leave it out.")


def named(organs: list[str] | None) -> dict[str, int | list[int]] | None:
    """``["kidneys=7,8"]`` as label values by name."""
    values: dict[str, int | list[int]] = {}
    for organ in organs or ():
        name, _, numbers = organ.partition("=")
        if not name or not all(number.strip().isdigit() for number in numbers.split(",")):
            raise ConfigError(f"--organ {organ}: write NAME=VALUE[,VALUE], for example kidneys=7,8.")
        values[name] = [int(number) for number in numbers.split(",")]
    return values or None


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
        from medgan.data.studies import Location, options
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


def _say_figures(figures: "Mapping[str, Interval]", quiet: bool, before: str = "") -> None:
    from medgan.evaluation.statistics import interval_text

    for figure, found in figures.items():
        text = interval_text(found.mean, found.lower, found.upper, ".3g", missing="not defined")
        say(quiet, f"{before}{figure}: {text}, n = {found.n}")
