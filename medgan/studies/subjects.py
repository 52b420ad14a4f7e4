"""The guard of a benefit study: no test subject reaches a training, by whatever way.

A segmenter's test subject may have been seen by the segmenter or by the translator that drew its training images, as
itself, under another name, or as an unpaired target. Each of these makes a gain that patients would not have.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from medgan.data.hashes import known_by
from medgan.data.leaks import owner_of
from medgan.data.splits import Split
from medgan.data.studies import Cohort, Study
from medgan.errors import ConfigError, LeakageError
from medgan.text import few

MAX_NAMED = 5
OTHER_SPLIT = (
    "was begun under another split of the subjects and may have seen who is tested now; put that folder away, or "
    "choose another --name."
)


@dataclass(frozen=True)
class Guard:
    """Who is tested, by name and by what is in the images."""

    tested: Cohort
    """All images of the test subjects, of either domain."""
    images: Mapping[str, str]
    """By the hash of a file of theirs, or of what it shows: the subject."""

    @classmethod
    def of(cls, *cohorts: Cohort, subjects: Iterable[str]) -> Self:
        """The guard of some test subjects.

        Args:
            cohorts: The tables in which they may have images.
            subjects: Who is tested.
        """
        named = set(subjects)
        studies = dict.fromkeys(
            Study(study.subject, study.domain, study.image)
            for cohort in cohorts
            for study in cohort.studies
            if study.subject in named
        )
        images = {digest: study.subject for study in studies for digest in known_by(study.image)}
        return cls(Cohort(tuple(studies), cohorts[0].root), images)

    def admit(self, studies: Sequence[Study], purpose: str) -> tuple[Study, ...]:
        """The studies, none of which is of a test subject.

        Args:
            studies: What would be seen.
            purpose: By what, for people: "the training of real+standard".

        Raises:
            LeakageError: Names them.
        """
        subjects = set(self.tested.subjects())
        leaks = []
        for study in studies:
            if study.subject in subjects:
                leaks.append(f"'{study.subject}' is a test subject")
            elif owner := owner_of(study.image, self.images):
                leaks.append(f"'{study.subject}' has the image {study.image.name} of test subject '{owner}'")
        if leaks:
            raise LeakageError(f"{purpose} would see who is tested: {_named(leaks)}. Correct the cohort or its split.")
        return tuple(studies)

    def check_model(self, split: Split, run: Path, task: str = "translator") -> None:
        """Refuse a model that has seen a test subject in either domain, as itself or under another name.

        Args:
            split: Who it was trained and validated on.
            run: Its run folder, for people.
            task: What it does, for people.

        Raises:
            LeakageError: Names them.
        """
        try:
            split.refuse_trained(self.tested)
        except LeakageError as error:
            raise LeakageError(
                f"the {task} of {run} cannot serve this study: {error} Give the cohort the {task}'s split (its `split` "
                f"column), or train another {task} without these subjects."
            ) from None


def _named(leaks: Sequence[str]) -> str:
    return few(list(dict.fromkeys(leaks)), MAX_NAMED)


def freeze_split(path: Path, split: Split, tested: Cohort) -> Split:
    """Write a study's split, or hold the one that was written before against it.

    Args:
        path: Where it lies.
        split: Who is where now.
        tested: All images of the test subjects.

    Returns:
        The split to go on with: ``before``, whose hash the records of what is done hold.

    Raises:
        LeakageError: The study began with another split, by which somebody was trained on who is tested now.
        ConfigError: The study began with another split.
    """
    if path.exists():
        return refuse_other_split(Split.load(path), split, path, tested)
    split.save(path)
    return split


def refuse_other_split(before: Split, now: Split, path: Path, tested: Cohort) -> Split:
    """Keep results on different subjects from being compared, and trainings from being tested on what they saw.

    Args:
        before: Who was where when the trainings began.
        now: Who is where now.
        path: Where ``before`` lies.
        tested: All images of the test subjects.

    Returns:
        The split to go on with: ``before``, whose hash the records of what is done hold.

    Raises:
        LeakageError: By ``before`` somebody was trained on who is tested now.
        ConfigError: ``before`` is not ``now``.
    """
    if not before.same_as(now):
        try:
            before.refuse_trained(tested)
        except LeakageError as error:
            raise LeakageError(
                f"{path} holds another split of the subjects, and {error} Restore the data and split.*, or choose "
                "another --name."
            ) from None
        files = "their files changed" if before.files != now.files else "they would be divided differently now"
        raise ConfigError(
            f"{path} holds another split of the subjects ({files}), and results on different subjects cannot be "
            "compared. Restore the data and split.*, or choose another --name."
        )
    return before
