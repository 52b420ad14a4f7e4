"""Who is in a benefit study: its cohorts, its one split, and the subsets of those who are trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgan.data.domains import DomainPair
from medgan.data.splits import Part, Split, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Data, Study
from medgan.errors import ConfigError, DataError
from medgan.studies.subjects import Guard


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
        seen = [*self.split.train, *self.split.validation]
        return tuple(
            dict.fromkeys(each for part in (self.labelled, self.translated) for each in part.of_subjects(seen).studies)
        )

    def translator_split(self, train: Sequence[str]) -> Split:
        """The study's split for a translator that sees these training subjects alone."""
        there = set(self.translated.subjects())
        return Split(
            train=tuple(sorted(there & set(train))),
            validation=tuple(sorted(there & set(self.split.validation))),
            test=tuple(sorted(there & set(self.split.test))),
            files=self.translated.file_hashes(),
            images=self.translated.image_hashes() if self.split.images else {},
        )


def study_split(cohort: Cohort, pair: DomainPair, config: SplitConfig, frozen: Split | None) -> Split:
    """The study's split: the frozen one of a translator that comes with its own, where it knows every subject.

    A ``split`` column of the cohort is kept as it is; the guard then says whether the translator can serve it.

    Raises:
        DataError: See :func:`medgan.data.splits.split_subjects`.
        ConfigError: The same.
    """
    fixed = any(study.split for study in cohort.studies)
    known = {*frozen.train, *frozen.validation, *frozen.test} if frozen else set()
    if frozen is None or fixed or not set(cohort.subjects()) <= known:
        return split_subjects(cohort, pair, config)
    there = set(cohort.subjects())
    return Split(
        train=tuple(sorted(there & set(frozen.train))),
        validation=tuple(sorted(there & set(frozen.validation))),
        test=tuple(sorted(there & set(frozen.test))),
        files=cohort.file_hashes(),
        images=cohort.image_hashes(),
    )


def draw_subsets(subjects: Subjects, pair: DomainPair, *, count: int, labelled: int | None) -> list[tuple[str, ...]]:
    """Training subjects of each subset, drawn without regard to what is in their images.

    A subset has equal shares of the subjects that the translator knows by either domain, so that one can be trained on
    it. Subsets overlap; subset ``k`` is the same however many there are.

    Args:
        subjects: Everyone.
        pair: The two domains.
        count: How many subsets.
        labelled: Training subjects in each; None is all of them.

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
    return [_spread(train, sides, labelled, number) for number in range(count)]


def _spread(train: Sequence[str], sides: Sequence[set[str]], size: int, number: int) -> tuple[str, ...]:
    """Evenly spaced picks from a drawn order in which subjects of one kind stand together."""
    drawn = np.random.default_rng(number).permutation(sorted(train)).tolist()
    order = sorted(drawn, key=lambda subject: [subject in side for side in sides])
    return tuple(sorted(order[int((pick + 0.5) * len(order) / size)] for pick in range(size)))


def check_labels(subjects: Subjects, pair: DomainPair) -> None:
    """Refuse a cohort in which nothing could be learnt or nothing judged.

    Raises:
        DataError: Says which labels are missing.
    """
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
