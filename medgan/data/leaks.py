"""Who was seen: by what a cohort's names leave open, by what its images show, and by what a model's outputs say."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from medgan.data.grid import Volume
from medgan.data.hashes import known_by, voxel_hash
from medgan.data.sidecars import sidecar
from medgan.data.studies import Cohort
from medgan.errors import LeakageError
from medgan.text import few

SeenPart = Literal["train", "validation"]
TrainedOn = dict[SeenPart, tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]]
"""Hashes of the images that a model learnt from, and of those that chose it: ``medgan.data.volumes.image_hash``."""

TRAINING = "Training"
"""The key of whether the model had seen what the image was made of."""

ThisImage = Literal["train", "validation", "unseen", "unknown"]
"""A model learnt from an image, chose its epoch by it, never saw it, or an earlier medgan wrote it and nobody knows."""
MAX_NAMED = 10


def refuse_doubt(cohort: Cohort) -> None:
    """Refuse a cohort whose files' names leave open who is who.

    Raises:
        LeakageError: Shows some of the names and says what to do.
    """
    if cohort.doubt:
        raise LeakageError(
            f"{cohort.root}: {cohort.doubt}. A subject under two names could be trained on and tested. Give both "
            "images of a subject one name, or list the images in a CSV `subject,domain,image`, which says who is who."
        )


def owner_of(image: Path, owners: Mapping[str, str]) -> str | None:
    """Whose image it is among ``Split.owners``, by what it shows or by its bytes; None where nobody's."""
    return next((owners[digest] for digest in known_by(image) if digest in owners), None)


def shared_images(images: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, ...], list[str]]:
    """By the subjects who share an image: its names."""
    by_content: dict[str, list[tuple[str, str]]] = {}
    for subject, name, digest in listed(images):
        by_content.setdefault(digest, []).append((subject, name))
    twins: dict[tuple[str, ...], list[str]] = {}
    for found in by_content.values():
        owners = tuple(sorted({subject for subject, _ in found}))
        if len(owners) > 1:
            twins.setdefault(owners, []).extend(name for _, name in found)
    return twins


def refuse_shared(twins: Mapping[str, Sequence[str]], how: str) -> None:
    """Refuse subjects that share an image, if there are some, and say how they share it."""
    if twins:
        shown = [f"{owners}: {brief(names)}" for owners, names in twins.items()]
        raise LeakageError(
            f"one image under several subjects {how}, so that a test would see what was trained on: "
            f"{brief(shown, '; ')}. Give them one subject, or remove all but one."
        )


def training_facts(volume: Volume, trained_on: TrainedOn | None, split_hash: str) -> dict[str, str]:
    """What the sidecar of a model's output says of its input.

    Args:
        volume: The input.
        trained_on: The images that the model has seen, by hash.
        split_hash: Of the split by which it was trained.
    """
    return {"SplitSHA256": split_hash, "ThisImage": this_image(volume, trained_on)}


def this_image(volume: Volume, trained_on: TrainedOn | None) -> ThisImage:
    """Whether a model has seen an image, by what that shows: whatever its name, its subject and its file."""
    if trained_on is None:
        return "unknown"
    digest = voxel_hash(volume)
    return next((part for part, digests in trained_on.items() if digest in digests), "unseen")


def training_of(image: Path) -> tuple[ThisImage, str]:
    """What an output's sidecar says: whether the model had seen its input, and the hash of the model's split."""
    said = sidecar(image).get(TRAINING)
    if not isinstance(said, dict) or said.get("ThisImage") not in get_args(ThisImage):
        return "unknown", ""
    return said["ThisImage"], str(said.get("SplitSHA256", ""))


def listed(files: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Subject, file name and hash of each file."""
    for subject, hashes in files.items():
        for name, digest in hashes.items():
            yield subject, name, digest


def brief(things: Sequence[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    return few(things, MAX_NAMED, between=between)
