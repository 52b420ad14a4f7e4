import pytest

from data.cohorts import CT_PAIR, MR_PAIR, as_nnunet, ct, image, mr
from medgan.data.domains import DomainPair
from medgan.data.layouts import read_folders, read_nnunet, stem
from medgan.data.studies import find_cohort
from medgan.errors import DataError


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", r"dataset\.json: cannot be read as JSON \(.*line 1 column 2"),
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


@pytest.mark.parametrize(
    ("mask", "masked"),
    [
        ("contrast/one_mask.nii.gz", ["contrast"]),
        ("contrast/one-seg.nii", ["contrast"]),
        ("masks/one.nii.gz", ["contrast", "plain"]),
        ("Labels/plain/one.nii.gz", ["plain"]),
        ("masks/two.nii.gz", []),
    ],
)
def test_masks_of_plain_folders_are_never_images_and_belong_to_the_image_of_their_name(tmp_path, mask, masked):
    for name in ("contrast/one.nii.gz", "plain/one.nii.gz", mask):
        image(tmp_path / name)
    found = read_folders(tmp_path, CT_PAIR.names)
    assert [(study.subject, study.domain) for study in found.studies] == [("one", "contrast"), ("one", "plain")]
    assert [study.domain for study in found.studies if study.mask == tmp_path / mask] == masked
    assert found.aside == ((tmp_path / mask, "masks or label maps"),)


@pytest.mark.parametrize(
    ("masks", "used"),
    [
        (("contrast/one_mask.nii.gz", "contrast/one_seg.nii.gz"), None),
        (("contrast/one_mask.nii.gz", "masks/one.nii.gz"), None),
        (("masks/one.nii.gz", "labels/one.nii.gz"), None),
        (("masks/one.nii.gz", "masks/contrast/one.nii.gz"), "masks/contrast/one.nii.gz"),
    ],
)
def test_of_several_masks_none_is_used_nor_taken_for_an_image_and_it_is_said(tmp_path, masks, used):
    for name in ("contrast/one.nii.gz", "plain/two.nii.gz", *masks):
        image(tmp_path / name)
    found = read_folders(tmp_path, CT_PAIR.names)
    assert [study.image.name for study in found.studies] == ["one.nii.gz", "two.nii.gz"]
    assert found.studies[0].mask == (tmp_path / used if used else None)
    assert {path for path, _ in found.aside} == {tmp_path / name for name in masks}
    told = f"contrast/one has 2 masks and is used with none: {', '.join(masks)}; leave one"
    assert found.notes == (() if used else (told,))


def test_a_name_that_ends_like_a_masks_is_an_image_where_nothing_has_the_name_before_it(tmp_path):
    image(tmp_path / "contrast" / "face_mask.nii.gz")
    assert [study.subject for study in read_folders(tmp_path, CT_PAIR.names).studies] == ["face_mask"]


def test_folders_may_have_capital_letters_but_not_in_two_ways(tmp_path):
    image(tmp_path / "Contrast" / "one.nii.gz")
    image(tmp_path / "PLAIN" / "one.nii.gz")
    assert len(find_cohort(tmp_path, CT_PAIR).studies) == 2
    image(tmp_path / "contrast" / "two.nii.gz")
    with pytest.raises(DataError, match="has Contrast and contrast; leave one"):
        find_cohort(tmp_path, CT_PAIR)


@pytest.mark.parametrize(
    ("channels", "pair", "domains"),
    [
        ('{"0": "T1w", "1": "CT"}', DomainPair(source=mr("mr"), target=ct("ct"), paired=True), ["mr", "ct"]),
        ('["contrast", "plain"], "numTest": NaN', CT_PAIR, ["contrast", "plain"]),
        ('{"0": "T1", "1": "T1ce"}', MR_PAIR, ["t1", "t1_gd"]),
    ],
)
def test_a_channel_is_called_as_the_field_calls_it(tmp_path, channels, pair, domains):
    as_nnunet(tmp_path)
    (tmp_path / "dataset.json").write_bytes(b"\xef\xbb\xbf" + f'{{"channel_names": {channels}}}'.encode())
    found = read_nnunet(tmp_path, pair.names)
    assert [study.domain for study in found.studies] == domains
    assert [path.name for path, _ in found.aside] == ["one.nii.gz"]
