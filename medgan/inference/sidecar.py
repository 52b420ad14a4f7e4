"""The files of one study: its images and the sidecar that vouches for them, whole or not at all.

A sidecar holds no path of this machine and no word of the input's header; the input is named as it lies below INPUT.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medgan.data.hashes import file_hash
from medgan.data.nifti import DESCRIP_BYTES
from medgan.data.streams import unfinished_folder, unwritable, write_text
from medgan.data.volumes import Grid, write_volume
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.inference.jobs import Job, MapKind
from medgan.text import printable
from medgan.training.model_folder import Description

NOT_FOR_CLINICAL_USE = "Synthetic image for research. Not for diagnosis: what it shows was never measured."
MADE_FROM = ("SourceSHA256", "Direction", "Model", "ChangeMap", "Uncertainty", "Augmentation")
"""What an output depends on; one that agrees in all of it is kept."""
OURS = ("Synthetic", "Segmentation", "Classification")
"""What the sidecars that medgan writes say of themselves."""
MAPS: dict[MapKind, str] = {"change": "ChangeMap", "uncertainty": "Uncertainty"}
"""What a sidecar calls the maps beside an output."""

Facts = dict[str, Any]


def model_origin(description: Description) -> Facts:
    """Which model it was: its name, and hashes of its weights and of its description."""
    return {
        "Name": description.model_name(),
        "WeightsSHA256": description.weights_sha256,
        "DescriptionSHA256": description.sha256,
    }


def is_finished(job: Job, facts: Facts) -> bool:
    """Whether the job's outputs exist and are what it would write.

    Outputs of a killed conversion may be there in part; they are finished, not refused.

    Raises:
        DataError: Something else lies in their place; it is never overwritten unasked.
    """
    wanted = job.images([kind for kind, name in MAPS.items() if facts.get(name) is not None])
    there = [path for path in wanted if os.path.lexists(path)]
    sidecar = read_sidecar(job.sidecar)
    if sidecar is None:
        there += [job.sidecar] if os.path.lexists(job.sidecar) else []
        if there:
            raise DataError(f"{there[0]}: exists and is no output of medgan; give another OUTPUT, or add --overwrite.")
        return False
    if not there:
        return False
    differing = [name for name in MADE_FROM if sidecar.get(name) != facts.get(name)]
    if differing:
        raise DataError(f"{job.output}: exists, made with another {' and '.join(differing)}; add --overwrite.")
    for path in there:
        if sidecar["Outputs"].get(printable(path.name)) != file_hash(path):
            raise DataError(f"{path}: exists, but was changed since it was written; move it away, or add --overwrite.")
    return len(there) == len(wanted)


def read_sidecar(path: Path) -> Facts | None:
    """The sidecar of an output, or None where there is none that medgan wrote."""
    try:
        content = read_json(path, strict=False)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("Outputs"), dict):
        return None
    return content if any(content.get(mark) is True for mark in OURS) else None


def write_outputs(job: Job, images: Mapping[Path, NDArray[Any]], grid: Grid, facts: Facts) -> None:
    """Write a job's images and its sidecar, so that whatever has its final name is whole.

    All are made in a hidden folder first. The sidecar takes its place before the images that it describes, and the
    output comes last: a conversion that is killed in between leaves nothing that a later one takes for another's.
    Images are voxels (X, Y, Z) by final path, stored in their own type; facts are the sidecar but for their hashes.

    Raises:
        DataError: They cannot be written.
    """
    before = read_sidecar(job.sidecar)
    try:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_folder(job.output.parent) as folder:
            for path, voxels in images.items():
                write_volume(
                    voxels, grid, folder / path.name, voxels.dtype,
                    descrip=_header_text(facts, job.kind(path)), labels=bool(facts.get("Segmentation")),
                )  # fmt: skip
            hashes = {printable(path.name): file_hash(folder / path.name) for path in images}
            write_text(folder / job.sidecar.name, as_json(facts | {"Outputs": hashes}))
            for path in (job.sidecar, *reversed(list(images))):
                (folder / path.name).replace(path)
        for path in job.images():
            if before and path not in images and printable(path.name) in before["Outputs"]:
                path.unlink(missing_ok=True)  # a map of the output that was just replaced
    except OSError as error:
        raise unwritable(job.output, error) from None


def as_json(content: Mapping[str, Any]) -> str:
    """JSON for people, too."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _header_text(facts: Facts, kind: MapKind | None) -> str:
    """What an image's own header says of it, or of a map of some kind, if the sidecar is lost; at most 79 letters."""
    what = "LABEL MAP" if facts.get("Segmentation") else f"SYNTHETIC {kind} map" if kind else "SYNTHETIC"
    model = facts.get("Model") or {}
    name, weights = model.get("Name", ""), str(model.get("WeightsSHA256", ""))[:8]
    room = DESCRIP_BYTES - len(f"{what}, medgan  {weights}, not for diagnosis")
    return " ".join(f"{what}, medgan {name[:room]} {weights}".split()) + ", not for diagnosis"
