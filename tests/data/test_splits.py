import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import cohorts
from data.cohorts import CT_PAIR, ct, table
from medgan.config import load
from medgan.data.domains import DomainPair
from medgan.data.hashes import image_hash
from medgan.data.splits import Split, SplitConfig, split_subjects
from medgan.data.studies import Cohort, Study, find_cohort
from medgan.errors import ConfigError, DataError, LeakageError

UNPAIRED = CT_PAIR
PAIRED = DomainPair(source=ct("contrast"), target=ct("plain"), paired=True)
ONE = DomainPair(source=ct("contrast"), target=ct("contrast"), paired=False)
PARTS = ("train", "validation", "test")


def cohort_of(image, source=0, target=0, both=0, masked=0, split=None):
    """A cohort with so many subjects of each kind; the first ``masked`` of them have a mask."""
    kinds = ["contrast"] * source + ["plain"] * target + ["contrast plain"] * both
    return Cohort(
        tuple(
            Study(f"s{number:03}", domain, image, image if number < masked else None, split and split[number])
            for number, kind in enumerate(kinds)
            for domain in kind.split()
        )
    )


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "image.nii"
    path.write_bytes(b"voxels")
    return path


@pytest.fixture
def folder(tmp_path):
    """Twelve subjects in plain folders, each file with its own content; hashing needs no image."""
    for number in range(12):
        for side in ("source", "target"):
            path = tmp_path / "cohort" / side / f"s{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{side} {number}")
    return tmp_path / "cohort"


sizes = st.fixed_dictionaries({kind: st.integers(3, 20) for kind in ("source", "target", "both")})


@given(sizes=sizes, seed=st.integers(0, 9), pair=st.sampled_from([PAIRED, UNPAIRED]))
def test_every_subject_is_in_one_part_and_every_part_has_both_domains(image, sizes, seed, pair):
    cohort = cohort_of(image, **sizes)
    split = split_subjects(cohort, pair, SplitConfig(seed=seed))
    assert sorted([*split.train, *split.validation, *split.test]) == cohort.subjects()
    for part in PARTS:
        studies = split.part(cohort, part)
        assert {study.domain for study in studies.studies} == {"contrast", "plain"}
        assert not pair.paired or studies.pairs(pair)


@given(sizes=sizes, masked=st.integers(0, 30), folds=st.integers(2, 5))
def test_folds_test_every_subject_once_with_equal_shares_of_each_kind(image, sizes, masked, folds):
    cohort = cohort_of(image, **sizes, masked=masked)
    own = {subject: cohort.of_subjects([subject]).studies for subject in cohort.subjects()}
    kinds = {subject: tuple((each.domain, bool(each.mask)) for each in studies) for subject, studies in own.items()}
    splits = [split_subjects(cohort, UNPAIRED, SplitConfig(folds=folds, fold=fold)) for fold in range(folds)]
    assert sorted(subject for split in splits for subject in split.test) == cohort.subjects()
    for kind, total in Counter(kinds.values()).items():
        counts = [sum(kinds[subject] == kind for subject in split.test) for split in splits]
        assert all(abs(count - total / folds) < 1 for count in counts)


def test_the_shares_are_those_asked_for_in_each_kind_of_subject(image):
    cohort = cohort_of(image, both=80, masked=40)
    split = split_subjects(cohort, PAIRED, SplitConfig(validation=0.1, test=0.25))
    assert (len(split.test), len(split.validation)) == (20, 6)
    assert sum(study.mask is not None for study in split.part(cohort, "test").studies) == 20


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_the_files(image):
    cohort = cohort_of(image, both=30)
    first = split_subjects(cohort, PAIRED, SplitConfig())
    assert split_subjects(Cohort(cohort.studies[::-1]), PAIRED, SplitConfig()).hash == first.hash
    assert split_subjects(cohort, PAIRED, SplitConfig(seed=1)).hash != first.hash


@pytest.mark.parametrize(
    ("pair", "sizes", "parts"),
    [
        (PAIRED, {"both": 3}, PARTS),
        (PAIRED, {"both": 3, "source": 9}, PARTS),
        (UNPAIRED, {"source": 3, "target": 3}, PARTS),
        (UNPAIRED, {"source": 2, "target": 2}, PARTS[:1]),
    ],
)
def test_the_fewest_subjects_still_give_every_part_both_domains_and_fewer_the_training(image, pair, sizes, parts):
    cohort = cohort_of(image, **sizes)
    split = split_subjects(cohort, pair, SplitConfig())
    assert all({s.domain for s in split.part(cohort, part).studies} == {"contrast", "plain"} for part in parts)
    assert split.validation
    assert split.test
    alone = cohort.of_subjects(cohort.subjects()[-1:])
    if pair.paired and "source" not in sizes:  # one can be trained on when nothing else is asked
        assert split_subjects(alone, pair, SplitConfig(validation=0, test=0)).train == tuple(alone.subjects())


@pytest.mark.parametrize(
    ("pair", "sizes", "config", "needed"),
    [
        (PAIRED, {"both": 2}, SplitConfig(), 3),
        (PAIRED, {"source": 9, "both": 1}, SplitConfig(test=0), 2),
        (UNPAIRED, {"source": 9, "target": 1}, SplitConfig(folds=2, fold=1), 3),
        (UNPAIRED, {"source": 9, "target": 1}, SplitConfig(folds=5, fold=0), 5),
        (UNPAIRED, {"both": 4}, SplitConfig(folds=7, fold=0), 7),
    ],
)
def test_too_few_subjects_are_refused_with_the_number_needed(image, pair, sizes, config, needed):
    with pytest.raises(DataError, match=f"(?s)too few.*At least {needed} subjects"):
        split_subjects(cohort_of(image, **sizes), pair, config)


def test_the_cohorts_own_split_is_kept(image):
    column = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    split = split_subjects(cohort_of(image, both=10, split=column), PAIRED, SplitConfig())
    assert (split.validation, split.test) == (("s006", "s007"), ("s008", "s009"))
    split = split_subjects(cohort_of(image, both=10, split=["train"] * 8 + ["test"] * 2), PAIRED, SplitConfig())
    assert (len(split.train), len(split.validation), split.test) == (7, 1, ("s008", "s009"))


def test_a_split_column_with_a_subject_in_two_parts_or_in_none_or_with_folds_is_refused(image):
    twice = (Study("one", "contrast", image, split="train"), Study("one", "plain", image, split="test"))
    with pytest.raises(DataError, match="'one' in test and train; correct the CSV"):
        split_subjects(Cohort((*twice, Study("two", "plain", image, split="train"))), UNPAIRED, SplitConfig())
    with pytest.raises(DataError, match="empty for 's001'"):
        split_subjects(cohort_of(image, both=2, split=["train", None]), PAIRED, SplitConfig())
    with pytest.raises(ConfigError, match="fixes the parts"):
        split_subjects(cohort_of(image, both=2, split=["train", "test"]), PAIRED, SplitConfig(folds=2))


def test_settings_that_divide_nothing_are_refused():
    wrong = {"nobody to train on": {"validation": 0.5, "test": 0.5}, "fold=3": {"folds": 3, "fold": 3}}
    for message, settings in (wrong | {"folds": {"folds": 1}}).items():
        with pytest.raises(ConfigError, match=message):
            load(SplitConfig, settings)


def test_a_saved_split_loads_equal_and_with_its_hash_and_an_altered_one_not(folder, tmp_path):
    split, path = split_subjects(find_cohort(folder, PAIRED), PAIRED, SplitConfig()), tmp_path / "run" / "split.json"
    split.save(path)
    loaded = Split.load(path)
    assert (loaded, loaded.hash) == (split, split.hash)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["split.json"]
    content = json.loads(path.read_text())
    content["train"].append(content["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="was altered"):
        Split.load(path)


def test_a_file_that_is_no_split_is_refused_by_name_and_one_with_a_subject_in_two_parts(tmp_path):
    for content in ("", "[]", "{}", '{"hash": "0", "train": ["a"], "unknown": 1}'):
        (tmp_path / "split.json").write_text(content)
        with pytest.raises(DataError, match=r"split\.json is not a split \(.+\); take the run's own"):
            Split.load(tmp_path / "split.json")
    with pytest.raises(DataError, match="does not exist"):
        Split.load(tmp_path / "other.json")
    with pytest.raises(ValueError, match="a would be in two parts"):
        Split(train=("a",), validation=(), test=("a",), files={})


def test_a_cohort_that_moved_is_the_one_that_was_split_and_a_changed_one_is_not(folder):
    split = split_subjects(find_cohort(folder, PAIRED), PAIRED, SplitConfig())
    moved = folder.rename(folder.parent / "moved")
    split.check(find_cohort(moved, PAIRED))
    (moved / "source" / "s03.png").write_text("other")
    (moved / "target" / "s04.png").rename(moved / "target" / "s99.png")
    with pytest.raises(DataError) as refusal:
        split.check(find_cohort(moved, PAIRED))
    for words in ("changed s03: source/s03.png", "missing s04: target/s04.png", "new s99: target/s99.png"):
        assert words in str(refusal.value)


def test_testing_on_subjects_that_were_trained_on_is_refused_and_on_their_images_under_other_names(folder):
    cohort = find_cohort(folder, PAIRED)
    split = split_subjects(cohort, PAIRED, SplitConfig())
    split.refuse_trained(split.test)
    split.refuse_trained(split.part(cohort, "test"))
    for part in ("train", "validation"):
        subjects = getattr(split, part)
        for tested in (subjects, split.part(cohort, part)):
            with pytest.raises(LeakageError, match=f"'{subjects[0]}' is in its {part} part"):
                split.refuse_trained(tested)
    copy = shutil.copy(folder / "source" / f"{split.train[0]}.png", folder.parent / "renamed.png")
    leak = f"'stranger' has the image .*renamed.png of its train subject '{split.train[0]}'"
    with pytest.raises(LeakageError, match=leak):
        split.refuse_trained(Cohort((Study("stranger", "contrast", copy),)))


def scan(path, seed, descrip=""):
    """An image of its own for each seed; what else is said changes the file and not what it shows."""
    voxels = np.random.default_rng(seed).integers(-900, 900, (4, 5, 6)).astype(np.int16)
    return cohorts.image(path, voxels, descrip=descrip)


def twins(folder, parts="train train validation test test", twin=4):
    """Five subjects with a scan each in CSV's parts; that of s1 is also that of subject ``twin``, recompressed."""
    names = parts.split()
    files = [f"s{number}.nii{'' if number == twin else '.gz'}" for number in range(len(names))]
    for number, file in enumerate(files):
        scan(folder / file, 1 if number == twin else number, descrip="another export" if number == twin else "")
    rows = [f"s{number},contrast,{files[number]},,{part.strip('-')}" for number, part in enumerate(names)]
    return find_cohort(table(folder, *rows), ONE)


@pytest.mark.parametrize(("twin", "part"), [(2, "validation"), (4, "test")])
def test_one_image_under_two_subjects_in_two_parts_is_refused_by_name(tmp_path, twin, part):
    with pytest.raises(LeakageError, match=rf"'s1' \(train\), 's{twin}' \({part}\): s1.nii.gz, s{twin}.nii\."):
        split_subjects(twins(tmp_path, twin=twin), ONE, SplitConfig())


def test_in_one_part_of_the_column_two_names_are_no_leak_and_in_a_drawn_split_they_could_be(tmp_path):
    assert split_subjects(twins(tmp_path / "given", twin=0), ONE, SplitConfig()).train == ("s0", "s1")
    drawn = twins(tmp_path / "drawn", parts="- " * 5, twin=0)
    assert split_subjects(drawn, ONE, SplitConfig(validation=0, test=0)).train == tuple(drawn.subjects())
    for config in (SplitConfig(), SplitConfig(validation=0), SplitConfig(folds=2, fold=1)):
        with pytest.raises(LeakageError, match=r"'s0', 's1': s0.nii, s1.nii.gz\. Give them one subject"):
            split_subjects(drawn, ONE, config)


def folders(root, contrast, plain, ids=range(8)):
    """A folder for each domain, with an image of its own for each name."""
    for side, (domain, pattern) in enumerate((("contrast", contrast), ("plain", plain))):
        for number in ids:
            scan(root / domain / f"{pattern.format(number)}.nii.gz", 100 * side + number)
    return find_cohort(root, UNPAIRED)


def test_names_that_could_be_one_subjects_are_not_divided_nor_gone_on_with(tmp_path):
    cohort = folders(tmp_path, "P{:03}_0000", "P{:03}_0001")
    with pytest.raises(LeakageError, match=r"contrast/P000_0000 and plain/P000_0001.* list the images in a CSV"):
        split_subjects(cohort, UNPAIRED, SplitConfig())
    before = Split(train=("P000_0000",), validation=(), test=("P000_0001",), files=cohort.file_hashes())
    before.check(cohort)
    with pytest.raises(LeakageError, match="one subject's or two subjects'"):
        before.refuse_twins(cohort)


def test_a_run_that_counted_two_subjects_where_there_is_one_is_not_gone_on_with(tmp_path):
    cohort = folders(tmp_path, "P{:03}_ce", "P{:03}_nc")
    files = {name: {name: digest} for names in cohort.file_hashes().values() for name, digest in names.items()}
    with pytest.raises(LeakageError, match=r"contrast/P000_ce and plain/P000_nc are one subject.* counted two"):
        Split(train=(), validation=(), test=(), files=files).check(cohort)
    with pytest.raises(DataError, match="is not the cohort that was split"):
        Split(train=(), validation=(), test=(), files=files | {"more": {"x.nii.gz": "0"}}).check(cohort)


def test_a_split_tells_which_images_a_model_has_seen_and_knows_them_again_in_another_file(tmp_path):
    split = split_subjects(twins(tmp_path, twin=0), ONE, SplitConfig())
    copy = scan(tmp_path / "copy.nii", 2, descrip="again")
    with pytest.raises(LeakageError, match=r"'stranger' has the image copy\.nii of its validation subject 's2'"):
        split.refuse_trained(Cohort((Study("stranger", "contrast", copy),), tmp_path))
    assert split.refuse_trained(Cohort((Study("stranger", "contrast", tmp_path / "gone.nii"),))) is None
    hashes = {study.subject: image_hash(study.image) for study in find_cohort(tmp_path, ONE).studies}
    assert hashes["s0"] == hashes["s1"]
    assert split.trained_on == {"train": (hashes["s1"],), "validation": (hashes["s2"],)}
    assert split.unchecked == ""


def test_a_split_of_an_earlier_medgan_keeps_its_hash_and_says_what_it_cannot_tell(tmp_path):
    cohort = twins(tmp_path)
    old = Split(train=("s0", "s1"), validation=("s2",), test=("s3", "s4"), files={"s0": {"s0.nii.gz": "f"}})
    content = {"train": ["s0", "s1"], "validation": ["s2"], "test": ["s3", "s4"], "files": {"s0": {"s0.nii.gz": "f"}}}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (tmp_path / "split.json").write_text(json.dumps({"hash": digest} | content))
    loaded = Split.load(tmp_path / "split.json")
    assert (loaded, loaded.hash, loaded.trained_on) == (old, digest, None)
    assert "does not know what its images show" in loaded.unchecked
    loaded.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == {"hash": digest} | content
    assert loaded.same_as(old.model_copy(update={"images": {"s0": {"s0.nii.gz": "i"}}}))
    loaded.refuse_twins()
    with pytest.raises(LeakageError, match=r"'s1' \(train\), 's4' \(test\)"):
        loaded.refuse_twins(cohort)


def test_equal_masks_are_no_leak(tmp_path):
    empty = tmp_path / "empty.png"
    empty.write_text("no lesion")

    def study(subject):
        (tmp_path / subject).write_text(subject)
        return Study(subject, "contrast", tmp_path / subject, empty)

    split = Split(train=("a",), validation=(), test=(), files=Cohort((study("a"),)).file_hashes())
    stranger, alike = study("b"), study("c")
    assert split.refuse_trained(Cohort((stranger,))) is None
    alike.image.write_text("a")
    with pytest.raises(LeakageError, match="'c' has the image"):
        split.refuse_trained(Cohort((stranger, alike)))


def test_real_slices_of_one_patient_lie_in_one_part(medgan_data: Path):
    cohort = find_cohort(medgan_data / "tcga_luad", UNPAIRED)
    split = split_subjects(cohort, UNPAIRED, SplitConfig())
    assert sum(len(split.part(cohort, part).studies) for part in PARTS) == 66
    assert len(split.train) + len(split.validation) + len(split.test) == 36
    split.check(cohort)
    hashes = [{h for s in getattr(split, part) for h in split.files[s].values()} for part in PARTS]
    assert not hashes[0] & hashes[1] | hashes[0] & hashes[2] | hashes[1] & hashes[2]
