"""``medgan reader-study``: make a blinded study for readers, serve it, and score their answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from medgan.commands import early
from medgan.commands.common import Quiet, Reading, command, console, end, say
from medgan.commands.help import Commands

app = Commands(no_args_is_help=True, help="Do readers tell synthetic images from real ones, and read them alike?")

Folder = Annotated[Path, Argument(metavar="STUDY", help="Folder of the study.")]


@dataclass(frozen=True)
class Question:
    """What readers are asked."""

    task: Annotated[Literal["2afc", "single", "preference", "find"], Option(help="What readers are asked.")] = "2afc"
    unaware_first: Annotated[
        bool, Option("--unaware-first", help="Of find: at first nobody says that images are synthetic.")
    ] = False
    question: Annotated[str, Option(help="Instead of the task's own question.")] = ""
    burn_in: Annotated[int, Option(min=0, max=100, help="Practice trials, with feedback.")] = 10
    repeats: Annotated[float, Option(min=0, max=1, help="Share of trials that are shown twice.")] = 0.1
    catch: Annotated[float, Option(min=0, max=1, help="Share of trials that nobody may miss.")] = 0.05
    tell_prevalence: Annotated[
        bool, Option("--tell-prevalence/--hide-prevalence", help="Do readers know how many are real?")
    ] = True


@dataclass(frozen=True)
class Look:
    """How images are shown, all alike."""

    levels: Annotated[int, Option(min=1, max=20, help="Places of each subject that are shown.")] = 1
    slices: Annotated[int, Option(min=1, max=99, help="Of each stack.")] = 9
    plane: Annotated[Literal["axial", "coronal", "sagittal"], Option(help="Of the slices.")] = "axial"
    window: Annotated[str, Option(help="auto, a name such as lung, or LOWER,UPPER in HU.")] = "auto"
    pixel_mm: Annotated[float | None, Option(help="Edge of a pixel; else the studies' own.")] = None
    body_only: Annotated[bool, Option("--body-only", help="Table and air are black in all images.")] = False
    equal_noise: Annotated[bool, Option("--equal-noise", help="Add noise to the smoother image of a pair.")] = False


@app.command("make")
@command
def _make(
    out: Annotated[Path, Argument(metavar="STUDY", help="Folder for study.html, key.json and instructions.md.")],
    synthetic: Annotated[str, Option(help="What `medgan convert` wrote: FOLDER or COHORT:DOMAIN.")],
    real: Annotated[str | None, Option(help="The real images: FOLDER or COHORT:DOMAIN.")] = None,
    other: Annotated[str | None, Option(help="The second method's images, for preference.")] = None,
    source: Annotated[str | None, Option(help="The inputs, to stand beside, for preference.")] = None,
    labels: Annotated[str | None, Option(help="Label maps with the lesions, for find.")] = None,
    lesion: Annotated[list[str] | None, Option(help="Name or number of the lesions' label.")] = None,
    *,
    reading: Reading,
    question: Question,
    look: Look,
    seed: Annotated[str | None, Option(help="Keep it secret, as the key; by default random.")] = None,
    quiet: Quiet = False,
) -> None:
    """Make a study: one blinded page that works offline, its key, and instructions.

    Examples:
        medgan reader-study make STUDY --synthetic OUT --real cohort.csv:plain
        medgan reader-study make STUDY --task single --synthetic OUT --real REAL
    """
    early.check_use(places=[synthetic, real, other, source, labels])
    from medgan.readers.design import ReaderStudy
    from medgan.readers.instructions import power_lines
    from medgan.readers.page import PAGE
    from medgan.readers.study import Places, make_study

    settings = ReaderStudy(**vars(question), **vars(look))
    places = Places(synthetic, real, other, source, labels, tuple(lesion or ()))
    made = make_study(places, out, settings, seed=seed, options=reading.options)
    for line in power_lines(made.key):
        say(quiet, line)
    for note in made.key.notes:
        say(quiet, f"note: {note}")
    for failure in made.failures:
        console().print(f"not shown: {failure}", style="red", markup=False, highlight=False)
    say(quiet, f"page for readers: {out / PAGE}")
    say(quiet, f"key, not for readers: {out / 'key.json'}")
    end(bool(made.failures))


@app.command("serve")
@command
def _serve(
    study: Folder,
    reader: Annotated[list[str] | None, Option(help="Name of a reader, who gets a link; give it for each.")] = None,
    host: Annotated[
        str, Option(help="Address to serve at; 0.0.0.0 lets other machines in, unencrypted.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
) -> None:
    """Serve a study to several readers on this machine; each answer is kept at once, in answers.sqlite.

    Examples:
        medgan reader-study serve STUDY --reader "Dr A" --reader "Dr B"
        medgan reader-study serve STUDY --port 9000
    """
    from medgan.readers.server import serve

    serve(study, reader or [], lambda line: say(False, line), host, port)


@app.command("score")
@command
def _score(
    answers: Annotated[list[Path], Argument(metavar="ANSWERS", help="Saved files, folders of such, answers.sqlite.")],
    key: Annotated[Path, Option(help="key.json, or the study's folder.")],
    out: Annotated[Path, Option(help="Folder for score.html, score.json and tables.")],
    margin: Annotated[float, Option(min=0.01, max=0.49, help="Of equivalence: .1 is ten points.")] = 0.1,
    quiet: Quiet = False,
) -> None:
    """Score readers' answers, with intervals over readers and subjects, and tests of equivalence.

    Examples:
        medgan reader-study score STUDY/answers.sqlite --key STUDY --out score
        medgan reader-study score answers/ --key STUDY --out score --margin 0.15
    """
    from medgan.readers.design import Key
    from medgan.readers.report import PAGE, write
    from medgan.readers.score import score

    of_study = Key.load(key)
    scored = score(of_study, answers, margin)
    write(scored, of_study, out)
    for figure in scored.figures:
        say(quiet, figure.sentence)
    for note in scored.notes:
        say(quiet, f"note: {note}")
    for name, reason in scored.failures.items():
        console().print(f"not scored: {name}: {reason}", style="red", markup=False, highlight=False)
    say(quiet, f"report: {out / PAGE}")
    end(bool(scored.failures))
