"""Few real cases, with and without synthetic ones: does synthesis help a segmenter?"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, Self, get_args

import numpy as np
import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from rich.console import Console, RenderableType
from rich.text import Text

from medgan import catalog
from medgan.config import Settings, load
from medgan.data.domains import DomainPair
from medgan.data.splits import Part, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Data, Study, augmented_left_out, find_cohort, without_augmented
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError, DataError
from medgan.evaluation.segmentation import METRICS
from medgan.evaluation.statistics import LEVEL, compare_arms, plain, slope
from medgan.pipeline import Pipeline
from medgan.segmentation.labelled import Labels, labels_of, merged
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies.base import Stages, StudyOrder, StudySummary, Task, TaskFailure
from medgan.studies.cases import RECORD, CaseRecipe, Draw, SyntheticCases, make_cases, outcome_of, train_on
from medgan.studies.engine import content_hash
from medgan.studies.segmenter import CURVES, Arm, ArmsConfig, BenefitStudy, CaseReader, TestImage, layered, means
from medgan.studies.subjects import Guard
from medgan.studies.tables import Row, crossed, in_order, interval, p_value
from medgan.studies.tables import table as shown_table
from medgan.synthesis.generators import SynthesisConfig
from medgan.synthesis.insertion import InsertionConfig
from medgan.training.model_folder import CARD, Origin
from medgan.training.run_folder import MAX_NAMED

AugmentationArm = Literal[
    "real", "standard", "copy-paste", "carve-mix", "generator", "standard+healthy", "standard+elastic",
    "standard+copy-paste", "standard+carve-mix", "standard+generator", "standard+shuffled",
]  # fmt: skip
ARMS = (
    Arm("real", None, standard=False, reference=None),
    Arm("standard", None, standard=True, reference="real"),
    Arm("copy-paste", "copy-paste", standard=False, reference="real"),
    Arm("carve-mix", "carve-mix", standard=False, reference="real"),
    Arm("generator", "generator", standard=False, reference="real"),
    Arm("standard+healthy", "healthy", standard=True, reference="standard"),
    Arm("standard+elastic", "elastic", standard=True, reference="standard"),
    Arm("standard+copy-paste", "copy-paste", standard=True, reference="standard"),
    Arm("standard+carve-mix", "carve-mix", standard=True, reference="standard"),
    Arm("standard+generator", "generator", standard=True, reference="standard"),
    Arm("standard+shuffled", "generator", standard=True, reference="standard", shuffled=True),
)
"""In the order of every table. What is extra is made by a method; ``healthy`` adds healthy scans as they are."""
FURTHER = (
    ("generator", "copy-paste"),
    ("standard+copy-paste", "standard+healthy"),
    ("standard+generator", "standard+healthy"),
    ("standard+generator", "standard+elastic"),
    ("standard+generator", "standard+copy-paste"),
    ("standard+generator", "standard+carve-mix"),
    ("standard+generator", "generator"),
    ("standard+generator", "standard+shuffled"),
)
"""Is it the lesions or only the heads that they lie in, is it the generator or only more variety, does it add to what
is usual, and must images and labels fit."""
BY_NAME = {arm.name: arm for arm in ARMS}
QUESTION = {"arm": "standard+generator", "reference": "standard"}
"""What the generator adds to standard augmentation."""
GENERATORS, CASES = "generators", "cases"
"""Folders of a study."""
TITLES = {"dice": "Dice", "lesion_f1": "Lesion-wise F1", "false_lesions": "False lesions per subject"}
"""The metrics that are printed, and compared for each seed apart; the files hold all."""
MEAN = "mean"
"""The mean of all organs of a subject, beside them."""
ALL = "all"
"""The seeds together."""


class AugmentationConfig(ArmsConfig):
    """What is compared with how few cases, and how everything is trained."""

    known, further = BY_NAME, FURTHER
    shorter = "sizes=[5] segmenter.fit.epochs=5 synthesis.fit.epochs=5"
    sizes: tuple[PositiveInt, ...] = Field(default=(5, 10, 25, 50), min_length=1)
    """Training subjects; of one seed the fewer are among the more."""
    arms: tuple[AugmentationArm, ...] = tuple(name for name in get_args(AugmentationArm) if name != "standard+healthy")
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
    def _fits_together(self) -> Self:
        placements = {self.insertion.placement, self.insertion_of("generator").placement}
        if self.healthy and "replace" in placements:
            raise ValueError("healthy subjects have no organ whose place another could take; set healthy=0")
        if "standard+healthy" in self.arms and not self.healthy:
            raise ValueError("standard+healthy learns from healthy subjects, too: say how many, as healthy=15")
        if "standard+shuffled" in self.arms and not {"generator", "standard+generator"} & set(self.arms):
            raise ValueError("standard+shuffled takes the ratio of the generator: name standard+generator, too")
        return self

    @property
    def methods(self) -> tuple[str, ...]:
        """What the arms need, in their order."""
        needed = [BY_NAME[name].extra for name in self.arms]
        return tuple(dict.fromkeys(method for method in needed if method))

    def insertion_of(self, method: str) -> InsertionConfig:
        """How a method inserts."""
        own = self.generator_insertion if method == "generator" else {}
        return load(InsertionConfig, self.insertion.model_dump(), own)


class Augmentation(BenefitStudy):
    """For each size and seed of training subjects: generators, synthetic cases, ratios, and one segmenter an arm.

    Everything of a size and a seed learns from its few subjects alone. Sizes run one after the other, the smallest
    first.
    """

    heeds = ("data", "quick")
    keys = ("arm", "size", "seed", "ratio_percent", "subject", "organ")
    rows_file, result_file = "augmentation.csv", "augmentation.json"
    recorded, told_apart = ("arms", "seeds", "sizes"), ("arm", "size", "seed", "ratio_percent")
    within = "segmenters/"
    config: AugmentationConfig
    arms: tuple[Arm, ...]

    def __init__(self, order: StudyOrder, console: Console) -> None:
        # Before its settings are read, which another task would not know, and before its phantom is rendered.
        if not issubclass(catalog.load(order.pipeline).settings, SynthesisConfig):
            raise ConfigError(f"'{order.pipeline}' trains no lesion generator; use --pipeline lesion_augmentation.")
        super().__init__(order, console)
        self.config = config = layered(AugmentationConfig, order)
        self.segmenter = load(SegmenterConfig, {"labels": {"any": (1,)}, **config.segmenter})
        if self.segmenter.fit.keep != "last":
            raise ConfigError(
                "segmenter.fit.keep=best would let validation subjects, who are not among the few, choose each "
                "segmenter's epoch; leave it at last."
            )
        domain = self.segmenter.domain
        pair = DomainPair(source=domain, target=domain, paired=False)
        pipeline = self._pipeline()
        table = order.data or self.rendered(pipeline) / pipeline.phantom_table
        self.cohort, self.augmented = without_augmented(_labelled_cohort(table, pair))
        if "labels" in config.segmenter:
            self.segmenter = self.segmenter_config(config.lesions)
        else:
            self.segmenter = self.segmenter_config((), labels=labels_of(self.cohort))
        self.split = split_subjects(self.cohort, pair, config.split)
        self.draws = _draws(config, self.seeds, self._part("train"), self.segmenter.labels)
        self.synthesis = self._synthesis_config()
        self.guard = Guard.of(self.cohort, subjects=self.split.test)
        self.guard.admit([*self._part("train"), *self._part("validation")], "the training")
        self.freeze(self.split)
        self.sizes = tuple(dict.fromkeys(draw.size for draw in self.draws))
        self.arms = tuple(BY_NAME[name] for name in config.arms)
        self.sweeps: list[dict[str, Any]] = []
        self.tested = {}

    def _pipeline(self, *layers: Settings) -> Pipeline[Any]:
        """The pipeline that trains generators, with settings laid over its own."""
        own = catalog.load(self.order.pipeline)
        return own.configured(*layers, on_phantom=self.phantom, on_cpu=self.order.on_cpu)

    def _synthesis_config(self) -> SynthesisConfig:
        """The generators' settings: the pipeline's, for what the segmenter segments; the last epoch is kept."""
        config = self._pipeline(self.config.synthesis).config
        own = {name: getattr(config, name) for name in SynthesisConfig.model_fields}
        # Validation subjects are not among the few: they must not choose an epoch.
        own["fit"] = config.fit.model_copy(update={"keep": "last"})
        return SynthesisConfig(**own | {name: getattr(self.segmenter, name) for name in ("labels", "domain", "grid")})

    def _part(self, name: Part) -> tuple[Study, ...]:
        """The labelled images of a part."""
        return self.split.part(self.cohort, name).studies

    def _of(self, subjects: Sequence[str]) -> tuple[Study, ...]:
        own = {scan.subject: scan for scan in self.cohort.studies}
        return tuple(own[subject] for subject in subjects)

    @property
    def description(self) -> Mapping[str, Any]:
        """See ``StudyKind``."""
        arms = [arm.name for arm in self.arms]
        return self.described({"seeds": list(self.seeds), "sizes": list(self.sizes), "arms": arms}, {})

    def notes(self) -> Sequence[str]:
        """See ``StudyKind``."""
        besides = f" and {self.config.healthy} healthy ones" if self.config.healthy else ""
        budget = self.description["budget"]
        return [
            *super().notes(),
            *filter(None, [augmented_left_out(self.augmented)]),
            f"{self.order.folder}: {', '.join(self.segmenter.labels)} in {self.segmenter.domain.name}; "
            f"n = {', '.join(map(str, self.sizes))}{besides} x {len(self.seeds)} seeds x {len(self.arms)} arms, "
            f"{budget['iterations']} steps of {budget['batch_size']} patches each; "
            f"{len(self.split.validation)} validation and {len(self.split.test)} test subjects",
        ]

    def stages(self) -> Stages:
        """For each size: generators, synthetic cases, the ratio of each method, and all segmenters.

        Where a draw's generator or cases fail, the arms that need them are left out for this draw alone: differences
        are taken within a draw. A method of which no ratio could be trained is left out for this size.
        """
        for size in self.sizes:
            draws = [draw for draw in self.draws if draw.size == size]
            ready: dict[str, list[Draw]] = {}
            for method in self.config.methods:
                own = draws
                if method == "generator":
                    failed = yield [self._generator_task(draw) for draw in draws]
                    own = _without(failed, f"{GENERATORS}/", own)
                failed = yield [self._cases_task(method, draw) for draw in own]
                if own := _without(failed, f"{CASES}/{method},", own):
                    ready[method] = own
            ratios = yield from self._choose_ratios(size, ready)
            yield [
                self._task(arm, draw, ratios[arm.extra] if arm.extra else 0)
                for draw in draws
                for arm in self.arms
                if arm.extra is None or (arm.extra in ratios and draw in ready[arm.extra])
            ]

    def _generator_task(self, draw: Draw) -> Task:
        """The training of a draw's generator, on its few subjects alone.

        Validation subjects are looked at to find mode collapse; the last epoch is kept, so that they choose nothing.
        """
        scans, validation = self._of(draw.labelled), self._part("validation")
        settings = self.synthesis.model_dump(mode="json")
        inputs = {"size": draw.size, "seed": draw.seed, "split_hash": self.split.hash, "images": content_hash(scans)}
        origin = Origin.of(self.split, phantom=self.phantom)
        return Task(
            f"{GENERATORS}/{draw.name}",
            {**inputs, "generator": settings},
            train_on,
            (self.synthesis, self.segmenter, draw, scans, validation, origin),
            product=f"model/{CARD}",
            parameters={**settings, "seed": draw.seed, "size": draw.size},
            scans=(*scans, *validation),
        )

    def _cases_task(self, method: str, draw: Draw) -> Task:
        """The making of a method's synthetic cases of a draw, of the draw's own subjects alone."""
        donors = self._of(draw.labelled)
        # Healthy subjects, where there are any, receive lesions and lend none.
        recipients = self._of(draw.healthy) if draw.healthy and method != "elastic" else donors
        generator = self.order.folder / GENERATORS / draw.name / "model" if method == "generator" else None
        insertion = self.config.insertion_of(method)
        recipe = CaseRecipe(
            method, draw, self.segmenter, insertion, self.config.insertion.variation, self.config.bend,
            self.config.cases, recipients, donors, generator,
        )  # fmt: skip
        inputs = {
            "method": method,
            "size": draw.size,
            "seed": draw.seed,
            "split_hash": self.split.hash,
            "images": content_hash([*donors, *(recipients if draw.healthy else ())]),
            "wanted": self.config.cases,
            "insertion": insertion.model_dump(mode="json"),
            "bend": self.config.bend,
            "labels": {name: list(values) for name, values in self.segmenter.labels.items()},
            "grid": self.segmenter.grid.model_dump(mode="json"),
            "generator": recipe.model.description.weights_sha256 if generator else None,
        }
        name = f"{CASES}/{method},{draw.name}"
        return Task(name, inputs, make_cases, (recipe,), RECORD, scans=(*recipients, *donors), outcome=outcome_of)

    def _task(self, arm: Arm, draw: Draw, ratio: int, *, test: bool = True) -> Task:
        """The training of one segmenter, and its test."""
        scans, validation = self._of(draw.labelled), self._part("validation")
        extra = None
        if arm.extra:
            extra = SyntheticCases(self.order.folder / CASES / f"{arm.extra},{draw.name}", draw, exchanged=arm.shuffled)
        return self.arm_task(
            arm,
            {"size": draw.size, "seed": draw.seed, "ratio_percent": ratio},
            draw.name,
            (CaseReader(scans), CaseReader(validation), extra),
            {"images": content_hash(scans), "synthetic": extra.sha256 if extra else None},
            (*scans, *validation),
            test=test,
        )

    def _test_images(self) -> Iterator[TestImage]:
        """The labelled images of the test subjects."""
        return map(TestImage, self._part("test"))

    def _swept(self, method: str) -> str:
        """The arm whose validation chooses a method's ratio: on top of standard augmentation, if that is asked for."""
        own = [arm for arm in self.arms if arm.extra == method and not arm.shuffled]
        return min(own, key=lambda arm: not arm.standard).name

    def _choose_ratios(
        self, size: int, ready: Mapping[str, Sequence[Draw]]
    ) -> Generator[Sequence[Task], Sequence[TaskFailure], dict[str, int]]:
        """Train each method's swept arm with every ratio and seed, and take the best mean; no test subject is touched.

        The segmenters with the chosen ratio are the study's own: they are trained once.
        """
        if len(self.config.ratios_percent) < 2:
            ratio = self.config.ratios[0]
            nothing: dict[str, Any] = {"ratio_percent": ratio, "arm": None, "val_dice": {}}
            self.sweeps += [{"size": size, "method": method, **nothing} for method in ready]
            return dict.fromkeys(ready, ratio)
        names = {method: f"n={size} {method}" for method in ready}
        chosen, reasons = yield from self.choose(
            {
                names[method]: {
                    ratio: [self._task(arm, draw, ratio, test=False) for draw in draws]
                    for ratio, arm in self.tried(self._swept(method)).items()
                }
                for method, draws in ready.items()
            }
        )
        ratios = {}
        for method, name in names.items():
            if name not in chosen:
                self.failures.append(
                    TaskFailure(f"{method},n={size}", f"none of its ratios could be trained: {reasons}")
                )
                continue
            ratios[method], dice = chosen[name]
            scores = {"arm": self._swept(method), "val_dice": {str(ratio): mean for ratio, mean in dice.items()}}
            self.sweeps.append({"size": size, "method": method, "ratio_percent": ratios[method], **scores})
        return ratios

    def summary(self, rows: pd.DataFrame) -> StudySummary:
        """See ``StudyKind``."""
        all_organs = _with_mean(rows)
        by_arm = means(all_organs, ["arm", "size", "organ"])
        compared = _comparisons(all_organs, self.config.comparisons)
        sloping = _slopes(all_organs, self.config.comparisons)
        organs = list(dict.fromkeys(by_arm["organ"]))
        organ = organs[0] if organs and MEAN not in organs else MEAN
        record = {
            "command": self.order.command,
            "sweeps": self.sweeps,
            "means": plain(by_arm),
            "comparisons": plain(compared),
            "slopes": plain(sloping),
            "learning_curves": CURVES,
        }
        shown = [table[table["organ"] == organ] if len(table) else table for table in (by_arm, compared, sloping)]
        return self.concluded(
            record,
            compared,
            iter(()) if rows.empty else self._tables("" if organ == MEAN else f" of {organ}", *shown),
            headlines=tuple(TITLES),
            answer=QUESTION | {"metric": "dice", "organ": organ},
            metrics=_gains(compared),
        )

    def _tables(
        self, of: str, by_arm: pd.DataFrame, compared: pd.DataFrame, sloping: pd.DataFrame
    ) -> Iterator[RenderableType]:
        """For each metric the arms by size, their differences, and how Dice differences change with size."""
        for metric, title in TITLES.items():
            own, other = (table[table["metric"] == metric] for table in (by_arm, compared))
            if len(own):
                sizes = sorted(set(own["size"]))
                lines = crossed(own, [(arm.name,) for arm in self.arms], ["arm"], "size", sizes, interval)
                yield shown_table(f"{title}{of}", ["arm"], [f"n={size}" for size in sizes], lines, show_lines=True)
            if len(other):
                shown = sloping if metric == "dice" else sloping.iloc[:0]
                yield _differences(f"Difference in {title}{of}", other, shown)
        note = (
            f"n: training subjects. Seeds are averaged within each test subject, then {LEVEL:.0%} intervals over test "
            "subjects; differences are paired by subject, with the mean of each seed behind them; p of Wilcoxon's "
            "test, corrected over the lines of a size (Holm). The slope is what a difference changes as n doubles."
        )
        if "false_lesions" in set(by_arm["metric"]):
            note += " False lesions touch no true one, in healthy subjects, too; fewer are better."
        yield Text(note)


def _without(failed: Sequence[TaskFailure], place: str, draws: Sequence[Draw]) -> list[Draw]:
    """The draws of which nothing failed at a place."""
    return [draw for draw in draws if f"{place}{draw.name}" not in {failure.child for failure in failed}]


def _labelled_cohort(table: Data, pair: DomainPair) -> Cohort:
    """The images of a domain that have a mask; there must be some, and one of each subject."""
    cohort, domain = find_cohort(table, pair), pair.source.name
    labelled = replace(cohort, studies=tuple(scan for scan in cohort.studies if scan.mask))
    if not labelled.studies:
        raise DataError(f"{table}: no {domain} image has a mask; name label maps in the CSV's `mask` column.")
    counts = Counter(scan.subject for scan in labelled.studies)
    if several := [subject for subject, count in counts.items() if count > 1]:
        raise DataError(
            f"{table}: {', '.join(several[:MAX_NAMED])} {'has' if len(several) == 1 else 'have'} several labelled "
            f"{domain} images; a study of n subjects counts one image of each: keep one."
        )
    return labelled


def _draws(
    config: AugmentationConfig, seeds: Sequence[int], train: Sequence[Study], labels: Labels
) -> tuple[Draw, ...]:
    """Who is learnt from, by size and seed; a size counts subjects with a labelled voxel, and ``healthy`` the others.

    A seed shuffles the training part once, and a size takes as many from its beginning: the fewer are among the more.
    """
    scans = sorted(train, key=lambda scan: scan.subject)
    pool = [scan.subject for scan in scans if scan.mask and merged(read_volume(scan.mask), labels).any()]
    others = [scan.subject for scan in scans if scan.subject not in pool]
    sizes = sorted(set(config.sizes))
    for setting, number, there, have in (
        (f"sizes={list(config.sizes)}", sizes[-1], pool, "a"),
        (f"healthy={config.healthy}", config.healthy, others, "no"),
    ):
        if number > len(there):
            raise ConfigError(
                f"{setting}: {len(there)} of {len({scan.subject for scan in train})} training subjects have {have} "
                f"voxel of {', '.join(labels)}; ask for fewer, or make split.test smaller."
            )

    def first(subjects: Sequence[str], seed: int, count: int) -> tuple[str, ...]:
        return tuple(np.random.default_rng(seed).permutation(subjects).tolist()[:count])

    return tuple(
        Draw(size, seed, first(pool, seed, size), first(others, seed, config.healthy))
        for size in sizes
        for seed in seeds
    )


def _with_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and where there are several organs a row for the mean of each subject's."""
    if rows["organ"].nunique() < 2:
        return rows
    keys = [key for key in Augmentation.keys if key != "organ"]
    means = rows.groupby(keys, sort=False, as_index=False)[list(METRICS)].mean().assign(organ=MEAN)
    return pd.concat([rows, means[list(rows.columns)]], ignore_index=True)


def _comparisons(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How much each arm exceeds its reference on the same test subjects, by size: all seeds together, then each.

    Returns:
        ``size, seed``, the latter ``ALL`` or, of several, one; then the columns of
        ``medgan.evaluation.statistics.compare_arms``, whose correction for many comparisons is within a size.
    """
    tables = []
    for size, own in rows.groupby("size"):
        # One test set; a seed stands for its subset of subjects, too.
        own = own.assign(subset=0, test_set="test")
        tables.append(compare_arms(own, pairs, METRICS).assign(size=size, seed=ALL))
        for seed, one in own.groupby("seed") if own["seed"].nunique() > 1 else ():
            # The files would hold too much with all metrics.
            tables.append(compare_arms(one, pairs, tuple(TITLES)).assign(size=size, seed=str(seed)))
    if not tables:
        return pd.DataFrame(columns=["size", "seed"])
    return in_order(pd.concat(tables, ignore_index=True).drop(columns="test_set"), ["size", "seed"])


def _slopes(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """How the gain in Dice changes each time that the number of training subjects doubles.

    Below zero it shrinks. The line goes through all sizes; intervals are over test subjects.

    Returns:
        ``arm, reference, organ, mean, lower, upper, n``; empty where there are not two sizes.
    """
    tables = []
    for organ, own in rows.groupby("organ", sort=False):
        dice = own.groupby(["arm", "subject", "size"])["dice"].mean().unstack("size")
        dice.columns = np.log2(dice.columns.astype(float))
        known = set(own["arm"])
        for arm, other in pairs:
            if {arm, other} <= known:
                differences = (dice.loc[arm] - dice.loc[other]).dropna(axis=1, how="all")
                if differences.shape[1] > 1:
                    tables.append({"arm": arm, "reference": other, "organ": organ} | asdict(slope(differences)))
    return pd.DataFrame(tables, columns=["arm", "reference", "organ", "mean", "lower", "upper", "n"])


def _gains(compared: pd.DataFrame) -> dict[str, float]:
    """What the generator adds to standard augmentation, by tracking key: ``gain/n5/mean_dice``."""
    if compared.empty:
        return {}
    wanted = pd.Series(QUESTION | {"seed": ALL})
    own = compared[(compared[list(wanted.index)] == wanted).all(axis=1) & compared["metric"].isin(TITLES)]
    keys = "gain/n" + own["size"].astype(str) + "/" + own["organ"] + "_" + own["metric"]
    return dict(zip(keys, own["mean"], strict=True))


def _differences(title: str, compared: pd.DataFrame, sloping: pd.DataFrame) -> RenderableType:
    """Differences by size with their p-values and the mean of each seed behind them, and their slopes."""
    sizes, names = sorted(set(compared["size"])), ["arm", "reference"]
    together = compared["seed"] == ALL
    apart = compared[~together].groupby([*names, "size"])["mean"].agg(list).to_dict()

    def cell(row: Row) -> str:
        p = p_value(row["p_holm"])
        seeds = " ".join(f"{mean:+.3f}" for mean in apart.get((row["arm"], row["reference"], row["size"]), ()))
        return "\n".join(filter(None, [interval(row, sign="+"), p and f"p {p}", seeds and f"seeds {seeds}"]))

    pairs = list(dict.fromkeys(zip(compared["arm"], compared["reference"], strict=True)))
    lines = crossed(compared[together], pairs, names, "size", sizes, cell)
    heads = [f"n={size}" for size in sizes]
    if len(sloping):
        slope_of = {(row["arm"], row["reference"]): interval(row, sign="+") for row in sloping.to_dict("records")}
        lines = [[*line, slope_of.get((line[0], line[1]), "")] for line in lines]
        heads.append("slope")
    return shown_table(title, ["arm", "less"], heads, lines, show_lines=True)
