"""Bone on MR: by a segmenter that learnt labels on MR, by one of CT that looks at synthetic CT, or by a threshold.

Labels are simulated: bone of the true CT stands for what a reader would have drawn on so many subjects, while the
translator has seen the CT of all training subjects. The question is what paired scans, once collected, save in labels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.text import Text
from scipy import ndimage

from medgan.config import Config, load, user_layers
from medgan.data.domains import Domain, Window
from medgan.data.grid import Grid, Volume, same_grid
from medgan.data.layouts import stem
from medgan.data.masks import components
from medgan.data.patches import IntensityConfig, PatchConfig
from medgan.data.preparation import GridConfig
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Data, Study, find_cohort
from medgan.data.volumes import read_volume, write_volume
from medgan.errors import ConfigError, GeometryError, LeakageError
from medgan.evaluation.arms import LOOKUP, CrossingLookups
from medgan.evaluation.bone import TOLERANCE_MM, Bone, bone_surface_dice
from medgan.evaluation.fidelity import IN_PLANE, Array, Mask
from medgan.evaluation.statistics import LEVEL, plain, summarise
from medgan.evaluation.tissues import BONE_HU, body, core, overlap
from medgan.inference.batch import conversion_fabric
from medgan.inference.jobs import find_jobs
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterConfig, SegmenterDescription
from medgan.studies.base import Context, Stages, StudyKind, StudyOrder, StudySummary, Task
from medgan.studies.segmenter import CaseReader, SegmenterRun, budget_of, train
from medgan.studies.tables import ROWS, differences, summarised
from medgan.studies.tables import table as shown_table
from medgan.studies.translator import convert_test
from medgan.training.architecture import TranslationDescription
from medgan.training.fit import FitConfig
from medgan.training.model_folder import Origin, read_description, read_model
from medgan.training.run_folder import split_of_model

Route = Literal["mr", "synthetic_ct", "threshold", "lookup_threshold"]
DIRECT: Route = "mr"
"""What the other routes are compared with."""
TRAINED: tuple[Route, ...] = (DIRECT, "synthetic_ct")
"""The routes of a segmenter: of MR, and of CT applied to synthetic CT."""
UNTRAINED: tuple[Route, ...] = ("threshold", "lookup_threshold")
"""The routes without a label: 200 HU of the synthetic CT, and of the CT that a look-up of MR intensities gives."""
NAMES = {
    "mr": "MR segmenter",
    "synthetic_ct": "sCT segmenter",
    "threshold": "sCT threshold",
    "lookup_threshold": "MR look-up",
}
"""In the order of the lines; short, so that a line fits 80 columns."""
TITLES = {"dice": "Dice of bone", "surface_dice": "Surface Dice of bone, 2 mm"}
METRICS = tuple(TITLES)
NO_LABELS = 0
"""The ``labelled`` of routes that need none."""
LABEL = "bone"
LEAST_ML = 0.1
"""Parts of less volume are streaks and noise of a low-dose CT; the least bones of a hand and a foot are larger."""
TABLE, LABELS, SYNTHETIC, FOUND = "table.csv", "labels", "synthetic", "found"
"""In a study's folder: the comparison, the bone of true CTs; in a fold's: the synthetic CTs of its test subjects; in a
task's: the bone that it found."""

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


@dataclass(frozen=True)
class _Pair:
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
class _Fold:
    """A translator, and who has and has not been seen by it."""

    number: int
    model: Path
    description: TranslationDescription
    split: Split
    training: tuple[_Pair, ...]
    tested: tuple[_Pair, ...]

    @property
    def trainable(self) -> list[str]:
        """The training subjects that have both scans."""
        return sorted({pair.subject for pair in self.training})

    def drawn(self, subjects: int, seed: int) -> tuple[_Pair, ...]:
        """The scans of so many labelled training subjects; with one seed the fewer are among the more."""
        chosen = set(np.random.default_rng(seed).permutation(self.trainable).tolist()[:subjects])
        return tuple(pair for pair in self.training if pair.subject in chosen)


class Routes(StudyKind):
    """Each route on the test subjects of each fold's translator, with so many labelled subjects where it learns."""

    heeds = ("data", "model", "a second model")
    keys = ("route", "labelled", "fold", "seed", "subject")
    result_file = "routes.json"

    def __init__(self, order: StudyOrder, console: Console) -> None:
        super().__init__(order, console)
        if order.data is None:
            raise ConfigError(
                "the study routes tests finished models, and trains none: give each fold's model folder by --model and "
                "the cohort that they were trained on by --data "
                f"(`medgan train -p {order.pipeline} --data COHORT split.fold=0`)."
            )
        self.data: Data = order.data
        self.config = load(RoutesConfig, *user_layers(order.config, order.overrides))
        self.labelled = sorted(set(self.config.labelled))
        descriptions = [read_description(model, TranslationDescription) for model in order.models]
        _check_models(order, descriptions)
        self.pair = descriptions[0].pair
        self.cohort = find_cohort(order.data, self.pair)
        self.tags = {"data_fingerprint": self.cohort.fingerprint()}
        self.folds = tuple(
            _read_fold(number, model, description, self.cohort)
            for number, (model, description) in enumerate(zip(order.models, descriptions, strict=True))
        )
        self.phantom = any(fold.description.origin.phantom for fold in self.folds)
        for fold in self.folds:
            if len(fold.trainable) < self.labelled[-1]:
                raise ConfigError(
                    f"labelled={list(self.config.labelled)}: the split of {fold.model} trains on {len(fold.trainable)} "
                    f"subjects with {' and '.join(self.pair.names)}; ask for fewer."
                )

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        folds = [
            {
                "split_hash": fold.split.hash,
                "translator_sha256": fold.description.weights_sha256,
                "translator_pairs": len(fold.training),
                "tested": len(fold.tested),
            }
            for fold in self.folds
        ]
        return {
            **super().description,
            "bone": {"above_hu": BONE_HU, "least_part_ml": LEAST_ML, "surface_tolerance_mm": TOLERANCE_MM},
            "seeds": list(self.seeds),
            "labelled": self.labelled,
            "budget": budget_of(self.config.segmenter),
            "folds": folds,
            "settings": self.config.model_dump(mode="json"),
        }

    @property
    def parameters(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        return {"labelled": list(self.config.labelled), "seeds": list(self.seeds), "folds": len(self.folds)}

    def notes(self) -> Sequence[str]:
        """See ``StudyKind``."""
        tested, budget = len({pair.subject for fold in self.folds for pair in fold.tested}), self.description["budget"]
        phantom = ["a translator was trained on the built-in phantom, which never stands for a patient"]
        return [
            f"{self.order.folder}: bone of {tested} unseen subjects in {len(self.folds)} folds; segmenters learn from "
            f"{', '.join(map(str, self.config.labelled))} subjects, {len(self.seeds)} seeds, "
            f"{budget['iterations']} iterations of {budget['batch_size']} patches each",
            *(phantom if self.phantom else ()),
        ]

    def stages(self) -> Stages:
        """Labels and synthetic CTs of each fold, and then all routes."""
        folder = self.order.folder
        yield [
            Task(
                f"fold={fold.number}",
                {"split_hash": fold.split.hash, "translator": fold.description.weights_sha256},
                _label_and_translate,
                (self.data, fold, folder / LABELS),
                product=f"{SYNTHETIC}.csv",
            )
            for fold in self.folds
        ]
        untrained = [(route, NO_LABELS, 0) for route in UNTRAINED]
        trained = [(route, number, seed) for seed in self.seeds for number in self.labelled for route in TRAINED]
        yield [self._task(fold, *each) for fold in self.folds for each in (*untrained, *trained)]

    def _task(self, fold: _Fold, route: Route, labelled: int, seed: int) -> Task:
        """A route with so many labelled subjects of a fold and a seed; without labels there is one of each fold."""
        keys: dict[str, str | int] = {"route": route, "labelled": labelled, "fold": fold.number, "seed": seed}
        name, segmenter = f"{route},fold={fold.number}", None
        if route in TRAINED:
            name = f"{route},labelled={labelled},fold={fold.number},seed={seed}"
            pairs = fold.drawn(labelled, seed)
            if leaks := sorted({pair.subject for pair in fold.tested} & {pair.subject for pair in pairs}):
                raise LeakageError(f"the segmenter of {name} would learn from who is tested: {', '.join(leaks)}.")
            scans = tuple(
                replace(pair.source if route == DIRECT else pair.target, mask=self.order.folder / LABELS / pair.file)
                for pair in pairs
            )
            origin = Origin.of(fold.split, phantom=fold.description.origin.phantom)
            segmenter = SegmenterRun(keys, self._segmenter(route), seed, CaseReader(scans), CaseReader(()), origin)
        settings = segmenter.config.model_dump(mode="json") if segmenter else None
        identity = {"route": route, "labelled": labelled, "seed": seed}
        begun = {"split_hash": fold.split.hash, "translator": fold.description.weights_sha256, "segmenter": settings}
        return Task(
            name,
            {**identity, **begun},
            _find_bone,
            (_Finder(keys, fold, self.order.folder, segmenter),),
            parameters={**(settings or {}), **identity},
            tags={"fold": str(fold.number), "split_hash": fold.split.hash},
            outcome=_outcome,
        )

    def _segmenter(self, route: Route) -> SegmenterConfig:
        """The segmenter's settings on a route that has one."""
        direct, own = route == DIRECT, self.config.segmenter
        intensity = self.config.mr_intensity if direct else self.config.ct_intensity
        ct: Domain = self.pair.target.model_copy(update={"window": self.config.ct_window})
        patch = own.patch.model_copy(update={"intensity": intensity})
        return own.model_copy(update={"domain": self.pair.source if direct else ct, "patch": patch})

    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """See ``StudyKind``."""
        table = pd.DataFrame() if rows.empty else _routes_table(rows, self.labelled)
        return StudySummary(
            {"table": plain(table)},
            {TABLE: table},
            [] if table.empty else list(_tables(table)),
            comparisons=differences(table, "route", DIRECT),
            answer={"arm": TRAINED[1], "metric": METRICS[0]},
            artifacts=[TABLE],
        )


def _check_models(order: StudyOrder, descriptions: Sequence[TranslationDescription]) -> None:
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


def _read_fold(number: int, model: Path, description: TranslationDescription, cohort: Cohort) -> _Fold:
    """A translator with its split, held against the cohort; nobody who is tested may have been seen."""
    split = split_of_model(model, description.origin.split_hash, otherwise="leave it out")
    split.check(cohort)
    split.refuse_twins(cohort)
    split.refuse_trained(split.part(cohort, "test"))
    training, tested = (
        tuple(_Pair(*scans) for scans in split.part(cohort, part).pairs(description.pair)) for part in ("train", "test")
    )
    if not tested:
        both, path = " and ".join(description.pair.names), model.parent / "split.json"
        raise ConfigError(f"{path}: no test subject has {both}; use another split.")
    return _Fold(number, model, description, split, training, tested)


def _label_and_translate(context: Context, data: Data, fold: _Fold, labels: Path) -> pd.DataFrame:
    """Label the fold's subjects by their true CT, and translate those that are tested.

    Returns:
        ``source, synthetic``: of each test image its synthetic CT.
    """
    for pair in (*fold.training, *fold.tested):
        if not (labels / pair.file).exists():
            ct = read_volume(pair.target.image)
            bone = _cleaned(_thresholded(ct.voxels), _voxel_ml(ct.grid))
            write_volume(bone.astype(np.uint8), ct.grid, labels / pair.file, np.uint8)
    folder, names = context.folder / SYNTHETIC, fold.description.pair.names
    convert_test(data, folder, fold.model, context.device)
    jobs = find_jobs(data, folder, names[0], pair=names, subjects=fold.split.test).jobs
    return pd.DataFrame({"source": [str(job.source) for job in jobs], SYNTHETIC: [str(job.output) for job in jobs]})


@dataclass(frozen=True)
class _Finder:
    """A route with all that a process needs to find and judge bone."""

    keys: Mapping[str, str | int]
    """Of its rows."""
    fold: _Fold
    """Whose test subjects."""
    folder: Path
    """The study's."""
    segmenter: SegmenterRun | None
    """What it trains; None is a route without."""

    @cached_property
    def synthetic(self) -> Mapping[str, str]:
        """The synthetic CT of each test image."""
        table = pd.read_csv(self.folder / f"fold={self.fold.number}" / f"{SYNTHETIC}.csv", dtype=str)
        return dict(zip(table["source"], table[SYNTHETIC], strict=True))

    def finds(self, context: Context) -> Callable[[Volume, Volume], Mask]:
        """From the MR of a test subject and its synthetic CT to the bone that the route finds, (X, Y, Z)."""
        if self.keys["route"] == "threshold":
            return lambda _, synthetic: _thresholded(synthetic.voxels)
        if self.keys["route"] == "lookup_threshold":
            lookups = CrossingLookups()
            for pair in self.fold.training:
                mr, ct, judged = _scans(pair)
                lookups.add(pair.subject, mr.voxels, ct.voxels, judged)
            lookup = lookups.without("")
            return lambda mr, _: _thresholded(lookup.arms(mr.voxels, mr.voxels.shape)[LOOKUP])
        assert self.segmenter is not None
        train(context, self.segmenter)
        model, fabric = read_model(context.folder / "model", SegmenterDescription), conversion_fabric(context.device)
        direct = self.keys["route"] == DIRECT
        return lambda mr, synthetic: segment_study(model, mr if direct else synthetic, fabric) == 1


def _find_bone(context: Context, finder: _Finder) -> pd.DataFrame:
    """Train the route's segmenter, if it has one, and judge the route on the fold's test subjects; a row a subject.

    A mask is cleaned as the true bone was, judged inside both bodies, three voxels in plane from the nearer skin, and
    kept. A subject's scans are averaged: the subject is the unit of evidence.
    """
    finds, rows = finder.finds(context), []
    for pair in finder.fold.tested:
        mr, ct, judged = _scans(pair)
        synthetic = read_volume(Path(finder.synthetic[str(pair.source.image)]))
        true = Bone(read_volume(finder.folder / LABELS / pair.file).voxels == 1, ct.grid.spacing_mm)
        mask = _cleaned(finds(mr, synthetic), _voxel_ml(mr.grid))
        write_volume(mask.astype(np.uint8), mr.grid, context.folder / FOUND / pair.file, np.uint8)
        scores = _bone_scores(Bone(mask, mr.grid.spacing_mm), true, judged)
        rows.append({**finder.keys, "subject": pair.subject, **scores})
    table = pd.DataFrame(rows).groupby(list(Routes.keys), sort=False, as_index=False)[list(METRICS)].mean()
    if context.tracker:
        context.tracker.metrics({f"test/{metric}": table[metric].mean() for metric in METRICS}, step=0)
    return table


def _thresholded(hu: Array) -> Mask:
    """The voxels of a body that a CT, true or synthetic, shows above 200 HU, (X, Y, Z); not yet cleaned."""
    return np.asarray((hu > BONE_HU) & body(hu, "CT"))


def _cleaned(mask: Mask, voxel_ml: float) -> Mask:
    """A mask (X, Y, Z) without cracks and specks; where the edge of the image cuts bone, nothing is taken off.

    Gaps of up to two voxels are closed slice by slice, then connected parts under 0.1 ml go. Marrow under 200 HU is no
    bone. The same for the true CT, whose result is the label, and for whatever a route finds.
    """
    closed = ndimage.binary_closing(np.pad(mask, [(1, 1), (1, 1), (0, 0)]), IN_PLANE)[1:-1, 1:-1]
    parts, _ = components(closed)
    large = np.bincount(parts.ravel()) * voxel_ml >= LEAST_ML
    large[0] = False
    return np.asarray(large[parts])


def _bone_scores(bone: Bone, true: Bone, where: Mask) -> dict[str, float]:
    """``METRICS`` of a route's bone within a region; not a number where neither has any there.

    ``dice`` is twice the shared voxels over the sum of both, ``surface_dice`` the share of both surfaces within 2 mm of
    the other one, see :func:`medgan.evaluation.bone.bone_surface_dice`: the region's own border makes no surface.
    """
    dice = overlap(bone.mask & where, true.mask & where)
    return {"dice": dice, "surface_dice": bone_surface_dice(bone, true, where)}


def _routes_table(rows: pd.DataFrame, labelled: Sequence[int]) -> pd.DataFrame:
    """Every route's figures over subjects for each number of labelled subjects, and its difference to learning on MR.

    Seeds are averaged within the subject, the unit of evidence. Routes without labels stand beside each number, each
    time compared with the segmenter of MR that learnt from so many.

    Returns:
        ``labelled, route``, then the columns of ``medgan.evaluation.statistics.summarise``.
    """
    parts = []
    for number in sorted(set(labelled)):
        frame = rows[rows["labelled"].isin([number, NO_LABELS])].rename(columns={"route": "arm"})
        frame = frame.sort_values("arm", key=lambda arm: arm.map(list(NAMES).index), kind="stable")
        part = summarise(frame, METRICS, baseline=DIRECT).rename(columns={"arm": "route"})
        part.insert(0, "labelled", number)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    return table[table["mean"].notna()].reset_index(drop=True)


def _tables(table: pd.DataFrame) -> Iterator[RenderableType]:
    """One a metric."""
    for metric, title in TITLES.items():
        own = table[table["metric"] == metric]
        lines = summarised(own, lambda row: (str(row["labelled"]), NAMES[str(row["route"])]))
        heads = ["n", "route"], ["mean", "difference", "p"]
        yield shown_table(title, *heads, lines, box=SIMPLE_HEAD, pad_edge=False)
    yield Text(
        "n: labelled subjects. sCT segmenter: learnt on true CT, looks at synthetic CT. sCT threshold: 200 HU of "
        "synthetic CT. MR look-up: 200 HU of the mean HU of each MR intensity. Means over unseen subjects with "
        f"Student's {LEVEL:.0%} intervals, where MR and CT show the same body. Differences are to the MR segmenter of "
        "as many labels, paired by subject; p of Wilcoxon's test, not corrected for their number."
    )


def _outcome(folder: Path) -> str:
    return f"Dice {pd.read_csv(folder / ROWS)['dice'].mean():.3f}"


def _voxel_ml(grid: Grid) -> float:
    return float(np.prod(grid.spacing_mm)) / 1000


def _scans(pair: _Pair) -> tuple[Volume, Volume, Mask]:
    """The MR and the CT of a subject, which must be on one grid, and where both show the same body."""
    mr, ct = read_volume(pair.source.image), read_volume(pair.target.image)
    if not same_grid(mr.grid, ct.grid):
        raise GeometryError(
            f"{mr.path} and {ct.path} are on different voxel grids; register them with `medgan data register`."
        )
    return mr, ct, core(body(mr.voxels, "MR"), body(ct.voxels, "CT"))
