"""Whether a patch holds a lesion, and which: learnt from a few labels and many patches without one."""

from pathlib import Path

from medgan.classification.few_labels import cut_labelled, cut_unlabelled, read_unmasked
from medgan.classification.learner import ClassifierLearner
from medgan.classification.training import FewLabelsConfig, patches_of, write_trained
from medgan.config import Settings
from medgan.data.cache import Cache
from medgan.data.domains import DomainPair
from medgan.data.splits import Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.phantom.cohort import PAIRED
from medgan.pipeline import Pipeline, PipelineConfig, Seen, TrainingData
from medgan.segmentation.labelled import LabelledHeldOut
from medgan.synthesis.training import read_cases
from medgan.training.description import Origin
from medgan.training.fit import Fitted


class LesionClassificationConfig(FewLabelsConfig, PipelineConfig):
    """Settings of ``lesion_classification``."""


class LesionClassification(Pipeline[LesionClassificationConfig]):
    """One domain: masks say what the labelled patches hold; other patches of the training subjects are unlabelled."""

    settings = LesionClassificationConfig
    phantom = "head_mr"
    phantom_table = PAIRED
    used_by = "medgan classify INPUT OUTPUT"

    @property
    def pair(self) -> DomainPair:
        """The one domain, on both sides."""
        return DomainPair(source=self.config.domain, target=self.config.domain, paired=False)

    def learner(self) -> ClassifierLearner:
        """The one that the settings name."""
        return self.config.method.learner(self.config.classifier, self.config)

    def training_data(self, cohort: Cohort, split: Split, cache: Cache) -> TrainingData:
        """The patches, labelled and not, and the validation subjects whole.

        Raises:
            DataError: No training subject has a mask, or no validation subject where one must choose the epoch.
        """
        config = self.config
        train, validation = (read_cases(cohort, split, part, config, cache) for part in ("train", "validation"))
        if not train or (config.fit.keep == "best" and not validation):
            raise DataError(
                f"{cohort.root}: no {'validation' if train else 'training'} subject has a {config.domain.name} image "
                "with a mask; name masks in the cohort's `mask` column, or set domain.name."
            )
        labelled = cut_labelled(train, config, config.labelled_patches, seed=config.seed)
        wanted = config.unlabelled_patches if config.method.kind == "sgan" else 0
        unmasked = read_unmasked(cohort, split, config, cache) if wanted else []
        unlabelled = cut_unlabelled(train, unmasked, config, wanted, seed=config.seed)
        self.patches = patches_of(labelled, unlabelled, config, seed=config.seed)
        return TrainingData(self.patches, LabelledHeldOut.of(validation))

    def write_model(self, folder: Path, fitted: Fitted, split: Split, seen: Seen, facts: Settings) -> None:
        """Write the classifier that was kept, and all that its use must know."""
        del seen
        origin = Origin.of(split, data_fingerprint=facts["data_fingerprint"], phantom=facts["phantom"])
        write_trained(folder, fitted, self.config, self.patches, seed=self.config.seed, origin=origin)
