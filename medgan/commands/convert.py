"""``medgan convert``, ``segment``, ``classify`` and ``augment``: many studies through one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from medgan.commands import common, early
from medgan.commands.common import Input, ModelName, Reading, Which, Work, command, console, end

Output = Annotated[Path, Argument(metavar="OUTPUT", help="File name, or folder that mirrors the input's names.")]


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How studies are segmented or classified."""

    domain: Annotated[
        str | None, Option(help="Of a cohort, the domain that is meant; else the one the model was trained on.")
    ] = None
    force: common.Force = False
    work: Work


@command
def convert(
    source: Input,
    output: Output,
    model: ModelName,
    *,
    reading: Reading,
    which: Which,
    strength: Annotated[
        float, Option(min=0, max=1.2, help="Share of a one-sided change that is added; 0 gives the input.")
    ] = 1.0,
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
) -> None:
    """Translate studies; every output lies on its input's voxel grid.

    Examples:
        medgan convert scans synthetic --model runs/ct_contrast/first/model
        medgan convert cohort.csv synthetic --model M --part test --change-map
    """
    early.check_use(source=source, models=[model], device=work.machine.device, threads=work.machine.threads)
    from medgan.inference.convert import ConvertOrder
    from medgan.inference.convert import convert as run
    from medgan.inference.recording import record_batch
    from medgan.tracking import check_address

    check_address(work.machine.tracking)
    order = ConvertOrder(
        reading.located(source), output, model, strength=strength, change_map=change_map, uncertainty=uncertainty,
        suffix=suffix, force=force, **vars(which), **work.options,
    )  # fmt: skip
    terminal = console(work.quiet)
    summary = run(order, terminal)
    terminal.out(record_batch(summary, work.machine.tracking), highlight=False)
    end(summary.exit_code)


@command
def segment(source: Input, output: Output, model: ModelName, *, reading: Reading, how: LabelOptions) -> None:
    """Segment studies; every label map lies on its input's voxel grid, and labels.json says what its values mean.

    Examples:
        medgan segment scans labels --model runs/segmenter/first/model
        medgan segment cohort.csv labels --model M --domain plain --jobs 2
    """
    early.check_use(source=source, models=[model], device=how.work.machine.device, threads=how.work.machine.threads)
    from medgan.inference.batch import BatchOrder
    from medgan.segmentation.segment import segment as run

    order = BatchOrder(reading.located(source), output, model, how.domain, force=how.force, **how.work.options)
    end(run(order, console(how.work.quiet)).exit_code)


@command
def classify(
    source: Input,
    output: Annotated[Path, Argument(metavar="OUTPUT", help="Folder for classes.csv and its records.")],
    model: ModelName,
    *,
    reading: Reading,
    how: LabelOptions,
) -> None:
    """Classify images by their patches; classes.csv has the class and the probability of each, image by image.

    Examples:
        medgan classify images classes --model M
        medgan classify cohort.csv classes --model models:/few@champion
    """
    early.check_use(source=source, models=[model], device=how.work.machine.device, threads=how.work.machine.threads)
    from medgan.classification.classify import classify as run
    from medgan.inference.batch import BatchOrder

    order = BatchOrder(reading.located(source), output, model, how.domain, force=how.force, **how.work.options)
    end(run(order, console(how.work.quiet)).exit_code)


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
) -> None:
    """Write a cohort with synthetic cases for training, made of its training subjects alone; --ratio says how many.

    Examples:
        medgan augment cohort.csv augmented --model M --ratio 50
        medgan augment cohort.csv augmented --method copy-paste --domain flair
    """
    early.check_use(data=data, models=[model], device=work.machine.device, threads=work.machine.threads)
    from medgan.synthesis.augment import AugmentOrder
    from medgan.synthesis.augment import augment as run

    order = AugmentOrder(
        reading.located(data), output, model or "", domain, method=method or "", ratio_percent=ratio, seed=seed,
        subjects=tuple(subject or ()), split=split, config=config, overrides=overrides or (), **work.options,
    )  # fmt: skip
    ended = run(order, console(work.quiet))
    common.say(work.quiet, f"next:  medgan segment-train --data {output / 'cohort.csv'}")
    end(ended.exit_code)
