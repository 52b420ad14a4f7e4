"""Whom the model had seen, as sidecars and splits say it."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.hashes import image_hash
from medgan.data.splits import Split
from medgan.errors import ConfigError, LeakageError
from medgan.evaluation.matching import Case
from medgan.evaluation.seen import NOBODY, SeenSubjects, seen_subjects

SPLIT = Split(train=("a",), validation=("c",), test=("d", "e"), files={})


@pytest.fixture
def made(tmp_path):
    """Synthetic images with sidecars: ``made(d="unseen", e=None)``; None is one that says nothing of training."""

    def make(split_hash="", **said):
        for subject, part in said.items():
            training = {} if part is None else {"Training": {"SplitSHA256": split_hash, "ThisImage": part}}
            (tmp_path / f"{subject}.json").write_text(json.dumps({"Synthetic": True, **training}))
        return cases(**{subject: tmp_path / f"{subject}.nii.gz" for subject in said})

    return make


def cases(**images):
    return [Case(subject, subject, image, {}) for subject, image in images.items()]


def test_one_image_that_was_learnt_from_makes_its_subject_a_trained_one():
    said = {"a": ["unseen", "train", "validation"], "b": ["unknown", "validation"], "c": ["unseen"]}
    pairs = [(subject, part) for subject, parts in said.items() for part in parts]
    assert SeenSubjects.of(pairs) == SeenSubjects(train=("a",), validation=("b",))
    assert SeenSubjects.of([("d", "unknown"), ("d", "unseen")]) == SeenSubjects(unknown=("d",))


def test_without_a_split_sidecars_tell(made):
    given = made(a="train", c="validation", d="unseen", e=None, f="unknown", g="nonsense")
    assert seen_subjects(given, None) == SeenSubjects(("a",), ("c",), ("e", "f", "g"))
    assert seen_subjects(cases(x=Path("nosuch.nii.gz")), None) == SeenSubjects(unknown=("x",))


def test_with_a_split_nothing_is_unknown_and_validation_subjects_are_seen(made):
    assert seen_subjects(made(c=None, d=None), SPLIT) == SeenSubjects(validation=("c",))
    assert seen_subjects(made(SPLIT.hash, d="unseen", e="validation"), SPLIT) == SeenSubjects(validation=("e",))
    assert seen_subjects(made(d=None), SPLIT) == NOBODY


def test_who_was_trained_on_is_a_leak_by_name_or_by_what_a_sidecar_says(made):
    with pytest.raises(LeakageError, match=r"1 of the 2 evaluated subjects were trained on \(a\)"):
        seen_subjects(made(a=None, d=None), SPLIT)
    with pytest.raises(LeakageError, match=r"1 of the 2 evaluated subjects were trained on \(d, as the JSON"):
        seen_subjects(made(SPLIT.hash, d="train", e="unseen"), SPLIT)


def test_a_split_of_another_model_cannot_tell(made):
    with pytest.raises(ConfigError, match=r"--split is not the split of the model that made .*d\.nii\.gz"):
        seen_subjects(made("other", d="unseen"), SPLIT)


def test_notes_name_who_was_left_out_and_say_when_nobody_is_left():
    assert list(NOBODY.notes(3)) == []
    (left_out,) = SeenSubjects(("a", "b"), ("c",)).notes(1)
    assert "(trained on them: a, b; these chose its epoch: c)" in left_out
    assert "There is no figure for unseen subjects" in list(SeenSubjects(("a",)).notes(0))[1]
    (many,) = SeenSubjects(tuple("abcdefghijkl")).notes(1)
    assert "i, j and 2 more)" in many
    (unknown,) = SeenSubjects(unknown=("a", "b")).notes(2)
    assert unknown.startswith("Of 2 subjects it cannot be told whether the model was trained on them")


@pytest.mark.parametrize("role", ["source", "reference"])
def test_whose_real_image_was_trained_on_under_another_name_is_refused_or_named(tmp_path, role):
    """The split knows the images by their voxels; their files it has never seen."""
    stored = {name: tmp_path / f"{name}.nii.gz" for name in "acd"}
    for seed, path in enumerate(stored.values()):
        nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5) + seed, np.eye(4)).to_filename(path)
    shown = {name: {f"{name}.nii": image_hash(stored[name])} for name in "ac"}
    split = SPLIT.model_copy(update={"images": shown})
    renamed = {name: Case(f"new {name}", f"new {name}", Path("made"), {role: path}) for name, path in stored.items()}
    assert seen_subjects([renamed["c"], renamed["d"]], split).validation == ("new c",)
    with pytest.raises(LeakageError, match=r"\(new a, who has an image of 'a'\)"):
        seen_subjects(list(renamed.values()), split)
    masks = [Case("new a", "new a", Path("made"), {"mask": stored["a"]})]
    assert seen_subjects(masks, split) == NOBODY
