"""Who of the evaluated subjects the model had seen: by its split, or by what the sidecars of its outputs say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from medgan.data.leaks import SeenPart, ThisImage, owner_of, training_of
from medgan.data.splits import Split
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.matching import Case
from medgan.text import few

MAX_NAMED = 10


@dataclass(frozen=True)
class Seen:
    """Subjects of an evaluation, sorted, by what the model knows of them; all others it has never seen."""

    train: tuple[str, ...] = ()
    """It learnt from an image of theirs."""
    validation: tuple[str, ...] = ()
    """They chose its epoch."""
    unknown: tuple[str, ...] = ()
    """It cannot be told."""

    @cached_property
    def subjects(self) -> frozenset[str]:
        """Those whose figures are no evidence of how the model does on others."""
        return frozenset((*self.train, *self.validation))

    def notes(self, judged: int) -> Iterator[str]:
        """Sentences for people.

        Args:
            judged: How many subjects the figures are over.
        """
        if self.subjects:
            parts = {"trained on them": self.train, "these chose its epoch": self.validation}
            named = "; ".join(f"{why}: {named_briefly(whom)}" for why, whom in parts.items() if whom)
            yield f"Left out of these figures, since the model has seen them ({named}); theirs are told apart."
        if self.subjects and not judged:
            yield (
                "There is no figure for unseen subjects: the model has seen all of these. Judge others, such as those "
                "that `medgan convert --part test` converts."
            )
        if self.unknown:
            yield (
                f"Of {len(self.unknown)} subjects it cannot be told whether the model was trained on them: an earlier "
                "medgan, or another tool, made it or their images."
            )


NOBODY = Seen()


def seen_as(said: Iterable[tuple[str, ThisImage]]) -> Seen:
    """Subjects by what is said of their images: one that was learnt from is enough.

    Args:
        said: Subject, and whether the model has seen an image of theirs.
    """
    by_part = defaultdict(set)
    for subject, part in said:
        by_part[part].add(subject)
    validation = by_part["validation"] - by_part["train"]
    unknown = by_part["unknown"] - by_part["train"] - validation
    return Seen(*(tuple(sorted(part)) for part in (by_part["train"], validation, unknown)))


def seen_subjects(cases: Sequence[Case], split: Split | None) -> Seen:
    """Who of the evaluated subjects the model had seen.

    Args:
        cases: The synthetic images.
        split: The model's; None goes by the sidecars alone.

    Raises:
        LeakageError: With a split, subjects that the model learnt from.
        ConfigError: A split by which the model was not trained.
    """
    said = []
    for case in cases:
        part, split_hash = training_of(case.synthetic)
        said.append((case.subject, part))
        if split and split_hash not in ("", split.hash):
            raise ConfigError(
                f"--split is not the split of the model that made {case.synthetic}, so it cannot tell whom that has "
                "seen; give the split.json of the model's own run, or leave --split out."
            )
    seen = seen_as(said)
    if split is None:
        return seen
    chose = refuse_trained(cases, split)
    if seen.train:
        raise LeakageError(
            f"{len(seen.train)} of the evaluated subjects were trained on, as the JSON beside their images says "
            f"({named_briefly(seen.train)}); judge others, such as those that `medgan convert --part test` converts."
        )
    return Seen(validation=tuple(sorted(chose.union(seen.validation))))


def refuse_trained(cases: Iterable[Case], split: Split) -> set[str]:
    """Refuse evaluated subjects that the model was trained on, by name or by what their real images show.

    Returns:
        The subjects that chose the model (the validation part): not refused, but no evidence either.

    Raises:
        LeakageError: Naming subjects of the training part, or those who have an image of one.
    """
    trained, validated = (split.owners([part]) for part in get_args(SeenPart))
    subjects: set[str] = set()
    seen: dict[str, str] = {}
    chose: set[str] = set()
    for case in cases:
        subjects.add(case.subject)
        real = [path for role, path in case.partners.items() if role in ("source", "reference")]
        if case.subject in split.train:
            seen[case.subject] = case.subject
        elif owner := next(filter(None, (owner_of(path, trained) for path in real)), None):
            seen[case.subject] = f"{case.subject}, who has an image of '{owner}'"
        elif case.subject in split.validation or any(owner_of(path, validated) for path in real):
            chose.add(case.subject)
    if seen:
        raise LeakageError(
            f"{len(seen)} of the {len(subjects)} evaluated subjects were trained on "
            f"({', '.join(sorted(seen.values())[:5])}); judge others, such as those that `medgan convert --part test` "
            "converts."
        )
    return chose


def named_briefly(subjects: Iterable[str]) -> str:
    """The first of them, and how many more there are."""
    return few(list(subjects), MAX_NAMED)
