"""Organs, lesions or vessels: a segmenter of all that the masks of one domain's images mark."""

from typing import Self

from pydantic import Field, PositiveInt

from medgan.config import load
from medgan.data.cache import Cache
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Data
from medgan.pipeline import OneDomain, PipelineConfig
from medgan.segmentation.labelled import is_phantom, labels_of, read_all
from medgan.segmentation.segmenter import segmenter_task
from medgan.segmentation.settings import MOST_LABELS, Name, SegmenterConfig, SegmenterDescription
from medgan.training.fit import Training


class SegmentationConfig(SegmenterConfig, PipelineConfig):
    """Settings of ``segmentation``."""

    labels: dict[Name, tuple[PositiveInt, ...]] = Field(default={}, max_length=MOST_LABELS)
    """What is learnt, by name: the values that mark it in the masks, merged where there are several; empty is all that
    the masks mark."""


class Segmentation(OneDomain[SegmentationConfig]):
    """Masks say what is learnt; its runs are ``medgan segment-train``'s, too."""

    settings = SegmentationConfig
    phantom = "abdomen_ct"
    used_by = "medgan segment INPUT OUTPUT"

    @classmethod
    def experiment(cls) -> str:
        """As it was when ``medgan segment-train`` was the only way to train a segmenter."""
        return "segmenter"

    def complete(self, data: Data | None) -> Self:
        """Name the labels that the masks mark, where the settings name none."""
        if not self.config.labels:
            labels = {"labels": labels_of(self.cohort(data))}
            self.config = load(SegmentationConfig, self.config.model_dump(), labels)
        return self

    def cohort(self, data: Data | None) -> Cohort:
        """The studies to work on, of which ``labels.json`` may say that they are the phantom."""
        cohort = super().cohort(data)
        self.on_phantom = is_phantom(cohort)
        return cohort

    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Training[SegmenterDescription]:
        """All labelled images of the training subjects; the validation subjects choose the epoch."""
        config = self.config
        train, validation = (
            read_all(split.part(cohort, part).studies, config.domain, config.grid, config.labels, cache)
            for part in ("train", "validation")
        )
        return segmenter_task(train, validation, config, seed=config.seed)
