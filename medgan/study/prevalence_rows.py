"""What a frozen detector finds in the translations of unseen subjects, and which labels these keep; a row a subject."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medgan.data.layouts import Study, stem
from medgan.data.streams import write_csv
from medgan.data.volumes import read_volume
from medgan.evaluation.faithfulness import SMALLEST_MM3, label_keeping
from medgan.evaluation.segmentation import lesion_counts
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterModel
from medgan.study.prevalence_design import LABELS, LESION

KEYS = ("translator", "prevalence_percent", "seed", "subject")
NAMES = {name: number for number, name in enumerate(LABELS, start=1)}
"""The segmenters' values."""


@dataclass(frozen=True)
class Judge:
    """The two frozen segmenters and the test subjects.

    Args:
        source: The source's segmenter.
        target: The target's: the detector.
        inputs: The test subjects' source images with their true labels, by subject.
        fabric: Device and precision.
    """

    source: SegmenterModel
    target: SegmenterModel
    inputs: Mapping[str, Study]
    fabric: Fabric

    @cached_property
    def before(self) -> dict[str, NDArray[np.uint8]]:
        """The labels of every input by the source's segmenter, (X, Y, Z)."""
        return {subject: segment_study(self.source, study, self.fabric) for subject, study in self.inputs.items()}

    def row(self, subject: str, image: Path) -> dict[str, str | float]:
        """What is found in an image of a test subject in the target domain, real or translated."""
        study = self.inputs[subject]
        assert study.mask is not None, "every phantom has its labels"
        volume = read_volume(image)
        spacing = volume.grid.spacing_mm
        after = segment_study(self.target, volume, self.fabric)
        truth = np.isin(read_volume(study.mask).voxels, LABELS[LESION])
        smallest = SMALLEST_MM3 / float(np.prod(spacing))
        counts = lesion_counts(after == NAMES[LESION], truth, smallest_voxels=smallest)
        lesions = counts.found + counts.missed
        kept = label_keeping(self.before[subject], after, NAMES, spacing_mm=spacing, lesions=[LESION])
        return {
            "subject": subject,
            "lesions": lesions,
            "found": counts.found,
            "missed": counts.missed,
            "false": counts.false,
            "recall": counts.found / lesions if lesions else float("nan"),
            **kept.figures(),
        }

    def rows(self, images: Mapping[str, Path]) -> pd.DataFrame:
        """A row for each image, by subject."""
        return pd.DataFrame([self.row(subject, image) for subject, image in images.items()])


def detections(judge: Judge, child: Path, converted: Path, root: Path) -> pd.DataFrame:
    """The rows of a child's converted test subjects: read where they were written before.

    Args:
        judge: By whom.
        child: The child's folder.
        converted: Where its translations lie, named as their inputs lie below ``root``.
        root: The cohort's folder.
    """
    path = child / "detections.csv"
    if not path.exists():
        images = {
            subject: converted / _output(study.image.relative_to(root)) for subject, study in judge.inputs.items()
        }
        frame = judge.rows(images)
        write_csv(path, frame)
    return pd.read_csv(path, dtype={"subject": str})


def measures(rows: pd.DataFrame) -> Iterator[str]:
    """The columns whose slope says something: recall, false findings, and the labels that are kept or not."""
    yield from ("recall", "false")
    yield from (column for column in rows.columns if column.startswith("dice_"))
    yield from (f"{LESION}_{what}" for what in ("erased", "invented"))


def _output(image: Path) -> Path:
    return image.with_name(f"{stem(image)}.nii.gz")
