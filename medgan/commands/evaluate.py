"""``medgan evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from medgan.commands import early
from medgan.commands.common import Quiet, Reading, Tracking, command, console, end
from medgan.errors import ConfigError

if TYPE_CHECKING:
    from medgan.data.studies import Options


@dataclass(frozen=True)
class Measuring:
    """How images are matched and measured."""

    organ: Annotated[list[str] | None, Option(help="NAME=VALUE[,VALUE] in the label maps; else all.")] = None
    paired: Annotated[bool | None, Option("--paired/--unpaired", help="Else as the subjects show.")] = None
    source_modality: Annotated[
        Literal["CT", "MR"], Option(help="What the sources are. MR: its intensities are no HU; see docs/evaluate.md.")
    ] = "CT"
    reference_modality: Annotated[
        Literal["CT", "MR"], Option(help="What references and synthetic images are. MR with MR: enhancement.")
    ] = "CT"
    training: Annotated[
        str | None,
        Option(help="Cohort to fit baselines on, COHORT[:SOURCE,REFERENCE]; else the other evaluated subjects."),
    ] = None
    split: Annotated[
        Path | None, Option(help="split.json of the run: fits baselines on its training part, and refuses that.")
    ] = None


@dataclass(frozen=True)
class Lesions:
    """How made lesions are judged."""

    synthesis: Annotated[bool, Option("--synthesis", help="Judge made lesions, not translations.")] = False
    dimensions: Annotated[Literal["2", "3"], Option(help="Of --synthesis's patches.")] = "2"
    patch_voxels: Annotated[int, Option(help="Edge of --synthesis's patches around lesions.")] = 32
    window_hu: Annotated[tuple[float, float], Option(help="What --synthesis sees of a CT.")] = (-200.0, 300.0)
    seed: Annotated[int, Option(help="Of --synthesis's features and draws.")] = 0


@dataclass(frozen=True)
class Recording:
    """Where and how the figures are recorded."""

    tracking: Tracking = None
    tracking_names: Annotated[
        bool, Option("--tracking-names", help="Send MLflow subjects' own names, not case 1 and so on.")
    ] = False


@command
def evaluate(
    synthetic: Annotated[str, Option(help="What `medgan convert` wrote, or an augmented cohort.csv.")],
    out: Annotated[Path, Option(help="Folder for the results.")],
    reference: Annotated[str | None, Option(help="The truth, or other subjects: FOLDER or COHORT:DOMAIN.")] = None,
    source: Annotated[str | None, Option(help="The inputs, for the baselines: FOLDER or COHORT:DOMAIN.")] = None,
    mask: Annotated[str | None, Option(help="Body masks: FOLDER or COHORT.")] = None,
    labels: Annotated[str | None, Option(help="Label maps, for figures by organ: FOLDER or COHORT.")] = None,
    *,
    reading: Reading,
    how: Measuring,
    recording: Recording,
    lesions: Lesions,
    every: Annotated[bool, Option("--all", help="Show every metric here too, with intervals.")] = False,
    quiet: Quiet = False,
) -> None:
    """Judge synthetic images beside what needs no network, with intervals over subjects.

    CT from MR: --source-modality MR. Contrast MR from MR: --source-modality MR --reference-modality MR.

    Made lesions: --synthesis, with an augmented cohort; see docs/evaluate.md.

    Examples:
        medgan evaluate --synthetic synthetic --reference cohort.csv:plain --out E
        medgan evaluate --synthetic augmented/cohort.csv --synthesis --out E
    """
    early.check_use(places=[synthetic, reference, source, mask, labels, how.training])
    if lesions.synthesis:
        for_translations = {
            "--source": source, "--mask": mask, "--labels": labels, "--organ": how.organ or None,
            "--training": how.training, "--paired or --unpaired": how.paired, "--tracking": recording.tracking,
            "--tracking-names": recording.tracking_names or None,
        }  # fmt: skip
        if unheeded := [option for option, value in for_translations.items() if value is not None]:
            raise ConfigError(f"--synthesis does not take {' or '.join(unheeded)}; leave it out.")
        asked = lesions, how.reference_modality
        end(_judge_lesions(synthetic, reference, out, asked, split=how.split, options=reading.options, quiet=quiet))
        return
    if reference is None:
        raise ConfigError("--reference is missing: give the real images, or judge made lesions with --synthesis.")
    from medgan.evaluation.evaluate import evaluate as run
    from medgan.evaluation.judging import Modalities
    from medgan.evaluation.terminal import render
    from medgan.report.page import report_line, write_report
    from medgan.report.recording import record_evaluation
    from medgan.tracking import check_address

    check_address(recording.tracking)
    evaluation = run(
        synthetic, reference, out, source=source, masks=mask, labels=labels, label_names=_organs(how.organ),
        paired=how.paired, modalities=Modalities(how.source_modality, how.reference_modality), training=how.training,
        split=how.split, options=reading.options,
    )  # fmt: skip
    terminal = console(quiet)
    terminal.print(render(evaluation, every=every))
    terminal.out(
        record_evaluation(evaluation, out, recording.tracking, names=recording.tracking_names), highlight=False
    )
    terminal.out(report_line(lambda: write_report(out)), highlight=False)
    end(evaluation.exit_code)


def _judge_lesions(
    synthetic: str,
    reference: str | None,
    out: Path,
    how: tuple[Lesions, Literal["CT", "MR"]],
    *,
    split: Path | None,
    options: "Options",
    quiet: bool,
) -> int:
    """Judge made lesions, and show the figures; the exit code."""
    from medgan.evaluation.synthesis import evaluate as judging
    from medgan.report.page import report_line, write_report

    lesions, modality = how
    question = judging.Question(lesions.dimensions, lesions.patch_voxels, modality, lesions.window_hu, lesions.seed)
    judged = judging.evaluate_synthesis(synthetic, reference, out, question, split=split, options=options)
    terminal = console(quiet)
    terminal.print(judging.render(judged))
    terminal.out(report_line(lambda: write_report(out)), highlight=False)
    return judged.exit_code


def _organs(organs: list[str] | None) -> dict[str, int | list[int]] | None:
    """``["kidneys=7,8"]`` as label values by name."""
    values: dict[str, int | list[int]] = {}
    for organ in organs or ():
        name, _, numbers = organ.partition("=")
        if not name or not all(number.strip().isdigit() for number in numbers.split(",")):
            raise ConfigError(f"--organ {organ}: write NAME=VALUE[,VALUE], for example kidneys=7,8.")
        values[name] = [int(number) for number in numbers.split(",")]
    return values or None
