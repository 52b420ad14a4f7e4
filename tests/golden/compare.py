"""What a study wrote against its golden files: equal on the processor they were made on, within a tolerance elsewhere.

Two processors add the same numbers in another order. With other instructions of one processor, as by
``ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41``, the trainings here are so short and their segmenters so smooth
that most figures stay, some change in the fifth digit, and a voxel that was a toss-up changes its label: a percent of
the Dice of a hundred voxels. Intervals of two subjects are 13 times as wide as that, and whether a tiny difference is
above zero decides a p-value. So elsewhere a figure may be off by ``GoldenStudy.elsewhere`` of the largest of its kind
(its column, and its metric where a column tells it), and a p-value by anything. Keys, counts, columns, their order and
which figures are missing are exact everywhere.
"""

import csv
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from golden.studies import GOLDEN, STUDIES, THREADS, golden_files

MACHINE = GOLDEN / "machine.json"
SIXTH_DIGIT = 1e-5
"""Relative: one unit of the last digit that tables are written with."""
P_VALUES = ("p_value", "p_holm")
KINDS = ("metric", "measure", "organ")
"""Columns that tell figures of different kinds apart."""

Table = Sequence[Sequence[str]]
"""The lines of a CSV, the first of which names the columns."""


def machine() -> dict[str, str | int]:
    """Two machines of which this is equal round alike."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": THREADS,
    }


def differences(name: str, folder: Path, *, same_machine: bool) -> list[str]:
    """Where the tables in a study's folder are not what the golden files say."""
    study = STUDIES[name]
    elsewhere = None if same_machine else study.elsewhere
    return [
        f"{file}: {difference}"
        for file, golden in golden_files(name).items()
        for difference in table_differences(study.files[file], read(folder / file), read(golden), elsewhere=elsewhere)
    ]


def read(path: Path) -> Table:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def table_differences(keys: str, found: Table, golden: Table, *, elsewhere: float | None) -> list[str]:
    """Where a table differs from the golden one but for figures within ``elsewhere``, on another processor."""
    columns, exact = golden[0], keys.split()
    if found[0] != columns:
        return [f"the columns are {found[0]} and were {columns}"]
    if len(found) != len(golden):
        return [f"there are {len(found) - 1} rows and were {len(golden) - 1}"]
    scales = scales_of(golden, exact)

    def alike(column: str, text: str, before: str, scale: float) -> bool:
        if text == before or column in exact or not (text and before):
            return text == before
        if elsewhere is None:
            return abs(float(text) - float(before)) <= SIXTH_DIGIT * abs(float(before))
        return column in P_VALUES or abs(float(text) - float(before)) <= elsewhere * scale

    return [
        f"row {number}, {column}: {text or 'missing'}, and was {before or 'missing'} in {','.join(old)}"
        for number, (row, old) in enumerate(zip(found[1:], golden[1:], strict=True), 1)
        for column, text, before in zip(columns, row, old, strict=True)
        if not alike(column, text, before, scales.get((column, kind_of(columns, old)), 0.0))
    ]


def kind_of(columns: Sequence[str], row: Sequence[str]) -> tuple[str, ...]:
    return tuple(value for column, value in zip(columns, row, strict=True) if column in KINDS)


def scales_of(golden: Table, exact: Sequence[str]) -> dict[tuple[str, tuple[str, ...]], float]:
    """The largest figure of each column and kind; that of a difference is at least that of the means."""
    columns = golden[0]
    scales: dict[tuple[str, tuple[str, ...]], float] = {}
    for row in golden[1:]:
        kind = kind_of(columns, row)
        for column, text in zip(columns, row, strict=True):
            if text and column not in exact:
                names = [column, *(name for name in columns if name.startswith("difference") and column == "mean")]
                for name in names:
                    scales[name, kind] = max(scales.get((name, kind), 0.0), abs(float(text)))
    return scales
