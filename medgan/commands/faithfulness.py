"""``medgan faithfulness``."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from medgan.commands import early
from medgan.commands.common import Machine, Quiet, Reading, Which, command, console, end, say
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.evaluation.statistics import Interval
    from medgan.faithfulness.result import Faithfulness


@dataclass(frozen=True)
class Handed:
    """Translations that one was handed, and label maps of both sides."""

    converted: Annotated[
        str | None, Option(help="Translations of STUDIES, by whatever tool: needs no model and no segmenter.")
    ] = None
    input_labels: Annotated[
        str | None, Option(help="Label maps of STUDIES: TotalSegmentator, nnU-Net, BIDS, 3D Slicer, ITK-SNAP.")
    ] = None
    output_labels: Annotated[str | None, Option(help="Those of the translations, with the same names.")] = None
    smallest_mm3: Annotated[float, Option(min=0, help="Volume from which a piece of a --lesion counts.")] = 500.0
    false_alarms: Annotated[
        float, Option(min=0, help="Unexplained places a study that chance may bring, as other subjects tell.")
    ] = 1.0


@dataclass(frozen=True)
class Segmenters:
    """Two segmenters of one's own."""

    input_segmenter: Annotated[
        Path | None, Option(help="Model folder of a frozen segmenter of the inputs: which labels are kept?")
    ] = None
    output_segmenter: Annotated[Path | None, Option(help="The one of the translations, with the same labels.")] = None


@command
def faithfulness(
    studies: Annotated[str, Argument(metavar="STUDIES", help="The inputs: image, folder, cohort or COHORT:DOMAIN.")],
    output: Annotated[Path, Argument(metavar="OUTPUT", help="Folder for faithfulness.csv and faithfulness.json.")],
    model: Annotated[
        str | None, Option(help="Model folder, runs:/ID/model or models:/NAME@ALIAS: translates, and is checked.")
    ] = None,
    *,
    reading: Reading,
    which: Which,
    segmenters: Segmenters,
    handed: Handed,
    lesion: Annotated[list[str] | None, Option(help="Label that is counted piece by piece, as `lesion`.")] = None,
    threshold: Annotated[
        float, Option(min=0, max=1, help="Dice of an organ below which a translation is rejected.")
    ] = 0.7,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Did it invent or erase a lesion? What translations keep, of a model or of images that you were handed.

    Without a model: --converted DIR, and label maps of both sides. With one: two frozen segmenters, and the way back.

    Examples:
        medgan faithfulness scans F --converted synthetic
        medgan faithfulness scans F --model M --lesion lesion
    """
    if (model is None) == (handed.converted is None):
        raise ConfigError(
            "say what is checked: --converted DIR for translations that you have, or --model M for a model that makes "
            "them; one of the two."
        )
    if model is None:
        _check_handed(studies, output, handed, which, segmenters, reading, tuple(lesion or ()), threshold, quiet)
        return
    if unheeded := [
        f"--{name.replace('_', '-')}" for name, value in vars(handed).items() if value not in (None, 500, 1)
    ]:
        raise ConfigError(f"{' and '.join(unheeded)} goes with --converted, not with --model; leave it out.")
    own = segmenters.input_segmenter, segmenters.output_segmenter
    early.check_use(source=Path(studies), models=[model, *own], device=machine.device, threads=machine.threads)
    from medgan.faithfulness.model import FaithfulnessOrder, check_faithfulness
    from medgan.inference.convert import ConvertOrder

    conversion = ConvertOrder(
        reading.located(Path(studies)), output, model, tracking=machine.tracking, device=machine.first(quiet),
        threads=machine.threads, **vars(which),
    )  # fmt: skip
    order = FaithfulnessOrder(conversion, *own, tuple(lesion or ()), threshold)
    _say_result(check_faithfulness(order, console(quiet)), quiet)


def _check_handed(
    studies: str,
    output: Path,
    handed: Handed,
    which: Which,
    segmenters: Segmenters,
    reading: Reading,
    lesions: tuple[str, ...],
    threshold: float,
    quiet: bool,
) -> None:
    """The command without a model."""
    for_models = {
        "--input-segmenter": segmenters.input_segmenter, "--output-segmenter": segmenters.output_segmenter,
        "--part": which.part, "--split": which.split,
    }  # fmt: skip
    if unheeded := [option for option, value in for_models.items() if value is not None]:
        raise ConfigError(
            f"{' and '.join(unheeded)} goes with --model, which translates; with --converted give label maps: "
            "--input-labels and --output-labels."
        )
    early.check_use(places=[studies, handed.converted, handed.input_labels, handed.output_labels])
    from medgan.faithfulness.converted import ConvertedOrder, check_converted
    from medgan.faithfulness.structures import Rule

    assert handed.converted is not None
    order = ConvertedOrder(
        studies, output, handed.converted, handed.input_labels, handed.output_labels,
        rule=Rule(lesions, threshold, handed.smallest_mm3), false_alarms=handed.false_alarms, options=reading.options,
    )  # fmt: skip
    result = check_converted(order, console(quiet))
    if len(result.rows):  # else nothing was checked, and a page would be empty
        page = shlex.join(["medgan", "report", str(output)])
        say(quiet, f"tables and pictures: {output}; a page of them: {page}")
    _say_result(result, quiet)


def _say_result(result: "Faithfulness", quiet: bool) -> None:
    """The verdict first, then figures, and what to know of them."""
    from medgan.faithfulness.result import means

    for sentence in result.verdict():
        say(quiet, sentence)
    _say_figures(means(result.unseen), quiet)
    if result.rejected:
        say(quiet, "rejected: {} of {}".format(*result.rejected))
    for note in result.notes:
        say(quiet, note)
    _say_figures(means(result.seen), quiet, "seen by the model: ")
    for limit in result.limits:
        say(quiet, limit)
    end(result.exit_code)


def _say_figures(figures: "Mapping[str, Interval]", quiet: bool, before: str = "") -> None:
    for figure, estimate in figures.items():
        if estimate.n:
            say(quiet, f"{before}{figure}: {estimate.text('.3g', missing='not defined')}, n = {estimate.n}")
