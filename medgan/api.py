"""medgan in Python: a model as a function of images, and the commands as functions that give objects.

They are quiet unless asked: what a command would print as a warning is a :class:`MedganWarning`, and what ends a
command is raised, a :class:`MedganError` or, on Ctrl-C, ``KeyboardInterrupt``.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pandas as pd
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.text import Text

from medgan.data.belonging import Scans, assessed
from medgan.data.domains import Domain
from medgan.data.in_memory import in_memory
from medgan.data.splits import Part, ThisImage, this_image
from medgan.data.studies import Location, located, options
from medgan.data.volumes import Volume
from medgan.errors import ConfigError, MedganWarning
from medgan.evaluation.evaluate import Evaluation
from medgan.evaluation.evaluate import evaluate as run_evaluation
from medgan.evaluation.judging import LabelNames, Modalities
from medgan.evaluation.terminal import render
from medgan.evaluation.tissues import Modality
from medgan.inference.batch import BatchSummary, conversion_fabric, local_model, warning_lines
from medgan.inference.convert import ConvertOrder
from medgan.inference.convert import convert as run_conversion
from medgan.inference.jobs import header_text, model_origin, strength_fact
from medgan.inference.recording import record_batch
from medgan.inference.translate import OF_PHANTOM, translate
from medgan.report.recording import record_evaluation
from medgan.segmentation.apply import segment_study
from medgan.segmentation.settings import SegmenterDescription
from medgan.tracking import check_address
from medgan.training.architecture import Direction, TranslationDescription
from medgan.training.device import parse_devices
from medgan.training.fit import Interrupted
from medgan.training.model_folder import DESCRIPTION, Description, Model, read_model, task_of
from medgan.training.run import Order
from medgan.training.run import train as run_training
from medgan.training.run_folder import RunFolder

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

__all__ = ["Interrupted", "LoadedModel", "Trained", "convert", "evaluate", "load", "train", "write_report"]

I = TypeVar("I", bound="Nifti1Pair | sitk.Image")  # noqa: E741
FORCE = ", or give force=True to take it all the same"
SEEN: dict[ThisImage, str] = {
    "train": "the model was trained on this image, so its output is no evidence of how it does on others",
    "validation": "this image chose the model's epoch, so its output is no evidence of how it does on others",
}


class LoadedModel:
    """A model in memory, a function of images: ``ct = model(image)``; several calls share its networks."""

    def __init__(self, folder: Path, model: Model[Any], device: str = "auto") -> None:
        self.folder, self._model = folder, model
        self._fabric = conversion_fabric(device)

    @property
    def description(self) -> Description:
        """What ``model.json`` says of it."""
        description: Description = self._model.description
        return description

    @property
    def task(self) -> str:
        """``translation`` or ``segmentation``."""
        return self.description.task

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Which ways it translates; none for a segmenter."""
        return tuple(self._model.networks) if self.task == "translation" else ()  # type: ignore[arg-type]

    @property
    def labels(self) -> dict[int, str]:
        """What the values of a segmenter's label maps mean; empty for a translator."""
        description = self.description
        return dict(description.names) if isinstance(description, SegmenterDescription) else {}

    def __repr__(self) -> str:
        return f"<medgan model for {self.task}: {self.folder}>"

    @overload
    def __call__(
        self, image: I, *, direction: Direction | None = None, strength: float = 1, force: bool = False
    ) -> I: ...
    @overload
    def __call__(
        self, image: NDArray[Any], *, affine: ArrayLike, direction: Direction | None = None, strength: float = 1,
        force: bool = False,
    ) -> NDArray[Any]: ...  # fmt: skip
    @overload
    def __call__(
        self, image: tuple[NDArray[Any], ArrayLike], *, direction: Direction | None = None, strength: float = 1,
        force: bool = False,
    ) -> tuple[NDArray[Any], ArrayLike]: ...  # fmt: skip
    @overload
    def __call__(
        self, image: str | Path, *, direction: Direction | None = None, strength: float = 1, force: bool = False
    ) -> Nifti1Image: ...
    def __call__(
        self, image: Any, *, affine: Any = None, direction: Direction | None = None, strength: float = 1,
        force: bool = False,
    ) -> Any:  # fmt: skip
        """The image translated or segmented: of the same kind, on the same voxel grid, the input left as it is.

        Voxels are those that ``medgan convert`` or ``medgan segment`` writes: CT int16 in HU, MR float32, labels uint8.
        What to know before using them is a :class:`MedganWarning`.

        Args:
            image: A nibabel image, a SimpleITK image, an array (X, Y) or (X, Y, Z) in RAS+ terms of its affine, a pair
                of such an array and its affine, or a path, whose output is a nibabel image.
            affine: Of an array alone, (4, 4): voxel index to RAS+ mm.
            direction: ``to_target``, which a translator takes by default, or ``to_source``.
            strength: Share of a one-sided change that is added: 0 gives the input, 1.2 is the most.
            force: Take an image that cannot be of the model's domain all the same.

        Raises:
            ConfigError: A direction or a strength that the model cannot have.
            DataError: An image that cannot be used, or that cannot be of the model's domain.
            GeometryError: A voxel grid that cannot be kept exactly.
            ModelError: The model was not trained for this direction.
        """
        if (direction or strength != 1) and not self.directions:
            raise ConfigError(f"{self.folder}: a segmenter has no direction and no strength; leave them out.")
        asked = in_memory(image, affine)
        domain, scans, grid = self._takes(direction or "to_target")
        odd, _ = assessed(asked.volume, domain, scans, grid, force=force, advice=FORCE)
        voxels, more = self._answer(asked.volume, direction or "to_target", strength)
        seen = SEEN.get(this_image(asked.volume, self.description.origin.trained_on))
        for line in (*odd, *more, *([seen] if seen else [])):
            warnings.warn(f"{asked.volume.path}: {line}", MedganWarning, stacklevel=2)
        facts = {"Segmentation": self.task == "segmentation", "Model": model_origin(self.description)}
        return asked.back(voxels, header_text(facts | strength_fact(strength)), self.task == "segmentation")

    def _takes(self, direction: Direction) -> tuple[Domain, Scans | None, Any]:
        """Of which domain images are, how those of the training were scanned, and on which grid they are seen."""
        description = self.description
        if isinstance(description, TranslationDescription):
            domain = description.domains(direction)[0]
            return domain, description.scans.get(domain.name), description.grid
        assert isinstance(description, SegmenterDescription)
        return description.config.domain, None, None

    def _answer(self, volume: Volume, direction: Direction, strength: float) -> tuple[NDArray[Any], tuple[str, ...]]:
        """The output's voxels (X, Y, Z), and warnings."""
        if self.task == "translation":
            translation = translate(volume, self._model, direction, self._fabric, strength=strength)
            return translation.voxels, translation.warnings
        warned = (OF_PHANTOM,) if self.description.origin.phantom else ()
        return segment_study(self._model, volume, self._fabric), warned


def load(model: str | Path, *, device: str = "auto", tracking: str | None = None) -> LoadedModel:
    """A translator or a segmenter, ready to be called.

    Args:
        model: A model folder, a run folder, ``runs:/ID/model``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        tracking: The MLflow store of a recorded model; else ``MLFLOW_TRACKING_URI``, else the default.

    Raises:
        ModelError: There is no such model, it was altered, or it is for another task.
        ConfigError: This machine has no such device, or the store cannot be used.
    """
    folder = _model_folder(model, tracking)
    kind = SegmenterDescription if task_of(folder) == "segmentation" else TranslationDescription
    return LoadedModel(folder, read_model(folder, kind), device)


def _model_folder(model: str | Path | LoadedModel, tracking: str | None = None) -> Path:
    """Where a model lies; of a run folder, the model within it."""
    folder = model.folder if isinstance(model, LoadedModel) else local_model(str(model), tracking)
    own = RunFolder(folder).model
    return own if (own / DESCRIPTION).is_file() and not (folder / DESCRIPTION).is_file() else folder


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    folder: Path
    """The run folder."""
    description: Description
    """What ``model.json`` says."""
    model_uri: str | None
    """The model in MLflow; None when the store was lost."""
    device: str

    @property
    def model(self) -> LoadedModel:
        """The model, loaded anew each time."""
        return load(self.folder, device=self.device)

    @property
    def curves(self) -> pd.DataFrame:
        """What was measured, a row an epoch: ``metrics.csv``."""
        return pd.read_csv(self.folder / "metrics.csv")


def train(
    pipeline: str,
    data: str | Path | None = None,
    *,
    name: str | None = None,
    out: str | Path = "runs",
    config: str | Path | None = None,
    resume: bool = False,
    phantom: bool = False,
    root: str | Path | None = None,
    bids: str | None = None,
    register: str | None = None,
    tracking: str | None = None,
    device: str = "auto",
    devices: int | None = None,
    num_nodes: int | None = None,
    threads: int | None = None,
    quiet: bool = True,
    **settings: Any,
) -> Trained:
    """Train a pipeline, as ``medgan train`` does.

    ``train("ct_contrast", fit={"epochs": 3}, seed=1)`` and ``train("ct_contrast", **{"fit.epochs": 3})`` set what
    ``KEY=VALUE`` sets; all else is named as the command's options are.

    Args:
        pipeline: ``medgan pipelines`` lists them.
        data: A cohort: CSV, folders, BIDS or nnU-Net raw; None is the built-in phantom.
        name: The run's; else the time.
        out: Where runs are kept.
        config: YAML with what differs from the shipped settings.
        resume: Go on with the run of that name, or the last one.
        phantom: ``data`` holds the built-in phantom: its settings are taken, and the model says so.
        root: Of a cohort's CSV, what its paths are relative to.
        bids: Of BIDS, which of several images: ``run=1,acq=mprage``.
        register: The name under which MLflow registers the model.
        tracking: MLflow's URI; else ``MLFLOW_TRACKING_URI``, else SQLite.
        device: Where to compute.
        devices: How many of a node's devices share the training; a script that sets it needs
            ``if __name__ == "__main__":``, as it runs in each of their processes.
        num_nodes: How many machines share it.
        threads: Of the processor; else those that are free, and no more than torch was set to.
        quiet: Print nothing.
        **settings: Of the pipeline; they win over ``config``.

    Raises:
        MedganError: Whatever keeps the training from starting or going on.
        Interrupted: Ctrl-C; the run can be resumed.
    """
    order = Order(
        pipeline, located(_path(data), _path(root), bids), config=_path(config),
        overrides=[f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()],
        out=Path(out), name=name, resume=resume, phantom=phantom, register=register, tracking=tracking, device=device,
        devices=devices, num_nodes=num_nodes, threads=threads,
    )  # fmt: skip
    trained = run_training(order, Console(stderr=True, quiet=quiet))
    return Trained(trained.run.path, trained.description, trained.model_uri, parse_devices(device)[0])


def convert(
    source: str | Path,
    output: str | Path,
    model: str | Path | LoadedModel,
    *,
    direction: Direction = "to_target",
    part: Part | None = None,
    split: str | Path | None = None,
    strength: float = 1.0,
    change_map: bool = False,
    uncertainty: int | None = None,
    suffix: str = "",
    root: str | Path | None = None,
    bids: str | None = None,
    overwrite: bool = False,
    force: bool = False,
    jobs: int = 1,
    tracking: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    quiet: bool = True,
) -> BatchSummary:
    """Translate studies on disk, as ``medgan convert`` does; how each ended.

    A study that fails stops no other and is named by a :class:`MedganWarning`. Arguments are the command's options;
    ``model`` is also a run folder or a loaded model.

    Raises:
        MedganError: There is nothing to convert, or something contradicts something else.
    """
    check_address(tracking)
    folder = _model_folder(model, tracking)
    order = ConvertOrder(
        Location(Path(source), options(_path(root), bids)), Path(output), str(folder), overwrite=overwrite,
        force=force, jobs=jobs, tracking=tracking, device=device, direction=direction, part=part, split=_path(split),
        strength=strength, change_map=change_map, uncertainty=uncertainty, suffix=suffix, threads=threads,
    )  # fmt: skip
    console = Console(stderr=True, quiet=quiet)
    summary = run_conversion(order, console)
    console.out(record_batch(summary, tracking), highlight=False)
    if quiet:
        failed = [outcome for outcome in summary.outcomes if outcome.status == "failed"]
        lines = [line.removeprefix("warning: ") for line in warning_lines(summary)]
        _warn(*lines, *(f"not converted: {outcome.input}: {outcome.message}" for outcome in failed))
    return summary


def evaluate(
    synthetic: str | Path,
    reference: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    mask: str | Path | None = None,
    labels: str | Path | None = None,
    organs: LabelNames | None = None,
    paired: bool | None = None,
    source_modality: Modality = "CT",
    reference_modality: Modality = "CT",
    training: str | Path | None = None,
    split: str | Path | None = None,
    root: str | Path | None = None,
    bids: str | None = None,
    tracking: str | None = None,
    tracking_names: bool = False,
    quiet: bool = True,
) -> Evaluation:
    """Judge translations, as ``medgan evaluate`` does: ``rows`` and ``summary`` are tables, ``notes`` say how to read.

    Places are a folder, ``FOLDER:NAME`` or ``COHORT:DOMAIN``; ``organs`` are values of the label maps by name. What
    could not be judged is named by a :class:`MedganWarning`. Results are also written to ``out``, and recorded where
    MLflow knows the model's run.

    Raises:
        MedganError: Images that cannot be matched, or something that contradicts something else.
    """
    check_address(tracking)
    evaluation = run_evaluation(
        synthetic, reference, Path(out), source=source, masks=mask, labels=labels, label_names=organs, paired=paired,
        modalities=Modalities(source_modality, reference_modality), training=training, split=_path(split),
        options=options(_path(root), bids),
    )  # fmt: skip
    recorded = record_evaluation(evaluation, Path(out), tracking, names=tracking_names)
    if quiet:
        _warn(*(f"not judged: {failure.image}: {failure.reason}" for failure in evaluation.failures))
    else:
        Console(stderr=True).print(render(evaluation), Text(recorded))
    return evaluation


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    *,
    run: str | Path | None = None,
    evaluation: str | Path | None = None,
    studies: Sequence[str | Path] = (),
    faithfulness: str | Path | None = None,
    source: str | Path | None = None,
) -> Path:
    """Write the HTML page of ``medgan report`` about a model, run, evaluation, study or folder of translations.

    The other folders are what it tells of, too. The page's path is by default ``report.html`` in the folder.

    Raises:
        MedganError: The folder holds nothing to report, or is damaged.
    """
    from medgan.report.page import Beside
    from medgan.report.page import write_report as write

    more = Beside(_path(run), _path(evaluation), tuple(map(Path, studies)), _path(faithfulness), _path(source))
    return write(path, _path(out), more)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _warn(*lines: str) -> None:
    """Give warnings as of the line that called a function of this module."""
    for line in lines:
        warnings.warn(line, MedganWarning, stacklevel=3)
