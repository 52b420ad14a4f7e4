import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medgan.data.domains import Domain, DomainPair, Window
from medgan.data.layouts import Study, read_bids, stem
from medgan.data.studies import Cohort, find_cohort
from medgan.errors import DataError


def ct(name):
    return Domain(name=name, modality="CT", unit="HU", air=-1024, window=Window())


def mr(name):
    return Domain(name=name, modality="MR", unit="arbitrary", air=0, window=Window(lower=1, upper=99, percentiles=True))


CT_PAIR = DomainPair(source=ct("contrast"), target=ct("plain"), paired=False)
MR_PAIR = DomainPair(source=mr("t1"), target=mr("t1_gd"), paired=True)


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.full((2, 3, 2), value, np.int16), np.eye(4)).to_filename(path)
    return path


def table(folder, *lines, header="subject,domain,image,mask,split"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cohort.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder / "cohort.csv"


def as_table(root):
    for name in ("c1", "p1", "m1"):
        image(root / "files" / f"{name}.nii.gz")
    table(root, "one,contrast,files/c1.nii.gz,files/m1.nii.gz,", "one,plain,files/p1.nii.gz,files/m1.nii.gz,")


def as_named_folders(root):
    image(root / "contrast" / "one.nii.gz")
    image(root / "plain" / "one.nii.gz")


def as_role_folders(root):
    image(root / "source" / "one" / "a.nii.gz")
    image(root / "target" / "one" / "b.nii")


def as_bids(root):
    image(root / "sub-one" / "ses-1" / "ct" / "sub-one_ses-1_ce-iodine_ct.nii.gz")
    image(root / "sub-one" / "ses-1" / "ct" / "sub-one_ses-1_ct.nii.gz")
    (root / "dataset_description.json").write_text("{}")


def as_nnunet(root):
    image(root / "imagesTr" / "one_0000.nii.gz")
    image(root / "imagesTr" / "one_0001.nii.gz")
    image(root / "labelsTr" / "one.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "Contrast", "1": "Plain"}}))


@pytest.mark.parametrize("layout", [as_table, as_named_folders, as_role_folders, as_bids, as_nnunet])
def test_every_layout_gives_one_subject_with_an_image_of_each_domain(tmp_path, layout):
    layout(tmp_path)
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert [subject.removeprefix("sub-") for subject in cohort.subjects()] == ["one"]
    assert [study.domain for study in cohort.studies] == ["contrast", "plain"]
    assert all(study.image.is_file() for study in cohort.studies)
    assert all((study.mask is not None) == (layout in (as_table, as_nnunet)) for study in cohort.studies)


def as_endings(root):
    for name in ("one", "two", "three"):
        image(root / "contrast" / f"{name}_ce.nii.gz")
        image(root / "plain" / f"{name}_nc" / "scan.nii.gz")


def as_endings_in_roles(root):
    for name in ("one", "two", "three"):
        image(root / "source" / f"{name}-CE.nii.gz")
        image(root / "target" / f"{name}.nii.gz")


def as_endings_of_cases(root):
    for name in ("one", "two", "three"):
        image(root / "imagesTr" / f"{name}_ce_0000.nii.gz")
        image(root / "imagesTr" / f"{name}_nc_0001.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "contrast", "1": "plain"}}))


@pytest.mark.parametrize("layout", [as_endings, as_endings_in_roles, as_endings_of_cases])
def test_what_a_domain_adds_to_all_names_makes_no_other_subject(tmp_path, layout):
    layout(tmp_path)
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


def test_a_folder_in_no_layout_is_refused_with_the_four_layouts(tmp_path):
    image(tmp_path / "somewhere" / "one.nii.gz")
    with pytest.raises(DataError, match=r"(?s)CSV.*contrast/ and plain/.*BIDS.*nnU-Net"):
        find_cohort(tmp_path, CT_PAIR)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_an_empty_or_absent_folder_is_named(tmp_path, place):
    with pytest.raises(DataError, match="is empty or does not exist"):
        find_cohort(tmp_path / place, CT_PAIR)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize("closed", [".", "sub-one/ses-1"])
def test_a_folder_without_permission_is_named(tmp_path, closed):
    as_bids(tmp_path)
    (tmp_path / closed).chmod(0)
    try:
        with pytest.raises(DataError, match=f"{tmp_path / closed} cannot be read"):
            find_cohort(tmp_path, CT_PAIR)
    finally:
        (tmp_path / closed).chmod(0o700)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one,plain,../outside.nii.gz,,", "Line 3: image '../outside.nii.gz' leads out of"),
        ("one,plain,a/../../outside.nii.gz,,", "leads out of"),
        ("one,plain,/etc/hostname,,", "image '/etc/hostname' leads out of"),
        ("one,plain,c.nii.gz,../outside.nii.gz,", "mask '../outside.nii.gz' leads out of"),
        ("one,plain,gone.nii.gz,,", "Line 3: image 'gone.nii.gz' does not exist"),
        ("two,contrast,c.nii.gz,,", "Line 3: image 'c.nii.gz' is already on line 2"),
        ("two,contrast,./c.nii.gz,,", "is already on line 2"),
        ("one,plain,,,", "no image"),
        (",,c.nii.gz,,", "no subject and no domain"),
        ("one,plain,c.nii.gz,,holdout", "split 'holdout' is none of train, validation, test"),
        ("one,plain,c.nii.gz,,train,what", "more cells than the header"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_reason(tmp_path, line, message):
    image(tmp_path / "cohort" / "c.nii.gz")
    image(tmp_path / "outside.nii.gz")
    with pytest.raises(DataError, match=message):
        find_cohort(table(tmp_path / "cohort", "one,contrast,c.nii.gz,,", line), CT_PAIR)


def test_every_bad_row_is_named_at_once(tmp_path):
    path = table(tmp_path, "one,contrast,a.nii,,", "one,plain,b.nii,,")
    with pytest.raises(DataError, match=r"2 of its rows.*Line 2: .*'a.nii'.*Line 3: .*'b.nii'"):
        find_cohort(path, CT_PAIR)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column subject, domain, image"),
        (b"subject;domain;image\n", "no column"),
        (b"subject,domain\none,plain\n", "no column image"),
        (b"subject,domain,image\n", "no rows"),
        (b"\xff\xfe\x00binary", "not a CSV in UTF-8"),
    ],
)
def test_a_file_that_is_no_cohort_table_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "cohort.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"cohort\.csv.*{message}"):
        find_cohort(path, CT_PAIR)


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    image(tmp_path / "a, left.nii.gz")
    image(tmp_path / "b.nii.gz")
    lines = ["subject,domain,image,age", 'one,contrast,"a, left.nii.gz",63', "", "one, plain, b.nii.gz,63"]
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert len(find_cohort(tmp_path / "table.csv", CT_PAIR).studies) == 2


def test_a_link_inside_the_folder_may_point_out_of_it(tmp_path):
    image(tmp_path / "store" / "object.nii.gz")
    (tmp_path / "cohort").mkdir()
    for name in ("c.nii.gz", "p.nii.gz"):
        (tmp_path / "cohort" / name).symlink_to(tmp_path / "store" / "object.nii.gz")
    cohort = find_cohort(table(tmp_path / "cohort", "one,contrast,c.nii.gz,,", "one,plain,p.nii.gz,,"), CT_PAIR)
    assert [study.image.name for study in cohort.studies] == ["c.nii.gz", "p.nii.gz"]


def test_other_domains_are_left_out_and_a_missing_one_is_named_beside_those_there_are(tmp_path):
    for name in "abc":
        image(tmp_path / f"{name}.nii.gz")
    lines = ["one,contrast,a.nii.gz,,", "one,t1,b.nii.gz,,", "one,plain,c.nii.gz,,val"]
    studies = find_cohort(table(tmp_path, *lines), CT_PAIR).studies
    assert [(study.domain, study.split) for study in studies] == [("contrast", None), ("plain", "validation")]
    with pytest.raises(DataError, match=r"no image of domain plain; it has: contrast \(1\), t1 \(1\)"):
        find_cohort(table(tmp_path, *lines[:2]), CT_PAIR)


@pytest.mark.parametrize(
    ("name", "pair", "domain"),
    [
        ("sub-1_T1w", MR_PAIR, "t1"),
        ("sub-1_acq-mprage_ce-gadolinium_T1w", MR_PAIR, "t1_gd"),
        ("sub-1_T1w", DomainPair(source=mr("t1w"), target=ct("ct"), paired=True), "t1w"),
        ("sub-1_T2w", DomainPair(source=mr("mr"), target=ct("ct"), paired=True), "mr"),
        ("sub-1_ct", DomainPair(source=mr("mr"), target=ct("ct"), paired=True), "ct"),
        ("sub-1_FLAIR", DomainPair(source=mr("t1"), target=mr("flair"), paired=True), "flair"),
        ("sub-1_ce-iodine_ct", CT_PAIR, "contrast"),
        ("sub-1_ct", CT_PAIR, "plain"),
    ],
)
def test_a_bids_suffix_names_the_domain(tmp_path, name, pair, domain):
    image(tmp_path / "sub-1" / "ses-1" / "any" / f"{name}.nii.gz")
    assert [(study.subject, study.domain) for study in read_bids(tmp_path, pair)] == [("sub-1", domain)]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", "names no channels"),
        ("[]", "names no channels"),
        ('{"channel_names": {"0": "contrast"}}', "one_0001.nii.gz is of no channel"),
    ],
)
def test_a_wrong_nnunet_description_is_named(tmp_path, description, message):
    as_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(description)
    with pytest.raises(DataError, match=message):
        find_cohort(tmp_path, CT_PAIR)


def test_the_subject_of_a_plain_folder_is_its_first_folder_or_the_stem(tmp_path):
    for name in ("source/S1/day1/a.nii.gz", "source/S1/day2/a.nii.gz", "source/S.2.nii.gz", "target/S3.nii"):
        image(tmp_path / name)
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert cohort.subjects() == ["S.2", "S1", "S3"]
    assert len(cohort.of_subjects(["S1"]).studies) == 2


def test_the_dots_of_dicom_names_stay_in_a_stem(tmp_path):
    (tmp_path / "1.2.840.dcm").mkdir()
    assert stem(tmp_path / "1.2.840.dcm") == "1.2.840.dcm"
    assert stem(tmp_path / "CT.1.2.16579") == "CT.1.2.16579"
    assert stem(tmp_path / "case.01.NII.GZ") == "case.01"


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
        assert (
            len(couples) == 1 or stem(source.image) == stem(target.image) or source.image.parent == target.image.parent
        )


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
