"""The segmenter: one step of its training by Dice and cross-entropy, and how it is judged in between."""

from collections.abc import Sequence

import numpy as np
from monai.losses import DiceLoss
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from medgan.evaluation.tissues import overlap
from medgan.segmentation.apply import segment_prepared
from medgan.segmentation.labelled import IMAGE, LABELS, LabelledHeldOut
from medgan.segmentation.settings import SEGMENTER, SegmenterConfig
from medgan.training.learner import Batch, HeldOut, Judgement, Learner, Networks, Terms, panel

PANEL_CASES = 4


class Segmenter(Learner):
    """A U-Net that learns by soft Dice of the names plus cross-entropy over all voxels.

    Args:
        config: The settings.
    """

    trained = optimized = kept = (SEGMENTER,)
    best = "val/dice_loss"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        self.segmenter = config.build()
        weights = self.segmenter.parameters()
        self.segmenter_optimizer: Optimizer = AdamW(weights, config.rate, weight_decay=config.weight_decay)
        # Over the batch: in a patch without an organ its own Dice would say nothing but "none of it".
        self.dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)

    def training_step(self, batch: Batch) -> Terms:
        """One step down Dice loss plus cross-entropy (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z)."""
        scores: Tensor = self.segmenter(batch[IMAGE])
        labels = batch[LABELS]
        terms = {"dice": self.dice(scores, labels), "cross_entropy": F.cross_entropy(scores, labels[:, 0])}
        self.descend(self.segmenter_optimizer, terms)
        return {name: term.detach() for name, term in terms.items()}

    def validate(self, held_out: HeldOut, kept: Networks) -> Judgement:
        """Mean Dice of each name over the subjects that have it, and of all names."""
        assert isinstance(held_out, LabelledHeldOut), "a segmenter is judged on labelled subjects"
        predictions = [
            segment_prepared(kept[SEGMENTER], study, self.config, self.attached) for study in held_out.source
        ]
        pairs = list(zip(predictions, held_out.labels, strict=True))
        by_name = {
            name: [overlap(ours == number, truth == number) for ours, truth in pairs]
            for number, name in enumerate(self.config.labels, start=1)
        }
        metrics = {f"val/dice_{name}": _mean(scores) for name, scores in by_name.items()}
        metrics = {key: value for key, value in metrics.items() if not np.isnan(value)}
        mean = _mean(list(metrics.values()))
        metrics |= {"val/dice": mean, "val/dice_loss": 1 - mean}
        return Judgement(metrics, _panel(held_out, predictions, len(self.config.labels)))


def _mean(scores: Sequence[float]) -> float:
    """The mean of those that are defined; not a number where none is."""
    defined = [score for score in scores if not np.isnan(score)]
    return float(np.mean(defined)) if defined else float("nan")


def _panel(held_out: LabelledHeldOut, predictions: Sequence[NDArray[np.uint8]], names: int) -> NDArray[np.uint8]:
    """Cases as rows: the image, the truth and the prediction, in the slice where the truth is largest."""
    rows = []
    for study, truth, ours in list(zip(held_out.source, held_out.labels, predictions, strict=True))[:PANEL_CASES]:
        fullest = int(np.argmax(np.count_nonzero(truth, axis=(0, 1))))
        marks = [2 * labels.astype(np.float32) / names - 1 for labels in (truth, ours)]
        case: list[NDArray[np.floating]] = [study.normalised(), *marks]
        rows.append([volume[:, :, fullest : fullest + 1] for volume in case])
    return panel(rows, -1.0, 1.0)
