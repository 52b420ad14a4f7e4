"""One training, from what the user asked to a model folder: the story of ``medgan train``."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning_fabric import Fabric
from rich.console import Console

from medgan import catalog
from medgan.config import Settings, load, to_yaml, user_layers, without_places
from medgan.data.cache import Cache, default_folder
from medgan.data.splits import Split, split_subjects
from medgan.data.streams import write_text
from medgan.data.studies import Cohort, Data, Location
from medgan.errors import ConfigError, DataError
from medgan.pipeline import Pipeline
from medgan.threads import free, taken
from medgan.training.device import Place, Precision, make_fabric, take_place
from medgan.training.folder_lock import alone_in
from medgan.training.model_folder import CARD, Description, Origin, library_versions
from medgan.training.ranks import AFTER_ANOTHER, LostRankError, Ranks, joined
from medgan.training.recorder import Recorder, TrainLog
from medgan.training.run_folder import RunFolder, changed_settings, is_begun, new_run, run_to_resume

if TYPE_CHECKING:
    from medgan.tracking import KeptModel

TAGS = ("pipeline", "data_fingerprint", "split_hash", "git_revision", "device")
"""The facts of a run by which people search in MLflow."""


@dataclass(frozen=True)
class Order:
    """What a user asks of ``medgan train``."""

    pipeline: str
    data: Data | None = None
    """A cohort; None is the built-in phantom."""
    config: Path | None = None
    overrides: Sequence[str] = ()
    out: Path = Path("runs")
    name: str | None = None
    """The run's name; None is the time, or with ``resume`` the last run."""
    resume: bool = False
    tracking: str | None = None
    register: str | None = None
    """The name under which MLflow registers the model; None registers nothing."""
    device: str = "auto"
    threads: int | None = None
    """Of the processor; None takes those that are free, or with ``resume`` those of before."""
    devices: int | None = None
    """How many of a node's devices share the training; None is one, as many as ``device`` names, or as torchrun or srun
    started processes."""
    num_nodes: int | None = None
    """How many machines do."""
    split: Path | None = None
    """A split to train on as it is, drawn elsewhere for several runs; None draws one."""
    phantom: bool = False
    """Whether ``data`` holds the built-in phantom, rendered elsewhere for several runs."""
    parent: str | None = None
    """The MLflow run that this one is a child of."""
    settings: Settings = field(default_factory=dict)
    """Of a command's own options; ``config`` and ``overrides`` win."""
    resume_or_start: bool = False
    """Go on with the run called ``name`` where there is one, else start it; settings are then the run's own or none."""


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    run: RunFolder
    description: Description
    """The model's."""
    used_by: str
    """The command that the model is for, without ``--model``."""
    tracked: str
    """Where to look at the run in MLflow."""
    model_uri: str | None
    """The model in MLflow, as ``medgan convert --model`` takes it; None when the store was lost."""


def train(order: Order, console: Console) -> Trained:
    """Train a pipeline; of several processes that torchrun or srun started, each gets the same answer.

    Raises:
        MedganError: Whatever keeps the training from starting or going on; the message says what to do.
        Interrupted: Asked to stop; the run can be resumed.
        SystemExit: In a process beside the first, which tells what happened.
    """
    place, devices = take_place(order.device, order.devices, order.num_nodes)
    order = _with_threads(order, place)
    with joined(place, devices, _assist, order) as ranks:
        if ranks.first:
            return ranks.of_first(_lead(replace(order, device=ranks.device), console, ranks))
        try:
            return _assist(ranks, order)
        except (LostRankError, KeyboardInterrupt):
            sys.exit(AFTER_ANOTHER)


def _with_threads(order: Order, place: Place) -> Order:
    """The order with the threads of each process of a training: what others of them compute is no neighbour's work."""
    if place.world == 1:
        return order
    sharing = 1 if place.launcher else place.local_world  # srun gives each its cores, and torchrun tells it its threads
    return replace(order, threads=max(1, (order.threads or free().number) // sharing))


def _assist(ranks: Ranks, order: Order) -> Trained:
    """What a rank beside the first does: the training alone, of what the first one has found."""
    config, data, cohort, split, folder, resume, precision = ranks.of_first(cast(Any, None))
    pipeline = catalog.load(order.pipeline)(config)
    with ranks.first_of_node():
        if data is None and not cohort.studies[0].image.exists():
            cohort = pipeline.cohort(None)  # each node has a phantom in its own cache
        task = pipeline.task(cohort, split, Cache(default_folder()))
    with taken(order.threads):
        task.assist(folder, make_fabric(ranks.device, precision), ranks, resume=resume)
    return ranks.of_first(cast(Trained, None))


def _lead(order: Order, console: Console, ranks: Ranks) -> Trained:
    """What the first rank does: all that a training is."""
    from medgan.tracking import Tracker, check_store  # MLflow takes seconds

    root = order.out / catalog.load(order.pipeline).experiment()
    if order.resume_or_start:
        order = replace(order, resume=is_begun(root, order.name))
    run, pipeline, data = _resumed(order, root) if order.resume else _started(order, root)
    config, before = pipeline.config, run.facts()
    ranks.share(config.fit.batch_size, config.fit.accumulate)
    check_store(order.tracking, before.get("tracking_uri"))
    log = TrainLog(console)
    with alone_in(run.path, console), log.listening(), ExitStack() as stack:
        _announce(order, pipeline, run, log, ranks)
        cohort = pipeline.cohort(data)
        # Only now: what renders the phantom is no neighbour.
        threads = stack.enter_context(taken(order.threads, begun=before.get("threads")))
        log.say(str(threads))
        split = _frozen_split(order, pipeline, cohort, run)
        for line in filter(None, (*cohort.notes, cohort.note, pipeline.left_out, split.unchecked)):
            log.say(line)
        fabric = make_fabric(order.device, _precision(config.fit.precision, before, order.device))
        # The precision, too: what a processor does well is tried, and might come out otherwise elsewhere.
        ranks.of_first((config, data, cohort, split, run.path, order.resume, fabric.strategy.precision.precision))
        with ranks.first_of_node():
            task = pipeline.task(cohort, split, Cache(default_folder()))
        learner = task.seeded(ranks)
        facts = _fixed_facts(pipeline, cohort, split, data, fabric) | {"devices": ranks.world}
        facts["phantom"] = data is None or order.phantom or before.get("phantom", False)
        tags, told = {key: str(facts[key]) for key in TAGS}, without_places(config)
        with Tracker.start(
            order.tracking, recorded=before.get("tracking_uri"), experiment=pipeline.experiment(), run_name=run.name,
            parameters=told.model_dump(mode="json"), tags=tags, run_id=before.get("mlflow_run_id"),
            parent=order.parent, command=f"medgan train --pipeline {order.pipeline}",
            note=catalog.summaries()[order.pipeline],
        ) as tracker:  # fmt: skip
            recorded = {"mlflow_run_id": tracker.id, "tracking_uri": tracker.uri}
            # After everything that can be refused: a folder that is begun is a run.
            if order.resume:
                # Runs of `segment-train` before 0.2 had their seed in `run.json` alone.
                write_text(run.config, to_yaml(config))
            else:
                run.start(config, split, facts | recorded)
            run.note({"threads": threads.number})
            if "mlflow_run_id" not in before:
                run.note(recorded)
                counts = {name: len(cohort.of_domain(name).studies) for name in pipeline.pair.names}
                tracker.dataset("phantom" if facts["phantom"] else "cohort", facts["data_fingerprint"], counts)
                tracker.text(to_yaml(told), run.config.name)
            phantom = facts["phantom"] or pipeline.on_phantom
            model = task.train(
                run.path, fabric, learner=learner, resume=order.resume, ranks=ranks,
                origin=Origin.of(split, phantom=phantom, data_fingerprint=facts["data_fingerprint"]),
                recorder=Recorder(run.path, tracker, console, log),
            )  # fmt: skip
            log.keep(f"model: {run.model} (averages after epoch {model.description.epoch})")
            for name in ("metrics.csv", "progress.png"):
                tracker.artifact(run.path / name)
            model_uri = tracker.model(_kept(run, pipeline, model.description), order.register)
            return Trained(run, model.description, pipeline.used_by, tracker.describe(), model_uri)


def _kept(run: RunFolder, pipeline: Pipeline[Any], description: Description) -> "KeptModel":
    """What MLflow is told of a model: its validation metrics are those of the networks that were kept."""
    from medgan.tracking import KeptModel

    kept = pipeline.config.fit.keep
    metrics = {f"{kept}/{key.removeprefix('val/')}": value for key, value in description.metrics.items()}
    return KeptModel(
        run.model, description.sha256, metrics | {f"{kept}/epoch": description.epoch}, description.epoch,
        validated_on=description.origin.split_hash, loader=description.loader,
        card=(run.model / CARD).read_text(encoding="utf-8"),
    )  # fmt: skip


Begun = tuple[RunFolder, Pipeline[Any], Data | None]


def _started(order: Order, root: Path) -> Begun:
    """A new run: its folder, its pipeline with settings resolved, its data."""
    pipeline = _configured(order, on_phantom=order.data is None or order.phantom)
    return new_run(root, order.name), pipeline.complete(order.data), order.data


def _configured(order: Order, *, on_phantom: bool) -> Pipeline[Any]:
    """The pipeline with the settings that the order asks for on this device."""
    layers = [order.settings, *user_layers(order.config, order.overrides)]
    on_cpu = make_fabric(order.device, "32").device.type == "cpu"
    return catalog.load(order.pipeline).configured(*layers, on_phantom=on_phantom, on_cpu=on_cpu)


def _resumed(order: Order, root: Path) -> Begun:
    """The run to go on with, exactly as it was configured."""
    changes = bool(order.config or order.overrides or order.settings)
    if changes and not order.resume_or_start:
        raise ConfigError(
            "--resume goes on with the run's own settings; leave --config and KEY=VALUE out, or start a new run."
        )
    kind = catalog.load(order.pipeline)
    run = run_to_resume(root, order.name)
    facts = run.facts()
    if not order.data and "data" not in facts:
        raise DataError(f"{run.path / 'run.json'}: does not say the run's data and seed; start the run anew.")
    pipeline = kind(load(kind.settings, {"seed": facts.get("seed", 0)}, run.config))
    data = order.data or Location.of_facts(facts)
    if changes:
        again = _configured(order, on_phantom=facts.get("phantom", False)).complete(data)
        if changed := changed_settings(pipeline.config, again.config):
            raise ConfigError(
                f"{run.config}: the run was begun with other settings ({changed}); give those, or another --name."
            )
    return run, pipeline, data


def _announce(order: Order, pipeline: Pipeline[Any], run: RunFolder, log: TrainLog, ranks: Ranks) -> None:
    """Say what is about to happen, and what was chosen on the user's behalf."""
    config, fit = pipeline.config, pipeline.config.fit
    if order.data is None and not order.resume:
        log.say("no --data: training on the built-in phantom, which never stands for a patient")
    device = "a CPU" if config.size == "small" else "a GPU"
    size = f"size {config.size}" + (f", because this is {device}" if pipeline.sized_by_device else "")
    iterations = fit.epochs * fit.iterations_per_epoch
    log.say(f"{run.path}: {size}; {iterations} iterations of {fit.batch_size} patches")
    if ranks.world > 1:
        nodes = f" on {ranks.place.nodes} nodes" if ranks.place.nodes > 1 else ""
        log.say(f"{ranks.world} devices{nodes} share each batch")


def _frozen_split(order: Order, pipeline: Pipeline[Any], cohort: Cohort, run: RunFolder) -> Split:
    """The run's split: drawn once, and held against the files on disk ever after."""
    frozen = run.split if order.resume else order.split
    if frozen is None:
        return split_subjects(cohort, pipeline.pair, pipeline.config.split)
    split = Split.load(frozen)
    split.check(cohort)
    split.refuse_twins(cohort)
    return split


def _precision(asked: Precision, before: Settings, device: str) -> Precision:
    """As it is asked for, or of a run that goes on, where ``auto`` was, as it was begun on a device of this kind."""
    kind = str(before.get("device")).partition(":")[0]
    if asked != "auto" or kind != make_fabric(device, "32").device.type:
        return asked
    return cast(Precision, str(before["precision"]).removesuffix("-true"))


def _fixed_facts(pipeline: Pipeline[Any], cohort: Cohort, split: Split, data: Data | None, fabric: Fabric) -> Settings:
    """What ``run.json`` tells of a run, beside its settings."""
    from medgan.tracking import code_revision

    return (Location.of(data).facts() if data else {"data": None}) | {
        "pipeline": pipeline.name(),
        "data_fingerprint": cohort.fingerprint(),
        "split_hash": split.hash,
        "git_revision": code_revision(),
        "seed": pipeline.config.seed,
        "device": str(fabric.device),
        "precision": str(fabric.strategy.precision.precision),
        "versions": library_versions(),
    }
