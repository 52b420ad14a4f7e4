"""The settings of a study of augmentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from medgan.benefit.augmentation.arms import ARMS, BY_NAME, FURTHER, ArmName, Method
from medgan.benefit.config import shipped_layers
from medgan.config import Config, load
from medgan.data.splits import SplitConfig
from medgan.synthesis.insertion import InsertionConfig


class AugmentationConfig(Config):
    """What is compared with how few cases, and how everything is trained."""

    sizes: tuple[PositiveInt, ...] = Field(default=(5, 10, 25, 50), min_length=1)
    """Training subjects; of one seed the fewer are among the more."""
    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS if arm.method != "healthy")
    """The segmenters that are trained; an arm's reference should be among them."""
    ratios_percent: tuple[NonNegativeInt, ...] = (0, 25, 50, 100, 200)
    """Synthetic cases for a hundred real ones: validation chooses one of these for each method and size. 0 is told for
    comparison and never chosen."""
    healthy: NonNegativeInt = 0
    """Subjects whose masks mark nothing, besides the few: methods add lesions to them instead of to the few, and
    ``standard+healthy`` learns from them as they are. Where lesions are rare, healthy scans seldom are."""
    cases: PositiveInt = 100
    """Synthetic cases that each method makes of each draw of subjects; the ratio says how often they are seen."""
    split: SplitConfig = SplitConfig(validation=0.2, test=0.35)
    """Who is tested and who chooses the ratio, where the cohort does not say."""
    lesions: tuple[str, ...] = ()
    """Labels whose connected parts are counted one by one: they get a lesion-wise F1."""
    phantom_subjects: PositiveInt = 120
    """How many subjects are rendered where no data is given."""
    insertion: InsertionConfig = InsertionConfig()
    """What methods put into real cases: more lesions in healthy tissue, or another shape of the recipient's organ."""
    bend: bool = False
    """Bend the cases of every method afterwards by ``insertion.shape``, as ``elastic`` bends real ones."""
    generator_insertion: dict[str, Any] = Field(default_factory=dict)
    """Where the generator's insertion differs, as ``generator_insertion.placement=whole`` for joint samples."""
    synthesis: dict[str, Any] = Field(default_factory=dict)
    """Settings of the pipeline that trains the generator, as ``synthesis.generator.kind=mask_to_lesion``."""
    segmenter: dict[str, Any] = Field(default_factory=dict)
    """Settings of the segmenter; without ``segmenter.labels`` those of the cohort."""

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if not any(self.ratios_percent):
            raise ValueError("ratios_percent needs a ratio above 0: one of them is what the arms are trained with")
        return self

    @model_validator(mode="after")
    def _can_insert(self) -> Self:
        placements = {self.insertion.placement, self.insertion_of("generator").placement}
        if self.healthy and "replace" in placements:
            raise ValueError("healthy subjects have no organ whose place another could take; set healthy=0")
        if "standard+healthy" in self.arms and not self.healthy:
            raise ValueError("standard+healthy learns from healthy subjects, too: say how many, as healthy=15")
        return self

    @model_validator(mode="after")
    def _has_what_is_shuffled(self) -> Self:
        if "standard+shuffled" in self.arms and not {"generator", "standard+generator"} & set(self.arms):
            raise ValueError("standard+shuffled takes the ratio of the generator: name standard+generator, too")
        return self

    @model_validator(mode="after")
    def _names_each_arm_once(self) -> Self:
        if not self.arms or len(set(self.arms)) < len(self.arms):
            raise ValueError("arms must name at least one arm, and each once")
        return self

    @property
    def ratios(self) -> tuple[int, ...]:
        """What can be chosen, rising."""
        return tuple(sorted({ratio for ratio in self.ratios_percent if ratio}))

    @property
    def methods(self) -> tuple[Method, ...]:
        """What the arms need, in their order."""
        needed = [BY_NAME[name].method for name in self.arms]
        return tuple(dict.fromkeys(method for method in needed if method))

    def insertion_of(self, method: Method) -> InsertionConfig:
        """How a method inserts.

        Raises:
            ConfigError: ``generator_insertion`` has a setting that insertion does not.
        """
        own = self.generator_insertion if method == "generator" else {}
        return load(InsertionConfig, self.insertion.model_dump(), own)

    @property
    def comparisons(self) -> tuple[tuple[ArmName, ArmName], ...]:
        """Arm and reference, of those that are trained."""
        own = [(name, BY_NAME[name].reference) for name in self.arms]
        return tuple((arm, other) for arm, other in [*own, *FURTHER] if arm in self.arms and other in self.arms)


def configured(pipeline: str, *layers: Path | Mapping[str, Any], on_phantom: bool, quick: bool) -> AugmentationConfig:
    """The settings: defaults, shipped files, then ``layers``; a later one wins.

    Args:
        pipeline: Whose shipped files count: ``NAME_benefit.yaml``, and ``_phantom`` and ``_quick`` after it.
        layers: The user's file and overrides.
        on_phantom: Whether the built-in phantom stands in for data.
        quick: Whether a short form is asked for, whose figures are no evidence.

    Raises:
        ConfigError: Settings that cannot be, or a short form that is not shipped for this pipeline.
    """
    shorter = "sizes=[5] segmenter.fit.epochs=5 synthesis.fit.epochs=5"
    files = shipped_layers(pipeline, on_phantom=on_phantom, quick=quick, shorter=shorter)
    return load(AugmentationConfig, *files, *layers)
