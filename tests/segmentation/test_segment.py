import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from medgan.data.hashes import image_hash
from medgan.data.volumes import read_volume
from medgan.errors import DataError
from medgan.inference.batch import BatchOrder
from medgan.segmentation.apply import segment_study
from medgan.segmentation.segment import segment

QUIET = Console(quiet=True)


@pytest.fixture
def order(save_cohort, trained, tmp_path):
    table = save_cohort(tmp_path / "in", subjects=3)
    return BatchOrder(table, tmp_path / "out", str(trained[0] / "model"), device="cpu")


def ends(summary):
    return {outcome.input: outcome.status for outcome in summary.outcomes}


def test_every_study_gets_a_label_map_on_its_grid_and_what_its_values_mean_beside_it(order, trained, fabric):
    assert ends(segment(order, QUIET)) == {f"s{n}.nii.gz": "done" for n in range(3)}
    for number in range(3):
        source, made = (nib.load(folder / f"s{number}.nii.gz") for folder in (order.input.parent, order.output))
        assert (made.get_data_dtype(), made.shape) == (np.uint8, source.shape)
        np.testing.assert_array_equal(made.affine, source.affine)
        expected = segment_study(trained[1], read_volume(order.input.parent / f"s{number}.nii.gz"), fabric)
        np.testing.assert_array_equal(np.asarray(made.dataobj), expected)
    named = {"1": "disc", "2": "square"}
    told = [("labels.json", "labels"), ("s0.json", "Labels"), ("summary.json", "labels")]
    assert [json.loads((order.output / name).read_text())[key] for name, key in told] == [named] * 3


def test_what_is_there_is_kept_and_what_is_another_models_is_not_overwritten(order, trained, config, subjects, fabric):
    segment(order, QUIET)
    assert set(ends(segment(order, QUIET)).values()) == {"kept"}
    sidecar = order.output / "s0.json"
    content = json.loads(sidecar.read_text())
    content["Model"]["WeightsSHA256"] = "another"
    sidecar.write_text(json.dumps(content))
    again = segment(order, QUIET)
    assert ends(again) == {"s0.nii.gz": "failed", "s1.nii.gz": "kept", "s2.nii.gz": "kept"}
    assert again.exit_code == 1
    assert ends(segment(replace(order, overwrite=True), QUIET))["s0.nii.gz"] == "done"


def test_it_is_said_whether_the_segmenter_was_trained_on_an_image(order, trained):
    folder = order.output.parent / "model"
    shutil.copytree(trained[0] / "model", folder)
    description = json.loads((folder / "model.json").read_text())
    seen = {"train": [image_hash(order.input.parent / "s1.nii.gz")], "validation": []}
    description["origin"] |= {"trained_on": seen, "split_hash": "abc"}
    (folder / "model.json").write_text(json.dumps(description))
    segment(replace(order, model=str(folder)), QUIET)
    said = [json.loads((order.output / f"s{number}.json").read_text())["Training"] for number in range(3)]
    assert [each["ThisImage"] for each in said] == ["unseen", "train", "unseen"]
    assert said[0]["SplitSHA256"] == "abc"


def test_of_a_cohort_another_domain_may_be_segmented(order):
    order.input.write_text(order.input.read_text().replace("s2,ct", "s2,plain"))
    assert set(ends(segment(order, QUIET))) == {"s0.nii.gz", "s1.nii.gz"}
    other = replace(order, domain="plain", output=order.output / "plain")
    assert set(ends(segment(other, QUIET))) == {"s2.nii.gz"}
    with pytest.raises(DataError, match="no image of domain mr"):
        segment(replace(order, domain="mr"), QUIET)


def test_a_file_may_be_named_and_a_study_may_not_take_the_place_of_the_labels_names(order):
    source = order.input.parent / "s0.nii.gz"
    segment(replace(order, input=source, output=order.output / "organs.nii.gz"), QUIET)
    assert sorted(path.name for path in order.output.iterdir()) == ["organs.json", "organs.nii.gz"]
    source.rename(source.with_name("labels.nii.gz"))
    order.input.unlink()
    ended = segment(replace(order, input=order.input.parent), QUIET)
    failures = {outcome.input: outcome.message for outcome in ended.outcomes if outcome.status == "failed"}
    assert failures.keys() == {"labels.nii.gz", "s0_mask.nii.gz", "s1_mask.nii.gz", "s2_mask.nii.gz"}
    assert "as in a label map" in failures["s0_mask.nii.gz"]
    assert "the batch itself would both write" in failures["labels.nii.gz"]


def test_what_cannot_be_of_the_segmenters_domain_is_refused_unless_forced(order):
    (order.input.parent / "s1.json").write_text('{"Modality": "PT"}')
    summary = segment(order, QUIET)
    assert ends(summary) == {"s0.nii.gz": "done", "s1.nii.gz": "failed", "s2.nii.gz": "done"}
    assert "modality is PT" in next(outcome.message for outcome in summary.outcomes if outcome.status == "failed")
    summary = segment(replace(order, force=True), QUIET)
    assert ends(summary) == {"s0.nii.gz": "kept", "s1.nii.gz": "done", "s2.nii.gz": "kept"}
    assert json.loads((order.output / "s1.json").read_text())["Forced"] == ["it says that its modality is PT"]
    assert "Forced" not in json.loads((order.output / "s0.json").read_text())
