"""A trained segmenter on the test subjects, in distribution and out of it: label maps and figures."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from numpy.typing import NDArray

from medgan.benefit.plan import BenefitPlan
from medgan.benefit.segmenters import FIGURES
from medgan.benefit.tasks import Child
from medgan.data.domains import Domain
from medgan.data.streams import write_csv
from medgan.data.studies import Study
from medgan.data.volumes import Volume, read_volume, write_volume
from medgan.evaluation.segmentation import METRICS, score_labels
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import merged
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.tracking import add_metrics
from medgan.training.device import make_fabric
from medgan.training.model_folder import read_model

LABEL_MAPS, TRUTH = "test", "truth"
"""Folders of label maps: a child's, and the true ones of the study."""
KEYS = ("arm", "seed", "subset", "ratio_percent", "subject", "test_set", "organ")
Distribution = Literal["in", "out"]


@dataclass(frozen=True)
class Tested:
    """A labelled image of a test subject."""

    study: Study
    test_set: Distribution
    """in: of the domain whose labels were learnt from. out: of the other."""
    number: int
    """Among the images of its set."""

    @property
    def file(self) -> str:
        """What its label maps are called."""
        return f"{self.study.domain}_{self.number:04d}.nii.gz"


def images_to_test(plan: BenefitPlan) -> tuple[Tested, ...]:
    """The labelled images of the test subjects."""
    sets: tuple[tuple[Distribution, str], ...] = (("in", plan.pair.source.name), ("out", plan.pair.target.name))
    return tuple(
        Tested(study, test_set, number)
        for test_set, domain in sets
        for number, study in enumerate(plan.subjects.with_labels("test", domain))
    )


def judge_child(plan: BenefitPlan, child: Child, tracking: str, run_id: str) -> None:
    """Segment the test subjects, compare with their masks, and write the figures last.

    Raises:
        DataError: A test image or mask that cannot be read.
        ModelError: A model that is incomplete or altered.
    """
    model = read_model(child.folder / "model", SegmenterDescription)
    fabric = make_fabric(plan.order.device, "32")
    rows = pd.DataFrame([row for tested in images_to_test(plan) for row in _rows(plan, child, model, tested, fabric)])
    # A subject's images are averaged: the subject is the unit of evidence.
    own = rows.groupby(["subject", "test_set", "organ"], sort=False, as_index=False)[list(METRICS)].mean()
    for place, (key, value) in enumerate(child.facts.items()):
        own.insert(place, key, value)
    means = own.groupby(["test_set", "organ"])[list(METRICS)].mean().stack()
    add_metrics(tracking, run_id, {f"test/{where}/{organ}_{metric}": v for (where, organ, metric), v in means.items()})
    write_csv(child.folder / FIGURES, own)


def _rows(
    plan: BenefitPlan, child: Child, model: SegmenterModel, tested: Tested, fabric: Fabric
) -> Iterator[dict[str, Any]]:
    """The figures of one image, organ by organ; its label map is kept."""
    volume = read_volume(tested.study.image)
    truth = true_labels(plan, tested, volume)
    found = segment_study(seen_as(model, plan.domain(tested.study.domain)), volume, fabric)
    write_volume(found, volume.grid, child.folder / LABEL_MAPS / tested.file, np.uint8)
    scores = score_labels(found, truth, model.description.names, volume.grid.spacing_mm, lesions=plan.config.lesions)
    for organ, figures in scores.items():
        yield {"subject": tested.study.subject, "test_set": tested.test_set, "organ": organ} | figures


def true_labels(plan: BenefitPlan, tested: Tested, volume: Volume) -> NDArray[np.uint8]:
    """The mask of a test image as the segmenters number their labels, (X, Y, Z); it is kept for whoever looks."""
    assert tested.study.mask is not None
    labels = merged(read_volume(tested.study.mask), plan.segmenter.labels)
    path = plan.order.folder / TRUTH / tested.file
    if not path.exists():
        write_volume(labels, volume.grid, path, np.uint8)
    return labels


def seen_as(model: SegmenterModel, domain: Domain) -> SegmenterModel:
    """The model looking at a study of this domain: in a study across modalities each image has a window of its own."""
    config = model.description.config.model_copy(update={"domain": domain})
    return replace(model, description=model.description.model_copy(update={"config": config}))
