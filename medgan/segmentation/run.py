"""One run of ``medgan segment-train``: from a labelled cohort to a model folder, recorded in MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from medgan.config import from_overrides, load, merged, read_yaml
from medgan.data.cache import Cache, default_folder
from medgan.data.domains import Domain, DomainPair, domain_named
from medgan.data.splits import Part, Split, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Data, Location, find_cohort
from medgan.errors import ConfigError, DataError
from medgan.segmentation.labelled import Labelled, is_phantom, labels_of, read_labelled
from medgan.segmentation.model import SegmenterModel
from medgan.segmentation.settings import SOFT_TISSUE, SegmenterConfig
from medgan.segmentation.training import train_segmenter
from medgan.tracking import Tracker, check_store, code_revision
from medgan.training.description import Origin
from medgan.training.device import make_fabric
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import library_versions
from medgan.training.recorder import Recorder
from medgan.training.run_folder import RunFolder, check_unchanged, is_begun, new_run, run_to_resume

EXPERIMENT = "segmenter"


@dataclass(frozen=True)
class SegmentTrainOrder:
    """What a user asks of ``medgan segment-train``."""

    data: Data | None
    """A cohort with masks; None only on resume."""
    domain: str | None = None
    """Whose images are learnt from, ``NAME`` or ``NAME:CT``; None is the settings'."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    seed: int = 0
    out: Path = Path("runs")
    name: str | None = None
    """The run's name; None is the time, or with ``resume`` the last run."""
    resume: bool = False
    tracking: str | None = None
    device: str = "auto"
    resume_or_start: bool = False
    """Go on with the run called ``name`` where there is one, else start it; settings are then the run's own or none."""


@dataclass(frozen=True)
class SegmentTrained:
    """A finished run."""

    run: RunFolder
    model: SegmenterModel
    tracked: str
    """Where to look at the run in MLflow."""


def train_on_cohort(order: SegmentTrainOrder, console: Console) -> SegmentTrained:
    """Train a segmenter on a cohort's training subjects; its validation subjects choose the epoch.

    Raises:
        MedganError: Whatever keeps the training from starting or going on; the message says what to do.
        Interrupted: Asked to stop; the run can be resumed.
    """
    if order.resume_or_start:
        order = replace(order, resume=is_begun(order.out / EXPERIMENT, order.name))
    run, config, cohort, seed = _resumed(order) if order.resume else _started(order)
    before = run.facts()
    check_store(order.tracking, before.get("tracking_uri"))
    with alone_in(run.path, console):
        split = Split.load(run.split) if order.resume else split_subjects(cohort, _pair(config.domain), SplitConfig())
        split.check(cohort)
        split.refuse_twins(cohort)
        for line in filter(None, (*cohort.notes, cohort.note, split.unchecked)):
            console.out(line, highlight=False)
        train, validation = (_labelled(cohort, split, part, config) for part in ("train", "validation"))
        fabric = make_fabric(order.device, config.fit.precision)
        origin = Origin.of(split, data_fingerprint=cohort.fingerprint(), phantom=is_phantom(cohort))
        with _tracked(order, run.name, config.model_dump(mode="json") | {"seed": seed}, origin, before) as tracker:
            recorded = {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri}
            if order.resume:
                run.note(recorded)
            else:
                place = Location.of(order.data).facts() if order.data else {}
                facts = place | {"seed": seed, "device": str(fabric.device), "git_revision": code_revision()}
                run.start(config, split, facts | {"versions": library_versions()} | recorded)
            model = train_segmenter(
                train, validation, config, seed=seed, folder=run.path, fabric=fabric, resume=order.resume,
                origin=origin, recorder=Recorder(run.path, tracker, console),
            )  # fmt: skip
            tracker.artifact(run.path / "metrics.csv")
            tracker.model(run.model, None)
            return SegmentTrained(run, model, tracker.describe())


Begun = tuple[RunFolder, SegmenterConfig, Cohort, int]


def _started(order: SegmentTrainOrder) -> Begun:
    if order.data is None:
        raise ConfigError("there is nothing to learn from; name a cohort with masks by --data.")
    run = new_run(order.out / EXPERIMENT, order.name)
    cohort, config = _asked(order, order.data)
    return run, config, cohort, order.seed


def _asked(order: SegmentTrainOrder, data: Data) -> tuple[Cohort, SegmenterConfig]:
    """The cohort, and the settings that the order asks for."""
    asked = merged(read_yaml(order.config) if order.config else {}, from_overrides(order.overrides))
    if order.domain:
        asked = merged({"domain": _domain(order.domain).model_dump()}, asked)
    domain = load(SegmenterConfig, {"labels": {"any": 1}}, {"domain": asked.get("domain", {})}).domain
    cohort = find_cohort(data, _pair(domain))
    return cohort, load(SegmenterConfig, {} if "labels" in asked else {"labels": labels_of(cohort)}, asked)


def _resumed(order: SegmentTrainOrder) -> Begun:
    changes = bool(order.config or order.overrides or order.domain)
    if changes and not order.resume_or_start:
        raise ConfigError(
            "--resume goes on with the run's own settings; leave --config, --domain and KEY=VALUE out, or start anew."
        )
    run = run_to_resume(order.out / EXPERIMENT, order.name)
    config, facts = load(SegmenterConfig, run.config), run.facts()
    data, seed = order.data or Location.of_facts(facts), facts.get("seed")
    if data is None or not isinstance(seed, int):
        raise DataError(f"{run.path / 'run.json'}: does not say the run's data and seed; start the run anew.")
    if changes:
        check_unchanged(run, config, _asked(order, data)[1])
    if order.resume_or_start and order.seed not in (0, seed):
        raise ConfigError(f"{run.path}: the run was begun with --seed {seed}; give that, or another --name.")
    return run, config, find_cohort(data, _pair(config.domain)), seed


def _domain(text: str) -> Domain:
    """A domain by its name; CT is looked at in the window of soft tissue."""
    domain = domain_named(text)
    return SOFT_TISSUE.model_copy(update={"name": domain.name}) if domain.modality == "CT" else domain


def _pair(domain: Domain) -> DomainPair:
    """One domain in the form in which cohorts are found and divided."""
    return DomainPair(source=domain, target=domain, paired=False)


def _labelled(cohort: Cohort, split: Split, part: Part, config: SegmenterConfig) -> list[Labelled]:
    cache = Cache(default_folder())
    studies = split.part(cohort, part).studies
    return [read_labelled(study, config.domain, config.grid, config.labels, cache) for study in studies]


def _tracked(
    order: SegmentTrainOrder, name: str, parameters: dict[str, Any], origin: Origin, before: dict[str, Any]
) -> Tracker:
    """The MLflow run: a new one, or the one that ``before``, what ``run.json`` told at the start, says was begun."""
    return Tracker.start(
        order.tracking,
        recorded=before.get("tracking_uri"),
        experiment=EXPERIMENT,
        run_name=name,
        parameters=parameters,
        tags={"split_hash": origin.split_hash, "data_fingerprint": origin.data_fingerprint},
        run_id=before.get("mlflow_run_id"),
    )
