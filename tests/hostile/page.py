"""The table of hostile inputs as a page for people.

``PYTHONPATH=tests python -m hostile.page > docs/odd-inputs.md`` writes it.
"""

from collections import Counter, defaultdict
from typing import get_args

from hostile.case import Case, Outcome
from hostile.test_hostile import CASES

TITLES = {
    "nifti": "NIfTI",
    "dicom": "DICOM",
    "format": "MetaImage and NRRD",
    "grid": "Sizes and places",
    "domain": "Scans of another kind",
    "entry": "Files, folders and names",
    "table": "Tables",
    "layout": "Folders, BIDS and nnU-Net raw",
    "check": "Seen by `medgan data check`",
}
HEAD = """# Odd inputs, and what medgan does with them

Each row is an input as users met it, or a relative of one. A test makes every row anew and runs `medgan convert` on it,
or `medgan data check` where that is said.

- **converts**: it is right as it is; nothing is said, or a note at the end.
- **warns**: it is converted, and its record says what is odd.
- **fails**: it is refused by its name, with the reason. Everything else in the folder is converted.
"""


def page(cases: tuple[Case, ...] = CASES) -> str:
    """The page in Markdown."""
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case.name.partition("/")[0]].append(case)
    counts = Counter(case.outcome for case in cases)
    parts = [
        HEAD,
        "Of {} rows {} convert, {} warn and {} fail by name.".format(
            len(cases), *(counts[outcome] for outcome in get_args(Outcome))
        ),
    ]
    for kind, title in TITLES.items():
        rows = [
            f"| {_cell(case.name.partition('/')[2])} | {case.outcome} | {_said(case)} |" for case in kinds.pop(kind)
        ]
        parts.append("\n".join([f"\n## {title}\n", "| input | outcome | what is said of it |", "|---|---|---|", *rows]))
    assert not kinds, f"no title for {', '.join(kinds)}"
    return "\n".join(parts) + "\n"


def _said(case: Case) -> str:
    """The pieces that the test looks for, but for the file's own name."""
    pieces = (text.strip(" :") for text in case.says)
    return "; ".join(_cell(text) for text in pieces if " " in text or text.isalpha())


def _cell(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else "�" for letter in text.replace("_", " "))
    return printable.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    print(page(), end="")
