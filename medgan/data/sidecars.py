"""What the JSON beside an image says of it: whether ``medgan augment`` made it of others."""

import os
from dataclasses import replace
from pathlib import Path

from medgan.data.layouts import stem
from medgan.data.studies import Cohort
from medgan.documents import read_json
from medgan.errors import DataError

AUGMENTATION = "Augmentation"
"""The key of how a case was made. ``Synthetic`` alone does not tell: phantoms and translations have it, too."""
SUFFIX = "Suffix"
"""The key of what the image's name has after its source's."""


def sidecar(image: Path) -> dict[str, object]:
    """What lies beside an image as ``NAME.json``; empty where that is no sidecar."""
    return _read(image)[0]


def damage(image: Path) -> str:
    """Why the ``NAME.json`` beside an image cannot be read, so that what it says is not known; empty where it can."""
    return _read(image)[1]


def _read(image: Path) -> tuple[dict[str, object], str]:
    path = image.parent / f"{stem(image)}.json"
    try:
        content = read_json(path, strict=False)
    except (OSError, ValueError) as error:
        return {}, f"{path.name} beside it cannot be read ({error})" if os.path.lexists(path) else ""
    return content if isinstance(content, dict) else {}, ""


def without_augmented(cohort: Cohort) -> tuple[Cohort, int]:
    """The studies that ``medgan augment`` did not make of others, and how many it did.

    The sidecar tells, or that of the file that an image links to. Whoever learns from such a case as from a real one
    learns from what a generator or its donors gave it. Refused are cohorts of nothing else, and damaged sidecars.
    """
    own = []
    for study in cohort.studies:
        if reason := damage(study.image):
            raise DataError(
                f"{study.image}: {reason}, so whether it is a synthetic case cannot be told; copy that file again, or "
                "remove it where the image is a real one."
            )
        files = (study.image, study.image.resolve())
        if not any(isinstance(sidecar(image).get(AUGMENTATION), dict) for image in files):
            own.append(study)
    if cohort.studies and not own:
        raise DataError(
            f"{cohort.root}: all {len(cohort.studies)} images are synthetic cases of `medgan augment`; give the cohort "
            "of real cases that they were made of."
        )
    return replace(cohort, studies=tuple(own)), len(cohort.studies) - len(own)


def left_out(count: int) -> str:
    """What people are told of cases that are not taken for real ones; empty where there are none."""
    what = "case of `medgan augment` is" if count == 1 else "cases of `medgan augment` are"
    return f"{count} synthetic {what} left out: only real ones are learnt from" if count else ""
