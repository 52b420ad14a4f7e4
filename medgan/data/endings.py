"""Whose image a file's name says it is: what a domain adds to all of its names is no part of a subject's name.

``contrast/PAT001_ce.nii.gz`` and ``plain/PAT001_nc.nii.gz`` are one subject, PAT001. Counted as two, a patient could be
trained on and tested.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from medgan.data.domains import ALL_WORDS
from medgan.text import few

MISSING = 0.1
"""Nearly all names of a domain have something if at most this share lacks it; of four to nine names one may, too."""
SHARED = 0.2
"""The share of the names without a namesake in the other domain that are alike in some way where they are in doubt."""
PARTS = 3
"""So many parts at the beginning of a name can be a subject's."""
LONG = 5
"""A number of so many digits is no running number."""
MAX_NAMED = 3

Way = Callable[[str], tuple[list[str], list[str]]]
"""The parts of a name that may be a subject's, and the other ones."""
Names = Mapping[str, Collection[str]]
"""By domain, what its files call the subjects."""


@dataclass(frozen=True)
class _Naming:
    """Who the subjects are."""

    subjects: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """By domain and name: the subject, where that is not the name."""
    note: str = ""
    """What counts as the domains' endings, for people; empty where there are none."""
    doubt: str = ""
    """Names that could be one subject's or two subjects', for people; empty where all is clear."""


def subjects_named(names: Names) -> _Naming:
    """Who is who in two domains.

    An ending is the last part of a name after ``_``, ``-`` or ``.`` that holds a letter, in whatever case, if nearly
    all names of a domain have it and it is not the other domain's. It is taken off where that gives the domains
    subjects in common. Names that are alike across the domains in another way are in doubt: by what is before, within
    or behind them (a number, a date, letters without a separator), or by another spelling.
    """
    if len(names) != 2:
        return _Naming()
    one, other = names
    parts = {domain: {name: _split(name) for name in sorted(own)} for domain, own in names.items()}
    endings = {
        domain: _common((ending for _, ending in own.values() if ending), len(own)) for domain, own in parts.items()
    }
    cut = {
        domain: {name: before if ending in endings[domain] else name for name, (before, ending) in own.items()}
        for domain, own in parts.items()
    }
    shared = {*cut[one].values()} & {*cut[other].values()}
    if endings[one] == endings[other] or not shared:
        return _Naming(doubt=_doubt(names, least=2))
    words = " and ".join(f"'{ending}'" for own in endings.values() for ending in own)
    counts = {domain: Counter(own.values()) for domain, own in cut.items()}
    double = [f"{domain}/{name}" for domain, own in cut.items() for name, who in own.items() if counts[domain][who] > 1]
    if double:
        return _Naming(
            doubt=f"without {words} at the end, names of {one} and {other} fall together: {few(double, MAX_NAMED)}"
        )
    example = min(shared)
    pair = " and ".join(
        f"{domain}/{next(n for n, who in own.items() if who == example)}" for domain, own in cut.items()
    )
    return _Naming(
        {(domain, name): who for domain, own in cut.items() for name, who in own.items() if who != name},
        f"{pair} are one subject, {example} ({len(shared)} subjects have both): names lose {words} at the end, which "
        "their domain adds",
        _doubt({domain: own.values() for domain, own in cut.items()}, least=1),
    )


def plain_spelling(name: str) -> str:
    """A name without what differs by writing alone: case, Unicode form, leading zeros, separators and white space."""
    return "-".join(_parts(name, by_kind=True))


def _split(name: str) -> tuple[str, str]:
    """What is before the last separator, and the part after it in lower case if that holds a letter."""
    match = re.fullmatch(r"(.+)[_.-]([^_.-]*[^\W\d_][^_.-]*)", name)
    return (match[1], match[2].casefold()) if match else (name, "")


def _common(parts: Iterable[str], names: int) -> set[str]:
    """The parts that nearly all of so many names have; of one name, nothing can be said."""
    missing = max(MISSING * names, 1) if names > 3 else 0
    return {part for part, count in Counter(parts).items() if count >= names - missing and names > 1}


def _doubt(names: Names, least: int) -> str:
    """Names across two domains that are not equal, but alike in one of several ways, for so many subjects at least."""
    (one, own), (other, others) = names.items()
    lone = [{*own} - {*others}, {*others} - {*own}]
    enough = max(least, SHARED * min(map(len, lone)))
    words = {part for word in (*ALL_WORDS, one, other) for part in _parts(word)}
    for ways in zip(_ways(own), _ways(others), strict=True):
        keys = [_keyed(way, side, words) for way, side in zip(ways, (own, others), strict=True)]
        alike = sorted({*keys[0]} & {*keys[1]})
        pairs = [(keys[0][key], keys[1][key]) for key in alike if keys[0][key] in lone[0] and keys[1][key] in lone[1]]
        if len(pairs) >= enough:
            named = few([f"{one}/{left} and {other}/{right}" for left, right in pairs], MAX_NAMED)
            return f"names of {one} and {other} could be one subject's or two subjects': {named}"
    return ""


def _ways(names: Collection[str]) -> list[Way]:
    """What of a domain's names may be the subject's: all but what nearly all have, or some parts at the beginning."""
    everywhere = _common((part for name in names for part in {*_parts(name)}), len(names))

    def own(name: str) -> tuple[list[str], list[str]]:
        parts = _parts(name)
        return [part for part in parts if part not in everywhere], [part for part in parts if part in everywhere]

    def beginning(count: int, name: str) -> tuple[list[str], list[str]]:
        parts = _parts(name, ends=False)
        return parts[:count], [each for part in parts[count:] for each in _parts(part)]

    return [own, *(partial(beginning, count) for count in range(1, PARTS + 1))]


def _keyed(way: Way, names: Collection[str], words: Collection[str]) -> dict[str, str]:
    """The names by what of them may be the subject's; nothing where that does not tell nearly all of them apart.

    A running number alone is a subject's where all else in the name is a number or one of the domains' words:
    ``ce_001``; but ``lung_001`` may be the first of a list of its own.
    """
    keyed = {}
    for name in sorted(names):
        key, rest = way(name)
        telling = any(not part.isdecimal() or len(part) >= LONG for part in key)
        if key and (telling or all(part.isdecimal() or part in words for part in rest)):
            keyed["-".join(key)] = name
    return keyed if len(keyed) >= (1 - MISSING) * len(names) else {}


def _parts(name: str, *, ends: bool = True, by_kind: bool = False) -> list[str]:
    """The parts of a name in one spelling: without case, Unicode form and leading zeros.

    With ``ends`` a part also ends where letters follow a number: ``P001CE`` is ``p1`` and ``ce``; with ``by_kind``
    where numbers follow letters, too: ``p``, ``1`` and ``ce``.
    """
    between = [r"[\s_.-]+", *([r"(?<=\d)(?=[^\W\d_])"] if ends else []), *([r"(?<=[^\W\d_])(?=\d)"] if by_kind else [])]
    parts = re.split("|".join(between), unicodedata.normalize("NFKC", name).casefold())
    return [re.sub(r"(?<!\d)0+(?=\d)", "", part) for part in parts if part]
