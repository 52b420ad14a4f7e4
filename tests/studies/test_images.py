"""Translated, matched and shuffled images of the arms; the translator is not trained."""

import io
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
from rich.console import Console

from medgan.data.streams import write_csv
from medgan.data.studies import Study as Scan
from medgan.data.volumes import read_volume
from medgan.errors import DataError, LeakageError
from medgan.studies import images as module
from medgan.studies.arms import Arms
from medgan.studies.images import Keeping, make_images


class Kept(Keeping):
    """Label-keeping as it is told, by subject."""

    scores: ClassVar = {"s0": 0.7, "s1": 0.69, "s2": float("nan")}

    def keeper(self, device):
        return lambda scan, translation: self.scores[scan.subject] if scan.subject == translation.subject else 1.0


@pytest.fixture
def begin(settled, monkeypatch):
    """A study whose translator draws what the target scan is, its stages, and its images' tasks, which are done."""

    def translate(making, scans, folder, device):
        return {scan.image: scan.image.with_name(scan.image.name.replace("contrast", "plain")) for scan in scans}

    def run(*overrides, kept_above=None):
        monkeypatch.setattr("medgan.studies.arms.read_description", lambda *given: SimpleNamespace(weights_sha256="1"))
        monkeypatch.setattr(module, "_translated", translate)
        monkeypatch.setattr(Arms, "keeping", Kept(kept_above, None, None, ()))
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


def test_leak_a_test_subject_among_the_references_of_histogram_matching(settled):
    study = settled(Arms, "arms=[real, real+matched]")
    (tested,) = (scan for scan in study.subjects.with_labels("test", "plain") if scan.subject == "s6")
    others = [scan for scan in study.subjects.translated.studies if (scan.subject, scan.domain) != ("s0", "plain")]
    leaking = replace(study.subjects.translated, studies=(*others, Scan("s0", "plain", tested.image)))
    study.subjects = replace(study.subjects, translated=leaking)
    task = study._images_task([0], None)
    with pytest.raises(LeakageError, match=r"'s0' has the image s6_plain.nii.gz"):
        study.guard.admit(task.scans, task.name)
