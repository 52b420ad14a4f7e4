"""What a model's translations keep of their inputs, study by study: the story of ``medgan faithfulness``.

Two questions, each where the model allows it: do frozen segmenters find the same labels in input and output, and does
the way back still find the input when the image in between is disturbed?
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from rich.console import Console

from medgan.data.belonging import check_belongs
from medgan.data.grid import Volume
from medgan.data.listing import passed_over_lines
from medgan.data.preparation import prepare
from medgan.data.splits import ThisImage, this_image
from medgan.data.streams import write_csv, write_json
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.seen import NOBODY, SeenSubjects
from medgan.evaluation.segmentation import Keeping
from medgan.evaluation.statistics import Interval, plain, t_interval
from medgan.inference.batch import conversion_fabric, local_model, why
from medgan.inference.convert import ConvertOrder, subjects_of_part
from medgan.inference.hidden import cycle_errors
from medgan.inference.jobs import Job, cohort_at, find_jobs
from medgan.inference.translate import translate
from medgan.segmentation.apply import LabelKeeper
from medgan.segmentation.settings import SegmenterDescription
from medgan.training.architecture import Direction, TranslationDescription, TranslationModel
from medgan.training.model_folder import read_model

ROWS, SUMMARY = "faithfulness.csv", "faithfulness.json"
BACK: Mapping[Direction, Direction] = {"to_target": "to_source", "to_source": "to_target"}


@dataclass(frozen=True)
class FaithfulnessOrder:
    """What a user asks of ``medgan faithfulness``."""

    conversion: ConvertOrder
    """Of whom, with which model, in which direction; ``output`` is the folder of the two files."""
    input_segmenter: Path | None = None
    """The model folder of a segmenter of what goes in."""
    output_segmenter: Path | None = None
    """The one of what comes out, with the same labels."""
    lesions: tuple[str, ...] = ()
    """Labels that are counted one by one."""
    least_dice: float = 0.7
    """Dice of an organ below which a translation would be rejected from training data."""


@dataclass(frozen=True)
class Faithfulness:
    """What translations keep, study by study."""

    rows: pd.DataFrame
    """A row a study: ``subject, image``, ``seen`` by the model, figures, and ``rejected``: why, or empty."""
    rejected: tuple[int, int] | None
    """How many translations of unseen studies were rejected, of how many; None without segmenters."""
    failures: Mapping[str, str]
    """Why, by image."""

    @property
    def who(self) -> SeenSubjects:
        """Who of the subjects the model has seen."""
        return NOBODY if self.rows.empty else SeenSubjects.of(zip(self.rows["subject"], self.rows["seen"], strict=True))

    @property
    def seen(self) -> pd.DataFrame:
        """The rows of subjects that the model has seen: no evidence of how it does on others."""
        return self._of(True)

    @property
    def unseen(self) -> pd.DataFrame:
        """All other rows."""
        return self._of(False)

    def _of(self, seen: bool) -> pd.DataFrame:
        return self.rows if self.rows.empty else self.rows[self.rows["subject"].isin(self.who.subjects) == seen]

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of whom the model has seen."""
        return tuple(self.who.notes(len(self.unseen)))

    @property
    def exit_code(self) -> int:
        """0 if every study was checked, 1 if some were not, 2 if none was that the model has not seen."""
        if self.unseen.empty:
            return 2
        return 1 if self.failures else 0


def check_faithfulness(order: FaithfulnessOrder, console: Console) -> Faithfulness:
    """Check every study, and write ``faithfulness.csv`` and ``faithfulness.json``; a bad study stops no other.

    Raises:
        ConfigError: One segmenter without the other, nothing that could be checked, or no folder for the files.
    """
    asked = order.conversion
    folder = local_model(asked.model, asked.tracking)
    model = read_model(folder, TranslationDescription)
    fabric = conversion_fabric(asked.device)
    check = _Check(model, asked.direction, fabric, _keeper(order, fabric))
    domain = model.description.domains(asked.direction)[0].name
    names, subjects = model.description.pair.names, subjects_of_part(asked, model, folder, console)
    plan = find_jobs(asked.input, asked.output, domain, pair=names, subjects=subjects)
    if plan.folder is None:
        raise ConfigError(f"{asked.output} names an image; give a folder for {ROWS} and {SUMMARY}.")
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    cohort = cohort_at(asked.input, names)
    owners = {study.image: study.subject for study in cohort.studies} if cohort else {}
    rows, kept, failures = [], {}, {}
    for number, job in enumerate(plan.jobs, 1):
        console.out(f"{number}/{len(plan.jobs)} {job.name}", highlight=False)
        try:
            seen, figures, keeping = check.study(job)
        except Exception as error:  # a bad study stops no other
            failures[job.name] = why(error, job.name)
            console.out(f"not checked: {failures[job.name]}", highlight=False)
            continue
        rows.append({"subject": owners.get(job.source, job.name), "image": job.name, "seen": seen} | figures)
        if keeping:
            kept[job.name] = keeping
    found = _sifted(pd.DataFrame(rows), kept, order.least_dice, failures)
    _write(found, order)
    for line in passed_over_lines(plan.passed_over):
        console.print(line, highlight=False, markup=False)
    return found


def _sifted(
    rows: pd.DataFrame, kept: Mapping[str, Keeping], least_dice: float, failures: Mapping[str, str]
) -> Faithfulness:
    """The rows with what is rejected, where there is something to judge by."""
    found = Faithfulness(rows, None, failures)
    if not kept:
        return found
    objections = {image: keeping.objection(least_dice) for image, keeping in kept.items()}
    unseen = [objections[image] for image in found.unseen["image"] if image in kept]
    reasons = [objections.get(image) or "" for image in rows["image"]]
    rejected = sum(why is not None for why in unseen), len(unseen)
    return Faithfulness(rows.assign(rejected=reasons), rejected, failures)


class _Check:
    """Everything that can be asked of one study."""

    def __init__(
        self, model: TranslationModel, direction: Direction, fabric: Fabric, keeper: LabelKeeper | None
    ) -> None:
        self.model, self.direction, self.fabric, self.keeper = model, direction, fabric, keeper
        self.returns = BACK[direction] in model.networks
        if not self.returns and keeper is None:
            raise ConfigError(
                f"model '{model.description.name}' has no way back, so only its labels can be checked; give "
                "--input-segmenter and --output-segmenter."
            )

    def study(self, job: Job) -> tuple[ThisImage, dict[str, float], Keeping | None]:
        """Whether the model has seen a study, its figures, and which labels it keeps."""
        if job.problem:
            raise DataError(job.problem)
        volume = read_volume(job.source)
        check_belongs(volume, self.model.description.domains(self.direction)[0], advice=", or leave it out")
        seen = this_image(volume, self.model.description.origin.trained_on)
        figures = self._cycle(volume) if self.returns else {}
        if self.keeper is None:
            return seen, figures, None
        output = translate(volume, self.model, self.direction, self.fabric).voxels.astype(np.float32)
        keeping = self.keeper.keeping(volume, replace(volume, voxels=output))
        return seen, figures | keeping.figures(), keeping

    def _cycle(self, volume: Volume) -> dict[str, float]:
        given, description = self.model.description.domains(self.direction)[0], self.model.description
        there, back = (
            self.fabric.to_device(self.model.networks[way]) for way in (self.direction, BACK[self.direction])
        )
        return cycle_errors(
            there, back, prepare(volume, given, description.grid), given,
            patch=description.patch, multiple=description.generator.network.multiple, fabric=self.fabric,
        ).figures()  # fmt: skip


def _keeper(order: FaithfulnessOrder, fabric: Fabric) -> LabelKeeper | None:
    folders = order.input_segmenter, order.output_segmenter
    if folders[0] is None or folders[1] is None:
        if any(folders) or order.lesions:
            raise ConfigError(
                "labels are compared between two segmenters: give both --input-segmenter and --output-segmenter."
            )
        return None
    source, target = (read_model(folder, SegmenterDescription) for folder in folders if folder)
    return LabelKeeper(source, target, fabric, order.lesions)


def _write(found: Faithfulness, order: FaithfulnessOrder) -> None:
    """The two files; the summary names no subject."""
    folder = order.conversion.output
    write_csv(folder / ROWS, found.rows)
    content = {
        "figures": {name: asdict(mean) for name, mean in means(found.unseen).items()},
        "seen": found.rows["seen"].value_counts().to_dict() if not found.rows.empty else {},
        "figures_of_seen": {name: asdict(mean) for name, mean in means(found.seen).items()},
        "rejected": found.rejected,
        "rule": {"dice": order.least_dice, "erased": 0, "invented": 0} if found.rejected else None,
        "failures": len(found.failures),
    }
    write_json(folder / SUMMARY, plain(content))


def means(rows: pd.DataFrame) -> dict[str, Interval]:
    """Every figure's mean with Student's interval over subjects."""
    if rows.empty:
        return {}
    figures = [column for column in rows.columns if column not in ("subject", "image", "seen", "rejected")]
    by_subject = rows.groupby("subject")[figures].mean()
    return {figure: t_interval(by_subject[figure]) for figure in figures}
