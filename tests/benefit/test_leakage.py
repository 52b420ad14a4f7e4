"""The guard itself; that studies call it on every path is tested where those paths are."""

import shutil
from pathlib import Path

import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.splits import Split
from medgan.data.studies import Study, find_cohort
from medgan.errors import LeakageError
from medgan.studies.subjects import Guard

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window()) for name in ("contrast", "plain")
)
PAIR = DomainPair(source=CONTRAST, target=PLAIN, paired=False)
RUN = Path("runs/ct_contrast/one")


@pytest.fixture
def cohort(labelled):
    return find_cohort(labelled, PAIR)


@pytest.fixture
def guard(cohort):
    return Guard.of(cohort, subjects=["s5", "s6"])


def split(cohort, train, test=()):
    return Split(train=train, validation=(), test=test, files=cohort.file_hashes())


def test_other_subjects_are_let_through_unchanged(cohort, guard):
    studies = cohort.of_subjects(["s0", "s3"]).studies
    assert guard.admit(studies, "the training") == studies


def test_it_knows_all_images_of_the_tested_and_no_others(guard):
    assert sorted((study.subject, study.domain) for study in guard.tested.studies) == [
        ("s5", "contrast"), ("s5", "plain"), ("s6", "contrast"), ("s6", "plain"),
    ]  # fmt: skip
    assert set(guard.images.values()) == {"s5", "s6"}
    assert len(guard.images) == 8  # two images each, by its bytes and by what it shows


def test_a_test_subject_is_refused_by_name_whatever_image_it_brings(cohort, guard):
    own = cohort.of_subjects(["s0"]).studies[0]
    renamed = Study("s5", "plain", own.image)
    with pytest.raises(LeakageError, match="the training of real would see who is tested: 's5' is a test subject"):
        guard.admit([own, renamed], "the training of real")


@pytest.mark.parametrize("domain", ["contrast", "plain"])
def test_a_test_image_is_refused_under_another_name_and_file(cohort, guard, domain, tmp_path):
    (own,) = cohort.of_subjects(["s6"]).of_domain(domain).studies
    shutil.copy(own.image, tmp_path / "copy.nii.gz")
    with pytest.raises(LeakageError, match=r"'s0' has the image copy.nii.gz of test subject 's6'"):
        guard.admit([Study("s0", domain, tmp_path / "copy.nii.gz")], "the training")


def test_equal_masks_are_no_leak(cohort, guard):
    own = cohort.of_subjects(["s0"]).studies[0]
    (tested,) = cohort.of_subjects(["s6"]).of_domain("plain").studies
    assert guard.admit([Study("s0", "contrast", own.image, tested.mask)], "the training")


def test_a_translator_that_saw_others_may_serve(cohort, guard):
    guard.check_model(split(cohort, ("s0", "s1"), ("s5",)), RUN)


def test_a_translator_that_saw_a_test_subject_as_itself_is_refused(cohort, guard):
    with pytest.raises(LeakageError, match=r"translator of runs/ct_contrast/one cannot .*'s5' is in its train part"):
        guard.check_model(split(cohort, ("s0", "s5")), RUN)


def test_a_translator_that_saw_a_test_subjects_target_image_under_another_name_is_refused(cohort, guard):
    hashes = cohort.file_hashes()
    plain = hashes["s6"]["s6_plain.nii.gz"]
    seen = Split(train=("x",), validation=(), test=(), files={"x": {"x.nii.gz": plain}})
    with pytest.raises(LeakageError, match=r"'s6' has the image s6_plain.nii.gz of its train subject 'x'"):
        guard.check_model(seen, RUN)
