"""What a model's translations keep of their inputs, study by study: the story of ``medgan faithfulness``.

Two questions, each where the model allows it: do frozen segmenters find the same labels in input and output, and does
the way back still find the input when the image in between is disturbed?
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from medgan.data.domains import Domain
from medgan.data.listing import passed_over_lines
from medgan.data.masks import body_mask
from medgan.data.patches import PatchConfig
from medgan.data.preparation import Prepared, prepare
from medgan.data.splits import this_image
from medgan.errors import ConfigError, DataError
from medgan.faithfulness.result import Faithfulness
from medgan.inference.batch import why
from medgan.inference.convert import Conversion, ConvertOrder
from medgan.inference.jobs import Job
from medgan.inference.translate import apply, translate
from medgan.report.faithfulness import ROWS, SUMMARY
from medgan.segmentation.apply import LabelKeeper
from medgan.segmentation.settings import SegmenterDescription
from medgan.threads import taken
from medgan.training.architecture import Direction
from medgan.training.model_folder import read_model

BACK: Mapping[Direction, Direction] = {"to_target": "to_source", "to_source": "to_target"}
EIGHT_BITS = 255
"""Steps of an 8-bit image over the window: 3.9 HU each in a window of 1000 HU."""
NOISE_SHARE = 0.01
"""Standard deviation of the noise as a share of the window: 10 HU of 1000, what a CT of the abdomen has anyway."""


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


def check_faithfulness(order: FaithfulnessOrder, console: Console) -> Faithfulness:
    """Check every study, and write ``faithfulness.csv`` and ``faithfulness.json``; a bad study stops no other.

    Raises:
        ConfigError: One segmenter without the other, nothing that could be checked, or no folder for the files.
    """
    with taken(order.conversion.threads) as threads:
        console.out(str(threads), highlight=False)
        return _checked(order, console)


def _checked(order: FaithfulnessOrder, console: Console) -> Faithfulness:
    check = _Check(order, console)
    plan = check.plan()
    if plan.folder is None:
        raise ConfigError(f"{order.conversion.output} names an image; give a folder for {ROWS} and {SUMMARY}.")
    for note in plan.notes:
        console.print(note, highlight=False, markup=False)
    owners = {study.image: study.subject for study in plan.cohort.studies} if plan.cohort else {}
    rows, failures = [], {}
    for number, job in enumerate(plan.jobs, 1):
        console.out(f"{number}/{len(plan.jobs)} {job.name}", highlight=False)
        try:
            rows.append({"subject": owners.get(job.source, job.name), "image": job.name} | check.row(job))
        except Exception as error:  # a bad study stops no other
            failures[job.name] = why(error, job.name)
            console.out(f"not checked: {failures[job.name]}", highlight=False)
    faithfulness = Faithfulness(pd.DataFrame(rows), failures, order.least_dice)
    faithfulness.write(plan.folder)
    for line in passed_over_lines(plan.passed_over):
        console.print(line, highlight=False, markup=False)
    return faithfulness


class _Check(Conversion):
    """A conversion of which no image is kept but a row a study."""

    advice = ", or leave it out"

    def __init__(self, order: FaithfulnessOrder, console: Console) -> None:
        super().__init__(order.conversion, console)
        self.least_dice, self.back = order.least_dice, BACK[order.conversion.direction]
        self.keeper: LabelKeeper | None = None
        if order.input_segmenter and order.output_segmenter:
            folders = order.input_segmenter, order.output_segmenter
            source, target = (read_model(folder, SegmenterDescription) for folder in folders)
            self.keeper = LabelKeeper(source, target, self.fabrics[0], order.lesions)
        elif order.input_segmenter or order.output_segmenter or order.lesions:
            raise ConfigError(
                "labels are compared between two segmenters: give both --input-segmenter and --output-segmenter."
            )
        elif self.back not in self.model.networks:
            raise ConfigError(
                f"model '{self.description.name}' has no way back, so only its labels can be checked; give "
                "--input-segmenter and --output-segmenter."
            )

    def row(self, job: Job) -> dict[str, Any]:
        """Of one study ``seen``, its figures, and with segmenters ``rejected``."""
        if job.problem:
            raise DataError(job.problem)
        volume = self.read(job)[0]
        row: dict[str, Any] = {"seen": this_image(volume, self.trained_on)}
        with self.device() as (model, fabric):
            if self.back in model.networks:
                there, back = (fabric.to_device(model.networks[way]) for way in (self.order.direction, self.back))
                patch, multiple = self.description.patch, self.description.generator.network.multiple
                study = prepare(volume, self.domain, self.description.grid)
                row |= cycle_errors(there, back, study, self.domain, patch=patch, multiple=multiple, fabric=fabric)
            if self.keeper:
                output = translate(volume, model, self.order.direction, fabric).voxels.astype(np.float32)
                agreement = self.keeper.agreement(volume, replace(volume, voxels=output))
                row |= agreement.figures() | {"rejected": agreement.objection(self.least_dice) or ""}
        return row


def _quantised(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image in [-1, 1] as 8 bits hold it."""
    return np.asarray(np.rint((image + 1) / 2 * EIGHT_BITS) / EIGHT_BITS * 2 - 1, dtype=np.float32)


def _noisy(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image in [-1, 1] with white noise, clipped to the window; the same noise for every image of a shape."""
    noise = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + np.float32(2 * NOISE_SHARE) * noise, -1, 1)


DISTURBANCES = {"8bit": _quantised, "noise": _noisy}
"""From an image in [-1, 1] to the same, disturbed."""


def cycle_errors(
    there: nn.Module,
    back: nn.Module,
    study: Prepared,
    domain: Domain,
    *,
    patch: PatchConfig,
    multiple: int,
    fabric: Fabric,
) -> dict[str, float]:
    """How far a study is from itself after the way there and back, in percent of its window, inside its body.

    A way back that reads what an image shows loses by a disturbance in between about as much as the disturbance is: g
    times as much where it stretches contrast g times. One that reads a faint signal, which the way there has hidden,
    loses far more; a low cycle error then proves nothing about the image in between.

    Both generators are as for :func:`medgan.inference.translate.apply`; ``there`` is the one from the study's domain.

    Returns:
        ``cycle_percent``, the mean absolute error with the image in between as it is. For each disturbance of that
        ``cycle_NAME_percent``, the same, and ``cycle_NAME_excess_percent``, how much more error it brings than it is
        itself: far above 0, the way back read what is lost.

    Source: Chu et al. 2017, arXiv:1712.02950, who find the signal to be of high frequency and to be destroyed by noise.
    """
    where = body_mask(study.voxels, domain)
    original, between = study.normalised(), apply(there, study, patch, multiple, fabric)

    def error(image: NDArray[np.float32]) -> float:
        output = replace(study, voxels=image, bounds=(-1.0, 1.0))
        return _percent(apply(back, output, patch, multiple, fabric) - original, where)

    row = {"cycle_percent": error(between)}
    for name, disturb in DISTURBANCES.items():
        image = disturb(between)
        disturbed, size = error(image), _percent(image - between, where)
        excess = disturbed - row["cycle_percent"] - size
        row |= {f"cycle_{name}_percent": disturbed, f"cycle_{name}_excess_percent": excess}
    return row


def _percent(difference: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    """The mean absolute difference of images in [-1, 1], in percent of the window; not a number without a body."""
    return float(50 * np.abs(difference[where]).mean()) if where.any() else float("nan")
