"""What a batch leaves and shows: a manifest line for each study, a summary, a progress bar, a table of failures."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from medgan.data.listing import told
from medgan.data.sidecars import ThisImage
from medgan.data.streams import check_regular, unwritable, write_text
from medgan.inference.sidecar import as_json
from medgan.text import few

Status = Literal["done", "kept", "failed"]
MAX_NAMED = 3


@dataclass(frozen=True)
class Outcome:
    """How one study ended."""

    status: Status
    input: str
    output: str
    seconds: float
    message: str = ""
    """Of a failure, what happened; else the warnings."""
    warnings: tuple[str, ...] = ()
    """What to know before using the output, one by one."""


@dataclass(frozen=True)
class ConvertSummary:
    """How a batch ended."""

    outcomes: tuple[Outcome, ...]
    """In the order in which the studies ended."""
    seconds: float
    device: str
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Why, by name, for each file of INPUT that is neither converted nor known to be no image."""
    seen: Mapping[str, ThisImage] = field(default_factory=dict)
    """Whether the model has seen each converted input, by name; empty where that was not asked."""

    def counts(self) -> dict[str, int]:
        """How many studies ended how."""
        ended = [outcome.status for outcome in self.outcomes]
        return {status: ended.count(status) for status in get_args(Status)}

    def seen_counts(self) -> dict[ThisImage, int]:
        """How many inputs the model learnt from, chose its epoch by, never saw, and cannot tell of."""
        return {part: list(self.seen.values()).count(part) for part in get_args(ThisImage)}

    @property
    def failed(self) -> int:
        """How many studies were not converted."""
        return self.counts()["failed"]

    @property
    def exit_code(self) -> int:
        """0 if every study was converted or kept, 1 if some failed."""
        return 1 if self.failed else 0


class Manifest:
    """``manifest.jsonl``: a line a study, written as it ends; a later batch adds its lines.

    Args:
        path: The file; None keeps no manifest.

    Raises:
        DataError: It cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    check_regular(path)
                with path.open("ab+") as file:
                    _end_line(file)
            except OSError as error:
                raise unwritable(path, error) from None

    def add(self, outcome: Outcome) -> None:
        """One more study has ended."""
        if self.path:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
            except OSError as error:
                raise unwritable(self.path, error) from None


def write_summary(path: Path, summary: ConvertSummary, facts: Mapping[str, Any]) -> None:
    """Write ``summary.json`` in one step.

    Args:
        path: The file.
        summary: How the batch ended.
        facts: What the sidecars of the batch share.
    """
    failures = {outcome.input: outcome.message for outcome in summary.outcomes if outcome.status == "failed"}
    content: dict[str, Any] = {
        **summary.counts(),
        "failures": failures,
        "passed_over": dict(summary.passed_over),
        **({"seen": summary.seen_counts()} if summary.seen else {}),
        "seconds": summary.seconds,
        "device": summary.device,
        **{name.lower(): facts[name] for name in ("Model", "Direction", "Labels", "Versions") if name in facts},
    }
    write_text(path, as_json(content))


def shown(outcomes: Iterator[Outcome], total: int, console: Console, doing: str = "converting") -> Iterator[Outcome]:
    """The outcomes as they come, with a progress bar."""
    bar = Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=console.quiet or not console.is_terminal,
    )
    with bar:
        yield from bar.track(outcomes, total=total)


def warning_kinds(outcomes: Iterable[Outcome]) -> dict[str, list[tuple[str, str]]]:
    """The warnings of a batch by kind, most frequent first, each as input and text.

    A kind is what a warning says before its first colon, whatever numbers are in it.
    """
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for outcome in outcomes:
        for warning in outcome.warnings:
            kinds[re.sub(r"\d+", "", warning.partition(":")[0])].append((outcome.input, warning))
    return dict(sorted(kinds.items(), key=lambda kind: -len(kind[1])))


def show_warnings(summary: ConvertSummary, console: Console) -> None:
    """Tell what was odd, a line for each kind and not for each study."""
    done = len(summary.outcomes) - summary.failed
    for given in warning_kinds(summary.outcomes).values():
        (first, text), names = given[0], [name for name, _ in given]
        like = "" if len({warning for _, warning in given}) == 1 else f"such as of {first}: "
        who = "" if len(names) == done else f" ({few(names, MAX_NAMED, last=', and ')})"
        line = f"warning: {len(names)} of {done}: {like}{text}{who}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_seen(summary: ConvertSummary, console: Console) -> None:
    """Tell how many of the inputs the model was trained on, in one line."""
    parts, total = summary.seen_counts(), len(summary.seen)
    if not total:
        return
    if parts["unknown"] == total:
        line = "whether the model was trained on these inputs cannot be told: an earlier medgan wrote it or them"
    elif total == 1:
        chose = ", which chose its epoch" if parts["validation"] else ""
        line = f"the model was {'' if parts['train'] else 'not '}trained on this input{chose}"
    else:
        chose = f", and {parts['validation']} chose its epoch" if parts["validation"] else ""
        unsaid = f"; of {parts['unknown']} it cannot be told" if parts["unknown"] else ""
        line = f"the model was trained on {parts['train'] or 'none'} of these {total} inputs{chose}{unsaid}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def show_end(summary: ConvertSummary, output: Path, console: Console, done: str = "converted") -> None:
    """Tell what was odd, trained on, not converted and why, or passed over, and how many studies ended how."""
    show_warnings(summary, console)
    show_seen(summary, console)
    if summary.failed:
        table = Table("study", "what happened", title=f"not {done}", title_justify="left")
        for outcome in summary.outcomes:
            if outcome.status == "failed":
                table.add_row(Text(outcome.input), Text(outcome.message))
        console.print(table)
    for line in told(summary.passed_over):
        console.print(line, highlight=False, markup=False)
    said = ", ".join(f"{count} {status}" for status, count in summary.counts().items() if count)
    console.print(f"{said} in {summary.seconds:.1f} s: {output}", highlight=False, markup=False)


def _end_line(file: IO[bytes]) -> None:
    """Close a line that a killed batch left open."""
    if file.tell():
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
