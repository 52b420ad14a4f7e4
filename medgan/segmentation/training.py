"""What a segmenter learns from: labelled subjects, and more of them that are synthetic."""

from collections.abc import Sequence

from medgan.errors import ConfigError, DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut, LabelledPatches
from medgan.segmentation.segmenter import Segmenter
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.training.task import Task


def segmenter_task(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SegmenterConfig,
    *,
    seed: int,
    extra: Sequence[Labelled] = (),
    extra_share: float = 0.0,
) -> Task[SegmenterDescription]:
    """Learning to segment; with ``fit.keep: best`` the epoch of the highest mean Dice on ``validation`` is kept.

    Args:
        train: Subjects to learn from.
        validation: Subjects that choose the epoch.
        config: The settings.
        seed: Of weights and patches.
        extra: More training subjects, such as synthetic ones.
        extra_share: The share of patches that are drawn from ``extra``, 0 to 1.

    Raises:
        ConfigError: A share without extra subjects.
        DataError: Nobody to learn from, or to choose the epoch.
    """
    if not 0 <= extra_share <= 1 or bool(extra) != bool(extra_share):
        raise ConfigError(
            f"extra_share={extra_share:g} with {len(extra)} extra subjects: give a share above 0 and up to 1 with "
            "extra subjects, and none without."
        )
    if not train and extra_share < 1:
        raise DataError("there is no labelled subject to train on; check the split and the `mask` column.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
    patches = LabelledPatches(train, config.training_patch, seed=seed, extra=extra, extra_share=extra_share)
    counts = {"trained": len(train), "validated": len(validation), "extra": len(extra), "extra_share": extra_share}
    # A pipeline's settings are more than a segmenter's: its model keeps what segmenting needs.
    own = SegmenterConfig(**{name: getattr(config, name) for name in SegmenterConfig.model_fields})
    return Task(
        config, config.fit, seed, lambda: Segmenter(own), patches, LabelledHeldOut.of(validation), SegmenterDescription,
        {"config": own, **counts},
    )  # fmt: skip
