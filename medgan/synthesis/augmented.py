"""What an augmented cohort's folder holds beside the cases: the table, the real files, the names of labels, facts."""

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgan.data.dicom import dicom_files, is_series
from medgan.data.domains import Domain
from medgan.data.preparation import GridConfig
from medgan.data.sidecars import AUGMENTATION
from medgan.data.streams import replacing, unwritable
from medgan.data.studies import Study
from medgan.inference.sidecar import NOT_FOR_CLINICAL_USE, as_json
from medgan.segmentation.labelled import LABELS_JSON
from medgan.synthesis.material import Material, part_of
from medgan.synthesis.training import GeneratorModel
from medgan.training.model_folder import library_versions

COHORT = "cohort.csv"
REAL = "real"
"""The folder of links to the real files: a cohort's files lie beside its table."""


def own_facts(
    material: Material,
    domain: Domain,
    model: GeneratorModel | None,
    method: str,
    settings: dict[str, Any],
    grid: GridConfig,
    seed: int,
) -> dict[str, Any]:
    """What the sidecars of one augmentation share; all that a case is made from but its number and recipient."""
    return {
        "Synthetic": True,
        "NotForClinicalUse": NOT_FOR_CLINICAL_USE,
        "Domain": domain.name,
        "Unit": domain.unit,
        "Model": None if model is None else _model_facts(model),
        AUGMENTATION: {
            "Method": method,
            "Settings": settings,
            "SpacingMM": list(grid.spacing_mm),
            "Seed": seed,
            "DonorsSHA256": material.donors_hash,
            "SplitSHA256": material.split.hash,
        },
        "MaskOrigin": _mask_origin(method, settings),
        "LabelMap": {name: list(values) for name, values in material.labels.items()},
        "Versions": library_versions(),
    }


def write_cohort(folder: Path, material: Material, made: Sequence[tuple[str, Path, Path]]) -> None:
    """Write the table of real and synthetic images, link the real files, and say what labels mean.

    Args:
        folder: The augmented cohort's.
        material: The real one.
        made: Synthetic cases: subject, image and label map.

    Raises:
        DataError: Something cannot be written.
    """
    rows = [_real_row(folder, material, study) for study in material.cohort.studies]
    domain = material.cohort.studies[0].domain
    for subject, *files in made:
        rows.append([subject, domain, *(file.relative_to(folder).as_posix() for file in files), "train"])
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([["subject", "domain", "image", "mask", "split"], *rows])
    with replacing(folder / LABELS_JSON) as stream:
        stream.write(_label_names(material))
    with replacing(folder / COHORT) as stream:  # the table comes last: where it is, all that it names is
        stream.write(table.getvalue().encode())


def _real_row(folder: Path, material: Material, study: Study) -> list[str]:
    names = []
    for path in (study.image, study.mask):
        names.append(f"{REAL}/{material.cohort.relative(path)}" if path else "")
        if path:
            _link(path, folder / names[-1], folder)
    return [study.subject, study.domain, *names, part_of(material.split, study.subject) or ""]


def _link(source: Path, target: Path, folder: Path) -> None:
    """A link to a real file or series folder; a copy where the file system has no links.

    What was there before goes: it may belong to another cohort. So do links on the way from ``folder`` to the target,
    through which that cohort's own files would be changed.
    """
    if target.is_symlink() and target.resolve() == source.resolve():
        return
    try:
        for place in reversed([target, *target.parents]):
            if place.is_relative_to(folder) and place != folder and place.is_symlink():
                place.unlink()
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        if is_series(source):  # of several in a folder: here it gets one of its own
            for file in dicom_files(source):
                _link(file, target / file.name, folder)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(source.resolve(), target_is_directory=source.is_dir())
        except OSError:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    except OSError as error:
        raise unwritable(target, error) from None


def _label_names(material: Material) -> bytes:
    """The cohort's own ``labels.json``, or one that says what is synthesised."""
    own = material.cohort.beside(LABELS_JSON)
    if own.is_file():
        return own.read_bytes()
    names = {str(value): name for name, values in material.labels.items() for value in values}
    return as_json({"labels": names}).encode()


def _model_facts(model: GeneratorModel) -> dict[str, Any]:
    description = model.description
    return {
        "Name": description.model_name(),
        "WeightsSHA256": description.weights_sha256,
        "DescriptionSHA256": description.sha256,
    }


def _mask_origin(method: str, settings: dict[str, Any]) -> str:
    """Where a case's labels come from, in words."""
    if method == "sampled":
        return "drawn by the network, with the image"
    if method == "painted" and settings["masks"] == "generated":
        return "drawn by a shape model of the donors' masks"
    return "a donor's mask as it is" if method == "carve-mix" else "a donor's mask, varied"
