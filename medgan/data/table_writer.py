"""A cohort's table made of what lies in a folder: by patterns, or guessed: ``medgan data csv``."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medgan.data.domains import WORDS
from medgan.data.layouts import MASK_FOLDERS, Study, key_below, masks_beside
from medgan.data.listing import find_images
from medgan.data.streams import write_text
from medgan.data.studies import Cohort, by_subject, read_cohort
from medgan.data.tables import COLUMNS, OPTIONAL
from medgan.errors import ConfigError, DataError
from medgan.text import printable

DOMAINS = {word: domain for domain, words in WORDS.items() for word in words}
PLACEHOLDER = re.compile(r"\{(\w+)\}|\*\*/|\*|\?|[^{*?]+|\{")
SHOWN = 5


@dataclass(frozen=True)
class _Proposal:
    """What a table would list."""

    studies: tuple[Study, ...]
    left_out: Mapping[Path, str]
    """Why, for every other file."""
    notes: tuple[str, ...] = ()
    """What was taken for subject and domain, where that was guessed."""

    def lines(self, folder: Path) -> Iterator[str]:
        """Lines for people: the first rows, how many there are, and every file that is left out."""
        yield from self.notes
        for study in self.studies[:SHOWN]:
            name = printable(_name(study.image, folder))
            yield f"{name}: subject {study.subject}, domain {study.domain}{', with mask' if study.mask else ''}"
        counts = Counter(study.domain for study in self.studies)
        images = ", ".join(f"{count} {domain}" for domain, count in sorted(counts.items()))
        masks = sum(study.mask is not None for study in self.studies)
        yield f"{len({study.subject for study in self.studies})} subjects: {images}; {masks} with a mask"
        for path, why in self.left_out.items():
            yield f"left out: {printable(_name(path, folder))}: {why}"


def propose(folder: Path, images: Sequence[str] = (), mask: str | None = None) -> _Proposal:
    """The rows of a folder's images.

    ``images`` are patterns of their paths below it, with ``{subject}`` and ``{domain}``, or ``DOMAIN=PATTERN``; a later
    one is for what no earlier one fits, and without one it is guessed. ``mask`` is the pattern of their masks.
    """
    listing = find_images(folder)
    if mask and not images:
        raise ConfigError("--mask says which mask belongs to an image of --image; give that as well.")
    proposal = _by_patterns(folder, listing.images, images, mask) if images else _of_layout(folder, listing.images)
    studies, left_out = [], {**listing.passed_over, **proposal.left_out}
    for study in proposal.studies:
        texts = [study.subject, *(_name(path, folder) for path in (study.image, study.mask) if path)]
        if all(text.isprintable() and text == text.strip() for text in texts):
            studies.append(study)
        else:
            left_out[study.image] = "its name cannot stand in a table; rename it"
    left_out = {path: why for path, why in sorted(left_out.items()) if path != folder}
    if not studies:
        reasons = "".join(f"{printable(_name(path, folder))}: {why}. " for path, why in [*left_out.items()][:SHOWN])
        raise DataError(
            f"{folder}: no image can be listed. {reasons}Say whose they are by a pattern: "
            "--image '{domain}/{subject}_*.nii.gz'."
        )
    return _Proposal(tuple(studies), left_out, proposal.notes)


def write_table(out: Path, studies: Sequence[Study]) -> None:
    """Write a table that every command reads, whose paths are relative to it; a ConfigError where something is."""
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists; give another name for the table, or put that file away.")
    here = Path(os.path.realpath(out.parent))

    def relative(path: Path | None) -> str:
        return "" if path is None else Path(os.path.relpath(path.absolute(), here)).as_posix()

    columns = [*COLUMNS, *(name for name in OPTIONAL if any(getattr(study, name) for study in studies))]
    text = io.StringIO(newline="")
    # In quotation marks, where a line would begin as a comment does.
    quoted = any(study.subject.startswith("#") for study in studies)
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
    writer.writerow(columns)
    for study in studies:
        cells = vars(study) | {"image": relative(study.image), "mask": relative(study.mask), "split": study.split or ""}
        writer.writerow([cells[column] for column in columns])
    write_text(out, text.getvalue())


def _by_patterns(folder: Path, images: Sequence[Path], patterns: Sequence[str], mask: str | None) -> _Proposal:
    """The images that fit a pattern, and their masks."""
    shapes = [_shape(pattern) for pattern in patterns]
    masks = _shape(f"mask={mask}" if "{domain}" not in mask else mask)[1] if mask else None
    drawn: dict[tuple[str, str], list[Path]] = {}
    studies, left_out = [], {}
    for image in images:
        name = _name(image, folder)
        if masks and (fits := masks.fullmatch(name)):
            drawn.setdefault((fits["subject"], fits.groupdict().get("domain", "").lower()), []).append(image)
            continue
        matches = ((domain, fits.groupdict()) for domain, regex in shapes if (fits := regex.fullmatch(name)))
        domain, values = next(matches, ("", None))
        if values:
            domain = domain or values["domain"].lower()
            studies.append(Study(values["subject"], domain, image, split=values.get("split")))
        else:
            left_out[image] = "it fits no pattern"
    for number, study in enumerate(studies):
        own = drawn.get((study.subject, study.domain), drawn.get((study.subject, ""), []))
        if len(own) == 1:
            studies[number] = replace(study, mask=own[0])
        else:
            why = f"one of {len(own)} masks of {study.subject}; make the pattern tell them apart"
            left_out |= dict.fromkeys(own, why)
    known = {*left_out, *(study.mask for study in studies)}
    lone = [each for own in drawn.values() for each in own if each not in known]
    return _Proposal(tuple(studies), left_out | dict.fromkeys(lone, "a mask of no image"))


def _shape(pattern: str) -> tuple[str, re.Pattern[str]]:
    """A pattern's domain, if it names one, and what a path must look like."""
    named = re.match(r"([a-z0-9_]+)=", pattern)
    domain, rest = (named[1], pattern[named.end() :]) if named else ("", pattern)
    text, fields = "", set[str]()
    for piece in PLACEHOLDER.finditer(rest):
        field = piece[1]
        if field in fields:
            text += f"(?P={field})"
        elif field:
            fields.add(field)
            text += f"(?P<{field}>[^/]+{'?' if field == 'domain' else ''})"
        else:
            text += {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(piece[0], re.escape(piece[0]))
    wanted = {"subject"} if domain else {"subject", "domain"}
    if not wanted <= fields <= {"subject", "domain", "split"}:
        raise ConfigError(
            f"pattern '{pattern}': write {{subject}} and {{domain}} (and {{split}}) where they stand in the path, or a "
            "domain before it: contrast='scans/{subject}_ce.nii.gz'."
        )
    return domain, re.compile(text)


def _of_layout(folder: Path, images: Sequence[Path]) -> _Proposal:
    """The studies of a folder in a layout that says whose its images are, a CT being contrast or plain where both are.

    Without a layout it is guessed.
    """
    if not images or images == (folder,):
        return _guessed(folder, images)
    sides = [entry.name.lower() for entry in sorted(folder.iterdir()) if entry.name.lower() in WORDS]
    cohort = read_cohort(folder, sides if len(sides) == 2 else (), tested=True)
    if cohort and cohort.layout == "BIDS" and not {"contrast", "plain"} <= cohort.names().keys():
        cohort = read_cohort(folder, ("t1", "t1_gd", "t2", "flair", "ct"), tested=True)
    if cohort is None:
        return _guessed(folder, images)
    known = {path for study in cohort.studies for path in (study.image, study.mask)}
    aside = {image: why for image, why in cohort.aside if image not in known}
    left_out = {image: f"no part of {cohort.layout}" for image in images if image not in known} | aside
    notes = (f"read as {cohort.layout}", cohort.note, cohort.doubt, *cohort.notes)
    return _Proposal(cohort.studies, left_out, tuple(filter(None, notes)))


def _guessed(folder: Path, images: Sequence[Path]) -> _Proposal:
    """By words for domains in the names."""
    keys = {image: key_below(image, folder) for image in images}
    beside = masks_beside(keys)
    masks = {mask for own in beside.values() for mask in own}
    studies, left_out = [], {}
    for image, key in keys.items():
        if image in masks:
            continue
        domains = {DOMAINS[word] for word in re.split(r"[/_.\s-]+", key.lower()) if word in DOMAINS}
        if {*Path(_name(image, folder).lower()).parts} & {*MASK_FOLDERS}:
            left_out[image] = "in a folder of masks; say whose by --mask"
        elif not domains:
            left_out[image] = "no word for a domain in its name; say whose and what it is by --image"
        elif len(domains) > 1:
            left_out[image] = f"its name has words for {' and '.join(sorted(domains))}; say which by --image"
        else:
            own = beside.get(key, [])
            if len(own) > 1:
                left_out |= dict.fromkeys(own, f"one of {len(own)} masks of {key}; say which by --mask")
            studies.append(Study(_subject(key), domains.pop(), image, own[0] if len(own) == 1 else None))
    cohort = Cohort(tuple(studies))
    cohort = by_subject(cohort, cohort.names())
    notes = ["guessed: the domain by a word in the path, the subject by the first folder or file name without it"]
    notes += filter(None, (cohort.note, cohort.doubt))
    for (subject, domain), count in Counter((each.subject, each.domain) for each in cohort.studies).most_common(1):
        if count > 1:
            site = "if that is a site and no subject, say --image '*/{subject}/...'"
            notes.append(f"{subject} has {count} {domain} images; {site}")
    return _Proposal(cohort.studies, left_out, tuple(notes))


def _subject(key: str) -> str:
    """The first part of a path that says more than the domain, without the domain's word and what joins it."""
    for part in key.split("/"):
        words = [word for word in re.split(r"([_.\s-]+)", part) if word]
        rest = [word for word in words if word.lower() not in DOMAINS]
        if any(word.strip("_.- ") for word in rest):
            return "".join(rest).strip("_.- ")
    return key


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path != folder else folder.name
