import pytest

from data.cohorts import CT_PAIR, MR_PAIR, ct, image, mr
from medgan.data.bids import read_bids
from medgan.data.domains import DomainPair
from medgan.data.studies import Location, find_cohort, options
from medgan.errors import ConfigError, DataError

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
