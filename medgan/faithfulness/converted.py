"""``medgan faithfulness --converted``: what translations that one was handed keep, without the model that made them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from medgan.data.grid import apart, same_grid
from medgan.data.listing import passed_over_lines
from medgan.data.splits import training_of
from medgan.data.studies import AS_IT_IS, Options
from medgan.data.volumes import Grid, Volume, read_volume
from medgan.errors import ConfigError, GeometryError, MedganError
from medgan.evaluation.fidelity import Mask
from medgan.evaluation.matching import Case, Failure, match, read_images
from medgan.faithfulness.alone import (
    beyond_change_map,
    fingerprint,
    geometry_scores,
    hot_spots,
    modality_of,
    odd_fingerprints,
    patient,
    ranked_body,
    scaled,
    warnings_of,
)
from medgan.faithfulness.draw import draw_place
from medgan.faithfulness.labels import LabelMaps, read_label_maps
from medgan.faithfulness.places import COLUMNS, KINDS, Place, place_of
from medgan.faithfulness.residual import INTENSITY_BINS, Blob, Relation, unexplained
from medgan.faithfulness.result import Faithfulness
from medgan.faithfulness.structures import Rule, Structure, agreement, compare_structure
from medgan.inference.batch import why
from medgan.report.faithfulness import PICTURES
from medgan.text import few

LABELS_ERR = (
    "Label maps err, too: what segmenters alone lose or invent is known from the same figures of real pairs. "
    "A lesion that neither map marks is not seen by them."
)
ALONE = (
    "Unexplained places are to be looked at, and no findings: whatever a translation does to one organ alone looks "
    "like them. A lesion of low contrast, or one that every translation has, does not."
)
UNCALIBRATED = 10.0
"""Score from which on a place is listed where no other subject tells how often chance reaches it."""
MOST_PICTURES = 8
"""Of one study."""


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
    false_alarms: float = 1.0
    """Unexplained places a study that other subjects' studies would have by the same measure."""
    options: Options = AS_IT_IS


def check_converted(order: ConvertedOrder, console: Console) -> Faithfulness:
    """Check every translation, and write the tables, the summary and the pictures; a bad one stops no other.

    Raises:
        ConfigError: Label maps of one side alone, or of no common structure.
        DataError: Nothing to check.
    """
    return _Check(order, console).complete()


@dataclass(frozen=True, eq=False)
class _Checked:
    """A case, and what was found in it."""

    case: Case
    row: dict[str, Any]
    places: list[Place]
    structures: list[Structure]
    blobs: list[Blob] | None
    """None where nothing tells what a translation should look like."""
    grid: Grid
    print: dict[str, float]


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
        taken = {case.partners["source"] for case in self.matching.cases}
        self.inputs = replace(self.studies, images=tuple(each for each in self.studies.images if each.path in taken))
        self.labels: tuple[LabelMaps, LabelMaps] | None = None
        if order.input_labels and order.output_labels:
            before, after = (read_label_maps(place, self.inputs) for place in (order.input_labels, order.output_labels))
            self.labels = before, after
        self.names, self.remarks = self._common_names()

    def complete(self) -> Faithfulness:
        """Check case by case, and write all that was found."""
        order, cases = self.order, self.matching.cases
        failures = {each.image: each.reason for each in (*self.matching.failures, *self._unconverted())}
        relations = self._relations()
        found: list[_Checked] = []
        for number, case in enumerate(cases, 1):
            self.console.out(f"{number}/{len(cases)} {case.name}", highlight=False)
            try:
                found.append(self._checked(case, relations))
            except Exception as error:  # a bad study stops no other
                failures[case.name] = why(error, case.name)
        for reason in failures.values():
            self.console.out(f"not checked: {reason}", highlight=False)
        places = self._with_unexplained(found)
        unlike = odd_fingerprints(
            {each.case.name: each.print for each in found}, {each.case.name: each.case.subject for each in found}
        )
        tables = _tables(found, places, unlike, order.output)
        compared = any(each.structures for each in found)
        result = Faithfulness(
            tables[0], failures, order.rule.least_dice, structures=tables[1] if compared else None, places=tables[2],
            remarks=self.remarks, limits=[*([LABELS_ERR] if self.labels else []), ALONE],
        )  # fmt: skip
        result.write(order.output)
        for line in passed_over_lines(self.matching.passed_over):
            self.console.print(line, highlight=False, markup=False)
        return result

    def _checked(self, case: Case, relations: Mapping[str, Relation] | None) -> _Checked:
        """What is found in one case; unexplained places are told by all cases together."""
        source, synthetic = _pair(case)
        inside = patient(source)
        row: dict[str, Any] = {"subject": case.subject, "image": case.name, "seen": training_of(case.synthetic)[0]}
        structures = self._compared(source) if self.labels else []
        if self.labels:
            labels = agreement(structures)
            row |= labels.figures() | {"rejected": labels.objection(self.order.rule.least_dice) or ""}
        places = [place for structure in structures for place in structure.places]
        row |= geometry_scores(source.voxels, synthetic.voxels, inside, self._input_of_another(case))
        for kind, own in {
            "beyond_change_map": beyond_change_map(source, synthetic),
            "uncertain": hot_spots(source, synthetic, inside),
        }.items():
            if own is not None:
                row[kind], places = len(own), places + own
        blobs = self._blobs(case, source, synthetic, inside, relations)
        row["warnings"] = warnings_of(case.synthetic)
        return _Checked(case, row, places, structures, blobs, source.grid, fingerprint(source, inside))

    def _blobs(
        self, case: Case, source: Volume, synthetic: Volume, inside: Mask, relations: Mapping[str, Relation] | None
    ) -> list[Blob] | None:
        """The unexplained blobs of a case; between modalities other subjects tell what is explained."""
        spacing = source.grid.spacing_mm
        if relations is None:
            return unexplained(source.voxels, synthetic.voxels, inside, spacing)
        subjects = {each.name: each.subject for each in self.matching.cases}
        others = [own for name, own in relations.items() if subjects[name] != case.subject]
        if not others:
            return None
        images = scaled(source, inside), scaled(synthetic, inside)
        return unexplained(*images, inside, spacing, Relation.mean(others))

    def _relations(self) -> dict[str, Relation] | None:
        """Between modalities, how intensities map in each case that can be read; None within a modality."""
        relations: dict[str, Relation] = {}
        for case in self.matching.cases:
            try:
                source, synthetic = _pair(case)
            except (MedganError, OSError):
                continue  # it is named when it is checked
            if modality_of(source) == modality_of(synthetic):
                return None
            inside = patient(source)
            before, after = (scaled(each, inside)[inside] for each in (source, synthetic))
            relations[case.name] = Relation.of(before, after, INTENSITY_BINS)
        return relations

    def _with_unexplained(self, found: Sequence[_Checked]) -> list[list[Place]]:
        """The places of each case, with those blobs that chance seldom reaches in other subjects."""
        scores = [(each.case.subject, [blob.score for blob in each.blobs]) for each in found if each.blobs is not None]
        if len({subject for subject, _ in scores}) == 1:
            self.remarks.append(
                f"One subject alone: how often chance is as odd is not known, so places from a score of "
                f"{UNCALIBRATED:g} on are listed."
            )
        if any(each.blobs is None for each in found):
            self.remarks.append(
                "Between modalities other subjects tell what is explained; there is none, so no place was looked for."
            )
        every = []
        for each in found:
            others = [own for subject, own in scores if subject != each.case.subject]
            places = list(each.places)
            for blob in each.blobs or ():
                rate = sum(score >= blob.score for own in others for score in own) / len(others) if others else np.nan
                if (rate <= self.order.false_alarms) if others else (blob.score >= UNCALIBRATED):
                    figures = {
                        "contrast": round(blob.contrast, 2), "source_contrast": round(blob.source_contrast, 2),
                        "score": round(blob.score, 2), "false_alarms_per_study": rate,
                    }  # fmt: skip
                    places.append(place_of(blob.voxels, each.grid, structure="", kind="unexplained", **figures))
            each.row["unexplained"] = np.nan if each.blobs is None else len(places) - len(each.places)
            every.append(sorted(places, key=lambda place: KINDS.index(place.kind)))
        return every

    def _input_of_another(self, case: Case) -> NDArray[np.uint8] | None:
        """The ranks in the input of the next subject that can be read."""
        cases = self.matching.cases
        here = cases.index(case)
        for other in (*cases[here + 1 :], *cases[:here]):
            if other.subject != case.subject:
                try:
                    return ranked_body(read_volume(other.partners["source"]))
                except (MedganError, OSError):
                    continue
        return None

    def _compared(self, source: Volume) -> list[Structure]:
        """Every structure of one case."""
        assert self.labels
        study = next(image for image in self.inputs.images if image.path == source.path)
        before, after = (maps.of(study, self.inputs).masks(source.grid) for maps in self.labels)
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


def _pair(case: Case) -> tuple[Volume, Volume]:
    """Source and translation of a case, on one grid."""
    source, synthetic = read_volume(case.partners["source"]), read_volume(case.synthetic)
    if not same_grid(source.grid, synthetic.grid):
        raise GeometryError(
            f"{synthetic.path} does not lie on the voxel grid of {source.path} "
            f"({apart(source.grid, synthetic.grid)}); give translations on their inputs' grids."
        )
    return source, synthetic


def _tables(
    found: Sequence[_Checked], places: Sequence[list[Place]], unlike: Mapping[str, str], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The rows of studies, of structures and of places, of which the first of each study have a picture."""
    rows, structures, table, drawn = [], [], [], 0
    for each, own in zip(found, places, strict=True):
        key = {"subject": each.case.subject, "image": each.case.name}
        rows.append(each.row | {"unlike_others": unlike[each.case.name]})
        structures += [key | structure.row for structure in each.structures]
        images = _pair(each.case) if own else None
        for number, place in enumerate(own):
            picture = ""
            if images and number < MOST_PICTURES:
                drawn += 1
                picture = f"{PICTURES}/{drawn:04d}_{place.kind}.png"
                draw_place(place, each.case.subject, *images, folder / picture)
            table.append(key | place.row() | {"picture": picture})
    return pd.DataFrame(rows), pd.DataFrame(structures), pd.DataFrame(table, columns=list(COLUMNS))
