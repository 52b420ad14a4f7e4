"""Translated, matched and shuffled images of the arms; the translator is not trained."""

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
from rich.console import Console

from medgan.data.studies import Study as Scan
from medgan.data.volumes import read_volume
from medgan.errors import DataError, LeakageError
from medgan.studies import images as module
from medgan.studies.arms import Arms
from medgan.studies.images import Keeping, make_images

QUIET = Console(quiet=True)


@pytest.fixture
def made(arms_order, tmp_path, monkeypatch):
    """The images of a study whose translator draws what the target scan is: ``made("subsets=2")``."""

    def translate(making, scans, folder, device):
        return {scan.image: scan.image.with_name(scan.image.name.replace("contrast", "plain")) for scan in scans}

    def make(*overrides, keeping=None, model=tmp_path / "model"):
        study = Arms(arms_order(tmp_path / "runs", *overrides), QUIET)
        monkeypatch.setattr("medgan.studies.arms.read_description", lambda *given: SimpleNamespace(weights_sha256="1"))
        monkeypatch.setattr(module, "_translated", translate)
        subsets = range(len(study.subsets))
        (making,) = study._images_task(subsets, model).args
        making = replace(making, keeping=keeping or making.keeping)
        context = SimpleNamespace(folder=study.order.folder / "images", device="cpu")
        table = make_images(context, making).astype(str)
        return study, [study._images(subset, table[table["subset"] == str(subset)]) for subset in subsets], table

    return make


def test_everything_is_of_the_subsets_training_subjects(made):
    study, images, _ = made("subsets=2", "labelled=2")
    for subset, own in enumerate(images):
        for kind in ("source", "target", "synthetic", "matched", "shuffled"):
            assert {scan.subject for scan in own[kind]} == set(study.subsets[subset])
            assert all(scan.mask for scan in own[kind])


def test_no_target_label_chooses_anything_but_the_oracle(made):
    _, (images,), _ = made()
    oracle = [(scan.subject, scan.domain) for scan in images["target_validation"]]
    assert oracle == [("s3", "plain"), ("s4", "plain")]
    assert [scan.domain for scan in images["validation"]] == ["contrast", "contrast", "plain", "plain"]


def test_arms_without_translation_need_no_translator(made):
    _, (images,), table = made("arms=[real, real+standard, oracle]", model=None)
    assert table.empty
    assert [scan.domain for scan in images["validation"]] == ["contrast", "contrast"]


def test_a_shuffled_image_has_anothers_mask(made):
    _, (images,), _ = made()
    masks = {scan.subject: read_volume(scan.mask).voxels for scan in images["synthetic"]}
    for scan in images["shuffled"]:
        mask = read_volume(scan.mask).voxels
        assert any((mask == masks[other]).all() for other in masks if other != scan.subject)


class Kept(Keeping):
    """Label-keeping as it is told, by subject."""

    scores: ClassVar = {"s0": 0.7, "s1": 0.69, "s2": float("nan")}

    def keeper(self, device):
        return lambda scan, translation: self.scores[scan.subject] if scan.subject == translation.subject else 1.0


def test_what_keeps_its_labels_too_badly_is_left_out_with_its_score(made):
    _, (images,), table = made("arms=[real, real+synthetic]", keeping=Kept(0.7, None, None, ()))
    assert [scan.subject for scan in images["synthetic"]] == ["s0"]
    reasons = table.loc[table["kind"] == "synthetic", "rejected"].tolist()
    assert reasons == ["", "label-keeping 0.69 is below 0.7", "label-keeping nan is below 0.7"]


def test_without_a_threshold_all_are_kept(made):
    _, (images,), _ = made(keeping=Kept(None, None, None, ()))
    assert len(images["synthetic"]) == 3


def test_nothing_left_is_an_error_with_the_reasons(made):
    with pytest.raises(DataError, match=r"no translation keeps its labels.*label-keeping 0.69 is below 0.9"):
        made("arms=[real, real+synthetic]", keeping=Kept(0.9, None, None, ()))


def test_leak_a_test_subject_among_the_references_of_histogram_matching(arms_order, tmp_path):
    study = Arms(arms_order(tmp_path, "arms=[real, real+matched]"), QUIET)
    (tested,) = (scan for scan in study.subjects.with_labels("test", "plain") if scan.subject == "s6")
    others = [scan for scan in study.subjects.translated.studies if (scan.subject, scan.domain) != ("s0", "plain")]
    leaking = replace(study.subjects.translated, studies=(*others, Scan("s0", "plain", tested.image)))
    study.subjects = replace(study.subjects, translated=leaking)
    task = study._images_task([0], None)
    with pytest.raises(LeakageError, match=r"'s0' has the image s6_plain.nii.gz"):
        study.guard.admit(task.scans, task.name)
