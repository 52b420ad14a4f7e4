"""One training of one segmenter, from labelled subjects to a model folder."""

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric import Fabric, seed_everything
from rich.console import Console

from medgan.errors import ConfigError, DataError
from medgan.segmentation.labelled import Labelled, LabelledHeldOut
from medgan.segmentation.model import SegmenterModel, write_segmenter
from medgan.segmentation.patches import LabelledPatches
from medgan.segmentation.segmenter import Segmenter
from medgan.segmentation.settings import SegmenterConfig
from medgan.training.description import Origin
from medgan.training.fit import Fit
from medgan.training.recorder import Recorder
from medgan.training.run_folder import note_settings


def train_segmenter(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SegmenterConfig,
    *,
    seed: int,
    folder: Path,
    fabric: Fabric,
    recorder: Recorder | None = None,
    resume: bool = False,
    extra: Sequence[Labelled] = (),
    extra_share: float = 0.0,
    origin: Origin | None = None,
) -> SegmenterModel:
    """Train a segmenter and write its model folder.

    However many subjects there are, the network takes ``fit.epochs`` x ``fit.iterations_per_epoch`` steps: trainings on
    more or on other subjects differ in what they see, not in how long they learn. With ``fit.keep: best`` the epoch of
    the highest mean Dice on ``validation`` is kept.

    Args:
        train: Subjects to learn from.
        validation: Subjects that choose the epoch; may be empty where the last epoch is kept.
        config: The settings.
        seed: Of weights and patches; equal seeds give equal models on one device.
        folder: Holds ``model/``, the state to resume from and what the recorder writes.
        fabric: Device and precision, launched.
        recorder: Where metrics and panels go; by default to ``folder`` alone.
        resume: Go on from the state in ``folder``, where there is one.
        extra: More training subjects, such as synthetic ones.
        extra_share: The share of patches that are drawn from ``extra``, 0 to 1.
        origin: Where the subjects come from.

    Raises:
        ConfigError: A share without extra subjects, or a resumed training with other settings.
        DataError: Nobody to learn from, or to choose the epoch.
        TrainingError: A training that broke down; with advice.
    """
    _check(train, validation, config, extra, extra_share)
    note_settings(folder, config, resume)
    seed_everything(seed, verbose=False)
    patches = LabelledPatches(train, config.seen, seed=seed, extra=extra, extra_share=extra_share)
    loop = Fit(
        Segmenter(config),
        patches,
        LabelledHeldOut.of(validation),
        config.fit,
        fabric=fabric,
        folder=folder / "state",
        recorder=recorder or Recorder(folder, None, Console(quiet=True)),
    )
    fitted = loop.run(resume=resume)
    return write_segmenter(
        folder / "model", fitted, config, seed=seed, trained=len(train), validated=len(validation),
        extra=len(extra), extra_share=extra_share, origin=origin or Origin(),
    )  # fmt: skip


def _check(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SegmenterConfig,
    extra: Sequence[Labelled],
    extra_share: float,
) -> None:
    if not 0 <= extra_share <= 1 or bool(extra) != bool(extra_share):
        raise ConfigError(
            f"extra_share={extra_share:g} with {len(extra)} extra subjects: give a share above 0 and up to 1 with "
            "extra subjects, and none without."
        )
    if not train and extra_share < 1:
        raise DataError("there is no labelled subject to train on; check the split and the `mask` column.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
