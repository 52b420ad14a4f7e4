import pytest

from data.cohorts import CT_PAIR, MR_PAIR, as_nnunet, ct, image, mr
from medgan.data.domains import DomainPair
from medgan.data.layouts import read_bids, read_folders, read_nnunet, stem
from medgan.data.studies import Location, find_cohort, options
from medgan.errors import ConfigError, DataError


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


MR_CT = DomainPair(source=mr("mr"), target=ct("ct"), paired=True)


def dataset(folder, *names, derived=()):
    """Images of subject 1 without session, ``anat/T1w`` as ``sub-1/anat/sub-1_T1w.nii.gz``, and derived ones."""
    for root, each in [
        *((folder, name) for name in names),
        *((folder / "derivatives" / "tool", name) for name in derived),
    ]:
        place, _, name = each.rpartition("/")
        image(root / "sub-1" / place / f"sub-1_{name}.nii.gz")
    return folder


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
    assert [(study.subject, study.domain) for study in read_bids(tmp_path, pair.names).studies] == [("sub-1", domain)]


@pytest.mark.parametrize(
    "name",
    ["label-lesion_roi", "desc-brain_mask", "part-phase_T1w", "dseg", "label-GM_probseg", "phasediff", "bold_mask"],
)
def test_masks_label_maps_and_phases_are_never_images(tmp_path, name):
    dataset(tmp_path, "anat/T1w", f"anat/{name}")
    (tmp_path / ".bidsignore").write_text("sub-1/")
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-1\n")
    studies = read_bids(tmp_path, MR_PAIR.names).studies
    assert [study.image.name for study in studies if study.domain in MR_PAIR.names] == ["sub-1_T1w.nii.gz"]


@pytest.mark.parametrize(
    ("inside", "derived", "mask"),
    [
        ((), ("anat/label-lesion_mask",), "sub-1_label-lesion_mask"),
        (("anat/label-lesion_roi", "anat/desc-brain_mask"), (), "sub-1_label-lesion_roi"),
        ((), ("anat/space-T1w_dseg",), "sub-1_space-T1w_dseg"),
        ((), ("ct/label-lesion_mask", "anat/run-2_label-lesion_mask", "anat/T1w"), None),
        ((), ("anat/label-lesion_mask", "anat/label-oedema_mask"), None),
    ],
    ids=["derived", "raw", "map", "of others", "several"],
)
def test_a_mask_is_of_its_subject_session_and_datatype_and_no_outline_of_the_brain(tmp_path, inside, derived, mask):
    dataset(tmp_path, "anat/T1w", *inside, derived=derived)
    found = read_bids(tmp_path, MR_PAIR.names)
    (study,) = found.studies
    assert (study.mask.name.removesuffix(".nii.gz") if study.mask else None) == mask
    assert bool(found.notes) == (len(derived) == 2)
    assert "label (lesion, oedema)" in found.notes[0] if found.notes else True
    if found.notes:
        chosen = read_bids(tmp_path, MR_PAIR.names, [("label", "oedema")]).studies
        assert "oedema" in chosen[0].mask.name


@pytest.mark.parametrize(
    ("names", "said", "choice", "image_name"),
    [
        (("anat/run-1_T1w", "anat/run-2_T1w"), r"run \(1, 2\)", "run=02", "sub-1_run-2_T1w"),
        (("anat/T1w", "anat/rec-norm_T1w"), r"rec \(none, norm\)", "rec=", "sub-1_T1w"),
        (("anat/T1w", "anat/rec-norm_T1w"), r"rec \(none, norm\)", "rec=norm", "sub-1_rec-norm_T1w"),
        (("anat/T1w", "anat/T2w"), r"suffix \(T1w, T2w\)", "suffix=T1w", "sub-1_T1w"),
        (("anat/acq-a_run-1_T1w", "anat/acq-b_run-2_T1w"), "acq .* and run", "acq=b", "sub-1_acq-b_run-2_T1w"),
        (("anat/echo-1_T1w", "anat/echo-2_T1w"), "echo", "echo=echo-1", "sub-1_echo-1_T1w"),
    ],
)
def test_several_images_for_one_of_a_pair_are_refused_with_what_they_differ_in(
    tmp_path, names, said, choice, image_name
):
    dataset(tmp_path, *names, "ct/ct")
    cohort = find_cohort(tmp_path, MR_CT)
    with pytest.raises(DataError, match=rf"subject 'sub-1' has 2 mr and 1 ct images .*they differ in {said}.*--bids"):
        cohort.pairs(MR_CT)
    cohort = find_cohort(Location(tmp_path, options(None, choice)), MR_CT)
    assert [left.image.name for left, _ in cohort.pairs(MR_CT)] == [f"{image_name}.nii.gz"]


def test_a_choice_by_session_leaves_the_subject_one(tmp_path):
    for session in ("pre", "post"):
        for place, suffix in (("anat", "T1w"), ("ct", "ct")):
            image(tmp_path / "sub-1" / f"ses-{session}" / place / f"sub-1_ses-{session}_{suffix}.nii.gz")
    cohort = find_cohort(tmp_path, MR_CT)
    assert cohort.subjects() == ["sub-1"]
    assert [left.session == right.session for left, right in cohort.pairs(MR_CT)] == [True, True]
    assert len(find_cohort(Location(tmp_path, options(None, "ses=pre")), MR_CT).studies) == 2


@pytest.mark.parametrize("text", ["run", "run1", "color=red", "sub=1", ","])
def test_a_choice_in_another_form_is_refused_with_the_form(text):
    with pytest.raises(ConfigError, match="write ENTITY=VALUE"):
        options(None, text)


@pytest.mark.parametrize("place", ["sub-project/bids", "sub-project/sub-7/raw"])
def test_a_data_set_may_lie_in_a_folder_that_is_called_like_a_subject(tmp_path, place):
    dataset(tmp_path / place, "anat/T1w", derived=("anat/label-lesion_mask",))
    (study,) = read_bids(tmp_path / place, MR_PAIR.names).studies
    assert (study.subject, study.domain, bool(study.mask)) == ("sub-1", "t1", True)


def test_a_folder_of_subjects_with_other_names_is_no_bids(tmp_path):
    image(tmp_path / "sub-1" / "contrast.nii.gz")
    image(tmp_path / "sub-1" / "sub-2_T1w.nii.gz")
    assert read_bids(tmp_path, CT_PAIR.names) is None
