"""The settings of a benefit study, from shipped files, ``--quick`` and what a user lays over them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from medgan.benefit.arms import ARMS, BY_NAME, FURTHER, ArmName
from medgan.config import Config, load, shipped
from medgan.errors import ConfigError


class BenefitConfig(Config):
    """What is compared, and how long everything is trained."""

    arms: tuple[ArmName, ...] = tuple(arm.name for arm in ARMS)
    """The segmenters that are trained; an arm's reference should be among them."""
    subsets: PositiveInt = 1
    """Draws of training subjects, each trained with every seed."""
    labelled: PositiveInt | None = None
    """Training subjects in each subset; null is all of them."""
    retrain_translator: bool = False
    """Train a translator on each subset, and not one on all training subjects."""
    ratios_percent: tuple[NonNegativeInt, ...] = (0, 25, 50, 100, 200)
    """Extra images for a hundred real ones: validation chooses one of these for all arms. 0 is trained for comparison
    and never chosen."""
    keep_labels_above: float | None = Field(default=None, ge=0, le=1)
    """Translations whose label-keeping (the lowest Dice of an organ) is lower are not trained on, and counted;
    null keeps all."""
    source_segmenter: Path | None = None
    """Model folder of the frozen segmenter that finds the labels in source images, for ``keep_labels_above``."""
    target_segmenter: Path | None = None
    """That of one which finds them in translations; null takes the source's, which should have learnt on varied
    intensities."""
    lesions: tuple[str, ...] = ()
    """Labels whose connected parts are counted one by one: they get a lesion-wise F1."""
    phantom_subjects: PositiveInt = 60
    """How many subjects are rendered where no data is given; a sixth of them are tested."""
    translator: dict[str, Any] = Field(default_factory=dict)
    """Settings of the pipeline's translator, as ``translator.fit.epochs=12``."""
    segmenter: dict[str, Any] = Field(default_factory=dict)
    """Settings of the segmenter, as ``segmenter.labels={kidney: [7, 8]}``; without labels those of the cohort."""

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if not any(self.ratios_percent):
            raise ValueError("ratios_percent needs a ratio above 0: one of them is what the arms are trained with")
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
    def comparisons(self) -> tuple[tuple[ArmName, ArmName], ...]:
        """Arm and reference, of those that are trained."""
        own = [(name, BY_NAME[name].reference) for name in self.arms]
        return tuple((arm, other) for arm, other in [*own, *FURTHER] if arm in self.arms and other in self.arms)


def configured(pipeline: str, *layers: Path | Mapping[str, Any], on_phantom: bool, quick: bool) -> BenefitConfig:
    """The settings: defaults, shipped files, then ``layers``; a later one wins.

    Args:
        pipeline: Whose shipped files count: ``NAME_benefit.yaml``, and ``_phantom`` and ``_quick`` after it.
        layers: The user's file and overrides.
        on_phantom: Whether the built-in phantom stands in for data.
        quick: Whether a short form is asked for, whose figures are no evidence.

    Raises:
        ConfigError: Settings that cannot be, or that are asked for and not shipped for this pipeline.
    """
    shorter = "ratios_percent=[100] translator.fit.epochs=5 segmenter.fit.epochs=5"
    files = shipped_layers(pipeline, on_phantom=on_phantom, quick=quick, shorter=shorter)
    config = load(BenefitConfig, *files, *layers)
    if on_phantom and not shipped(f"{pipeline}_benefit_phantom") and "labels" not in config.segmenter:
        raise ConfigError(
            f"no settings are shipped for a study of '{pipeline}' on the built-in phantom, whose every tissue has its "
            "own label; give a cohort with masks by --data, or say what is segmented, as segmenter.labels={NAME: [N]} "
            "(`medgan data phantom` lists the numbers in labels.json)."
        )
    return config


def shipped_layers(pipeline: str, *, on_phantom: bool, quick: bool, shorter: str) -> list[Path]:
    """The shipped files of a pipeline's studies that count, a later one over an earlier.

    Args:
        pipeline: Whose: ``NAME_benefit.yaml``, and ``_phantom`` and ``_quick`` after it.
        on_phantom: Whether the built-in phantom stands in for data.
        quick: Whether a short form is asked for.
        shorter: Settings that make such a study short, to advise where none is shipped.

    Raises:
        ConfigError: A short form that is asked for and not shipped: the study would be as long as without it.
    """
    short = f"{pipeline}_benefit_quick"
    if quick and not shipped(short):
        raise ConfigError(
            f"no short form of a study of '{pipeline}' is shipped; leave --quick out and say what is shorter, as "
            f"{shorter}."
        )
    wanted = [f"{pipeline}_benefit", *([f"{pipeline}_benefit_phantom"] * on_phantom), *([short] * quick)]
    return [path for path in map(shipped, wanted) if path]
