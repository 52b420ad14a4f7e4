import pytest

from medgan.benefit.subjects import Subjects, check_labels, draw_subsets, study_split
from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.splits import Split, SplitConfig
from medgan.data.studies import Cohort, Study, find_cohort
from medgan.errors import ConfigError, DataError

CONTRAST, PLAIN = (
    Domain(name=name, modality="CT", unit="HU", air=-1024.0, window=Window()) for name in ("contrast", "plain")
)
PAIR = DomainPair(source=CONTRAST, target=PLAIN, paired=False)


def study(subject, domain, folder, *, labelled=True, split=None):
    image = folder / f"{subject}_{domain}.nii.gz"
    image.write_bytes(f"{subject} {domain}".encode())
    return Study(subject, domain, image, image if labelled else None, split)


@pytest.fixture
def many(tmp_path):
    """24 subjects, of whom 20 are trained on: a translator knows 12 by their contrast scan, and 8 by the plain one."""
    names = [f"s{number:02d}" for number in range(24)]
    labelled = Cohort(tuple(study(name, domain, tmp_path) for name in names for domain in PAIR.names), tmp_path)
    shown = [study(name, "contrast" if number < 12 else "plain", tmp_path) for number, name in enumerate(names)]
    split = Split(train=tuple(names[:20]), validation=tuple(names[20:22]), test=tuple(names[22:]), files={})
    return Subjects(labelled, tmp_path / "a.csv", Cohort(tuple(shown), tmp_path), tmp_path / "b.csv", split)


def test_a_subset_has_its_share_of_either_domain(many):
    (first, second) = draw_subsets(many, PAIR, count=2, labelled=10)
    for subset in (first, second):
        assert len(set(subset)) == 10
        assert set(subset) <= set(many.split.train)
        assert sum(subject < "s12" for subject in subset) == 6
    assert first != second


def test_a_subset_is_the_same_however_many_there_are(many):
    assert draw_subsets(many, PAIR, count=3, labelled=5)[:2] == draw_subsets(many, PAIR, count=2, labelled=5)


def test_all_training_subjects_are_one_subset(many):
    assert draw_subsets(many, PAIR, count=1, labelled=None) == [many.split.train]
    assert draw_subsets(many, PAIR, count=1, labelled=20) == [many.split.train]


@pytest.mark.parametrize(
    ("count", "labelled", "message"), [(2, None, "subsets=2 of all training subjects"), (1, 21, "labelled=21 .* 20")]
)
def test_subsets_that_cannot_be_are_refused(many, count, labelled, message):
    with pytest.raises(ConfigError, match=message):
        draw_subsets(many, PAIR, count=count, labelled=labelled)


def test_a_translator_is_shown_its_subset_and_never_the_test_part(many):
    split = many.translator_split(("s00", "s15"))
    assert (split.train, split.validation, split.test) == (("s00", "s15"), ("s20", "s21"), ("s22", "s23"))
    split.check(many.translated)


def test_labels_are_found_by_part_and_domain(many, tmp_path):
    bare = study("s00", "contrast", tmp_path, labelled=False)
    cohort = Cohort((bare, *many.labelled.of_domain("plain").studies), tmp_path)
    subjects = Subjects(cohort, many.table, cohort, many.table, many.split)
    assert subjects.with_labels("train", "contrast") == ()
    assert [each.subject for each in subjects.with_labels("test", "plain")] == ["s22", "s23"]
    with pytest.raises(DataError, match=r"no train subject has a labelled contrast .* no validation subject"):
        check_labels(subjects, PAIR)


def test_either_test_set_is_enough(many):
    studies = [each for each in many.labelled.studies if each.subject < "s22" or each.domain == "contrast"]
    check_labels(Subjects(Cohort(tuple(studies)), many.table, many.translated, many.table, many.split), PAIR)
    studies = [each for each in studies if each.subject < "s22"]
    with pytest.raises(DataError, match="no test subject has a labelled contrast or plain image"):
        check_labels(Subjects(Cohort(tuple(studies)), many.table, many.translated, many.table, many.split), PAIR)


def test_everything_that_could_be_seen_is_learnt_from(many):
    seen = many.learnt_from()
    assert {each.subject for each in seen} == {f"s{number:02d}" for number in range(22)}
    assert len(seen) == len(set(seen)) == 44


def test_the_cohorts_own_parts_are_kept(labelled):
    frozen = Split(train=("s5",), validation=(), test=tuple(f"s{number}" for number in (0, 1, 2, 3, 4, 6)), files={})
    split = study_split(find_cohort(labelled, PAIR), PAIR, SplitConfig(), frozen)
    assert split.test == ("s5", "s6")


def test_a_translators_frozen_split_is_taken_where_it_knows_everybody(many):
    frozen = Split(train=("s00", "other"), validation=("s01",), test=tuple(f"s{n:02d}" for n in range(2, 24)), files={})
    split = study_split(many.labelled, PAIR, SplitConfig(), frozen)
    assert (split.train, split.validation, len(split.test)) == (("s00",), ("s01",), 22)
    split.check(many.labelled)
    stranger = Split(train=("s00",), validation=("s01",), test=("s02",), files={})
    assert len(study_split(many.labelled, PAIR, SplitConfig(), stranger).test) == 4
