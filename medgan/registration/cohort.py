"""A cohort of raw pairs registered subject by subject: ``medgan data register``."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from medgan.data.domains import DomainPair
from medgan.data.hashes import file_hash
from medgan.data.streams import inert_table, write_text
from medgan.data.studies import Cohort
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError, MedganError
from medgan.processes import WorkerKilledError, in_processes
from medgan.registration.pair import PairConfig, RawPair, register_pair
from medgan.registration.quality import Quality, Status

FORMAT = 3
"""Raised when registration changes what it writes for equal inputs and settings."""
RECORD = "registration.json"
"""Beside a pair's images: what they were made from, and what came out."""
COLUMNS = ("subject", "domain", "image", "mask", "split")


@dataclass(frozen=True)
class Outcome:
    """What became of a pair."""

    name: str
    status: Status
    reason: str
    quality: Quality | None = None
    """None where registration could not even be judged."""
    pair: RawPair | None = None
    """None where there was none to register."""


def register_cohort(
    cohort: Cohort, pair: DomainPair, out: Path, config: PairConfig, *, fixed: str, jobs: int = 1
) -> list[Outcome]:
    """Register every subject's pair and write images, transforms, pictures, ``quality.csv`` and ``cohort.csv``.

    A subject that was registered before from equal files with equal settings is not done again. One that goes wrong
    stops no other. ``fixed`` is the domain whose scans stay; the other's are moved onto their grids. Each of the
    ``jobs`` is a process with one thread and the memory of one pair.
    """
    inputs = [path for study in cohort.studies for path in (study.image, study.mask) if path]
    inside = [path for path in inputs if path.resolve().is_relative_to(out.resolve())]
    if inside or cohort.root.resolve() == out.resolve():
        raise ConfigError(f"{out} holds the cohort's own files, which would be overwritten; choose another folder.")
    planned = list(_planned(cohort, pair, out, config, fixed))
    todo = [item for item in planned if isinstance(item, RawPair)]
    done = {outcome.name: outcome for outcome in _registered(todo, min(jobs, len(todo)))}
    outcomes = [done[item.name] if isinstance(item, RawPair) else item for item in planned]
    figures = [
        asdict(each.quality) if each.quality else dict.fromkeys(Quality.__dataclass_fields__) for each in outcomes
    ]
    table = pd.DataFrame(
        {"subject": each.name, "status": each.status} | own | {"reason": each.reason}
        for each, own in zip(outcomes, figures, strict=True)
    )
    write_text(out / "quality.csv", inert_table(table).to_csv(index=False))
    rows = [row for outcome in outcomes for row in _rows(outcome)]
    write_text(out / "cohort.csv", pd.DataFrame(rows, columns=[*COLUMNS]).to_csv(index=False))
    return outcomes


def _registered(todo: list[RawPair], jobs: int) -> Iterator[Outcome]:
    """The pairs as they are done; when stopped, those that are done are kept, and no process goes on."""
    try:
        if jobs <= 1:
            yield from map(_register, todo)
            return
        with closing(in_processes(todo, _register, jobs)) as ended:
            for _, future in ended:
                yield future.result()
    except WorkerKilledError as killed:
        names = ", ".join(pair.name for pair in killed.args)
        raise DataError(
            f"a process that registered {names} was killed, perhaps for want of memory; run the same command with "
            "fewer --jobs: what is registered is kept."
        ) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "stopped; what is registered is kept, and the same command goes on from there."
        ) from None


def _register(pair: RawPair) -> Outcome:
    """Register one pair, or recall its outcome; whatever goes wrong is the outcome's reason."""
    try:
        key = _key(pair)
        if known := _recalled(pair, key):
            return known
        _clear(pair)
        quality, status, reason = register_pair(pair)
        content = {"key": key, "status": status, "reason": reason, "quality": asdict(quality)}
        write_text(pair.folder / RECORD, json.dumps(content, indent=2))  # last: where it exists, all else does
        return Outcome(pair.name, status, reason, quality, pair)
    except Exception as error:  # whatever a library trips over is this subject's, and the next one is still done
        _clear(pair)
        return Outcome(pair.name, "failed", str(error) if isinstance(error, MedganError) else repr(error), pair=pair)


def render(outcomes: list[Outcome]) -> RenderableType:
    """The outcomes for a terminal: a line for each pair, then a summary."""
    # Narrow enough for 80 columns, which is what a batch system's log has.
    table = Table("subject", "status", "MI", "Dice", "covered", "moved mm", "turn °", box=SIMPLE_HEAD)
    table.columns[0].overflow = "fold"
    for column in table.columns[2:]:
        column.justify = "right"
    for outcome in outcomes:
        cells = ("",) * 5
        if q := outcome.quality:
            information = f"{q.mutual_information_before:.2f} → {q.mutual_information_after:.2f}"
            moved = (f"{q.largest_displacement_mm:.1f}", f"{q.rotation_degrees:.1f}")
            cells = (information, f"{q.dice_before:.2f} → {q.dice_after:.2f}", f"{q.covered:.2f}", *moved)
        style = "green" if outcome.status == "accepted" else "red"
        table.add_row(Text(outcome.name), Text(outcome.status, style=style), *(Text(cell) for cell in cells))
    counts = pd.Series([outcome.status for outcome in outcomes]).value_counts()
    summary = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("accepted", "refused", "failed"))
    reasons = [Text(f"{each.name} {each.status}: {each.reason}") for each in outcomes if each.reason]
    return Group(table, *reasons, Text(f"{len(outcomes)} pairs: {summary}"))


def _planned(
    cohort: Cohort, pair: DomainPair, out: Path, config: PairConfig, fixed: str
) -> Iterator[RawPair | Outcome]:
    """Each pair, and a failure for each subject that has none."""
    swap = fixed == pair.target.name
    domains = (pair.target, pair.source) if swap else (pair.source, pair.target)
    for subject in cohort.subjects():
        own = cohort.of_subjects([subject])
        missing = [name for name in pair.names if not own.of_domain(name).studies]
        try:
            if missing:
                raise DataError(f"it has no {missing[0]} image")
            if Path(subject).name != subject or subject.startswith("."):
                raise DataError("its name cannot be a folder's; rename it")
            couples = own.pairs(pair)
        except DataError as error:
            yield Outcome(subject, "failed", str(error))
            continue
        for number, (source, target) in enumerate(couples, 1):
            name = subject if len(couples) == 1 else f"{subject}/{number}"
            yield RawPair(name, (target, source) if swap else (source, target), domains, out, config)


def _key(pair: RawPair) -> str:
    """A hash of everything that shapes the results: the files' contents, the domains, the settings."""
    paths = [path for study in pair.studies for path in (study.image, study.mask)]
    contents = [file_hash(path) if path else "" for path in paths]
    settings = [domain.model_dump_json() for domain in pair.domains] + [pair.config.model_dump_json()]
    return hashlib.sha256("\n".join([str(FORMAT), *contents, *settings]).encode()).hexdigest()


def _recalled(pair: RawPair, key: str) -> Outcome | None:
    """What an earlier run found, if it was the same and its files are still there."""
    try:
        known = read_json(pair.folder / RECORD, strict=False)
        if known["key"] != key:
            return None
        outcome = Outcome(pair.name, known["status"], str(known["reason"]), Quality(**known["quality"]), pair)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    written = [name for row in _rows(outcome) for name in row[2:4] if name]
    return outcome if all((pair.out / name).exists() for name in written) else None


def _clear(pair: RawPair) -> None:
    """Remove what an earlier run wrote for the pair: nothing of it may pass for a result of this one."""
    images = [path for domain in pair.domains for path in (pair.image(domain), pair.mask(domain))]
    for path in (pair.folder / RECORD, *images, pair.transform, pair.picture):
        path.unlink(missing_ok=True)


def _rows(outcome: Outcome) -> list[tuple[str, str, str, str, str]]:
    """The pair's lines of ``cohort.csv``; none unless it was accepted."""
    if outcome.status != "accepted" or outcome.pair is None:
        return []
    pair, rows = outcome.pair, []
    for study, domain in zip(pair.studies, pair.domains, strict=True):
        places = pair.image(domain), pair.mask(domain)
        image, mask = (path.relative_to(pair.out).as_posix() for path in places)
        rows.append((study.subject, domain.name, image, mask if study.mask else "", study.split or ""))
    return rows
