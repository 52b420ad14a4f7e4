"""The subjects that a model was trained on, on whom the baselines may be fitted too."""

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from medgan.data.location import AS_IT_IS, Options
from medgan.data.splits import SeenPart, Split, owner_of
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.matching import Case, Matching, match, read_images, split_place


def training_pairs(
    training: str | Path, split: Split | None, source: str | None, reference: str, options: Options = AS_IT_IS
) -> Matching:
    """The pairs of source and reference to fit baselines on, as cases whose synthetic image is the reference itself.

    Args:
        training: A cohort, whose domains are then those of the two places, or ``COHORT:SOURCE,REFERENCE``.
        split: Who of the cohort was trained on; without it, everybody.
        source: The place of the evaluated sources, such as ``cohort.csv:mr``; nothing if there are none.
        reference: That of the references.
        options: How the cohort is read.

    Raises:
        ConfigError: The domains are not known.
        DataError: The cohort does not exist, or has no image of a domain.
    """
    table, domains = _table_and_domains(str(training), source, reference)
    pair = tuple(domains)
    references = read_images(f"{table}:{domains[-1]}", pair=pair, options=options)
    sources = read_images(f"{table}:{domains[0]}", pair=pair, options=options) if source else None
    found = match(references, references, {"source": sources} if sources else {}, paired=True)
    wanted = [case for case in found.cases if split is None or case.subject in split.train]
    return Matching(tuple(wanted), True, len(wanted), ())


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


def _table_and_domains(training: str, source: str | None, reference: str) -> tuple[str, list[str]]:
    table, colon, named = training.rpartition(":")
    if colon and not Path(training).exists():
        domains = [name.strip() for name in named.split(",")]
    else:
        table, domains = training, [_domain(place) for place in (source, reference) if place]
    if not all(domains) or len(domains) not in ((2,) if source else (1, 2)):
        raise ConfigError(
            f"--training {training}: which domains are source and reference is not known; write "
            "COHORT:SOURCE,REFERENCE, for example cohort.csv:mr,ct."
        )
    return table, domains


def _domain(place: str) -> str:
    """``ct`` of ``cohort.csv:ct``; nothing for a folder of images."""
    return split_place(place)[1]
