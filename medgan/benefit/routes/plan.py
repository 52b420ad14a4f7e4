"""What a study of routes will do, settled before anything runs: folds, who is labelled, who is tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from medgan.benefit.routes.config import RoutesConfig
from medgan.config import load, user_layers
from medgan.data.domains import Domain, DomainPair
from medgan.data.layouts import stem
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Data, Study, find_cohort
from medgan.errors import ConfigError
from medgan.segmentation.settings import SegmenterConfig
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_description
from medgan.training.run_folder import folder_named

Route = Literal["mr", "synthetic_ct", "threshold", "lookup_threshold"]
DIRECT: Route = "mr"
"""What the other routes are compared with."""
TRAINED: tuple[Route, ...] = (DIRECT, "synthetic_ct")
"""The routes of a segmenter: of MR, and of CT applied to synthetic CT."""
UNTRAINED: tuple[Route, ...] = ("threshold", "lookup_threshold")
"""The routes without a label: 200 HU of the synthetic CT, and of the CT that a look-up of MR intensities gives."""


@dataclass(frozen=True)
class RoutesOrder:
    """What a user asks of ``medgan benefit --study routes``."""

    pipeline: str
    models: Sequence[Path]
    """The model folders of finished runs, one for each fold, each with ``split.json`` beside it."""
    data: Data
    """The cohort that they were trained on."""
    name: str = "routes"
    """Of the study's folder; the same name goes on with the study."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    seeds: tuple[int, ...] = (0,)
    """Each draws its own labelled subjects and trains with its own weights."""
    out: Path = Path("runs")
    tracking: str | None = None
    device: str = "auto"

    @property
    def folder(self) -> Path:
        """Where the study and all that it trains lie."""
        return folder_named(self.out / self.pipeline, self.name)


@dataclass(frozen=True)
class Case:
    """The two scans of a subject, on one grid."""

    source: Study
    target: Study

    @property
    def subject(self) -> str:
        """Whose they are."""
        return self.source.subject

    @property
    def file(self) -> str:
        """What its masks are called."""
        return f"{self.subject}_{stem(self.source.image)}.nii.gz"


@dataclass(frozen=True)
class Fold:
    """A translator, and who has and has not been seen by it."""

    number: int
    model: Path
    description: TranslationDescription
    split: Split
    training: tuple[Case, ...]
    tested: tuple[Case, ...]

    def drawn(self, subjects: int, seed: int) -> tuple[Case, ...]:
        """The scans of so many labelled training subjects; with one seed the fewer are among the more."""
        order = np.random.default_rng(seed).permutation(self.trainable).tolist()
        chosen = set(order[:subjects])
        return tuple(case for case in self.training if case.subject in chosen)

    @property
    def trainable(self) -> list[str]:
        """The training subjects that have both scans."""
        return sorted({case.subject for case in self.training})


@dataclass(frozen=True)
class RoutesPlan:
    """Everything that a study of routes will do."""

    order: RoutesOrder
    config: RoutesConfig
    cohort: Cohort
    folds: tuple[Fold, ...]

    @property
    def pair(self) -> DomainPair:
        """MR and CT."""
        return self.folds[0].description.pair

    @property
    def phantom(self) -> bool:
        """Whether a translator was trained on the built-in phantom."""
        return any(fold.description.origin.phantom for fold in self.folds)

    @cached_property
    def ct(self) -> Domain:
        """CT as a segmenter sees it."""
        return self.pair.target.model_copy(update={"window": self.config.ct_window})

    def segmenter(self, route: Route) -> SegmenterConfig:
        """The segmenter's settings on a route that has one."""
        direct, own = route == DIRECT, self.config.segmenter
        intensity = self.config.mr_intensity if direct else self.config.ct_intensity
        domain = self.pair.source if direct else self.ct
        return own.model_copy(update={"domain": domain, "patch": own.patch.model_copy(update={"intensity": intensity})})


def make_plan(order: RoutesOrder) -> RoutesPlan:
    """Settle what will run.

    Raises:
        ConfigError: Settings that cannot be, models of another task or of another split than lies beside them, more
            labelled subjects than there are.
        DataError: A cohort that is not the one of the models' splits.
        LeakageError: A test subject of a fold whose image its translator has seen under another name, and from which
            its segmenters would learn.
    """
    config = load(RoutesConfig, *user_layers(order.config, order.overrides))
    descriptions = [read_description(model, TranslationDescription) for model in order.models]
    _check_models(order, descriptions)
    pair = descriptions[0].pair
    cohort = find_cohort(order.data, pair)
    folds = tuple(
        read_fold(number, model, description, cohort)
        for number, (model, description) in enumerate(zip(order.models, descriptions, strict=True))
    )
    for fold in folds:
        if len(fold.trainable) < max(config.labelled):
            raise ConfigError(
                f"labelled={list(config.labelled)}: the split of {fold.model} trains on {len(fold.trainable)} subjects "
                f"with {' and '.join(pair.names)}; ask for fewer."
            )
    return RoutesPlan(order, config, cohort, folds)


def read_fold(number: int, model: Path, description: TranslationDescription, cohort: Cohort) -> Fold:
    """A translator with its split, held against the cohort; see ``make_plan`` for what is raised."""
    path = model.parent / "split.json"
    if not path.is_file():
        raise ConfigError(f"there is no split at {path}, to tell whom {model} has not seen; give a run's model folder.")
    split = Split.load(path)
    if split.hash != description.origin.split_hash:
        raise ConfigError(
            f"{path} is not the split that {model} was trained on, so it cannot tell whom the model has never seen."
        )
    split.check(cohort)
    split.refuse_twins(cohort)
    split.refuse_trained(split.part(cohort, "test"))
    training, tested = (
        tuple(Case(*scans) for scans in split.part(cohort, part).pairs(description.pair)) for part in ("train", "test")
    )
    if not tested:
        raise ConfigError(f"{path}: no test subject has {' and '.join(description.pair.names)}; use another split.")
    return Fold(number, model, description, split, training, tested)


def _check_models(order: RoutesOrder, descriptions: Sequence[TranslationDescription]) -> None:
    if not descriptions:
        raise ConfigError("a study of routes needs finished translators; give each fold's model folder by --model.")
    for model, description in zip(order.models, descriptions, strict=True):
        pair = description.pair
        if description.name != order.pipeline:
            raise ConfigError(f"{model} is a model of '{description.name}', not of '{order.pipeline}'.")
        if (pair.source.modality, pair.target.unit) != ("MR", "HU"):
            raise ConfigError(
                f"{model} makes {pair.target.name} of {pair.source.name}: bone is told by HU on CT made of MR only, as "
                "by pipeline mr_to_ct."
            )
        if pair != descriptions[0].pair:
            raise ConfigError(f"{model} and {order.models[0]} see their scans differently; give folds of one setting.")
