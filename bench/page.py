"""How parts of the benchmark say what they measured: Markdown tables, targets, and the page that holds all of it."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

WRITTEN = "<!-- Written by `make bench`: change bench/, not this page. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``a|b`` in a cell stays one cell."""
    lines = [[*map(str, head)], ["---"] * len(head), *([*map(str, row)] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def judged(value: float, target: float, *, most: bool = False) -> str:
    """Whether a figure reached its target, and if not by how much it missed it; ``most``: the target is a ceiling."""
    reached = value <= target if most else value >= target
    wanted = f"{'at most' if most else 'at least'} {target:g}"
    return f"{wanted}: {'reached' if reached else f'missed by {abs(value / target - 1):.0%}'}"


def machine() -> Mapping[str, str]:
    """What the figures depend on: processor, its cores and instructions, memory, and versions."""
    facts = dict(line.split(":", 1) for line in _lines("/proc/cpuinfo") if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_bf16")
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "processor": f"{facts.get('model name', platform.processor())}, model {facts.get('model', '?')}",
        "cores": str(len(os.sched_getaffinity(0))),
        "instructions": ", ".join(flag for flag in wanted if flag in flags) or "unknown",
        "memory": f"{int(memory) / 2**20:.0f} GiB",
        "medgan": f"{importlib.metadata.version('medgan')}, commit {_commit()}",
        "torch": importlib.metadata.version("torch"),
        "Python": platform.python_version(),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def page(sections: Mapping[str, str], command: str, seconds: Mapping[str, float]) -> str:
    """The whole page of docs/benchmarks.md; ``sections`` are Markdown by title."""
    rows = [*machine().items(), ("date", datetime.date.today().isoformat()), ("command", f"`{command}`")]
    took = [(part, f"{each:.0f}") for part, each in seconds.items()]
    parts = "\n".join(f"## {title}\n\n{text.strip()}\n" for title, text in sections.items())
    return (
        f"# Benchmarks\n\n{WRITTEN}\n\n"
        "How fast medgan is, against others and against what the machine could do.\n"
        "Arms run in turn, each in a process of its own.\n"
        "A ratio is the median over rounds, with the lowest and highest beside it.\n"
        "*CPU* counts the seconds of one thread; *wall* is the clock's time with all threads.\n"
        "Where others have the machine's cores the wall clock is not read, and its cells are empty.\n"
        "What each part does is said in `bench/README.md`.\n\n"
        f"{table(('', ''), rows)}\n{parts}\n## How long it took\n\n{table(('part', 's'), took)}"
    )
