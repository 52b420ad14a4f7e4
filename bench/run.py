"""``make bench``: the parts of the benchmark, one after another, and the page that they make.

    python bench/run.py [PART ...] [--reference DIR] [--before DIR] [--quick] [--out FILE]

Each part is a script beside this one, which prints its section in Markdown and says on stderr how far it is.
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

from page import page

HERE = Path(__file__).resolve().parent
PARTS = {
    "step": "A step of training",
    "peers": "Other packages",
    "loop": "The loop around the step",
    "first_step": "The first step, and starting up",
    "patches": "Patches, and two thousand studies",
    "ranks": "Two ranks",
    "conversion": "Conversion",
}
"""By part, which is a script of that name, the title of its section."""
TAKES = {"step": ("reference", "before"), "first_step": ("before",), "patches": ("before",)}
"""The options that a part heeds."""


def main(argv: list[str] | None = None) -> int:
    """Run the parts and write the page; 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; without any, all")
    parser.add_argument("--reference", type=Path, help="a checkout of pytorch-CycleGAN-and-pix2pix")
    parser.add_argument("--before", type=Path, help="an older checkout of medgan, to be compared with")
    parser.add_argument("--quick", action="store_true", help="one round: it runs, and is no evidence")
    parser.add_argument("--out", type=Path, help="the page, written after each part; docs/benchmarks.md if all run")
    order = parser.parse_args(argv)
    if unknown := [part for part in order.parts if part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    sections, seconds, failed = {}, {}, []
    for part in order.parts or PARTS:
        started = time.monotonic()
        result = subprocess.run(command(part, order), stdout=subprocess.PIPE, text=True, check=False)
        seconds[part] = time.monotonic() - started
        sections[PARTS[part]] = result.stdout
        failed += [part] if result.returncode else []
        print(f"{part}: {seconds[part]:.0f} s{', failed' if result.returncode else ''}", file=sys.stderr)
        print(result.stdout)
        text = page(sections, f"make bench{_given(order)}", seconds)
        if order.out:
            order.out.write_text(text, encoding="utf-8")
    if not (order.out or order.parts or order.quick or failed):
        (HERE.parent / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")
    return int(bool(failed))


def command(part: str, order: argparse.Namespace) -> list[str]:
    """How a part is run."""
    given = [(option, getattr(order, option)) for option in TAKES.get(part, ()) if getattr(order, option)]
    options = [word for option, value in given for word in (f"--{option}", str(value.resolve()))]
    return [sys.executable, str(HERE / f"{part}.py"), *options, *(["--quick"] if order.quick else [])]


def _given(order: argparse.Namespace) -> str:
    """The options as ``make`` takes them, without the places of checkouts."""
    words = [f" PARTS={shlex.quote(' '.join(order.parts))}"] if order.parts else []
    words += [f" {name.upper()}=…" for name in ("reference", "before") if getattr(order, name)]
    return "".join(words)


if __name__ == "__main__":
    sys.exit(main())
