"""Translated, matched and shuffled images of the arms; the translator is not trained."""

import io
import shutil
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from inference.conftest import *  # noqa: F403 - tiny models and studies
from medgan.data.domains import Domain, Window
from medgan.data.masks import body_mask
from medgan.data.streams import write_csv
from medgan.data.studies import Study
from medgan.data.volumes import read_volume
from medgan.documents import read_json
from medgan.errors import DataError, LeakageError
from medgan.inference.batch import conversion_fabric
from medgan.inference.translate import translate
from medgan.segmentation.settings import SegmenterConfig
from medgan.studies import images as module
from medgan.studies.arms import Arms
from medgan.studies.images import (
    COPIES,
    ImageRecipe,
    LabelRule,
    make_images,
    matched,
    matched_copies,
    shuffled_masks,
    stretched,
)
from medgan.training.architecture import TranslationDescription
from medgan.training.model_folder import read_description, read_model

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window(lower=-300.0, upper=700.0))
    for name in ("contrast", "plain")
)
MR = Domain(name="mr", modality="MR", unit="arbitrary", air=0.0, window=Window(lower=1, upper=99, percentiles=True))


class Kept(LabelRule):
    """Label-keeping as it is told, by subject."""

    scores: ClassVar = {"s0": 0.7, "s1": 0.69, "s2": float("nan")}

    def keeper(self, device):
        return lambda scan, translation: self.scores[scan.subject] if scan.subject == translation.subject else 1.0


@pytest.fixture
def begin(settled, monkeypatch):
    """A study whose translator draws what the target scan is, its stages, and its images' tasks, which are done."""

    def translate(recipe, scans, folder, device, copy=None):
        return {scan.image: scan.image.with_name(scan.image.name.replace("contrast", "plain")) for scan in scans}

    def run(*overrides, kept_above=None):
        monkeypatch.setattr("medgan.studies.arms.read_description", lambda *given: SimpleNamespace(weights_sha256="1"))
        monkeypatch.setattr(module, "_translated", translate)
        monkeypatch.setattr(Arms, "label_rule", Kept(kept_above, None, None, ()))
        study = settled(Arms, "ratios_percent=[100]", *overrides)
        stages = study.stages()
        tasks = next(stages)
        if tasks[0].name.startswith("translator"):
            for task in tasks:
                (study.order.folder / task.name).mkdir()
                shutil.copy(task.args[0].split, study.order.folder / task.name / "split.json")
            tasks = stages.send(())
        for task in tasks:
            folder = study.order.folder / task.name
            write_csv(folder / task.product, make_images(SimpleNamespace(folder=folder, device="cpu"), *task.args))
        return study, stages, tasks

    return run


@pytest.fixture
def made(begin, monkeypatch):
    """The images of each subset, and the segmenters' tasks: ``made("subsets=2")``."""

    def run(*overrides, **changes):
        study, stages, _ = begin(*overrides, **changes)
        images, of_subset = [], study._images
        monkeypatch.setattr(study, "_images", lambda *given: images.append(of_subset(*given)) or images[-1])
        tasks = stages.send(())
        return study, images, tasks

    return run


def test_each_subset_has_its_own_translator_and_what_lost_its_labels_is_counted_and_told(begin):
    subsets = ("arms=[real+synthetic]", "subsets=2", "labelled=2", "retrain_translator=true")
    study, stages, tasks = begin(*subsets, kept_above=0.5)
    study.console = Console(file=io.StringIO(), width=200)
    assert [task.name for task in tasks] == ["images,subset=0", "images,subset=1"]
    models = [task.args[0].model.relative_to(study.order.folder).as_posix() for task in tasks]
    assert models == ["translator,subset=0/model", "translator,subset=1/model"]
    segmenters = stages.send(())
    assert [task.name.rpartition(",")[2] for task in segmenters] == ["subset=0", "subset=1"]
    assert segmenters[0].inputs["images"] != segmenters[1].inputs["images"]
    lost = sum("s2" in subset for subset in study.subsets)
    assert study.rejected == (lost, 4)
    told = "left out: the translation of s2_plain.nii.gz: label-keeping nan is below 0.5"
    assert (told in study.console.file.getvalue()) == bool(lost)


def test_everything_is_of_the_subsets_training_subjects(made):
    study, images, _ = made("subsets=2", "labelled=2")
    for subset, own in enumerate(images):
        for kind in ("source", "target", "synthetic", "matched", "shuffled"):
            assert {scan.subject for scan in own[kind]} == set(study.subsets[subset])
            assert all(scan.mask for scan in own[kind])


def test_no_target_label_chooses_anything_but_the_oracle_and_a_shuffled_image_has_anothers_mask(made):
    _, (images,), _ = made()
    assert len(images["synthetic"]) == 3  # without a threshold all are kept
    oracle = [(scan.subject, scan.domain) for scan in images["target_validation"]]
    assert oracle == [("s3", "plain"), ("s4", "plain")]
    assert [scan.domain for scan in images["validation"]] == ["contrast", "contrast", "plain", "plain"]
    masks = {scan.subject: read_volume(scan.mask).voxels for scan in images["synthetic"]}
    for scan in images["shuffled"]:
        mask = read_volume(scan.mask).voxels
        assert any((mask == masks[other]).all() for other in masks if other != scan.subject)


def test_arms_without_translation_need_no_translator(made):
    _, (images,), segmenters = made("arms=[real, real+standard, oracle]")
    assert images["synthetic"] == ()
    assert [scan.domain for scan in images["validation"]] == ["contrast", "contrast"]
    assert len(segmenters) == 3


def test_what_keeps_its_labels_too_badly_is_left_out_with_its_score(made):
    study, (images,), (task,) = made("arms=[real+synthetic]", kept_above=0.7)
    assert [scan.subject for scan in images["synthetic"]] == ["s0"]
    assert [scan.subject for scan in task.args[0].extra.scans] == ["s0"]
    table = (study.order.folder / "images" / "images.csv").read_text()
    assert [table.count(f"label-keeping {score} is below 0.7") for score in ("0.70", "0.69", "nan")] == [0, 1, 1]
    with pytest.raises(DataError, match=r"no translation keeps its labels.*label-keeping 0.69 is below 0.9"):
        made("arms=[real, real+synthetic]", kept_above=0.9)


@pytest.mark.parametrize("kept_above", [None, 0.7])
def test_two_arms_have_copies_of_drawn_strength_and_as_many_translations_as_matched_copies(made, kept_above):
    _, (images,), segmenters = made("arms=[real+standard+strengths, real+matched+synthetic]", kept_above=kept_above)
    kept = ["s0"] if kept_above else ["s0", "s1", "s2"]
    assert sorted(scan.subject for scan in images["strengths"]) == sorted(kept * COPIES)
    assert len(images["synthetic"]) == len(kept)
    both = Counter(images["matched+synthetic"])
    assert set(both) == {*images["matched"], *images["synthetic"]}
    assert [both[scan] for scan in images["matched"]] == [1] * 9
    assert [both[scan] for scan in images["synthetic"]] == [9 // len(kept)] * len(kept)
    dialled, together = (task.args[0].extra for task in segmenters)
    assert (dialled.scans, together.scans) == (images["strengths"], images["matched+synthetic"])
    read = together(SegmenterConfig(labels={"bone": (1,)}))
    assert len(read) == len(together.scans)
    assert len({id(case) for case in read}) == len(both)  # a scan that is named several times is in memory once


def test_each_copy_of_a_case_is_translated_at_a_strength_of_its_own(save_model, save_study, tmp_path):
    rows = ["subject,domain,image"]
    for number in range(2):
        save_study(tmp_path / "data" / f"s{number}.nii.gz", (24, 20, 2), seed=number)
        rows.append(f"s{number},contrast,s{number}.nii.gz")
    (tmp_path / "data" / "cohort.csv").write_text("\n".join(rows))
    scans = [Study(f"s{number}", "contrast", tmp_path / "data" / f"s{number}.nii.gz") for number in range(2)]
    folder, table = save_model(tmp_path / "model"), tmp_path / "data" / "cohort.csv"
    pair = read_description(folder, TranslationDescription).pair
    recipe = ImageRecipe(table, pair, LabelRule(None, None, None, ()), {"strengths"}, (0.3, 0.9), folder, {}, (), {})
    strengths = []
    for copy, place in ((0, "a"), (1, "b"), (0, "again")):
        outputs = module._translated(recipe, scans, tmp_path / place, "cpu", copy)
        for scan in scans:
            beside = read_json(outputs[scan.image].with_name(scan.image.name.replace(".nii.gz", ".json")))
            strengths.append(beside["Strength"])
            before, after = (read_volume(path) for path in (scan.image, outputs[scan.image]))
            exact = translate(
                before, read_model(folder, TranslationDescription), "to_target", conversion_fabric("cpu"),
                strength=strengths[-1],
            )  # fmt: skip
            np.testing.assert_array_equal(after.voxels, exact.voxels)
    assert len(set(strengths)) == 4
    assert strengths[:2] == strengths[4:]
    assert all(0.3 <= strength <= 0.9 for strength in strengths)


def test_leak_a_test_subject_among_the_references_of_histogram_matching(settled):
    study = settled(Arms, "arms=[real, real+matched]")
    (tested,) = (scan for scan in study.subjects.with_labels("test", "plain") if scan.subject == "s6")
    others = [scan for scan in study.subjects.translated.studies if (scan.subject, scan.domain) != ("s0", "plain")]
    leaking = replace(study.subjects.translated, studies=(*others, Study("s0", "plain", tested.image)))
    study.subjects = replace(study.subjects, translated=leaking)
    task = study._images_task([0], None)
    with pytest.raises(LeakageError, match=r"'s0' has the image s6_plain.nii.gz"):
        study.guard.admit(task.scans, task.name)


def volume(path, voxels):
    nib.Nifti1Image(voxels.astype(np.float32), np.diag([2.0, 2.0, 5.0, 1.0])).to_filename(path)
    return read_volume(path)


@pytest.fixture
def scans(ct, tmp_path):
    """A scan with contrast medium and one of another subject without."""
    return volume(tmp_path / "a.nii.gz", ct(0, True)), volume(tmp_path / "b.nii.gz", ct(1, False))


def test_a_matched_body_has_the_quantiles_of_the_reference_and_keeps_the_order_of_intensities_and_the_air(scans):
    source, reference = scans
    found, bent = (matched(source, reference, CONTRAST, PLAIN, gamma) for gamma in (1.0, 1.2))
    inside, other = body_mask(source.voxels, CONTRAST), body_mask(reference.voxels, PLAIN)
    shares = np.linspace(0.05, 0.95, 19)
    expected = np.quantile(reference.voxels[other], shares)
    np.testing.assert_allclose(np.quantile(found[inside], shares), expected, atol=6)
    assert np.abs(np.quantile(source.voxels[inside], shares) - expected).max() > 50
    order = np.argsort(source.voxels[inside], kind="stable")
    assert (np.diff(bent[inside][order]) >= -1e-3).all()
    assert (bent[~inside] == -1024).all()


def test_gamma_bends_within_the_window_alone(scans):
    source, reference = scans
    plain, bent = (matched(source, reference, CONTRAST, PLAIN, gamma) for gamma in (1.0, 1.25))
    inside = body_mask(source.voxels, CONTRAST)
    share = (plain[inside] + 300) / 1000
    seen = (share > 0) & (share < 1)
    np.testing.assert_allclose(bent[inside][seen], -300 + 1000 * share[seen] ** 1.25, atol=1e-2)
    np.testing.assert_array_equal(bent[inside][~seen], plain[inside][~seen])


def test_mr_takes_the_histogram_of_ct_and_its_air_and_an_image_without_a_body_becomes_air(scans, tmp_path, ct):
    empty = volume(tmp_path / "empty.nii.gz", np.full((32, 32, 3), -1000))
    assert (matched(empty, scans[1], CONTRAST, PLAIN) == -1024).all()
    mr = volume(tmp_path / "mr.nii.gz", np.maximum(ct(3, True) + 1000, 0))
    found = matched(mr, scans[1], MR, PLAIN)
    assert found.min() == -1024
    assert found.max() <= scans[1].voxels.max()


def labelled_scan(folder, subject, *, shape=(8, 8, 3), value=1):
    volume(folder / f"{subject}.nii.gz", np.full(shape, -1000.0))
    nib.Nifti1Image(np.full(shape, value, np.uint8), np.eye(4)).to_filename(folder / f"{subject}_mask.nii.gz")
    return Study(subject, "plain", folder / f"{subject}.nii.gz", folder / f"{subject}_mask.nii.gz")


def test_copies_keep_masks_and_count_as_the_target_domain(tmp_path, scans, ct):
    mask = tmp_path / "mask.nii.gz"
    mask.touch()
    source = Study("s0", "contrast", scans[0].path, mask)
    copies = matched_copies([source], [Study("s1", "plain", scans[1].path)], CONTRAST, PLAIN, tmp_path / "copies")
    assert [(copy.subject, copy.domain, copy.mask) for copy in copies] == [("s0", "plain", mask)] * COPIES
    voxels = [read_volume(copy.image).voxels for copy in copies]
    assert not np.array_equal(voxels[0], voxels[1])


def test_copies_that_are_there_are_kept_and_not_taken_for_those_of_other_images(tmp_path, scans):
    source = Study("s0", "contrast", scans[0].path)
    first, other, again = (
        {copy.image: copy.image.stat().st_mtime_ns for copy in copies}
        for copies in (
            matched_copies([source], [Study("s1", "plain", scan.path)], CONTRAST, PLAIN, tmp_path)
            for scan in (*scans, scans[0])
        )
    )
    assert again == first
    assert not first.keys() & other.keys()


def test_no_subject_keeps_its_mask_and_every_mask_is_used_once_and_one_subject_cannot_exchange(tmp_path):
    studies = [labelled_scan(tmp_path, f"s{number}", value=number + 1) for number in range(5)]
    found = shuffled_masks(studies, tmp_path / "masks")
    values = [int(read_volume(each.mask).voxels[0, 0, 0]) for each in found]
    assert [each.image for each in found] == [each.image for each in studies]
    assert sorted(values) == [1, 2, 3, 4, 5]
    assert all(value != number + 1 for number, value in enumerate(values))
    # Two images of one subject both get another's.
    found = shuffled_masks([*studies[:2], studies[0]], tmp_path / "again")
    assert [int(read_volume(each.mask).voxels[0, 0, 0]) for each in found] == [2, 1, 2]
    with pytest.raises(DataError, match="masks of 1 subject"):
        shuffled_masks(studies[:1], tmp_path / "masks")


def test_a_wrong_mask_is_stretched_over_another_grid(tmp_path):
    studies = [labelled_scan(tmp_path, "a", shape=(8, 8, 3)), labelled_scan(tmp_path, "b", shape=(12, 10, 5))]
    found = shuffled_masks(studies, tmp_path / "masks")
    assert [read_volume(each.mask).voxels.shape for each in found] == [(8, 8, 3), (12, 10, 5)]
    labels = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    assert stretched(labels, (7, 1, 1)).ravel().tolist() == [0, 0, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(stretched(labels, (4, 1, 1)), labels)
