"""A segmenter of a study: what it is trained on and tested with; whole trainings are in test_arms."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from medgan.data.domains import Domain, Window
from medgan.data.volumes import read_volume
from medgan.evaluation.segmentation import METRICS
from medgan.segmentation.settings import SEGMENTER, SegmenterDescription
from medgan.studies import segmenter as module
from medgan.studies.arms import Arms
from medgan.studies.engine import content_hash
from medgan.studies.segmenter import (
    _best_ratio,
    _read_curves,
    _seen_as,
    _share_of,
    _train_and_test,
    means,
    outcome,
    score,
)
from medgan.training.model_folder import Model, Origin


@pytest.fixture(scope="module")
def study(ordered, tmp_path_factory):
    return Arms(ordered("arms", tmp_path_factory.mktemp("study"), "segmenter.labels={vessel: 2}"), Console(quiet=True))


def test_a_model_looks_at_an_image_through_the_images_own_window(study):
    description = SegmenterDescription(
        config=study.segmenter, seed=0, trained=1, extra=0, extra_share=0, validated=1, origin=Origin(), metrics={},
        epoch=1, weights_sha256="", versions={},
    )  # fmt: skip
    model = Model(description, {SEGMENTER: study.segmenter.build()})
    window = Window(lower=1, upper=99, percentiles=True)
    mr = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=window)
    other = _seen_as(model, mr)
    assert other.description.config.domain == mr
    assert other.network is model.network
    assert model.description.config.domain == study.segmenter.domain


def test_figures_are_by_subject_and_organ_and_true_labels_are_kept_as_the_segmenter_numbers_them(
    study, tmp_path, monkeypatch
):
    images = tuple(study._test_images())
    truth = {image.file: (read_volume(image.scan.mask).voxels == 2).astype(np.uint8) for image in images}
    model = SimpleNamespace(description=SimpleNamespace(names={1: "vessel"}))
    monkeypatch.setattr(module, "train", lambda *given: None)
    monkeypatch.setattr(module, "read_model", lambda *given: model)
    monkeypatch.setattr(module, "segment_study", lambda model, volume, fabric: next(marked))
    # The same scan twice is one subject still.
    keys, test = {"arm": "real", "seed": 3}, (*images, images[0])
    asked = SimpleNamespace(keys=keys, test=test, config=study.segmenter, lesions=())
    marked = iter([*truth.values(), np.zeros_like(truth[images[0].file])])
    rows = _train_and_test(SimpleNamespace(folder=tmp_path, device="cpu", tracker=None), asked)
    assert list(rows.columns) == ["arm", "seed", "subject", "test_set", "organ", *METRICS]
    assert rows[["subject", "test_set", "dice"]].to_numpy().tolist() == [
        ["s5", "in", 0.5], ["s6", "in", 1.0], ["s5", "out", 1.0], ["s6", "out", 1.0],
    ]  # fmt: skip
    kept = read_volume(tmp_path / "truth" / images[0].file)
    np.testing.assert_array_equal(kept.voxels, truth[images[0].file])
    np.testing.assert_array_equal(kept.grid.affine, read_volume(images[0].scan.image).grid.affine)


def test_images_are_told_by_what_they_hold_and_not_by_their_order(study):
    first, second, *_ = study.subjects.with_labels("train", "contrast")
    assert content_hash([first, second]) == content_hash([second, first])
    others = ([first], [first, replace(second, mask=first.mask)], [first, replace(second, subject="x")])
    assert content_hash([first, second]) not in map(content_hash, others)


def rows(*values):
    """(arm, seed, subject, test set, dice), organ liver."""
    frame = pd.DataFrame(values, columns=["arm", "seed", "subject", "test_set", "dice"]).assign(subset=0, organ="liver")
    return frame.assign(**{metric: np.nan for metric in METRICS if metric != "dice"})


def test_means_are_over_subjects_with_seeds_averaged_first_and_each_test_set_apart():
    keys = ["arm", "test_set", "organ"]
    table = means(rows(("real", 0, "a", "in", 0.2), ("real", 1, "a", "in", 0.4), ("real", 0, "b", "in", 0.9)), keys)
    (row,) = table.to_dict("records")
    assert (row["metric"], row["n"]) == ("dice", 2)
    assert row["mean"] == pytest.approx((0.3 + 0.9) / 2)
    assert row["lower"] < row["mean"] < row["upper"]
    table = means(rows(("real", 0, "a", "in", 0.2), ("real", 0, "a", "out", 0.6)), keys)
    assert dict(zip(table["test_set"], table["mean"], strict=True)) == {"in": 0.2, "out": 0.6}


def test_curves_have_the_epochs_that_were_judged(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train/dice,val/dice\n1.0,.9,\n2.0,.8,.25\n4.0,.7,.5\n")
    keys = {"arm": "real", "seed": 3, "subset": 0}
    curves = _read_curves({tmp_path: keys, tmp_path / "none": keys}, ("arm", "seed"))
    assert curves.to_numpy().tolist() == [["real", 3, 2, 0.25], ["real", 3, 4, 0.5]]
    assert list(curves) == ["arm", "seed", "epoch", "val_dice"]
    assert _read_curves({tmp_path / "none": keys}, ("arm",)).empty


def test_what_validation_said_is_told(tmp_path):
    assert (score(tmp_path), outcome(tmp_path)) == (None, "done")
    (tmp_path / "validation.json").write_text('{"val_dice": 0.25}')
    assert (score(tmp_path), outcome(tmp_path)) == (0.25, "validation Dice 0.250")


def test_a_ratio_is_the_share_of_extra_among_all_and_the_best_is_above_0_and_of_equals_the_lowest():
    assert [_share_of(ratio) for ratio in (25, 50, 100, 200)] == pytest.approx([0.2, 1 / 3, 0.5, 2 / 3])
    assert _best_ratio({0: 0.9, 25: 0.7, 50: 0.8, 100: 0.8, 200: 0.6}) == 50
