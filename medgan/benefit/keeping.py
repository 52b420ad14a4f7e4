"""Who judges whether a translation kept its labels: frozen segmenters that were trained before the study."""

from pathlib import Path

from medgan.benefit.plan import BenefitPlan, frozen_split
from medgan.benefit.translated import LabelKeeping
from medgan.errors import ConfigError
from medgan.inference.batch import conversion_fabric
from medgan.segmentation.keeping import LabelKeeper
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.training.model_folder import read_model


def label_keeper(plan: BenefitPlan) -> LabelKeeping | None:
    """The judge that the settings name; None where no threshold is set.

    Raises:
        ConfigError: A threshold without a segmenter, or a segmenter without a threshold.
        LeakageError: A segmenter that has seen a test subject.
        ModelError: A folder that holds no segmenter, or two that find different labels.
    """
    config = plan.config
    if (config.keep_labels_above is None) != (config.source_segmenter is None):
        raise ConfigError(
            "keep_labels_above and source_segmenter go together: the threshold, and the model folder of a segmenter "
            "(`medgan segment-train`) that finds the labels in images and in their translations."
        )
    if config.source_segmenter is None:
        return None
    source = _segmenter(plan, config.source_segmenter)
    target = _segmenter(plan, config.target_segmenter) if config.target_segmenter else source
    return LabelKeeper(source, target, conversion_fabric(plan.order.device), config.lesions)


def _segmenter(plan: BenefitPlan, folder: Path) -> SegmenterModel:
    found = read_model(folder, SegmenterDescription)
    plan.guard.check_model(frozen_split(folder, found.description.origin.split_hash), folder.parent, "segmenter")
    return found
