"""The synthetic cases of a draw and a method: made once, of the draw's own subjects alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan.benefit.augmentation.arms import Method
from medgan.benefit.augmentation.cases import read_cases, read_record, shuffled, write_cases
from medgan.benefit.augmentation.generators import real_cases, trained_generator
from medgan.benefit.augmentation.methods import synthesiser_of
from medgan.benefit.augmentation.plan import AugmentationPlan, Draw
from medgan.benefit.augmentation.tasks import cases_folder
from medgan.benefit.identity import check_begun, content_hash
from medgan.errors import DataError, InsertionError, LeakageError
from medgan.segmentation.labelled import Labelled
from medgan.synthesis.insertion import Synthesiser, Synthetic

MOST_TRIES = 3
"""Recipients that are tried for each wanted case, before what there is must do."""


@dataclass(frozen=True)
class CasesChild:
    """The synthetic cases of one method and one draw."""

    method: Method
    draw: Draw
    folder: Path

    @property
    def name(self) -> str:
        """How people call it."""
        return f"cases of {self.folder.name}"

    @property
    def outcome(self) -> str:
        """What is said of it when it has ended."""
        record = read_record(self.folder)
        refused = f", {record['refused']} refused" if record["refused"] else ""
        return f"{len(record['cases'])} made{refused}"


@dataclass(frozen=True)
class CasesTask:
    """All that a process must know to make a draw's synthetic cases."""

    plan: AugmentationPlan
    child: CasesChild

    @property
    def done(self) -> bool:
        """Never: what is there is held against the plan each time, which takes no time."""
        return False


def cases_task(plan: AugmentationPlan, method: Method, draw: Draw) -> CasesTask:
    """The task of a method's cases of a draw."""
    return CasesTask(plan, CasesChild(method, draw, cases_folder(plan, method, draw)))


def identity(plan: AugmentationPlan, method: Method, draw: Draw) -> dict[str, Any]:
    """What synthetic cases must have been made of to be these."""
    learnt = trained_generator(plan, draw).description.weights_sha256 if method == "generator" else None
    return {
        "method": method,
        "size": draw.size,
        "seed": draw.seed,
        "split_hash": plan.split.hash,
        "images": content_hash([*plan.studies(draw), *(plan.recipients(draw, method) if draw.healthy else ())]),
        "wanted": plan.config.cases,
        "insertion": plan.config.insertion_of(method).model_dump(mode="json"),
        "bend": plan.config.bend,
        "labels": {name: list(values) for name, values in plan.segmenter.labels.items()},
        "grid": plan.segmenter.grid.model_dump(mode="json"),
        "generator": learnt,
    }


def run_cases(task: CasesTask) -> None:
    """Make the cases, unless they are there.

    Raises:
        LeakageError: A test subject, or anybody outside the draw, among recipients and donors.
        ConfigError: Cases that were made with other settings.
        DataError: Nothing could be placed in anybody.
    """
    plan, draw, method = task.plan, task.child.draw, task.child.method
    parents = [
        plan.guard.admit(studies, f"the {task.child.name}")
        for studies in (plan.recipients(draw, method), plan.studies(draw))
    ]
    now = identity(plan, method, draw)
    if begun := check_begun(task.child.folder, read_record(task.child.folder), now):
        check_parents(begun, draw, task.child.folder)
        return
    recipients, donors = (real_cases(plan, studies) for studies in parents)
    made = list(synthesised(synthesiser_of(plan, method, draw), recipients, donors, draw.seed, plan.config.cases))
    cases = [each for each in made if isinstance(each, Synthetic)]
    reasons = [str(each) for each in made if isinstance(each, InsertionError)]
    if not cases:
        raise DataError(
            f"{task.child.name}: nothing could be placed in any of {len(recipients)} subjects: {reasons[0]}"
        )
    record = {"cases": [{"parents": list(each.parents)} for each in cases]}
    check_parents(record, draw, task.child.folder)
    write_cases(task.child.folder, cases, now | {"refused": len(reasons), "reasons": sorted(set(reasons))})


def synthesised(
    synthesiser: Synthesiser, recipients: list[Labelled], donors: list[Labelled], seed: int, wanted: int
) -> Iterator[Synthetic | InsertionError]:
    """Cases, recipients taken in turn, and why some recipients could not have any.

    Case ``n`` is a function of the seed and its number alone, whatever became of those before it.

    Args:
        synthesiser: Makes them.
        recipients: What is changed.
        donors: Who lends lesions; a recipient is no donor of its own, if there is another.
        seed: Of all of them.
        wanted: How many.
    """
    made = 0
    for number in range(wanted * MOST_TRIES):
        if made == wanted:
            return
        recipient = recipients[number % len(recipients)]
        others = [case for case in donors if case.subject != recipient.subject] or donors
        try:
            yield synthesiser.synthesise(recipient, others, np.random.default_rng([seed, number]))
        except InsertionError as error:
            yield error
        else:
            made += 1


def check_parents(record: dict[str, Any], draw: Draw, folder: Path) -> None:
    """Refuse synthetic cases that are made of anybody outside the draw.

    Raises:
        LeakageError: Names them.
    """
    parents = {parent for case in record["cases"] for parent in case["parents"]}
    if others := sorted(parents - set(draw.subjects)):
        raise LeakageError(
            f"{folder} is made of {', '.join(others)}, who are not among the {draw.size} subjects of {draw.name}: a "
            "gain would be theirs. Put that folder away."
        )


def synthetic_cases(plan: AugmentationPlan, method: Method, draw: Draw, *, exchanged: bool) -> list[Labelled]:
    """The synthetic cases of a draw, all of whose parents belong to it.

    Args:
        plan: What the study does.
        method: What made them.
        draw: Of whom.
        exchanged: Whether each gets the labels of another one.

    Raises:
        LeakageError: Somebody else is in them.
        DataError: They are not there, or damaged.
    """
    folder = cases_folder(plan, method, draw)
    record = read_record(folder)
    cases = read_cases(folder)
    check_parents(record, draw, folder)
    return shuffled(cases, [each["parents"][0] for each in record["cases"]]) if exchanged else cases
