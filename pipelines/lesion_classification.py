"""Whether a patch holds a lesion, and which: learnt from a few labels and many patches without one."""

from medgan.classification.classifier import ClassifierDescription, cut_labelled
from medgan.classification.few_labels import FewLabelsConfig, classifier_task, cut_unlabelled, read_unmasked
from medgan.data.cache import Cache
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.pipeline import OneDomain, PipelineConfig
from medgan.synthesis.generators import read_training
from medgan.training.fit import Training


class LesionClassificationConfig(FewLabelsConfig, PipelineConfig):
    """Settings of ``lesion_classification``."""


class LesionClassification(OneDomain[LesionClassificationConfig]):
    """Masks say what the labelled patches hold; other patches of the training subjects are unlabelled."""

    settings = LesionClassificationConfig
    phantom = "head_mr"
    used_by = "medgan classify INPUT OUTPUT"

    def task(self, cohort: Cohort, split: Split, cache: Cache) -> Training[ClassifierDescription]:
        """The patches, labelled and not, and the validation subjects whole."""
        config = self.config
        train, validation = read_training(cohort, split, config, config.fit.keep, cache)
        labelled = cut_labelled(train, config, config.labelled_patches, seed=config.seed)
        wanted = config.unlabelled_patches if config.method.kind == "sgan" else 0
        unmasked = read_unmasked(cohort, split, config, cache) if wanted else []
        unlabelled = cut_unlabelled(train, unmasked, config, wanted, seed=config.seed)
        return classifier_task(labelled, unlabelled, validation, config, seed=config.seed)
