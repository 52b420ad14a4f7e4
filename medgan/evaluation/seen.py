"""Who of the evaluated subjects the model had seen: by its split, or by what the sidecars of its outputs say."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from medgan.data.splits import MAX_NAMED, SeenPart, Split, ThisImage, owner_of, training_of
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.matching import Case
from medgan.text import few


@dataclass(frozen=True)
class SeenSubjects:
    """Subjects of an evaluation, sorted, by what the model knows of them; all others it has never seen."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    """They chose its epoch."""
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Iterable[tuple[str, ThisImage]]) -> "SeenSubjects":
        """From the subject of each image and whether the model has seen it: one that was learnt from is enough."""
        by_part = defaultdict(set)
        for subject, part in images:
            by_part[part].add(subject)
        train, validation, unknown = (by_part[part] for part in ("train", "validation", "unknown"))
        return cls(*(tuple(sorted(own)) for own in (train, validation - train, unknown - validation - train)))

    @property
    def subjects(self) -> frozenset[str]:
        """Those whose figures are no evidence of how the model does on others."""
        return frozenset((*self.train, *self.validation))

    def notes(self, judged: int) -> Iterator[str]:
        """Sentences for people; the figures are over so many ``judged`` subjects."""
        if self.subjects:
            parts = {"trained on them": self.train, "these chose its epoch": self.validation}
            named = "; ".join(f"{why}: {few(subjects, MAX_NAMED)}" for why, subjects in parts.items() if subjects)
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


NOBODY = SeenSubjects()


def seen_subjects(cases: Sequence[Case], split: Split | None) -> SeenSubjects:
    """Who of the evaluated subjects the model had seen; without its split, the sidecars alone say it.

    With a split nothing is unknown: whoever it does not name is tested. Subjects that the model learnt from, by name,
    by what their real images show, or by their sidecars, are then a LeakageError.
    """
    trainings = [training_of(case.synthetic) for case in cases]
    seen = SeenSubjects.of((case.subject, part) for case, (part, _) in zip(cases, trainings, strict=True))
    if split is None:
        return seen
    trained, validated = (split.owners([part]) for part in get_args(SeenPart))
    leaks = {subject: f"{subject}, as the JSON beside an image says" for subject in seen.train}
    validation = set(seen.validation)
    for case, (_, split_hash) in zip(cases, trainings, strict=True):
        if split_hash not in ("", split.hash):
            raise ConfigError(
                f"--split is not the split of the model that made {case.synthetic}, so it cannot tell whom that has "
                "seen; give the split.json of the model's own run, or leave --split out."
            )
        real = [path for role, path in case.partners.items() if role in ("source", "reference")]
        if case.subject in split.train:
            leaks[case.subject] = case.subject
        elif owner := next(filter(None, (owner_of(path, trained) for path in real)), None):
            leaks[case.subject] = f"{case.subject}, who has an image of '{owner}'"
        elif case.subject in split.validation or any(owner_of(path, validated) for path in real):
            validation.add(case.subject)
    if leaks:
        raise LeakageError(
            f"{len(leaks)} of the {len({case.subject for case in cases})} evaluated subjects were trained on "
            f"({few(sorted(leaks.values()), MAX_NAMED)}); judge others, such as those that `medgan convert --part "
            "test` converts."
        )
    return SeenSubjects(validation=tuple(sorted(validation)))
