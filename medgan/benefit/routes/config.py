"""The settings of a study of routes."""

from typing import Self

from pydantic import Field, PositiveInt, model_validator

from medgan.benefit.routes.bone import LABEL
from medgan.config import Config
from medgan.data.domains import Window
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.data.preparation import GridConfig
from medgan.segmentation.settings import SegmenterConfig
from medgan.training.fit import FitConfig

SEGMENTER = SegmenterConfig(
    labels={LABEL: (1,)},
    grid=GridConfig(spacing_mm=(None, None, None)),
    patch=PatchConfig(dimensions="2.5", size_voxels=128, neighbours=1, flip=True, rotation_degrees=15.0, scaling=0.15),
    fit=FitConfig(epochs=4, iterations_per_epoch=150, batch_size=8, average_decay=0.98, keep="last", validate_every=4),
)
"""Small enough that the segmenters of a fold are trained in minutes on one core."""


class RoutesConfig(Config):
    """How many subjects are labelled, and how the segmenters are trained on them."""

    labelled: tuple[PositiveInt, ...] = Field(default=(2, 4, 8, 16), min_length=1)
    """Labelled subjects to learn from; the fewer are among the more."""
    ct_window: Window = Window(lower=-200.0, upper=800.0)
    """HU that the segmenter of CT sees as -1 and +1. That of MR sees the translator's window."""
    mr_intensity: IntensityConfig = IntensityConfig(gamma=0.3, bias_field=0.3, noise=0.03)
    """How MR is varied in training."""
    ct_intensity: IntensityConfig = IntensityConfig(contrast=0.2, noise=0.03)
    """How CT is varied in training, so that the segmenter does not hang on the contrast and noise of true CT."""
    segmenter: SegmenterConfig = SEGMENTER
    """Of either segmenter, but for its domain and ``patch.intensity``. All of them take equally many steps."""

    @model_validator(mode="after")
    def _needs_no_validation(self) -> Self:
        if self.segmenter.fit.keep != "last" or tuple(self.segmenter.labels) != (LABEL,):
            raise ValueError(
                "the segmenters learn bone alone and keep the last epoch: no labelled subject is left over"
            )
        return self
