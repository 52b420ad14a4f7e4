"""One training of one lesion generator, from labelled cases to a model folder."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric import Fabric, seed_everything
from rich.console import Console

from medgan.data.cache import Cache
from medgan.data.splits import Part, Split
from medgan.data.studies import Cohort
from medgan.errors import DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut, read_labelled
from medgan.synthesis.generators import SynthesisConfig, learner_of
from medgan.synthesis.model import GeneratorModel, write_generator
from medgan.synthesis.patches import LesionPatches
from medgan.synthesis.settings import LesionConfig
from medgan.training.description import Origin
from medgan.training.fit import Fit
from medgan.training.recorder import Recorder
from medgan.training.run_folder import note_settings


def read_cases(cohort: Cohort, split: Split, part: Part, config: LesionConfig, cache: Cache) -> list[Labelled]:
    """The labelled images of a part, on the networks' grid; images without a mask teach nothing and are left out."""
    studies = [study for study in split.part(cohort, part).of_domain(config.domain.name).studies if study.mask]
    return [read_labelled(study, config.domain, config.grid, config.labels, cache) for study in studies]


def subjects_of(cases: Sequence[Labelled]) -> tuple[str, ...]:
    """Whose cases they are, each once, in their order."""
    return tuple(dict.fromkeys(case.subject for case in cases))


def healthy_of(cases: Sequence[Labelled]) -> tuple[str, ...]:
    """Those of whom no case has a labelled voxel."""
    ill = {case.subject for case in cases if case.labels.any()}
    return tuple(subject for subject in subjects_of(cases) if subject not in ill)


def train_generator(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SynthesisConfig,
    *,
    seed: int,
    folder: Path,
    fabric: Fabric,
    recorder: Recorder | None = None,
    resume: bool = False,
    origin: Origin | None = None,
) -> GeneratorModel:
    """Train a lesion generator and write its model folder.

    Args:
        train: Cases to learn from.
        validation: Cases that choose the epoch; may be empty where the last epoch is kept.
        config: The settings.
        seed: Of weights, noise and patches; equal seeds give equal models on one device.
        folder: Holds ``model/``, the state to resume from and what the recorder writes.
        fabric: Device and precision, launched.
        recorder: Where metrics and panels go; by default to ``folder`` alone.
        resume: Go on from the state in ``folder``, where there is one.
        origin: Where the cases come from.

    Raises:
        ConfigError: A resumed training with other settings.
        DataError: Nobody to learn from, or to choose the epoch.
        TrainingError: A training that broke down; with advice.
    """
    if not train:
        raise DataError("there is no labelled case to learn from; check the split and the `mask` column.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled case to choose the epoch; add one, or set fit.keep=last.")
    note_settings(folder, config, resume)
    seed_everything(seed, verbose=False)
    loop = Fit(
        learner_of(config),
        LesionPatches(train, config, seed=seed),
        LabelledHeldOut.of(validation),
        config.fit,
        fabric=fabric,
        folder=folder / "state",
        recorder=recorder or Recorder(folder, None, Console(quiet=True)),
    )
    return write_generator(
        folder / "model", loop.run(resume=resume), config, seed=seed, subjects=subjects_of(train),
        validated=len(subjects_of(validation)), origin=origin or Origin(), healthy=healthy_of(train),
    )  # fmt: skip
