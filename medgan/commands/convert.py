"""``medgan convert``, ``segment``, ``classify`` and ``augment``: many studies through one model."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from medgan.commands import common, early
from medgan.commands.common import Machine, Quiet, Reading, Work, command, console, end

Direction = Annotated[Literal["to_target", "to_source"], Option(help="Which way.")]
Part = Annotated[
    Literal["train", "validation", "test"] | None,
    Option(help="Of a cohort, only these subjects of the model's split."),
]
PartSplit = Annotated[Path | None, Option(help="split.json for --part; else the one beside the model.")]
Domain = Annotated[
    str | None, Option(help="Of a cohort, the domain that is meant; else the one the model was trained on.")
]


@command
def convert(
    source: common.Input,
    output: common.Output,
    model: common.ModelName,
    *,
    reading: Reading,
    direction: Direction = "to_target",
    part: Part = None,
    split: PartSplit = None,
    change_map: Annotated[bool, Option("--change-map", help="Also write the change in HU (an iodine map).")] = False,
    uncertainty: Annotated[
        int | None,
        Option(
            metavar="N",
            help="Also write the standard deviation of N >= 2 translations of the varied study; the output itself "
            "stays as it is without, to the bit. Takes as long as N + 1 conversions.",
        ),
    ] = None,
    suffix: Annotated[str, Option(help="Added to the outputs' names, for example _desc-synthetic; folders only.")] = "",
    force: common.Force = False,
    work: Work,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Translate studies; every output lies on its input's voxel grid."""
    early.check_use(source=source, models=[model], device=machine.device)
    from medgan.inference.convert import ConvertOrder
    from medgan.inference.convert import convert as run

    order = ConvertOrder(
        reading.located(source), output, model, direction=direction, part=part, split=split, change_map=change_map,
        uncertainty=uncertainty, suffix=suffix, force=force, **_batch(work, machine),
    )  # fmt: skip
    end(run(order, console(quiet)).exit_code)


@command
def segment(
    source: common.Input,
    output: common.Output,
    model: common.ModelName,
    *,
    reading: Reading,
    domain: Domain = None,
    force: common.Force = False,
    work: Work,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Segment studies; every label map lies on its input's voxel grid, and labels.json says what its values mean."""
    early.check_use(source=source, models=[model], device=machine.device)
    from medgan.inference.batch import BatchOrder
    from medgan.segmentation.segment import segment as run

    order = BatchOrder(reading.located(source), output, model, domain, force=force, **_batch(work, machine))
    end(run(order, console(quiet)).exit_code)


@command
def classify(
    source: common.Input,
    output: Annotated[Path, Argument(metavar="OUTPUT", help="Folder for classes.csv and its records.")],
    model: common.ModelName,
    *,
    reading: Reading,
    domain: Domain = None,
    force: common.Force = False,
    work: Work,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Classify images by their patches; classes.csv has the class and the probability of each, image by image."""
    early.check_use(source=source, models=[model], device=machine.device)
    from medgan.classification.classify import classify as run
    from medgan.inference.batch import BatchOrder

    order = BatchOrder(reading.located(source), output, model, domain, force=force, **_batch(work, machine))
    end(run(order, console(quiet)).exit_code)


@command
def augment(
    data: Annotated[Path, Argument(metavar="DATA", help="Cohort with masks: CSV, folders, BIDS or nnU-Net raw.")],
    output: Annotated[Path, Argument(metavar="OUTPUT", help="Folder of the augmented cohort.")],
    overrides: common.Overrides = None,
    *,
    reading: Reading,
    model: Annotated[str | None, Option(help="Generator's model folder, runs:/ID/model or models:/NAME@ALIAS.")] = None,
    method: Annotated[str | None, Option(help="Instead of a model: copy-paste, carve-mix or soft-poisson.")] = None,
    domain: Annotated[
        str | None, Option(help="With --method, whose images are augmented: flair, t1, plain:CT.")
    ] = None,
    ratio: Annotated[float, Option(min=0, help="Synthetic cases for a hundred real training cases.")] = 100.0,
    seed: Annotated[int, Option(min=0, help="Equal seeds make equal cases.")] = 0,
    subject: Annotated[
        list[str] | None, Option(help="Only this training subject receives lesions; may be repeated.")
    ] = None,
    split: Annotated[Path | None, Option(help="split.json; else the model's own, or the cohort's.")] = None,
    config: common.ConfigFile = None,
    work: Work,
    machine: Machine,
    quiet: Quiet = False,
) -> None:
    """Write a cohort with synthetic cases for training, made of its training subjects alone; --ratio says how many."""
    early.check_use(data=data, models=[model], device=machine.device)
    from medgan.synthesis.augment import AugmentOrder
    from medgan.synthesis.augment import augment as run

    order = AugmentOrder(
        reading.located(data), output, model or "", domain, method=method or "", ratio_percent=ratio, seed=seed,
        subjects=tuple(subject or ()), split=split, config=config, overrides=overrides or (), **_batch(work, machine),
    )  # fmt: skip
    ended = run(order, console(quiet))
    common.say(quiet, f"next:  medgan segment-train --data {output / 'cohort.csv'}")
    end(ended.exit_code)


def _batch(work: Work, machine: Machine) -> dict[str, Any]:
    """What orders of batches call these options."""
    return {**vars(work), **vars(machine)}
