"""The files of one study: its images and the sidecar that vouches for them, whole or not at all.

A sidecar holds no path of this machine and no word of the input's header; the input is named as it lies below INPUT.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan.data.hashes import file_hash
from medgan.data.nifti import DESCRIP_BYTES
from medgan.data.streams import unfinished_folder, unwritable, write_text
from medgan.data.volumes import Grid, write_volume
from medgan.documents import read_json
from medgan.errors import DataError
from medgan.inference.jobs import Job, MapKind
from medgan.inference.uncertainty import has_dropout, variations
from medgan.networks.outputs import ChangeOutput
from medgan.text import printable
from medgan.training.architecture import Direction, TranslationModel
from medgan.training.model_folder import Description, library_versions

NOT_FOR_CLINICAL_USE = "Synthetic image for research. Not for diagnosis: what it shows was never measured."
MADE_FROM = ("SourceSHA256", "Direction", "Model", "ChangeMap", "Uncertainty", "Augmentation")
"""What an output depends on; one that agrees in all of it is kept."""
OURS = ("Synthetic", "Segmentation", "Classification")
"""What the sidecars that medgan writes say of themselves."""

Facts = dict[str, Any]


def model_facts(
    model: TranslationModel, direction: Direction, *, change_map: bool, uncertainty: int | None = None
) -> Facts:
    """What the sidecars of one batch share; ``uncertainty`` is the number of translations that its map is made of."""
    description = model.description
    wanted = model.description.domains(direction)[1]
    return {
        "Synthetic": True,
        "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
        "Direction": direction,
        "Domain": wanted.name,
        "Unit": wanted.unit,
        "Model": model_origin(description),
        "ChangeMap": map_meaning(model, direction) if change_map else None,
        "Uncertainty": spread_meaning(model, direction, uncertainty) if uncertainty else None,
        "Versions": library_versions(),
    }


def model_origin(description: Description) -> Facts:
    """Which model it was: its name, and hashes of its weights and of its description."""
    return {
        "Name": description.model_name(),
        "WeightsSHA256": description.weights_sha256,
        "DescriptionSHA256": description.sha256,
    }


def map_meaning(model: TranslationModel, direction: Direction) -> str:
    """The sign of the change map, in words."""
    generator = _with_change(model, direction)
    if not generator.one_sided:
        return "HU, output minus input"
    return "HU removed, input minus output" if generator.sign < 0 else "HU added, output minus input"


def spread_meaning(model: TranslationModel, direction: Direction, samples: int) -> str:
    """What the uncertainty map holds, in words."""
    ways = variations(model.description.patch)
    dropout = ", with dropout" if has_dropout(model.networks[direction]) else ""
    unit = model.description.domains(direction)[1].unit
    return f"{unit}, standard deviation of {samples} translations of the study {ways}{dropout}"


def as_map(change_hu: NDArray[np.float32], model: TranslationModel, direction: Direction) -> NDArray[np.float32]:
    """What the change map holds: a change that goes only one way as an amount, never negative, any other as it is.

    It takes the change's place in memory.
    """
    return np.abs(change_hu, out=change_hu) if _with_change(model, direction).one_sided else change_hu


def kept(job: Job, facts: Facts) -> bool:
    """Whether the job's outputs exist and are what it would write.

    Outputs of a killed conversion may be there in part; they are finished, not refused.

    Raises:
        DataError: Something else lies in their place; it is never overwritten unasked.
    """
    wanted = job.images(_maps(facts))
    there = [path for path in wanted if os.path.lexists(path)]
    sidecar = read_sidecar(job.sidecar)
    if sidecar is None:
        found = [*there, *([job.sidecar] if os.path.lexists(job.sidecar) else [])]
        if found:
            raise DataError(f"{found[0]}: exists and is no output of medgan; give another OUTPUT, or add --overwrite.")
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

    Args:
        job: Where they go.
        images: Voxels (X, Y, Z) by final path, stored in their own type.
        grid: The input's.
        facts: The sidecar, but for the images' hashes.

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
                    descrip=header_text(facts, job.kind(path)), labels=bool(facts.get("Segmentation")),
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


def header_text(facts: Facts, kind: MapKind | None = None) -> str:
    """What an image's own header says of it, for whoever loses the sidecar; at most 79 letters.

    Args:
        facts: The sidecar's.
        kind: Of a map beside the output, which.
    """
    what = "LABEL MAP" if facts.get("Segmentation") else f"SYNTHETIC {kind} map" if kind else "SYNTHETIC"
    model = facts.get("Model") or {}
    name, weights = model.get("Name", ""), str(model.get("WeightsSHA256", ""))[:8]
    room = DESCRIP_BYTES - len(f"{what}, medgan  {weights}, not for diagnosis")
    return " ".join(f"{what}, medgan {name[:room]} {weights}".split()) + ", not for diagnosis"


def as_json(content: Mapping[str, Any]) -> str:
    """JSON for people, too."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _maps(facts: Facts) -> list[MapKind]:
    """The maps that a sidecar tells of."""
    kinds: dict[MapKind, str] = {"change": "ChangeMap", "uncertainty": "Uncertainty"}
    return [kind for kind, name in kinds.items() if facts.get(name) is not None]


def _with_change(model: TranslationModel, direction: Direction) -> ChangeOutput:
    generator = model.networks[direction]
    assert isinstance(generator, ChangeOutput), "only models that predict the change have a map"
    return generator
