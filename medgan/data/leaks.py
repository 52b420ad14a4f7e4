"""Who was seen: by what names leave open, by what images show, and by what a model's outputs say of their inputs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

from medgan.data.grid import Volume
from medgan.data.hashes import known_by, voxel_hash
from medgan.data.sidecars import sidecar
from medgan.data.studies import Cohort, Study
from medgan.errors import LeakageError
from medgan.text import few

SeenPart = Literal["train", "validation"]
TrainedOn = dict[SeenPart, tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]]
"""Hashes of the images that a model learnt from, and of those that chose it: ``medgan.data.volumes.image_hash``."""
ThisImage = Literal["train", "validation", "unseen", "unknown"]
"""A model learnt from an image, chose its epoch by it, never saw it, or an earlier medgan wrote it and nobody knows."""
TRAINING = "Training"
"""The key of whether the model had seen what the image was made of."""
MAX_NAMED = 10


def refuse_doubt(cohort: Cohort) -> None:
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


def refuse_shared(images: Mapping[str, Mapping[str, str]], parts: Mapping[str, str] | None = None) -> None:
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
