import json
import os
import shutil
from itertools import product
from pathlib import Path

import pytest

from data import cohorts
from data.cohorts import CT_PAIR, MR_PAIR, as_bids, as_nnunet, as_table, ct, image, mr, table
from medgan.data.domains import DomainPair
from medgan.data.layouts import Study, stem
from medgan.data.studies import (
    Cohort,
    Location,
    Options,
    augmented_left_out,
    damage,
    find_cohort,
    located,
    options,
    read_cohort,
    sidecar,
    without_augmented,
)
from medgan.errors import ConfigError, DataError


@pytest.mark.parametrize("layout", [as_table, cohorts.as_named_folders, cohorts.as_role_folders, as_bids, as_nnunet])
def test_every_layout_gives_one_subject_with_an_image_of_each_domain(tmp_path, layout):
    layout(tmp_path)
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert [subject.removeprefix("sub-") for subject in cohort.subjects()] == ["one"]
    assert [study.domain for study in cohort.studies] == ["contrast", "plain"]
    assert all(study.image.is_file() for study in cohort.studies)
    assert all((study.mask is not None) == (layout in (as_table, as_nnunet)) for study in cohort.studies)


@pytest.mark.parametrize(
    ("contrast", "plain"),
    [
        ("contrast/{}_ce.nii.gz", "plain/{}_nc/scan.nii.gz"),
        ("source/{}-CE.nii.gz", "target/{}.nii.gz"),
        ("imagesTr/{}_ce_0000.nii.gz", "imagesTr/{}_nc_0001.nii.gz"),
    ],
)
def test_what_a_domain_adds_to_all_names_makes_no_other_subject(tmp_path, contrast, plain):
    for pattern, name in product((contrast, plain), ("one", "two", "three")):
        image(tmp_path / pattern.format(name))
    if "imagesTr" in contrast:
        (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "contrast", "1": "plain"}}))
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert cohort.subjects() == ["one", "three", "two"]
    assert len(cohort.pairs(CT_PAIR)) == 3
    assert "are one subject, one (3 subjects have both): names lose 'ce" in cohort.note
    assert cohort.of_domain("plain").note == cohort.note


def test_a_table_says_itself_who_is_who(tmp_path):
    rows = [f"{name}_{end},{domain},files/{name}_{end}.nii.gz,,"
            for name in ("one", "two") for domain, end in (("contrast", "ce"), ("plain", "nc"))]  # fmt: skip
    for row in rows:
        image(tmp_path / row.split(",")[2])
    cohort = find_cohort(table(tmp_path, *rows), CT_PAIR)
    assert (len(cohort.subjects()), cohort.note, cohort.doubt) == (4, "", "")


def test_a_folder_that_is_empty_absent_or_in_no_layout_is_refused_with_the_four_layouts(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="is empty or does not exist"):
            find_cohort(place, CT_PAIR)
    image(tmp_path / "somewhere" / "one.nii.gz")
    with pytest.raises(DataError, match=r"(?s)CSV.*contrast/ and plain/.*BIDS.*nnU-Net"):
        find_cohort(tmp_path, CT_PAIR)


@pytest.mark.parametrize("closed", [".", "sub-one/ses-1"])
def test_a_folder_without_permission_is_named(shared_folder, bound_by_permissions, closed):
    as_bids(shared_folder)
    shut = shared_folder / closed
    shut.chmod(0)
    with bound_by_permissions(), pytest.raises(DataError, match=rf"{shut}: cannot be read \(Permission denied\)"):
        find_cohort(shared_folder, CT_PAIR)
    shut.chmod(0o700)


def test_other_domains_are_left_out_and_a_missing_one_is_named_beside_those_there_are(tmp_path):
    for name in "abc":
        image(tmp_path / f"{name}.nii.gz")
    lines = ["one,contrast,a.nii.gz,,", "one,t1,b.nii.gz,,", "one,plain,c.nii.gz,,val"]
    studies = find_cohort(table(tmp_path, *lines), CT_PAIR).studies
    assert [(study.domain, study.split) for study in studies] == [("contrast", None), ("plain", "validation")]
    with pytest.raises(DataError, match=r"no image of domain plain; it has: contrast \(1\), t1 \(1\)"):
        find_cohort(table(tmp_path, *lines[:2]), CT_PAIR)


def test_a_fingerprint_follows_contents_and_subjects_not_names_and_places(tmp_path):
    (tmp_path / "here").mkdir()
    for number, name in enumerate(("source/one.nii.gz", "target/one.nii.gz")):
        image(tmp_path / "here" / name, number)
    before = find_cohort(tmp_path / "here", CT_PAIR)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "source").rename(tmp_path / "there" / "contrast")
    after = find_cohort(tmp_path / "there", CT_PAIR)
    assert after.fingerprint() == before.fingerprint()
    assert Cohort(after.studies[::-1]).fingerprint() == before.fingerprint()
    image(tmp_path / "there" / "target" / "one.nii.gz", 5)
    assert after.fingerprint() != before.fingerprint()


def studies(*images):
    return tuple(Study("one", "t1_gd" if "gd" in name else "t1", Path(name)) for name in images)


@pytest.mark.parametrize(
    "images",
    [
        ("x/first.nii", "y/gd.nii"),
        ("t1/001.png", "t1/002.png", "gd/002.png", "gd/001.png"),
        ("ses-1/a_T1w.nii", "ses-2/b_T1w.nii", "ses-2/b_gd_T1w.nii", "ses-1/a_gd_T1w.nii"),
    ],
    ids=["only ones", "same name", "same folder"],
)
def test_pairs_are_found_by_name_or_folder(images):
    couples = Cohort(studies(*images)).pairs(MR_PAIR)
    assert len(couples) == len(images) // 2
    for source, target in couples:
        assert (source.domain, target.domain) == MR_PAIR.names
        alike = stem(source.image) == stem(target.image) or source.image.parent == target.image.parent
        assert alike or len(couples) == 1


def test_images_that_pair_in_no_way_are_refused_and_subjects_without_a_partner_left_out():
    with pytest.raises(DataError, match="subject 'one' has 2 t1 and 1 t1_gd images that do not pair"):
        Cohort(studies("a.nii", "b.nii", "gd.nii")).pairs(MR_PAIR)
    assert Cohort(studies("a.nii")).pairs(MR_PAIR) == []


@pytest.mark.parametrize(
    ("name", "pair", "images", "subjects"),
    [
        ("tcga_luad", CT_PAIR, 66, 36),
        ("open_ms", MR_PAIR, 4, 2),
        ("sts", DomainPair(source=mr("mr"), target=ct("ct"), paired=True), 48, 24),
    ],
)
def test_real_cohorts_are_found_whole(medgan_data, name, pair, images, subjects):
    cohort = find_cohort(medgan_data / name, pair)
    assert (len(cohort.studies), len(cohort.subjects())) == (images, subjects)
    assert not pair.paired or len(cohort.pairs(pair)) == subjects


def test_only_images_of_one_session_are_a_pair():
    each = product("ab", ("t1", "t1_gd"))
    visits = [Study("one", domain, Path(f"{domain}{when}.nii"), session=when) for when, domain in each]
    couples = Cohort(tuple(visits)).pairs(MR_PAIR)
    assert [left.session + right.session for left, right in couples] == ["aa", "bb"]
    assert len(Cohort(tuple(visits[:3])).pairs(MR_PAIR)) == 1
    with pytest.raises(DataError, match="'one' has its t1 in session a and its t1_gd in session b"):
        Cohort((visits[0], visits[3])).pairs(MR_PAIR)


def test_options_that_would_say_nothing_are_refused(tmp_path):
    root, chosen = Options(root=Path()), Options(bids=(("run", "1"),))
    for layout, option in ((as_bids, root), (as_nnunet, chosen), (as_table, chosen)):
        layout(tmp_path / layout.__name__)
        message = "--root is for a cohort CSV" if option is root else "--bids chooses among the files of a BIDS folder"
        with pytest.raises(ConfigError, match=message):
            find_cohort(Location(tmp_path / layout.__name__, option), CT_PAIR)
    assert located(None) is None
    with pytest.raises(ConfigError, match="give it with --data"):
        located(None, tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        options(tmp_path / "nowhere", None)


def test_a_table_may_lie_far_from_its_images_and_keeps_its_own_files_beside_it(tmp_path):
    image(tmp_path / "images" / "one" / "c.nii.gz")
    image(tmp_path / "images" / "one" / "p.nii.gz")
    path = table(tmp_path / "lists", "one,contrast,one/c.nii.gz,,", "one,plain,one/p.nii.gz,,")
    (tmp_path / "lists" / "labels.json").write_text("{}")
    cohort = find_cohort(Location(path, Options(root=tmp_path / "images")), CT_PAIR)
    assert [cohort.relative(study.image) for study in cohort.studies] == ["one/c.nii.gz", "one/p.nii.gz"]
    assert cohort.beside("labels.json") == tmp_path / "lists" / "labels.json"
    assert cohort.notes == ()


def test_names_of_files_are_the_same_wherever_the_table_lies(tmp_path):
    as_table(tmp_path / "data")
    inside = find_cohort(tmp_path / "data", CT_PAIR)
    rows = [f"{study.subject},{study.domain},../data/files/{study.image.name},," for study in inside.studies]
    outside = find_cohort(table(tmp_path / "lists", *rows), CT_PAIR)
    assert "2 of its files lie outside" in outside.notes[0]
    assert outside.fingerprint() != inside.fingerprint(), "it names no masks"
    assert [outside.relative(study.image) for study in outside.studies] == ["c1.nii.gz", "p1.nii.gz"]


def test_trained_on_are_imagestr_alone_and_what_is_converted_may_be_of_imagests(tmp_path):
    as_nnunet(tmp_path)
    for channel in range(2):
        image(tmp_path / "imagesTs" / f"two_000{channel}.nii.gz")
    assert find_cohort(tmp_path, CT_PAIR).subjects() == ["one"]
    names = CT_PAIR.names
    assert read_cohort(tmp_path, names, tested=True).subjects() == ["one", "two"]
    assert read_cohort(tmp_path / "imagesTs", names, tested=True).subjects() == ["two"]
    shutil.rmtree(tmp_path / "imagesTr")
    with pytest.raises(DataError, match="has no imagesTr/"):
        find_cohort(tmp_path, CT_PAIR)


def test_a_folder_that_merely_has_a_general_name_in_it_is_no_layout(tmp_path):
    image(tmp_path / "source" / "one.nii.gz")
    image(tmp_path / "sub-01" / "contrast.nii.gz")
    assert read_cohort(tmp_path, CT_PAIR.names, tested=True) is None
    image(tmp_path / "target" / "one.nii.gz")
    assert len(read_cohort(tmp_path, CT_PAIR.names, tested=True).studies) == 2


def test_names_that_no_record_can_hold_are_escaped_and_their_files_found(tmp_path):
    name = os.fsdecode(b"m\xfcller\x1b")
    for domain in ("contrast", "plain"):
        image(tmp_path / domain / name / "scan.nii.gz")
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert cohort.subjects() == [r"m\xfcller\x1b"]
    assert cohort.relative(cohort.studies[0].image) == r"contrast/m\xfcller\x1b/scan.nii.gz"
    json.dumps(cohort.file_hashes(), ensure_ascii=False).encode()
    assert len(cohort.pairs(CT_PAIR)) == 1


def test_what_a_run_notes_of_its_data_leads_back_to_it(tmp_path):
    given = located(tmp_path / "cohort.csv", tmp_path, "run=1, ACQ=acq-mprage,rec=")
    assert given == Location(tmp_path / "cohort.csv", Options(tmp_path, (("run", "1"), ("acq", "mprage"), ("rec", ""))))
    assert Location.of_facts(given.facts()) == given
    # Earlier runs noted a path alone, or nothing.
    assert Location.of_facts({"data": str(tmp_path)}) == Location(tmp_path)
    assert Location.of_facts({"data": None}) is None
    assert set(Location(tmp_path).facts()) == {"data"}
    assert Location.of(Path("data")) == Location(Path("data"), Options())
    assert str(Location.of(Location(Path("data")))) == "data"


NOTES = {
    "made": {"Synthetic": True, "Augmentation": {"Method": "copy-paste"}, "Parents": ["a", "b"]},
    "phantom": {"phantom": True, "Synthetic": True, "kind": "head_mr"},
    "translated": {"Synthetic": True, "Direction": "to_target", "Augmentation": None},
    "real": {"Modality": "MR"},
    "a list": ["Augmentation"],
}


@pytest.fixture
def noted(tmp_path):
    """A study for each note, and one without."""
    for name, note in NOTES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(note))
    names = (*NOTES, "alone")
    for name in names:
        (tmp_path / f"{name}.nii.gz").touch()
    return {name: Study(name, "flair", tmp_path / f"{name}.nii.gz") for name in names}


def test_only_a_case_that_was_made_of_others_or_links_to_one_is_augmented(noted, tmp_path):
    link = tmp_path / "elsewhere" / "innocent.nii.gz"
    link.parent.mkdir()
    link.symlink_to(noted["made"].image)
    cohort = Cohort((*noted.values(), Study("innocent", "flair", link)), tmp_path)
    own, made = without_augmented(cohort)
    assert (own, made) == (Cohort(tuple(study for study in noted.values() if study.subject != "made"), tmp_path), 2)
    assert augmented_left_out(made).startswith("2 synthetic cases of `medgan augment` are left out")
    assert augmented_left_out(1).startswith("1 synthetic case of `medgan augment` is left out")
    assert augmented_left_out(0) == ""
    assert sidecar(noted["phantom"].image) == NOTES["phantom"]
    assert sidecar(noted["a list"].image) == {}
    with pytest.raises(
        DataError, match="all 1 images are synthetic cases of `medgan augment`; give the cohort of real"
    ):
        without_augmented(Cohort((noted["made"],), tmp_path))


@pytest.mark.parametrize("content", ['{"Augmentation": ', "", "[" * 100_000])
def test_a_damaged_sidecar_leaves_no_case_to_be_taken_for_a_real_one(noted, tmp_path, content):
    (tmp_path / "alone.json").write_text(content)
    assert sidecar(noted["alone"].image) == {}
    with pytest.raises(DataError, match=r"alone\.nii\.gz: alone\.json beside it cannot be read \(.+\), so whether"):
        without_augmented(Cohort(tuple(noted.values()), tmp_path))


def test_a_pipe_beside_an_image_is_no_sidecar_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    assert sidecar(tmp_path / "a.nii.gz") == {}
    assert damage(tmp_path / "a.nii.gz") == "a.json beside it cannot be read (not a regular file)"
