"""Who is in a study, and the guard itself; that studies call it on every path is tested where those paths are."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.splits import Split, SplitConfig
from medgan.data.studies import Cohort, Study, find_cohort
from medgan.errors import ConfigError, DataError, LeakageError
from medgan.studies.subjects import Guard, Subjects, check_labels, draw_subsets, study_split

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window()) for name in ("contrast", "plain")
)
PAIR = DomainPair(source=CONTRAST, target=PLAIN, paired=False)
RUN = Path("runs/ct_contrast/one")


@pytest.fixture
def cohort(golden):
    return find_cohort(golden.inputs.contrast, PAIR)


@pytest.fixture
def guard(cohort):
    return Guard.of(cohort, subjects=["s5", "s6"])


def split(cohort, train, test=()):
    return Split(train=train, validation=(), test=test, files=cohort.file_hashes())


def test_other_subjects_are_let_through_unchanged_and_equal_masks_are_no_leak(cohort, guard):
    studies = cohort.of_subjects(["s0", "s3"]).studies
    assert guard.admit(studies, "the training") == studies
    (tested,) = cohort.of_subjects(["s6"]).of_domain("plain").studies
    assert guard.admit([replace(studies[0], mask=tested.mask)], "the training")


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


def test_a_translator_that_saw_others_may_serve_and_one_that_saw_a_test_subject_or_its_target_image_not(cohort, guard):
    guard.check_model(split(cohort, ("s0", "s1"), ("s5",)), RUN)
    with pytest.raises(LeakageError, match=r"translator of runs/ct_contrast/one cannot .*'s5' is in its train part"):
        guard.check_model(split(cohort, ("s0", "s5")), RUN)
    plain = cohort.file_hashes()["s6"]["s6_plain.nii.gz"]
    seen = Split(train=(), validation=("x",), test=(), files={"x": {"x.nii.gz": plain}})
    with pytest.raises(LeakageError, match=r"'s6' has the image s6_plain.nii.gz of its validation subject 'x'"):
        guard.check_model(seen, RUN)


def study(subject, domain, folder, *, labelled=True):
    image = folder / f"{subject}_{domain}.nii.gz"
    image.write_bytes(f"{subject} {domain}".encode())
    return Study(subject, domain, image, image if labelled else None)


@pytest.fixture
def many(tmp_path):
    """24 subjects, of whom 20 are trained on: a translator knows 12 by their contrast scan, and 8 by the plain one."""
    names = [f"s{number:02d}" for number in range(24)]
    labelled = Cohort(tuple(study(name, domain, tmp_path) for name in names for domain in PAIR.names), tmp_path)
    shown = [study(name, "contrast" if number < 12 else "plain", tmp_path) for number, name in enumerate(names)]
    split = Split(train=tuple(names[:20]), validation=tuple(names[20:22]), test=tuple(names[22:]), files={})
    return Subjects(labelled, tmp_path / "a.csv", Cohort(tuple(shown), tmp_path), tmp_path / "b.csv", split)


def test_a_subset_has_its_share_of_either_domain_and_is_the_same_however_many_there_are(many):
    first, second = draw_subsets(many, PAIR, count=2, labelled=10)
    assert draw_subsets(many, PAIR, count=3, labelled=10)[:2] == [first, second]
    for subset in (first, second):
        assert len(set(subset)) == 10
        assert set(subset) <= set(many.split.train)
        assert sum(subject < "s12" for subject in subset) == 6
    assert first != second


@pytest.mark.parametrize(
    ("count", "labelled", "message"), [(2, None, "subsets=2 of all training subjects"), (1, 21, "labelled=21 .* 20")]
)
def test_all_training_subjects_are_one_subset_and_more_are_refused(many, count, labelled, message):
    assert draw_subsets(many, PAIR, count=1, labelled=None) == [many.split.train]
    assert draw_subsets(many, PAIR, count=1, labelled=20) == [many.split.train]
    with pytest.raises(ConfigError, match=message):
        draw_subsets(many, PAIR, count=count, labelled=labelled)


def test_labels_are_found_by_part_and_domain_and_either_test_set_is_enough(many, tmp_path):
    def of(studies):
        cohort = Cohort(tuple(studies), tmp_path)
        return Subjects(cohort, many.table, cohort, many.table, many.split)

    subjects = of([study("s00", "contrast", tmp_path, labelled=False), *many.labelled.of_domain("plain").studies])
    assert subjects.with_labels("train", "contrast") == ()
    assert [each.subject for each in subjects.with_labels("test", "plain")] == ["s22", "s23"]
    with pytest.raises(DataError, match=r"no train subject has a labelled contrast .* no validation subject"):
        check_labels(subjects, PAIR)
    check_labels(of(each for each in many.labelled.studies if each.subject < "s22" or each.domain == "contrast"), PAIR)
    with pytest.raises(DataError, match="no test subject has a labelled contrast or plain image"):
        check_labels(of(each for each in many.labelled.studies if each.subject < "s22"), PAIR)


def test_everything_that_could_be_seen_is_learnt_from_and_a_translator_is_shown_its_subset(many):
    scans = many.learnt_from()
    assert {each.subject for each in scans} == {f"s{number:02d}" for number in range(22)}
    assert len(scans) == len(set(scans)) == 44
    split = many.translator_split(("s00", "s15"))
    assert (split.train, split.validation, split.test) == (("s00", "s15"), ("s20", "s21"), ("s22", "s23"))
    split.check(many.translated)


def test_a_translators_frozen_split_is_taken_where_it_knows_everybody_and_the_cohort_has_no_parts(many, cohort):
    frozen = Split(train=("s5",), validation=(), test=("s0", "s1", "s2", "s3", "s4", "s6"), files={})
    assert study_split(cohort, PAIR, SplitConfig(), frozen).test == ("s5", "s6")
    frozen = Split(train=("s00", "other"), validation=("s01",), test=tuple(f"s{n:02d}" for n in range(2, 24)), files={})
    split = study_split(many.labelled, PAIR, SplitConfig(), frozen)
    assert (split.train, split.validation, len(split.test)) == (("s00",), ("s01",), 22)
    split.check(many.labelled)
    stranger = Split(train=("s00",), validation=("s01",), test=("s02",), files={})
    assert len(study_split(many.labelled, PAIR, SplitConfig(), stranger).test) == 4
