"""Training pairs: whose they are, and that nobody is judged who was trained on."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.splits import Split
from medgan.data.volumes import image_hash
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.evaluation.matching import Case
from medgan.evaluation.training_pairs import refuse_trained, training_pairs

PARTS = Split(train=("a", "b"), validation=("c",), test=("d",), files={})


@pytest.fixture
def table(tmp_path):
    rows = [f"{subject},{domain},{subject}_{domain}.nii.gz" for subject in "abcd" for domain in ("mr", "ct")]
    (tmp_path / "cohort.csv").write_text("\n".join(["subject,domain,image", *rows, "e,ct,e_ct.nii.gz"]))
    for row in (*rows, "e,ct,e_ct.nii.gz"):
        (tmp_path / row.split(",")[2]).touch()
    return tmp_path / "cohort.csv"


def subjects(found):
    return [case.subject for case in found.cases]


def test_the_domains_are_those_of_the_evaluated_places(table):
    found = training_pairs(table, None, "elsewhere/cohort.csv:mr", "elsewhere/cohort.csv:ct")
    assert subjects(found) == ["a", "b", "c", "d"]  # e has no MR
    assert found.cases[0].partners == {
        "reference": table.parent / "a_ct.nii.gz",
        "source": table.parent / "a_mr.nii.gz",
    }


def test_domains_may_be_named_and_a_split_leaves_its_training_part(table):
    assert subjects(training_pairs(f"{table}:mr,ct", PARTS, "folder", "folder")) == ["a", "b"]


def test_without_sources_references_are_enough(table):
    found = training_pairs(table, None, None, f"{table}:ct")
    assert subjects(found) == ["a", "b", "c", "d", "e"]
    assert set(found.cases[0].partners) == {"reference"}


@pytest.mark.parametrize("domains", ["", ":ct", ":mr,ct,pet"])
def test_domains_that_are_not_known_are_asked_for(table, domains):
    with pytest.raises(ConfigError, match="COHORT:SOURCE,REFERENCE"):
        training_pairs(f"{table}{domains}", None, "folder", "folder")


def test_a_domain_that_the_cohort_lacks_is_named(table):
    with pytest.raises(DataError, match="pet"):
        training_pairs(f"{table}:mr,pet", None, "folder", "folder")


def cases(*names):
    return [Case(name, name, Path(name), {}) for name in names]


def test_who_was_trained_on_is_refused_and_who_chose_the_model_named():
    assert refuse_trained(cases("d", "c"), PARTS) == {"c"}
    assert refuse_trained(cases("d"), PARTS) == set()
    with pytest.raises(LeakageError, match=r"1 of the 2 evaluated subjects were trained on \(a\)"):
        refuse_trained(cases("a", "d"), PARTS)


@pytest.mark.parametrize("role", ["source", "reference"])
def test_whose_real_image_was_trained_on_under_another_name_is_refused_or_named(tmp_path, role):
    """The split knows the images by their voxels; their files it has never seen."""
    stored = {name: tmp_path / f"{name}.nii.gz" for name in "acd"}
    for seed, path in enumerate(stored.values()):
        nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5) + seed, np.eye(4)).to_filename(path)
    shown = {name: {f"{name}.nii": image_hash(stored[name])} for name in "ac"}
    split = PARTS.model_copy(update={"images": shown})
    renamed = {name: Case(f"new {name}", f"new {name}", Path("made"), {role: path}) for name, path in stored.items()}
    assert refuse_trained([renamed["c"], renamed["d"]], split) == {"new c"}
    with pytest.raises(LeakageError, match=r"\(new a, who has an image of 'a'\)"):
        refuse_trained(renamed.values(), split)
    masks = [Case("new a", "new a", Path("made"), {"mask": stored["a"]})]
    assert refuse_trained(masks, split) == set()
