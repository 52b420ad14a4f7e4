"""What is gathered for the arms that are asked for; the translator is not trained."""

from dataclasses import replace

import pytest
from rich.console import Console

from medgan.benefit.arms import BY_NAME
from medgan.benefit.material import gather_material
from medgan.benefit.plan import make_plan
from medgan.benefit.translated import Translated
from medgan.data.studies import Study
from medgan.data.volumes import read_volume
from medgan.errors import LeakageError

QUIET = Console(quiet=True)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """A translator that draws what the target scan is; the subsets for which it was asked."""
    asked_for = []

    def translate(plan, subset, model, objection, console):
        asked_for.append(subset)
        own = set(plan.subsets[subset])
        train = tuple(each for each in plan.subjects.with_labels("train", "plain") if each.subject in own)
        return Translated(model, "", train, plan.subjects.with_labels("validation", "plain"), {})

    monkeypatch.setattr("medgan.benefit.material.translator_run", lambda *arguments: tmp_path / "model")
    monkeypatch.setattr("medgan.benefit.material.translate_labelled", translate)
    return asked_for


def gathered(plan, subset=0):
    return gather_material(plan, subset, "parent", "sqlite:///runs.db", None, QUIET)


def test_everything_is_of_the_subsets_training_subjects(asked, tmp_path, drawn):
    plan = make_plan(asked(tmp_path, overrides=["subsets=2", "labelled=2"]))
    for subset in (0, 1):
        material = gathered(plan, subset)
        assert material.train.keys() == {"source", "target", "synthetic", "matched", "shuffled"}
        for studies in material.train.values():
            assert {study.subject for study in studies} == set(plan.subsets[subset])
            assert all(study.mask for study in studies)
    assert drawn == [0, 1]


def test_no_target_label_chooses_anything_but_the_oracle(asked, tmp_path, drawn):
    plan = make_plan(asked(tmp_path))
    material = gathered(plan)
    assert [(study.subject, study.domain) for study in material.target_validation] == [("s3", "plain"), ("s4", "plain")]
    for name, arm in BY_NAME.items():
        expected = material.target_validation if name == "oracle" else material.validation
        assert material.validates(arm) == expected
    assert [study.domain for study in material.validation] == ["contrast", "contrast", "plain", "plain"]


def test_arms_without_translation_need_no_translator(asked, tmp_path, drawn):
    plan = make_plan(asked(tmp_path, overrides=["arms=[real, real+standard, oracle]"]))
    material = gathered(plan)
    assert drawn == []
    assert material.train.keys() == {"source", "target"}
    assert [study.domain for study in material.validation] == ["contrast", "contrast"]


def test_a_shuffled_image_has_anothers_mask(asked, tmp_path, drawn):
    plan = make_plan(asked(tmp_path))
    material = gathered(plan)
    masks = {study.subject: read_volume(study.mask).voxels for study in material.train["synthetic"]}
    for study in material.train["shuffled"]:
        found = read_volume(study.mask).voxels
        assert any((found == masks[other]).all() for other in masks if other != study.subject)


def test_leak_a_test_subject_among_the_references_of_histogram_matching(asked, tmp_path, drawn):
    plan = make_plan(asked(tmp_path, overrides=["arms=[real, real+matched]"]))
    (tested,) = (each for each in plan.subjects.with_labels("test", "plain") if each.subject == "s6")
    others = [each for each in plan.subjects.translated.studies if (each.subject, each.domain) != ("s0", "plain")]
    leaking = replace(plan.subjects.translated, studies=(*others, Study("s0", "plain", tested.image)))
    changed = replace(plan, subjects=replace(plan.subjects, translated=leaking))
    changed.__dict__["guard"] = plan.guard
    with pytest.raises(LeakageError, match=r"histogram matching would see .*'s0' has the image s6_plain.nii.gz"):
        gathered(changed)
