"""What a folder of ``medgan convert`` says without any truth: what was done, warnings, and how much was changed."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medgan.data.grid import same_grid
from medgan.data.layouts import map_beside
from medgan.data.studies import sidecar
from medgan.data.volumes import read_volume
from medgan.documents import read_json
from medgan.errors import DataError, MedganError
from medgan.evaluation.tissues import body, change_by_tissue, tissue_map
from medgan.inference.jobs import MANIFEST, STRENGTH, SUMMARY
from medgan.report.html import Section, Table, cells
from medgan.report.viewer import ViewerCase
from medgan.report.voxels import places_read

NUMBER = re.compile(r"\d+(\.\d+)?|\.\d+")
"""What differs in warnings of one kind."""


@dataclass(frozen=True)
class Converted:
    """A folder of translations."""

    folder: Path
    outcomes: Sequence[Mapping[str, Any]]
    """The last line of the manifest for each input."""
    summary: Mapping[str, Any]
    """The content of ``summary.json``; empty where it is missing."""
    source: Path | None = None
    """The folder that was converted, where it is known."""

    @cached_property
    def images(self) -> dict[str, Path]:
        """By input, the translations that are there."""
        ended = {
            str(each["input"]): self.folder / str(each["output"])
            for each in self.outcomes
            if each["status"] != "failed"
        }
        return {name: path for name, path in sorted(ended.items()) if path.is_file()}

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """The sidecar of the first translation."""
        return next((sidecar(path) for path in self.images.values()), {})

    @cached_property
    def phantom(self) -> bool:
        """Whether every input is the built-in phantom's, as the inputs' own files say; no where they are not given."""
        sources = [files["source"] for name in self.images if "source" in (files := self.files(name))]
        return bool(sources) and all(sidecar(path).get("phantom") for path in sources)

    @cached_property
    def warnings(self) -> list[str]:
        """What was odd, image by image; of one that was kept, what was odd when it was made."""
        return [
            str(warning)
            for each in self.outcomes
            for warning in each.get("warnings") or self._warned(str(each["input"]), str(each["status"]))
        ]

    def _warned(self, name: str, status: str) -> list[object]:
        made = sidecar(self.images[name]).get("Warnings") if status == "kept" and name in self.images else None
        return made if isinstance(made, list) else []

    def files(self, name: str) -> dict[str, Path]:
        """The volumes of an input, by ``source``, ``synthetic`` and ``change``, as far as they are there."""
        image = self.images[name]
        places = {"synthetic": image, "change": map_beside(image, "change")}
        if self.source:
            places = {"source": self.source / name, **places}
        return {role: path for role, path in places.items() if path.exists()}


def read_converted(folder: Path, source: Path | None = None) -> Converted:
    """The records of a folder of translations; ``source`` is the folder, or the cohort's table, that was converted.

    Raises:
        DataError: The manifest is damaged, or of label maps.
    """
    outcomes: dict[str, Mapping[str, Any]] = {}
    try:
        for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines():
            if line.strip():
                outcome = json.loads(line)
                outcomes[outcome["input"]] = outcome
        summary = read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{folder / MANIFEST}: cannot be read ({error!r:.100}); convert again.") from None
    if source is not None and source.is_file():
        source = source.parent
    converted = Converted(folder, list(outcomes.values()), summary, source)
    if converted.facts and not converted.facts.get("Direction"):
        raise DataError(f"{folder}: holds no translations (it may hold label maps), and a report is of those.")
    return converted


def converted_sections(converted: Converted) -> Iterator[Section]:
    """What was done, what was odd, and what changed."""
    facts = converted.facts
    model = facts.get("Model") or {}
    counts = Counter(str(each["status"]) for each in converted.outcomes)
    seen = converted.summary.get("seen") or {}
    listed = {
        "Model": model.get("Name"),
        "Model (SHA-256 of model.json)": model.get("DescriptionSHA256"),
        "Direction": facts.get("Direction"),
        "Made": f"{facts.get('Domain')}, {facts.get('Unit')}" if facts else None,
        "Strength": facts.get(STRENGTH),
        "Change map": facts.get("ChangeMap"),
        "Uncertainty": facts.get("Uncertainty"),
        "Studies": ", ".join(f"{count} {status}" for status, count in counts.items()),
        "Seen by the model": ", ".join(f"{count} {part}" for part, count in seen.items() if count),
        "Versions": ", ".join(f"{name} {version}" for name, version in (facts.get("Versions") or {}).items()),
    }
    yield Section(
        "What was converted",
        "converted",
        facts={key: str(value) for key, value in listed.items() if value or value == 0},
    )
    alike: dict[str, list[str]] = {}
    for warning in converted.warnings:
        alike.setdefault(NUMBER.sub("…", warning), []).append(warning)
    failed = {str(each["input"]): str(each["message"]) for each in converted.outcomes if each["status"] == "failed"}
    if alike or failed:
        lines = [
            f"{len(texts)} of {len(converted.outcomes)}: "
            + (texts[0] if len({*texts}) == 1 else f"{kind}, such as: {texts[0]}")
            for kind, texts in sorted(alike.items(), key=lambda each: -len(each[1]))
        ]
        rows = [[name, reason] for name, reason in failed.items()]
        tables = [Table("Not converted", ["study", "why"], 2, rows)] if rows else []
        yield Section("What was odd", "odd", lines=lines, tables=tables)
    yield from _changes(converted)


def viewer_cases(converted: Converted) -> Iterator[ViewerCase]:
    """What the slice viewer shows of each study: source, translation and change map, as far as they are there."""
    units = {} if converted.facts.get("Unit") == "HU" else dict.fromkeys(("source", "synthetic", "change"), "arbitrary")
    for name in converted.images:
        yield ViewerCase(name, f"{name}; there is no truth.", converted.files(name), units=units)


def _changes(converted: Converted) -> Iterator[Section]:
    """How much each study was changed: by tissue of its input, or by its change map alone."""
    names = list(converted.images)
    rows, problems = [], []
    for name in (names[place] for place in places_read(len(names))):
        try:
            if row := _change(converted.files(name), hounsfield=converted.facts.get("Unit") == "HU"):
                rows.append({"study": name} | row)
        except (MedganError, OSError) as error:
            problems.append(f"Not shown: {name}: {error}")
    if rows:
        note = "Mean absolute change in HU by tissue of the input, where that is given; else in all that changed."
        table = cells("How much was changed", pd.DataFrame(rows), f"{len(rows)} of {len(names)} studies.")
        yield Section("How much was changed", "changes", warnings=problems, note=note, tables=[table])
    elif names:
        line = "How much was changed is not known: give the inputs by --source, or convert with --change-map."
        yield Section("How much was changed", "changes", warnings=problems, lines=[line])


def _change(files: Mapping[str, Path], *, hounsfield: bool) -> dict[str, float]:
    if "source" in files and hounsfield:
        source, synthetic = (read_volume(files[role]) for role in ("source", "synthetic"))
        if same_grid(source.grid, synthetic.grid):
            inside = body(source.voxels, "CT")
            changes = change_by_tissue(source.voxels, synthetic.voxels, tissue_map(source.voxels, inside))
            return {f"{tissue.replace('_', ' ')}, HU": change for tissue, change in changes.items()}
    if "change" in files:
        change = np.abs(read_volume(files["change"]).voxels)
        changed = change[change > 0]
        mean, high = (float(changed.mean()), float(np.percentile(changed, 95))) if changed.size else (0.0, 0.0)
        share = 100 * changed.size / change.size
        return {"changed voxels, %": share, "mean change there, HU": mean, "95th percentile, HU": high}
    return {}
