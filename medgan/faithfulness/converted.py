"""``medgan faithfulness --converted``: what translations that one was handed keep, without the model that made them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from medgan.data.grid import apart, same_grid
from medgan.data.listing import passed_over_lines
from medgan.data.splits import training_of
from medgan.data.studies import AS_IT_IS, Options
from medgan.data.volumes import Volume, read_volume
from medgan.errors import ConfigError, GeometryError
from medgan.evaluation.matching import Case, Failure, match, read_images
from medgan.faithfulness.labels import LabelMaps, read_label_maps
from medgan.faithfulness.places import COLUMNS, Place
from medgan.faithfulness.result import Faithfulness
from medgan.faithfulness.structures import Rule, Structure, agreement, compare_structure
from medgan.inference.batch import why
from medgan.text import few

LABELS_ERR = (
    "Label maps err, too: what segmenters alone lose or invent is known from the same figures of real pairs. "
    "A lesion that neither map marks is not seen here."
)


@dataclass(frozen=True)
class ConvertedOrder:
    """What a user asks of ``medgan faithfulness --converted``."""

    studies: str
    """The inputs: FOLDER, COHORT or COHORT:DOMAIN."""
    output: Path
    """Folder for what is found."""
    converted: str
    """What became of them, by medgan or another tool."""
    input_labels: str | None = None
    output_labels: str | None = None
    rule: Rule = field(default_factory=Rule)
    options: Options = AS_IT_IS


def check_converted(order: ConvertedOrder, console: Console) -> Faithfulness:
    """Check every translation, and write the tables, the summary and the pictures; a bad one stops no other.

    Raises:
        ConfigError: Label maps of one side alone, or of no common structure.
        DataError: Nothing to check.
    """
    return _Check(order, console).complete()


class _Check:
    """All cases of an order, and what is found in them."""

    def __init__(self, order: ConvertedOrder, console: Console) -> None:
        if bool(order.input_labels) != bool(order.output_labels):
            raise ConfigError("labels are compared between two sides: give both --input-labels and --output-labels.")
        if order.rule.lesions and not order.input_labels:
            raise ConfigError("--lesion names a label; give --input-labels and --output-labels, too.")
        self.order, self.console = order, console
        self.studies = read_images(order.studies, options=order.options)
        converted = read_images(order.converted, options=order.options)
        self.matching = match(converted, self.studies, {"source": self.studies}, paired=False)
        self.labels: tuple[LabelMaps, LabelMaps] | None = None
        if order.input_labels and order.output_labels:
            before, after = (
                read_label_maps(place, self.studies) for place in (order.input_labels, order.output_labels)
            )
            self.labels = before, after
        self.names, self.remarks = self._common_names()
        self.places: list[dict[str, Any]] = []
        self.structures: list[dict[str, Any]] = []

    def complete(self) -> Faithfulness:
        """Check case by case, and write all that was found."""
        order, rows = self.order, []
        failures = {each.image: each.reason for each in (*self.matching.failures, *self._unconverted())}
        for number, case in enumerate(self.matching.cases, 1):
            self.console.out(f"{number}/{len(self.matching.cases)} {case.name}", highlight=False)
            try:
                rows.append({"subject": case.subject, "image": case.name} | self._row(case))
            except Exception as error:  # a bad study stops no other
                failures[case.name] = why(error, case.name)
        for reason in failures.values():
            self.console.out(f"not checked: {reason}", highlight=False)
        result = Faithfulness(
            pd.DataFrame(rows),
            failures,
            order.rule.least_dice,
            structures=pd.DataFrame(self.structures) if self.labels else None,
            places=pd.DataFrame(self.places, columns=list(COLUMNS)),
            remarks=self.remarks,
            limits=[LABELS_ERR] if self.labels else [],
        )
        result.write(order.output)
        for line in passed_over_lines(self.matching.passed_over):
            self.console.print(line, highlight=False, markup=False)
        return result

    def _row(self, case: Case) -> dict[str, Any]:
        """Of one case ``seen``, its figures, and with label maps ``rejected``."""
        source, synthetic = read_volume(case.partners["source"]), read_volume(case.synthetic)
        if not same_grid(source.grid, synthetic.grid):
            raise GeometryError(
                f"{synthetic.path} does not lie on the voxel grid of {source.path} "
                f"({apart(source.grid, synthetic.grid)}); give translations on their inputs' grids."
            )
        row: dict[str, Any] = {"seen": training_of(case.synthetic)[0]}
        places: list[Place] = []
        structures = self._compared(source) if self.labels else []
        if self.labels:
            found = agreement(structures)
            row |= found.figures() | {"rejected": found.objection(self.order.rule.least_dice) or ""}
            places += [place for structure in structures for place in structure.places]
        key = {"subject": case.subject, "image": case.name}
        self.structures += [key | structure.row for structure in structures]
        self.places += [key | place.row() for place in places]
        return row

    def _compared(self, source: Volume) -> list[Structure]:
        """Every structure of one case."""
        assert self.labels
        study = next(image for image in self.studies.images if image.path == source.path)
        before, after = (maps.of(study, self.studies).masks(source.grid) for maps in self.labels)
        names = self.names if self.names is not None else sorted({*before.names, *after.names}, key=_number)
        return [compare_structure(name, before[name], after[name], source.grid, self.order.rule) for name in names]

    def _common_names(self) -> tuple[list[str] | None, list[str]]:
        """The structures that both sides can mark, and a remark on others; None where values have no names."""
        if self.labels is None:
            return None, []
        one, other = (maps.vocabulary for maps in self.labels)
        lesions = set(self.order.rule.lesions)
        if one is None and other is None:
            if odd := [name for name in lesions if not re.fullmatch(r"label_[1-9]\d*", name)]:
                raise ConfigError(
                    f"--lesion {odd[0]}: nothing says what label values mean; name them in a labels.json beside the "
                    "maps, or give --lesion label_2 for value 2."
                )
            return None, ["Nothing says what label values mean; they are compared by number, as label_1 and so on."]
        if one is None or other is None or not one & other:
            sides = "; ".join(few(sorted(names), 5) if names else "values without names" for names in (one, other))
            raise ConfigError(
                f"input and output labels have no structure in common ({sides}); name them alike, for example in a "
                "labels.json beside the maps."
            )
        if unknown := lesions - (one & other):
            raise ConfigError(f"--lesion {min(unknown)}: both sides mark {few(sorted(one & other), 10)}.")
        aside = sorted(one ^ other)
        return sorted(one & other), [f"Marked on one side alone, and not compared: {few(aside, 10)}."] if aside else []

    def _unconverted(self) -> Iterator[Failure]:
        """Subjects in a folder of studies of whom there is no translation."""
        checked = {case.subject for case in self.matching.cases} | {each.image for each in self.matching.failures}
        missing = {image.subject: image for image in reversed(self.studies.images) if self.studies.whole}
        for subject, image in sorted(missing.items()):
            if subject not in checked and image.name not in checked:
                yield Failure(image.name, f"{image.path}: there is no translation of it in {self.order.converted}.")


def _number(name: str) -> tuple[int, str]:
    """So that ``label_10`` comes after ``label_9``."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else 0, name)
