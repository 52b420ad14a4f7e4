"""Who is in a study: its frozen split, and the guard that keeps test subjects out of every training.

A segmenter's test subject may have been seen by the segmenter or by the translator that drew its training images, as
itself, under another name, or as an unpaired target. Each of these makes a gain that patients would not have.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from medgan.data.domains import DomainPair
from medgan.data.hashes import known_by
from medgan.data.splits import Part, Split, SplitConfig, owner_of, split_subjects
from medgan.data.studies import Cohort, Data, Study
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.text import few
from medgan.training.run_folder import MAX_NAMED

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
        """The guard of test subjects, who may have images in several cohorts."""
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
        """The studies, if none is of a test subject: else a ``LeakageError``, which says for what ``purpose``."""
        subjects = set(self.tested.subjects())
        leaks = []
        for study in studies:
            if study.subject in subjects:
                leaks.append(f"'{study.subject}' is a test subject")
            elif owner := owner_of(study.image, self.images):
                leaks.append(f"'{study.subject}' has the image {study.image.name} of test subject '{owner}'")
        if leaks:
            named = few(list(dict.fromkeys(leaks)), MAX_NAMED)
            raise LeakageError(f"{purpose} would see who is tested: {named}. Correct the cohort or its split.")
        return tuple(studies)

    def check_model(self, split: Split, run: Path, task: str = "translator") -> None:
        """Refuse a model that has seen a test subject, as itself or under another name: a ``LeakageError``."""
        try:
            split.refuse_trained(self.tested)
        except LeakageError as error:
            raise LeakageError(
                f"the {task} of {run} cannot serve this study: {error} Give the cohort the {task}'s split (its `split` "
                f"column), or train another {task} without these subjects."
            ) from None


def freeze_split(path: Path, split: Split, tested: Cohort) -> Split:
    """Write a study's split to ``path``, or hold the one that was written before against it, and take that.

    Results on different subjects must not be compared, nor trainings be tested on what they saw; ``tested`` are all
    images of those who are tested now.

    Raises:
        LeakageError: The study began with another split, by which somebody was trained on who is tested now.
        ConfigError: The study began with another split.
    """
    if not path.exists():
        split.save(path)
        return split
    before = Split.load(path)
    if not before.same_as(split):
        try:
            before.refuse_trained(tested)
        except LeakageError as error:
            raise LeakageError(
                f"{path} holds another split of the subjects, and {error} Restore the data and split.*, or choose "
                "another --name."
            ) from None
        files = "their files changed" if before.files != split.files else "they would be divided differently now"
        raise ConfigError(
            f"{path} holds another split of the subjects ({files}), and results on different subjects cannot be "
            "compared. Restore the data and split.*, or choose another --name."
        )
    return before


@dataclass(frozen=True)
class Subjects:
    """All images of a study and who is in which part."""

    labelled: Cohort
    """Every image that may have labels."""
    table: Data
    """Where it lies."""
    translated: Cohort
    """What a translator trains on; the same as ``labelled`` unless pairs must be hidden from it."""
    translator_table: Data
    """Where it lies."""
    split: Split
    """Of ``labelled``."""

    @property
    def guard(self) -> Guard:
        """Keeps the test part out of every training."""
        return Guard.of(self.labelled, self.translated, subjects=self.split.test)

    def with_labels(self, part: Part, domain: str) -> tuple[Study, ...]:
        """The images of one domain in one part that have a mask."""
        own = self.split.part(self.labelled, part).of_domain(domain)
        return tuple(study for study in own.studies if study.mask)

    def learnt_from(self) -> tuple[Study, ...]:
        """Every image of either domain, labelled or not, that a training or its validation may see."""
        names = [*self.split.train, *self.split.validation]
        return tuple(
            dict.fromkeys(each for part in (self.labelled, self.translated) for each in part.of_subjects(names).studies)
        )

    def translator_split(self, train: Sequence[str]) -> Split:
        """The study's split for a translator that sees these training subjects alone."""
        split = _of_cohort(self.split.model_copy(update={"train": tuple(train)}), self.translated)
        return split if self.split.images else split.model_copy(update={"images": {}})


def _of_cohort(split: Split, cohort: Cohort) -> Split:
    """The same parts of the subjects of a cohort alone, with its files."""
    there = set(cohort.subjects())
    train, validation, test = (tuple(sorted(there & set(part))) for part in (split.train, split.validation, split.test))
    files, images = cohort.file_hashes(), cohort.image_hashes()
    return Split(train=train, validation=validation, test=test, files=files, images=images)


def study_split(cohort: Cohort, pair: DomainPair, config: SplitConfig, frozen: Split | None) -> Split:
    """The study's split: the frozen one of a translator that comes with its own, where it knows every subject.

    A ``split`` column of the cohort is kept as it is; the guard then says whether the translator can serve it.
    """
    fixed = any(study.split for study in cohort.studies)
    if frozen is None or fixed or not set(cohort.subjects()) <= frozen.part_of.keys():
        return split_subjects(cohort, pair, config)
    return _of_cohort(frozen, cohort)


def draw_subsets(subjects: Subjects, pair: DomainPair, *, count: int, labelled: int | None) -> list[tuple[str, ...]]:
    """Training subjects of each subset, drawn without regard to what is in their images.

    A subset of ``labelled`` subjects has equal shares of those that the translator knows by either domain, so that one
    can be trained on it; None is all of them. Subsets overlap; subset ``k`` is the same however many there are.

    Raises:
        ConfigError: Several subsets of everybody, or larger ones than there are subjects.
    """
    train = subjects.split.train
    if labelled is None:
        if count > 1:
            raise ConfigError(f"subsets={count} of all training subjects would be alike; set labelled, as labelled=8.")
        return [tuple(train)]
    if labelled > len(train):
        raise ConfigError(f"labelled={labelled} subjects are asked for, and {len(train)} are in the training part.")
    sides = [set(subjects.translated.of_domain(name).subjects()) for name in pair.names]
    subsets = []
    for number in range(count):
        # Evenly spaced picks from a drawn order in which subjects of one kind stand together.
        drawn = np.random.default_rng(number).permutation(sorted(train)).tolist()
        order = sorted(drawn, key=lambda subject: [subject in side for side in sides])
        picks = (int((pick + 0.5) * len(order) / labelled) for pick in range(labelled))
        subsets.append(tuple(sorted(order[pick] for pick in picks)))
    return subsets


def check_labels(subjects: Subjects, pair: DomainPair) -> None:
    """Refuse a cohort in which nothing could be learnt or nothing judged: a ``DataError``."""
    source, target = pair.names
    lacking = [
        f"no {part} subject has a labelled {source} image"
        for part in ("train", "validation")
        if not subjects.with_labels(part, source)
    ]
    if not any(subjects.with_labels("test", name) for name in (source, target)):
        lacking.append(f"no test subject has a labelled {source} or {target} image")
    if lacking:
        raise DataError(
            f"{subjects.table}: {'; '.join(lacking)}. A benefit study learns from labelled {source} images and tests "
            "on labelled images of either domain: name label maps in the CSV's `mask` column."
        )
