"""``make demo`` in seconds by part, of this checkout and of an older one, by the clock and of CPU.

python bench/demo.py [--before DIR] [--only PART ...] [--set KEY=VALUE ...]
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from first_step import timed
from page import table
from timing import HERE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo's commands in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout of medgan, to be compared with")
    parser.add_argument("--only", nargs="*", help="commands, such as train and benefit; those before them are needed")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="shorter trainings: fit.epochs=1")
    given = parser.parse_args(argv)
    codes = {"before": given.before.resolve()} if given.before else {}
    codes["now"] = HERE.parent
    rows: dict[str, list[str]] = {}
    for name, code in codes.items():
        with tempfile.TemporaryDirectory() as place:
            for command in commands(code, Path(place)):
                part = command[0] if command[0] != "data" else "data phantom"
                if given.only and command[0] not in given.only:
                    continue
                line = [*command, *(given.set if command[0] in ("train", "benefit") else [])]
                run = timed([sys.executable, "-m", "medgan", *line], code, Path(place))
                print(f"{name}: {part} {run.seconds:.1f} s, ended with {run.code}", file=sys.stderr)
                rows.setdefault(part, []).extend([f"{run.seconds:.1f}", f"{run.cpu_s:.1f}"])
    total = [f"{sum(float(row[column]) for row in rows.values()):.0f}" for column in range(2 * len(codes))]
    heads = [f"{clock}, {name}" for name in codes for clock in ("s", "CPU s")]
    print(table(["part of `make demo`", *heads], [[part, *row] for part, row in (rows | {"whole": total}).items()]))
    return 0


def commands(code: Path, folder: Path) -> list[list[str]]:
    """The medgan commands of a checkout's ``make demo``, writing into a folder."""
    asked = ["make", "-n", "-o", "setup", "-C", str(code), "demo", f"DEMO={folder}"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    lines = [shlex.split(line) for line in said.splitlines() if "bin/medgan " in line and not line.startswith("echo")]
    return [line[1:] for line in lines]


if __name__ == "__main__":
    sys.exit(main())
