"""Who is trained on, who chooses the model, who is tested: by subject, and frozen to a file that binds later stages.

Who was seen is told by what names leave open, by what images show, and by what a model's outputs say of their inputs.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import Field, ValidationError, model_validator

from medgan.config import Config, first_problem
from medgan.data.domains import DomainPair
from medgan.data.grid import Volume
from medgan.data.hashes import known_by, voxel_hash
from medgan.data.streams import write_text
from medgan.data.studies import Cohort, Study, sidecar
from medgan.documents import read_json
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.text import few

Part = Literal["train", "validation", "test"]
SeenPart = Literal["train", "validation"]
TrainedOn = dict[SeenPart, tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]]
"""Hashes of the images that a model learnt from, and of those that chose it: ``medgan.data.hashes.image_hash``."""
ThisImage = Literal["train", "validation", "unseen", "unknown"]
"""A model learnt from an image, chose its epoch by it, never saw it, or an earlier medgan wrote it and nobody knows."""
TRAINING = "Training"
"""The key of whether the model had seen what the image was made of."""
MAX_NAMED = 10


class SplitConfig(Config):
    """How subjects are divided, where the cohort's CSV has no ``split`` column."""

    validation: float = Field(0.15, ge=0, lt=1)
    """Share of the subjects that choose the best model; with ``folds``, of those that the fold leaves."""
    test: float = Field(0.15, ge=0, lt=1)
    """Share of the subjects kept for the evaluation; not used with ``folds``."""
    folds: int | None = Field(None, ge=2)
    """Cross-validation: test on one of so many folds instead; together they test every subject once."""
    fold: int = Field(0, ge=0)
    """Which fold is tested, counted from 0."""
    seed: int = Field(0, ge=0)
    """The draw of subjects; the same for all folds of one cross-validation."""

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation={self.validation:g} and test={self.test:g} leave nobody to train on")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold={self.fold} is not one of folds={self.folds}, counted from 0")
        return self


class Split(Config):
    """Three groups of subjects, and what their files were when they were divided."""

    train: tuple[str, ...]
    """Subjects whose images the networks learn from."""
    validation: tuple[str, ...]
    """Subjects that choose among epochs: seen by the training, though not by its gradients."""
    test: tuple[str, ...]
    """Subjects that no training may see."""
    files: dict[str, dict[str, str]]
    """For each subject, the SHA-256 of each of its files, named relatively to the cohort's folder."""
    images: dict[str, dict[str, str]] = Field(default_factory=dict)
    """For each subject, the hash of what each of its images shows; see ``Cohort.image_hashes``. Empty in old files."""

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        parts = Counter([*self.train, *self.validation, *self.test])
        twice = [subject for subject, count in parts.items() if count > 1]
        if twice:
            raise ValueError(f"{few(twice, MAX_NAMED)} would be in two parts")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 over who is where, and with which files."""
        content = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def _content(self) -> dict[str, Any]:
        """All of it; of a split that was drawn before images had hashes, what its file and its hash held then."""
        return self.model_dump(mode="json", exclude=set() if self.images else {"images"})

    def same_as(self, other: Self) -> bool:
        """Whether both divide the same files alike; what their images show counts where both know it."""
        if self.images and other.images:
            return self.hash == other.hash
        return self.model_copy(update={"images": {}}).hash == other.model_copy(update={"images": {}}).hash

    @property
    def trained_on(self) -> TrainedOn | None:
        """The images that a model of this split has seen, by hash; None where the split does not know them."""
        if not self.images:
            return None
        parts: dict[SeenPart, tuple[str, ...]] = {"train": self.train, "validation": self.validation}
        return {
            part: tuple(sorted({digest for who in subjects for digest in self.images.get(who, {}).values()}))
            for part, subjects in parts.items()
        }

    @property
    def unchecked(self) -> str:
        """What cannot be told from this split, for people; empty where all can."""
        unknown = (
            "the split was drawn by an earlier medgan and does not know what its images show: an image that was stored "
            "anew under another subject's name is not found"
        )
        return "" if self.images else unknown

    def save(self, path: Path) -> None:
        """Write the split and its hash as JSON, in one step: a reader finds the old file or the new one."""
        write_text(path, json.dumps({"hash": self.hash} | self._content(), indent=2))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The split in a file; a DataError where it is none, or was altered after it was saved."""
        try:
            content = read_json(path)
            stored = content.pop("hash")
            split = cls.model_validate(content)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; training writes it, so give the folder of a run.") from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            reason = first_problem(error) if isinstance(error, ValidationError) else str(error).partition("\n")[0]
            raise DataError(f"{path} is not a split ({reason}); take the run's own split.json.") from None
        if split.hash != stored:
            raise DataError(
                f"{path} was altered after it was saved: its content has hash {split.hash[:12]}, and it says "
                f"{str(stored)[:12]}. Restore the file; a new split needs a new training."
            )
        return split

    @property
    def part_of(self) -> dict[str, Part]:
        """The part that each subject is in."""
        return {subject: part for part in get_args(Part) for subject in getattr(self, part)}

    def part(self, cohort: Cohort, name: Part) -> Cohort:
        """The studies of the subjects in one part."""
        return cohort.of_subjects(getattr(self, name))

    def check(self, cohort: Cohort) -> None:
        """Refuse a cohort that is no longer the one that was split: files that are changed, missing or new."""
        before, now = _flat(self.files), _flat(cohort.file_hashes())
        by_name = [{(name, digest) for (_, name), digest in files.items()} for files in (before, now)]
        if cohort.note and before != now and by_name[0] == by_name[1]:
            raise LeakageError(
                f"{cohort.root}: {cohort.note}; the run was begun by an earlier medgan that counted two, and may test "
                "whom it was trained on. Start a new run, which makes a new split."
            )
        kinds = {
            "changed": [file for file in before if now.get(file, before[file]) != before[file]],
            "missing": [file for file in before if file not in now],
            "new": [file for file in now if file not in before],
        }
        differing = [f"{how} {subject}: {name}" for how, files in kinds.items() for subject, name in files]
        if differing:
            raise DataError(
                f"{cohort.root} is not the cohort that was split: {few(differing, MAX_NAMED)}. "
                "Restore the files, or start a new run, which makes a new split."
            )

    def refuse_trained(self, tested: Cohort | Iterable[str]) -> None:
        """Refuse to test what the training saw: its subjects, or a cohort's images under other subjects' names.

        Images are compared by what they show, and by their files' bytes where that is not known.
        """
        parts = {subject: part for subject, part in self.part_of.items() if part != "test"}
        subjects = tested.subjects() if isinstance(tested, Cohort) else tested
        leaks = [f"'{subject}' is in its {parts[subject]} part" for subject in subjects if subject in parts]
        if isinstance(tested, Cohort):
            owners = self.owners(get_args(SeenPart))
            leaks += [
                f"'{study.subject}' has the image {tested.relative(study.image)} of its {parts[owner]} "
                f"subject '{owner}'"
                for study in dict.fromkeys(tested.studies)
                if study.subject not in parts and (owner := owner_of(study.image, owners))
            ]
        if seen_of := few(leaks, MAX_NAMED):
            raise LeakageError(f"the model has seen what it would be tested on: {seen_of}. Test on other subjects.")

    def owners(self, parts: Collection[Part]) -> dict[str, str]:
        """By the hash of a file or an image: the subject of these parts whose it is."""
        part_of = self.part_of
        known = (*_flat(self.files).items(), *_flat(self.images).items())
        return {digest: subject for (subject, _), digest in known if part_of.get(subject) in parts}

    def refuse_twins(self, cohort: Cohort | None = None) -> None:
        """Refuse one image under two subjects in different parts, and a cohort of doubtful names.

        The cohort is read where the split does not know what its images show.
        """
        if cohort:
            _refuse_doubt(cohort)
        images = self.images or (cohort.image_hashes() if cohort else {})
        _refuse_shared({subject: images[subject] for subject in self.part_of if subject in images}, self.part_of)


def split_subjects(cohort: Cohort, pair: DomainPair, config: SplitConfig) -> Split:
    """Divide a cohort by subject, in equal shares of the subjects with either domain, with both, and with a mask.

    The cohort's own ``split`` column is kept where there is one; when it names no validation subjects, these are drawn
    from its training subjects. Every part gets a subject of each domain (a complete pair, for a paired task), as long
    as there are enough, and the training part goes first. One image under two subjects is refused: in two parts of the
    column, or anywhere where parts are drawn, since another draw would part them.
    """
    _refuse_doubt(cohort)
    source, target = (set(cohort.of_domain(name).subjects()) for name in pair.names)
    # What each part should have, and who brings it.
    both, either = {" and ".join(pair.names): source & target}, dict(zip(pair.names, (source, target), strict=True))
    carriers = both if pair.paired else either
    masked = {study.subject for study in cohort.studies if study.mask}
    # Those of one kind together, so that evenly spaced picks take equal shares of each.
    shuffled = np.random.default_rng(config.seed).permutation(cohort.subjects()).tolist()
    order = sorted(shuffled, key=lambda subject: (subject in source, subject in target, subject in masked))
    part_of = _split_column(cohort)
    if part_of and config.folds:
        raise ConfigError("the cohort's `split` column fixes the parts; remove it, or leave split.folds unset.")
    test, validation = (
        [subject for subject in order if part_of.get(subject) == part] for part in ("test", "validation")
    )
    if not part_of:
        reserve = 1 + (config.validation > 0)
        test = order[config.fold :: config.folds] if config.folds else _draw(order, config.test, carriers, reserve)
    train = [subject for subject in order if subject not in {*test, *validation}]
    if not validation:
        validation = _draw(train, config.validation, carriers, reserve=1)
        train = [subject for subject in train if subject not in validation]
    parts = {"train": train, "validation": validation, "test": test}
    shares = {"train": 1.0, "validation": config.validation, "test": 0.0 if part_of else config.folds or config.test}
    _refuse_too_few(parts, carriers, [name for name, share in shares.items() if share], config.folds or 0)
    split = Split(
        files=cohort.file_hashes(),
        images=cohort.image_hashes(),
        **{name: tuple(sorted(subjects)) for name, subjects in parts.items()},
    )
    if part_of:
        split.refuse_twins()
    elif validation or test:
        _refuse_shared(split.images)
    return split


def _split_column(cohort: Cohort) -> dict[str, str]:
    """The part of each subject in the cohort's ``split`` column; empty where there is no such column."""
    parts = cohort.parts()
    if not any(parts.values()):
        return {}
    several = [f"'{subject}' in {' and '.join(sorted(own))}" for subject, own in parts.items() if len(own) > 1]
    if twice := few(several, MAX_NAMED):
        raise DataError(f"a subject belongs to one part, and the `split` column has {twice}; correct the CSV.")
    if none := few([f"'{subject}'" for subject, own in parts.items() if not own], MAX_NAMED):
        raise DataError(f"the `split` column is empty for {none}; fill it for every subject or for none.")
    return {subject: own.pop() for subject, own in parts.items()}


def _draw(rest: list[str], share: float, carriers: Mapping[str, set[str]], reserve: int) -> list[str]:
    """A share of ``rest``, evenly over its kinds of subjects, at least one if ``share`` is above 0.

    First one carrier of each thing needed, as long as ``reserve`` carriers remain for the parts that are drawn later.
    """
    count = max(1, round(share * len(rest))) if share else 0
    spread = [rest[int((pick + 0.5) * len(rest) / count)] for pick in range(count)] if rest else []
    candidates = spread + [subject for subject in rest if subject not in spread]
    drawn: list[str] = []

    def spare(subject: str, reserve: int = reserve) -> bool:
        left = set(rest) - {*drawn, subject}
        return subject not in drawn and all(len(own & left) >= reserve for own in carriers.values() if subject in own)

    for own in carriers.values():
        if count and not own & set(drawn):
            drawn += [subject for subject in candidates if subject in own and spare(subject)][:1]
    for subject in candidates:
        if len(drawn) < count and spare(subject):
            drawn.append(subject)
    return drawn or [subject for subject in candidates if count and spare(subject, reserve=1)][:1]


def _refuse_too_few(
    parts: Mapping[str, Sequence[str]], carriers: Mapping[str, set[str]], wanted: Sequence[str], folds: int
) -> None:
    useful = set().union(*carriers.values())
    lack = [f"nobody for {name}" for name in wanted if not useful & set(parts[name])]
    lack += [f"no {what} to train on" for what, own in carriers.items() if not own & set(parts["train"])]
    lack += [f"one {what} for all folds" for what, own in carriers.items() if folds and len(own) == 1]
    lack += ["empty folds"] if folds > len(useful) else []
    if lack:
        counts = ", ".join(f"{len(own)} with {what}" for what, own in carriers.items())
        raise DataError(
            f"too few subjects to divide into {', '.join(wanted)}: {', '.join(lack)}. At least "
            f"{max(len(wanted), folds)} subjects of each kind are needed, and there are {counts}. "
            "Add subjects, or leave a part out, as with split.validation=0."
        )


def _flat(files: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """Hashes by subject and name."""
    return {(subject, name): digest for subject, own in files.items() for name, digest in own.items()}


def _refuse_doubt(cohort: Cohort) -> None:
    """Refuse a cohort whose files' names leave open who is who."""
    if cohort.doubt:
        raise LeakageError(
            f"{cohort.root}: {cohort.doubt}. A subject under two names could be trained on and tested. Give both "
            "images of a subject one name, or list the images in a CSV `subject,domain,image`, which says who is who."
        )


def owners_of(studies: Iterable[Study]) -> dict[str, str]:
    """By the hash of each image's file and of what it shows: the subject whose it is."""
    return {digest: study.subject for study in studies for digest in known_by(study.image)}


def owner_of(image: Path, owners: Mapping[str, str]) -> str | None:
    """Whose image it is among :func:`owners_of` or ``Split.owners``; None where nobody's."""
    return next((owners[digest] for digest in known_by(image) if digest in owners), None)


def _refuse_shared(images: Mapping[str, Mapping[str, str]], parts: Mapping[str, str] | None = None) -> None:
    """Refuse one image under several subjects; those of one part may share it, if there are parts already.

    ``images`` are the hashes of what images show, by subject and name, ``parts`` those of a split by subject.
    """
    by_content = defaultdict(list)
    for subject, own in images.items():
        for name, digest in own.items():
            by_content[digest].append((subject, name))
    shared: dict[str, list[str]] = defaultdict(list)
    for uses in by_content.values():
        owners = sorted({subject for subject, _ in uses})
        if len({parts[owner] for owner in owners} if parts else owners) > 1:
            named = ", ".join(f"'{owner}'" + (f" ({parts[owner]})" if parts else "") for owner in owners)
            shared[named] += [name for _, name in uses]
    if shared:
        shown = [f"{owners}: {few(names, MAX_NAMED)}" for owners, names in shared.items()]
        raise LeakageError(
            f"one image under several subjects {'in different parts' if parts else 'that any draw may part'}, so that "
            f"a test would see what was trained on: {few(shown, MAX_NAMED, between='; ')}. Give them one subject, or "
            "remove all but one."
        )


def training_facts(volume: Volume, trained_on: TrainedOn | None, split_hash: str) -> dict[str, str]:
    """What the sidecar of a model's output says of its input; for :data:`TRAINING`."""
    return {"SplitSHA256": split_hash, "ThisImage": this_image(volume, trained_on)}


def this_image(volume: Volume, trained_on: TrainedOn | None) -> ThisImage:
    """Whether a model has seen an image, by what that shows: whatever its name, its subject and its file."""
    if trained_on is None:
        return "unknown"
    digest = voxel_hash(volume)
    return next((part for part, digests in trained_on.items() if digest in digests), "unseen")


def training_of(image: Path) -> tuple[ThisImage, str]:
    """What an output's sidecar says: whether the model had seen its input, and the hash of the model's split."""
    facts = sidecar(image).get(TRAINING)
    if not isinstance(facts, dict) or facts.get("ThisImage") not in get_args(ThisImage):
        return "unknown", ""
    return facts["ThisImage"], str(facts.get("SplitSHA256", ""))
