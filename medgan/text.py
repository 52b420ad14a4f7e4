"""Text from outside, such as a file's name, as a terminal and a record may hold it.

A name may hold line ends, sequences that steer a terminal, and bytes that are no UTF-8: Python's surrogates.
"""

import difflib
import re
from collections.abc import Sequence

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, characters that turn the direction of writing, and surrogates."""


def printable(text: str, *, lines: bool = False) -> str:
    r"""Text with what would steer a terminal, or is no UTF-8, as escapes such as ``\x1b``.

    With ``lines`` line ends and tabs stay as they are: in a message of several lines.
    """
    return _UNSAFE.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escape(match[0]), text)


def record_name(name: str) -> str:
    r"""A file's name as records call it: :func:`printable`, with ``\`` doubled, so that names that differ still do."""
    return printable(name.replace("\\", "\\\\"))


def few(things: Sequence[str], most: int, *, between: str = ", ", last: str = " and ") -> str:
    """The first ``most`` things of a list, and after ``last`` how many more there are."""
    more = f"{last}{len(things) - most} more" if len(things) > most else ""
    return between.join(things[:most]) + more


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` where one of the known names is near; else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def duration(seconds: float) -> str:
    """A length of time for people, to two digits or so: seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
