"""How translations of held-out subjects are judged during training, with and without true pairs.

Without pairs the cycle term says little (a CycleGAN can hide its input in the output), and adversarial terms of
different epochs do not compare. What can be measured in HU, on subjects that were not trained on, is (a) how far the
translated soft tissue's distribution is from that of real target subjects, and (b) how much was changed where
contrast agent cannot act: bone, fat, lung and air. Doing nothing fails (a), repainting fails (b); their sum, lowest
for the best model, needs both.

Where the source measures something else (MR to CT), every voxel is drawn anew and nothing is untouchable: what is left
is (a), over the whole body and the whole range.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan.data.domains import DomainPair
from medgan.data.masks import body_mask
from medgan.evaluation.fidelity import mae_hu
from medgan.evaluation.tissues import (
    BONE_HU,
    change_by_tissue,
    distribution_distance_hu,
    overlap,
    quantile_sample,
    soft_tissue,
    tissue_map,
)
from medgan.training.learner import HeldOut

UNTOUCHABLE = ("bone", "fat", "lung", "air")
"""Tissues that take up no contrast agent."""

Volumes = Sequence[NDArray[np.float32]]


def unpaired_metrics(held_out: HeldOut, fakes: Volumes, pair: DomainPair) -> dict[str, float]:
    """How well source subjects were translated into ``fakes``, (X, Y, Z) in HU, without their truth.

    Between domains of one unit it is the distance of soft tissue's distributions, the change of what may not change,
    and their sum; between others the distance of the bodies' distributions alone, all in HU. The region is the
    source's, so that a translator cannot leave out what it draws badly. ``held_out`` has other, real target subjects;
    the lowest score is the best.
    """
    if pair.one_unit:
        maps = [tissue_map(study.voxels) for study in held_out.source]
        inside = [soft_tissue(tissues) for tissues in maps]
        real_inside = [soft_tissue(tissue_map(study.voxels)) for study in held_out.target]
    else:
        inside = [body_mask(study.voxels, pair.source) for study in held_out.source]
        real_inside = [body_mask(study.voxels, pair.target) for study in held_out.target]
    translated = [quantile_sample(fake[mask]) for fake, mask in zip(fakes, inside, strict=True)]
    real = [quantile_sample(study.voxels[mask]) for study, mask in zip(held_out.target, real_inside, strict=True)]
    distance = distribution_distance_hu(np.concatenate(translated), np.concatenate(real))
    if not pair.one_unit:
        return {"val/distribution_distance_hu": distance, "val/score_hu": distance}
    subjects = zip(held_out.source, fakes, maps, strict=True)
    changes = [change_by_tissue(study.voxels, fake, tissues) for study, fake, tissues in subjects]
    touched = float(np.nanmean([[change[tissue] for tissue in UNTOUCHABLE] for change in changes]))
    scores = {"val/distribution_distance_hu": distance, "val/untouchable_change_hu": touched}
    return scores | {"val/score_hu": distance + touched}


def paired_metrics(held_out: HeldOut, fakes: Volumes, pair: DomainPair) -> dict[str, float]:
    """Mean absolute error where the pairs may be compared: in HU, or in percent of the source's window in MR.

    Beside it that of doing nothing, where input and output measure the same, and in CT how well bone (above 200 HU)
    is met, Dice. ``held_out`` has source and target of the same subjects, in one order and on one grid.
    """
    unit = error_unit(pair)
    errors, untouched, bones = [], [], []
    for number, (source, target, fake) in enumerate(zip(held_out.source, held_out.target, fakes, strict=True)):
        if held_out.regions:
            mask = held_out.regions[number].voxels > 0
        else:  # the box around the body: cheap, and the same in every epoch
            mask = np.zeros(target.voxels.shape, dtype=bool)
            mask[tuple(slice(first, last) for first, last in target.body)] = True
        scale = 1.0 if unit == "hu" else 100 / (source.bounds[1] - source.bounds[0])
        errors.append(scale * mae_hu(fake, target.voxels, mask))
        untouched.append(scale * mae_hu(source.voxels, target.voxels, mask))
        bones.append(overlap((fake > BONE_HU) & mask, (target.voxels > BONE_HU) & mask))
    metrics = {f"val/mae_{unit}": float(np.mean(errors))}
    if pair.source.unit == pair.target.unit:
        metrics[f"val/mae_do_nothing_{unit}"] = float(np.mean(untouched))
    elif pair.target.unit == "HU" and not np.isnan(bones).all():
        metrics["val/bone_dice"] = float(np.nanmean(bones))
    return metrics


def error_unit(pair: DomainPair) -> str:
    """The unit of a mean absolute error, as tracking keys name it."""
    return "hu" if pair.target.unit == "HU" else "percent"
