"""One child of a study of routes from wherever it was left to its figures: trained where it learns, then tested."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from medgan.benefit.routes.bone import METRICS, cleaned, thresholded
from medgan.benefit.routes.material import Exam, Material, fitted_lookup, voxel_ml
from medgan.benefit.routes.plan import DIRECT, TRAINED, UNTRAINED, Fold, Route, RoutesPlan
from medgan.data.cache import Cache, default_folder
from medgan.data.streams import write_csv
from medgan.data.volumes import write_volume
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.baselines import LOOKUP
from medgan.evaluation.fidelity import Mask
from medgan.inference.batch import conversion_fabric
from medgan.segmentation.apply import segment_study
from medgan.segmentation.labelled import Labelled, read_labelled
from medgan.segmentation.settings import SegmenterDescription, SegmenterModel
from medgan.segmentation.training import train_segmenter
from medgan.study.records import read_json, write_json
from medgan.tracking import Tracker, code_revision
from medgan.training.device import make_fabric
from medgan.training.model_folder import Origin, read_model
from medgan.training.recorder import Recorder

IDENTITY, FIGURES, FOUND = "child.json", "rows.csv", "found"
"""In a child's folder: what it is, from its beginning; its figures, which appear last; the bone that it found."""
KEYS = ("route", "labelled", "fold", "seed", "subject")
NO_LABELS = 0
"""The ``labelled`` of routes that need none."""

Finder = Callable[[Exam], Mask]
"""From a test subject to the bone that a route finds there, (X, Y, Z)."""


@dataclass(frozen=True)
class Child:
    """A route with so many labelled subjects of a fold and a seed."""

    route: Route
    labelled: int
    fold: Fold
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """How people and folders call it."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether its figures are there."""
        return (self.folder / FIGURES).is_file()


def children_of(plan: RoutesPlan, fold: Fold) -> list[Child]:
    """A fold's children: the routes without labels once, the others for each seed and number of subjects."""
    root = plan.order.folder
    free = [Child(route, NO_LABELS, fold, 0, root / f"{route},fold={fold.number}") for route in UNTRAINED]
    return free + [
        Child(route, number, fold, seed, root / f"{route},labelled={number},fold={fold.number},seed={seed}")
        for seed in plan.order.seeds
        for number in sorted(set(plan.config.labelled))
        for route in TRAINED
    ]


def run_child(plan: RoutesPlan, child: Child, material: Material, parent: Tracker) -> None:
    """Train the child's segmenter, if it has one and that is not done, and judge it on the fold's test subjects.

    Raises:
        LeakageError: It was begun under another split, and may have learnt from who is tested now.
        MedganError: Whatever keeps it from its figures.
        KeyboardInterrupt: Asked to stop.
    """
    begun = check_identity(plan, child)
    with _tracker(plan, child, begun, parent) as tracker:
        child.folder.mkdir(parents=True, exist_ok=True)
        write_json(child.folder / IDENTITY, identity(plan, child) | {"mlflow_run_id": tracker.id})
        find = finder(plan, child, material, tracker, resume=bool(begun))
        rows = pd.DataFrame([_judged(child, exam, find(exam)) for exam in material.exams])
        # A subject's scans are averaged: the subject is the unit of evidence.
        rows = rows.groupby(list(KEYS), sort=False, as_index=False)[list(METRICS)].mean()
        tracker.metrics({f"test/{metric}": rows[metric].mean() for metric in METRICS}, step=0)
        write_csv(child.folder / FIGURES, rows)


def finder(plan: RoutesPlan, child: Child, material: Material, tracker: Tracker, *, resume: bool) -> Finder:
    """How the child's route finds bone."""
    if child.route == "threshold":
        return lambda exam: thresholded(exam.synthetic.voxels)
    if child.route == "lookup_threshold":
        lookup = fitted_lookup(child.fold)
        return lambda exam: thresholded(lookup.arms(exam.mr.voxels, exam.mr.voxels.shape)[LOOKUP])
    model = trained(plan, child, material, tracker, resume=resume)
    fabric = conversion_fabric(plan.order.device)
    return lambda exam: segment_study(model, exam.mr if child.route == DIRECT else exam.synthetic, fabric) == 1


def trained(plan: RoutesPlan, child: Child, material: Material, tracker: Tracker, *, resume: bool) -> SegmenterModel:
    """The child's segmenter, from its folder where it is there."""
    if (child.folder / "model" / "model.json").is_file():
        return read_model(child.folder / "model", SegmenterDescription)
    config = plan.segmenter(child.route)
    return train_segmenter(
        labelled_subjects(plan, child, material),
        (),
        config,
        seed=child.seed,
        folder=child.folder,
        fabric=make_fabric(plan.order.device, config.fit.precision),
        recorder=Recorder(child.folder, tracker, Console(quiet=True)),
        resume=resume,
        origin=Origin.of(child.fold.split, phantom=child.fold.description.origin.phantom),
    )


def labelled_subjects(plan: RoutesPlan, child: Child, material: Material) -> list[Labelled]:
    """The scans that the child learns from, MR or true CT, with the bone of the true CT.

    Raises:
        LeakageError: One of them is of a test subject.
    """
    config, cases = plan.segmenter(child.route), child.fold.drawn(child.labelled, child.seed)
    refuse_tested(child, [case.subject for case in cases])
    scans = [
        replace(case.source if child.route == DIRECT else case.target, mask=material.label(case)) for case in cases
    ]
    cache = Cache(default_folder())
    return [read_labelled(scan, config.domain, config.grid, config.labels, cache) for scan in scans]


def refuse_tested(child: Child, subjects: list[str]) -> None:
    """Refuse to learn from a test subject of the child's fold.

    Raises:
        LeakageError: Names them.
    """
    leaks = sorted({case.subject for case in child.fold.tested} & set(subjects))
    if leaks:
        raise LeakageError(f"the segmenter of {child.name} would learn from who is tested: {', '.join(leaks)}.")


def _judged(child: Child, exam: Exam, mask: Mask) -> dict[str, Any]:
    """The figures of what a route marked in one test subject, cleaned as the true bone was; the mask is kept."""
    found = cleaned(mask, voxel_ml(exam.mr.grid))
    write_volume(found.astype(np.uint8), exam.mr.grid, child.folder / FOUND / exam.case.file, np.uint8)
    keys = (child.route, child.labelled, child.fold.number, child.seed, exam.case.subject)
    return dict(zip(KEYS, keys, strict=True)) | exam.scores(found)


def identity(plan: RoutesPlan, child: Child) -> dict[str, Any]:
    """What a child's folder must have been begun with to be this child."""
    learns = child.route in TRAINED
    return {
        "route": child.route,
        "labelled": child.labelled,
        "seed": child.seed,
        "split_hash": child.fold.split.hash,
        "translator": child.fold.description.weights_sha256,
        "segmenter": plan.segmenter(child.route).model_dump(mode="json") if learns else None,
    }


def check_identity(plan: RoutesPlan, child: Child) -> dict[str, Any]:
    """What a child was begun with; nothing where it was not begun.

    Raises:
        LeakageError: It was begun under another split.
        ConfigError: It was begun with other settings.
    """
    begun = read_json(child.folder / IDENTITY)
    if not begun:
        return {}
    now = json.loads(json.dumps(identity(plan, child)))
    changed = [key for key in now if begun.get(key) != now[key]]
    if "split_hash" in changed:
        raise LeakageError(
            f"{child.folder} was begun under another split of the subjects and may have learnt from who is tested now; "
            "give the models in the order of before, put that folder away, or choose another --name."
        )
    if changed:
        raise ConfigError(
            f"{child.folder} was begun with other settings ({', '.join(changed)}); choose another --name, or put that "
            "folder away."
        )
    return begun


def _tracker(plan: RoutesPlan, child: Child, begun: dict[str, Any], parent: Tracker) -> Tracker:
    learns = child.route in TRAINED
    settings = plan.segmenter(child.route).model_dump(mode="json") if learns else {}
    return Tracker.start(
        parent.uri,
        experiment=plan.order.pipeline,
        run_name=child.name,
        parameters=settings | {"route": child.route, "labelled": child.labelled, "seed": child.seed},
        tags={
            "pipeline": plan.order.pipeline,
            "study": "routes",
            "fold": str(child.fold.number),
            "split_hash": child.fold.split.hash,
            "git_revision": code_revision(),
        },
        run_id=begun.get("mlflow_run_id"),
        parent=parent.id,
    )


def read_rows(children: Sequence[Child]) -> pd.DataFrame:
    """The figures of all finished children: ``KEYS``, then ``METRICS``, a row a subject."""
    # Text as it is: a subject called NA or 007 stays one.
    frames = [
        pd.read_csv(
            child.folder / FIGURES, dtype={"subject": str}, keep_default_na=False, na_values={m: [""] for m in METRICS}
        )
        for child in children
        if child.finished
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*KEYS, *METRICS])
