"""Synthetic cases on disk: made once, read alike by every segmenter in whatever process."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan.benefit.records import read_json, write_json
from medgan.data.preparation import Prepared
from medgan.data.streams import replacing
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled
from medgan.studies.copies import stretched
from medgan.synthesis.insertion import Synthetic

RECORD = "cases.json"
"""Beside the cases, written last: of what, by what and with which settings they were made."""


def write_cases(folder: Path, made: Iterable[Synthetic], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write cases as they are made, and then the record of them.

    Args:
        folder: Where they lie, a file a case.
        made: The cases.
        facts: What the record says beside each case's subject, parents and how it was made, and a hash of all voxels.

    Returns:
        The record.
    """
    digest, told = hashlib.sha256(), []
    for number, synthetic in enumerate(made):
        case = synthetic.case
        image = case.image
        for array in (image.voxels, image.affine, case.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        with replacing(folder / f"{number:04d}.npz") as stream:
            np.savez_compressed(
                stream, voxels=image.voxels, affine=image.affine, body=np.array(image.body),
                bounds=np.array(image.bounds), labels=case.labels,
            )  # fmt: skip
        told.append({"subject": case.subject, "parents": list(synthetic.parents), "how": synthetic.how})
    record = {**facts, "sha256": digest.hexdigest(), "cases": told}
    write_json(folder / RECORD, record)
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """What is said of the cases of a folder; nothing where they are not all there."""
    return read_json(folder / RECORD)


def read_cases(folder: Path) -> list[Labelled]:
    """The cases of a folder, in the order in which they were made.

    Raises:
        DataError: One is missing or damaged.
    """
    return [_read(folder / f"{number:04d}.npz", told["subject"]) for number, told in enumerate(_told(folder))]


def _told(folder: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = read_record(folder).get("cases", [])
    if not cases:
        raise DataError(f"{folder}: holds no synthetic cases; run the same command again, and they are made.")
    return cases


def _read(path: Path, subject: str) -> Labelled:
    try:
        with np.load(path) as stored:
            body = tuple((int(first), int(last)) for first, last in stored["body"])
            lower, upper = stored["bounds"].tolist()
            image = Prepared(stored["voxels"], stored["affine"], body, (lower, upper))
            return Labelled(subject, image, stored["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove its folder and run the same command again."
        ) from None


def shuffled(cases: Sequence[Labelled], parents: Sequence[str]) -> list[Labelled]:
    """The same images, each with the labels of the next case of another recipient; no case keeps its own.

    Where grids differ, labels are stretched over the image: that they do not fit is the point.

    Args:
        cases: Two or more.
        parents: Whose anatomy each case has; where all have the same, the next case serves.

    Raises:
        DataError: One case only.
    """
    if len(cases) < 2:
        raise DataError(f"labels of {len(cases)} case(s) cannot be exchanged; leave the arm standard+shuffled out.")
    return [
        Labelled(case.subject, case.image, stretched(cases[_other(number, parents)].labels, _shape(case)))
        for number, case in enumerate(cases)
    ]


def _other(number: int, parents: Sequence[str]) -> int:
    following = [(number + step) % len(parents) for step in range(1, len(parents))]
    return next((other for other in following if parents[other] != parents[number]), following[0])


def _shape(case: Labelled) -> tuple[int, int, int]:
    x, y, z = case.image.voxels.shape
    return x, y, z
