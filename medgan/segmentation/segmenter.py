"""The segmenter: one step of its training by Dice and cross-entropy, how it is judged, and what it learns from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from medgan.errors import ConfigError, DataError
from medgan.evaluation.tissues import overlap
from medgan.losses import dice
from medgan.pictures.panels import CASES, Panel, panel, shown_slices
from medgan.pictures.tiles import Row, Tile, outlines_of
from medgan.pictures.views import fullest, view
from medgan.pictures.windows import window_between
from medgan.segmentation.apply import segment_prepared
from medgan.segmentation.labelled import IMAGE, LABELS, Labelled, LabelledHeldOut, LabelledPatches
from medgan.segmentation.settings import SEGMENTER, SegmenterConfig, SegmenterDescription
from medgan.training.fit import Training
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms


class Segmenter(Learner):
    """A U-Net that learns by soft Dice of the names plus cross-entropy over all voxels."""

    trained = optimized = kept = (SEGMENTER,)
    best = "val/dice_loss"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.segmenter = config.build()
        weights = self.segmenter.parameters()
        self.segmenter_optimizer: Optimizer = AdamW(weights, config.rate, weight_decay=config.weight_decay)

    def training_step(self, batch: Batch) -> Terms:
        """One step down Dice loss plus cross-entropy (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""
        scores: Tensor = self.segmenter(batch[IMAGE])
        labels = batch[LABELS]
        terms = {"dice": dice(scores, labels, self.ranks.total), "cross_entropy": F.cross_entropy(scores, labels[:, 0])}
        self.descend(self.segmenter_optimizer, terms)
        return {name: term.detach() for name, term in terms.items()}

    def validate(self, held_out: HeldOut, networks: Networks) -> Judgement:
        """Mean Dice of each name over the subjects that have it, and of all names."""
        assert isinstance(held_out, LabelledHeldOut), "a segmenter is judged on labelled subjects"
        predictions = self.ranks.shared_out(
            held_out.source, lambda study: segment_prepared(networks[SEGMENTER], study, self.config, self.attached)
        )
        pairs = list(zip(predictions, held_out.labels, strict=True))
        by_name = {
            name: [overlap(ours == number, truth == number) for ours, truth in pairs]
            for number, name in enumerate(self.config.labels, start=1)
        }
        metrics = {f"val/dice_{name}": _mean(scores) for name, scores in by_name.items()}
        metrics = {key: value for key, value in metrics.items() if not np.isnan(value)}
        mean = _mean(list(metrics.values()))
        metrics |= {"val/dice": mean, "val/dice_loss": 1 - mean}
        return Judgement(metrics, _panel(held_out, predictions, self.config))


def _mean(scores: Sequence[float]) -> float:
    """The mean of those that are defined; not a number where none is."""
    defined = [score for score in scores if not np.isnan(score)]
    return float(np.mean(defined)) if defined else float("nan")


def _panel(held_out: LabelledHeldOut, predictions: Sequence[NDArray[np.uint8]], config: SegmenterConfig) -> Panel:
    """Slices as rows: the image, with the true outlines, and with those that were found; where the truth is largest."""
    rows = []
    cases = list(zip(held_out.source, held_out.labels, predictions, strict=True))[:CASES]
    for number, (study, truth, ours) in enumerate(cases, start=1):
        window = window_between(config.domain, study.bounds)
        planes = dict(shown_slices([(0, size) for size in truth.shape], study.affine))
        for plane in planes:
            image, true, marked = (
                view(voxels, study.affine, plane, fullest(truth, plane), placed=study.scan is None or study.scan.placed)
                for voxels in (study.voxels, truth, ours)
            )
            tiles = [Tile(image, window, "image")]
            tiles += [
                Tile(image, window, title, outlines_of(labels.pixels, config.labels))
                for title, labels in (("truth", true), ("prediction", marked))
            ]
            rows.append(Row(tiles, f"case {number}: {image.caption}"))
    return panel(rows, f"segmentation of {', '.join(config.labels)}")


def segmenter_task(
    train: Sequence[Labelled],
    validation: Sequence[Labelled],
    config: SegmenterConfig,
    *,
    seed: int,
    extra: Sequence[Labelled] = (),
    extra_share: float = 0.0,
) -> Training[SegmenterDescription]:
    """Learning to segment; with ``fit.keep: best`` the epoch of the highest mean Dice on ``validation`` is kept.

    ``extra`` are more training subjects, such as synthetic ones, from which the share ``extra_share`` of the patches is
    drawn, 0 to 1; ``seed`` is of weights and patches.

    Raises:
        ConfigError: A share without extra subjects.
        DataError: Nobody to learn from, or to choose the epoch.
    """
    if not 0 <= extra_share <= 1 or bool(extra) != bool(extra_share):
        raise ConfigError(
            f"extra_share={extra_share:g} with {len(extra)} extra subjects: give a share above 0 and up to 1 with "
            "extra subjects, and none without."
        )
    if not train and extra_share < 1:
        raise DataError("there is no labelled subject to train on; check the split and the `mask` column.")
    if not validation and config.fit.keep == "best":
        raise DataError("there is no labelled subject to choose the epoch; add one, or set fit.keep=last.")
    patches = LabelledPatches(train, config.training_patch, seed=seed, extra=extra, extra_share=extra_share)
    counts = {"trained": len(train), "validated": len(validation), "extra": len(extra), "extra_share": extra_share}
    # A pipeline's settings are more than a segmenter's: its model keeps what segmenting needs.
    own = SegmenterConfig(**{name: getattr(config, name) for name in SegmenterConfig.model_fields})
    return Training(
        config, config.fit, seed, lambda: Segmenter(own), patches, LabelledHeldOut.of(validation), SegmenterDescription,
        {"config": own, **counts},
    )  # fmt: skip
