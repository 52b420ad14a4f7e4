"""A cohort's table, one image a line, as people's programs save it.

The header tells the delimiter. What has two readings is refused, never guessed.
"""

import csv
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medgan.data.layouts import Listed, Study
from medgan.data.streams import check_regular, is_folder
from medgan.data.volumes import is_series
from medgan.errors import DataError
from medgan.text import few

COLUMNS, OPTIONAL = ("subject", "domain", "image"), ("mask", "split", "session")
"""What a cohort's table must have, and may have."""
SUFFIXES = (".csv", ".tsv", ".txt")
WORKBOOKS = (".xlsx", ".xls", ".ods")
DELIMITERS = (",", ";", "\t", "|")
PARTS = {
    "train": ("train", "training", "trainset", "tr"),
    "validation": ("validation", "validate", "val", "valid", "dev"),
    "test": ("test", "testing", "testset", "ts"),
}
"""What a cell of the ``split`` column may say, in small or capital letters."""
WORDS = {word: part for part, words in PARTS.items() for word in words}
NOTHING = ("", "n/a", "na", "nan", "none", "null", "#n/a", "-")
"""What programs write into a cell that has no value."""
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
BINARY = (
    (b"PK\x03\x04", "a workbook"), (b"\xd0\xcf\x11\xe0", "a workbook"), (b"\x1f\x8b", "compressed"), (b"%PDF", "a PDF"),
)  # fmt: skip
MAX_MIB = 64
MAX_PROBLEMS = 5
BLANK = " \t\n\r\x0b\x0c\xa0\u2007\u202f\ufeff\u200b\u200e\u200f\u2060"
"""What is stripped from a cell's ends: white space, and marks that nobody sees."""
OTHER_MACHINE = re.compile(r"[A-Za-z]:[\\/]|\\\\|[a-z0-9]{2,}://")


def is_table(path: Path) -> bool:
    """Whether a name is that of a table; a workbook's is, too, so that reading it says what to do."""
    return path.suffix.lower() in (*SUFFIXES, *WORKBOOKS) and not is_folder(path)


def read_table(path: Path, root: Path | None = None) -> Listed:
    """Studies of a table ``subject,domain,image[,mask][,split][,session]``; paths are relative to ``root`` or it."""
    lines, comments = _lines(_text(path))
    number = next((index for index, line in enumerate(lines) if line.strip(BLANK)), 0)
    header, delimiter = _header(path, lines[number] if lines else "")
    rows = _Rows(path, root or path.parent, header)
    reader = csv.reader(
        (line + "\n" for line in lines[number + 1 :]), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    line = number + 1
    try:
        for cells in reader:
            line = number + 1 + reader.line_num
            rows.add(line, [cell.strip(BLANK) for cell in cells])
    except csv.Error as error:
        reason = "a quotation mark is opened and not closed" if "end of data" in str(error) else str(error)
        raise DataError(f"{path}, line {line + 1}: {reason}; correct the line, or save the table anew.") from None
    return rows.listed(comments)


class _Rows:
    """The rows of one table, checked as they come; the errors say what is wrong with each."""

    def __init__(self, path: Path, folder: Path, header: Sequence[str]) -> None:
        self.path, self.folder, self.header = path, folder, header
        self.inside = Path(os.path.normpath(folder.absolute()))
        self.studies: list[Study] = []
        self.problems: list[str] = []
        self.missing = False
        self.absolute: set[Path] = set()
        self.outside: set[Path] = set()
        self.first_line: dict[tuple[str, Path], int] = {}

    def add(self, line: int, cells: list[str]) -> None:
        while len(cells) > len(self.header) and not cells[-1]:
            cells.pop()
        if not any(cells):
            return
        try:
            study = self._study(cells)
            first = self.first_line.setdefault((study.domain, study.image), line)
            if first != line:
                raise DataError(f"image '{cells[self.header.index('image')]}' is already on line {first}")
            self.studies.append(study)
        except DataError as problem:
            self.problems.append(f"Line {line}: {problem}")

    def listed(self, comments: int) -> Listed:
        if self.problems:
            shown = few(self.problems, MAX_PROBLEMS, between="; ")
            elsewhere = " If the images lie elsewhere, give their folder as --root." if self.missing else ""
            raise DataError(
                f"{self.path}: {len(self.problems)} of its rows cannot be used. {shown}. "
                f"Correct or remove them.{elsewhere}"
            )
        if not self.studies:
            raise DataError(f"{self.path} has a header and no rows; list one image a line.")
        files = [path for study in self.studies for path in (study.image, study.mask) if path]
        root = self.folder
        if self.outside:  # all by one way of writing, or not each would be relative to the root
            self.studies = [
                replace(study, image=study.image.absolute(), mask=study.mask and study.mask.absolute())
                for study in self.studies
            ]
            root = Path(os.path.commonpath([path.absolute().parent for path in files]))
        return Listed(tuple(self.studies), root, f"its {self.path.name}", notes=tuple(self._notes(comments)))

    def _notes(self, comments: int) -> Iterator[str]:
        name, outside = self.path.name, len(self.outside)
        if self.absolute:
            yield f"{name}: {len(self.absolute)} of its paths are absolute, so it holds on this machine alone"
        if outside:
            yield f"{name}: {outside} of its files lie outside {self.folder}, so they do not move with it"
        if comments:
            yield f"{name}: {comments} line{'s' * (comments > 1)} beginning with # left out as comments"
        if odd := sorted({study.subject for study in self.studies if study.subject.lower() in NOTHING}):
            yield f"{name}: {', '.join(odd)} taken for the name of a subject; correct it if it means that none is known"

    def _study(self, cells: Sequence[str]) -> Study:
        if len(cells) > len(self.header):
            raise DataError("more cells than the header has columns")
        row = dict(zip(self.header, cells, strict=False))
        if empty := " and no ".join(column for column in COLUMNS if not row.get(column)):
            raise DataError(f"no {empty}")
        mask, part, session = (row.get(column, "") for column in OPTIONAL)
        if part.lower() not in (*NOTHING, *WORDS):
            raise DataError(f"split '{part}' is none of train, validation, test")
        image = self._file(row["image"], "image")
        marked = None if mask.lower() in NOTHING else self._file(mask, "mask")
        if marked == image:
            raise DataError(f"mask '{mask}' is the image itself")
        visit = "" if session.lower() in NOTHING else session
        return Study(row["subject"], row["domain"].lower(), image, marked, WORDS.get(part.lower()), visit)

    def _file(self, entry: str, column: str) -> Path:
        """The file that a cell names. By name alone: a link in the folder may point anywhere, as git-annex's do."""
        for spelling in _spellings(entry):
            written = Path(spelling).expanduser() if spelling.startswith("~/") else Path(spelling)
            path = Path(os.path.normpath(self.inside / written))
            if _exists(path):
                if written.is_absolute():
                    self.absolute.add(path)
                if path.is_relative_to(self.inside):
                    return self.folder / path.relative_to(self.inside)
                self.outside.add(path)
                return path
        if OTHER_MACHINE.match(entry):
            raise DataError(f"{column} '{entry}' is a path of another machine; write it relatively, and give --root")
        self.missing = True
        raise DataError(f"{column} '{entry}' does not exist")


def _exists(path: Path) -> bool:
    try:
        return path.exists() or is_series(path)
    except (OSError, ValueError):  # a cell holds any text
        return False


def _spellings(entry: str) -> Iterable[str]:
    """A path as it is written, then with slashes for backslashes, and by either way of writing accents and spaces."""
    spaced = [text for each in (entry, entry.replace("\\", "/")) for text in (each, each.replace("\xa0", " "))]
    normalize = unicodedata.normalize
    return dict.fromkeys(form for text in spaced for form in (text, normalize("NFC", text), normalize("NFD", text)))


def _header(path: Path, line: str) -> tuple[list[str], str]:
    """The names of the columns in small letters, and the delimiter that gives all of ours."""
    rows = {}
    for delimiter in DELIMITERS:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        rows[delimiter] = [cell.strip(BLANK).lower() for cell in cells]

    missing = {delimiter: [name for name in COLUMNS if name not in names] for delimiter, names in rows.items()}
    delimiter = min(rows, key=lambda each: (len(missing[each]), -len(rows[each]) * bool(missing[each])))
    names = rows[delimiter]
    if missing[delimiter]:
        there = f" It has: {', '.join(name or '(no name)' for name in names)}." if any(names) else ""
        there += " Columns are parted by commas, semicolons or tabs, not by spaces." * (len(names) == 1 and " " in line)
        raise DataError(
            f"{path} has no column {', '.join(missing[delimiter])}; "
            f"its first line must be `subject,domain,image[,mask][,split][,session]`.{there}"
        )
    if twice := [name for name in (*COLUMNS, *OPTIONAL) if names.count(name) > 1]:
        raise DataError(f"{path} has two columns '{twice[0]}'; remove or rename one.")
    return names, delimiter


def _lines(text: str) -> tuple[list[str], int]:
    """The lines, those that are comments or say the delimiter emptied, so that numbers stay; and how many comments.

    A header behind a ``#`` is a header.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    comments, begun = 0, False
    for number, line in enumerate(lines):
        plain = line.strip(BLANK)
        if plain.startswith("#"):
            named = [word.strip(BLANK).lower() for word in re.split(r"[,;\t|]", plain.lstrip("# "))]
            header = not begun and all(column in named for column in COLUMNS)
            lines[number] = plain.lstrip("# ") if header else ""
            comments += not header
            begun = begun or header
        elif not begun and re.fullmatch(r"sep=.?", plain, re.IGNORECASE):
            lines[number] = ""
        else:
            begun = begun or bool(plain)
    return lines, comments


def _text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16."""
    check_regular(path)
    if (mib := path.stat().st_size / 2**20) > MAX_MIB:
        raise DataError(f"{path} is too large for a table ({mib:.0f} MiB); list one image a line.")
    content = path.read_bytes()
    if kind := next((kind for start, kind in BINARY if content.startswith(start)), None):
        raise DataError(f"{path} is not a CSV: it is {kind}; save the table as comma-separated text (CSV UTF-8).")
    encoding = next((name for mark, name in BOMS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and len(start := content[:64]) > 1:  # in UTF-16 every other byte of a header is 0
        encoding = "utf-16-le" if not any(start[1::2]) else "utf-16-be" if not any(start[::2]) else encoding
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not a CSV in UTF-8 or UTF-16: line {line} has a letter of another encoding, such as Latin-1, "
            "which older programs write; save the table anew as `CSV UTF-8`."
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path} holds NUL bytes (line {line}), as a file that was cut or damaged; export it again.")
    return text.removeprefix("\ufeff")
