"""Matching: every synthetic image finds its partners, or is named as lacking one."""

import os

import nibabel
import numpy as np
import pytest

from medgan.data.splits import Split
from medgan.data.studies import Options
from medgan.errors import ConfigError, DataError
from medgan.evaluation.matching import check_heeded, match, read_images, training_pairs


def put(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(np.zeros((2, 2, 1), np.int16), np.eye(4)).to_filename(path)


def cohort(root, *rows):
    put(*(root / cell for row in rows for cell in row.split(",")[2:]))
    (root / "cohort.csv").write_text("\n".join(["subject,domain,image,mask", *rows]) + "\n")
    return root / "cohort.csv"


@pytest.fixture
def matched(tmp_path):
    """``matched(["a.nii"], ["b.nii"])``: two folders of images, matched."""

    def lay_out(fake, real, paired=None):
        put(*(tmp_path / "fake" / name for name in fake), *(tmp_path / "real" / name for name in real))
        return match(read_images(tmp_path / "fake"), read_images(tmp_path / "real"), {}, paired)

    return lay_out


def partners(matching, role="reference"):
    return {case.name: case.partners[role].name for case in matching.cases}


PAIRS = {
    "the name without its ending": (["a.nii.gz"], ["a.nii", "other.nii"], {"a": "a.nii"}, ["other.nii"]),
    "the path": (["deep/er/a.nii.gz"], ["deep/er/a.nii", "a/b.nii"], {"deep/er/a": "deep/er/a.nii"}, ["a/b.nii"]),
    "the only one of a subject": (["sub-1/x.nii", "sub-2/x.nii"], ["sub-1/y.nii", "sub-2/y.nii"],
                                  {"sub-1/x": "sub-1/y.nii", "sub-2/x": "sub-2/y.nii"}, []),
    "several never share one": (["s/1.nii", "s/2.nii"], ["s/9.nii"], {}, ["s/1.nii", "s/2.nii", "s/9.nii"]),
    "several are named": (["s/1.nii"], ["s/8.nii", "s/9.nii"], {}, ["(s/8, s/9, …)", "s/8.nii", "s/9.nii"]),
    "the others are kept": (["a.nii", "b.nii"], ["a.nii"], {"a": "a.nii"}, ["b.nii: no reference in"]),
}  # fmt: skip


@pytest.mark.parametrize(("fake", "real", "expected", "failed"), PAIRS.values(), ids=PAIRS)
def test_images_match_by_name_or_where_each_is_the_only_one_of_its_subject(matched, fake, real, expected, failed):
    found = matched(fake, real, paired=True)
    assert {case.name: case.partners["reference"].as_posix().split("/real/")[1] for case in found.cases} == expected
    assert [case.subject for case in found.cases] == [name.split("/")[0] for name in expected]
    assert len(found.failures) == len(failed)
    assert all(why in failure.reason for why, failure in zip(failed, found.failures, strict=True))


@pytest.mark.parametrize(
    ("fake", "real", "paired", "own"),
    [("a", "a", True, 1), ("a", "b", False, 0), ("abc", "cde", False, 1), ("abcd", "cdef", True, 2)],
)
def test_images_are_pairs_where_at_least_half_have_a_reference_of_their_own(matched, fake, real, paired, own):
    found = matched([f"{name}/1.nii" for name in fake], [f"{name}/2.nii" for name in real])
    assert (found.paired, found.own_references) == (paired, own)
    if not paired:
        assert [case.partners for case in found.cases] == [{}] * len(fake), "references are other subjects"
        assert not found.failures


def test_a_synthetic_image_takes_its_subject_from_its_source_and_its_reference_by_it(tmp_path):
    table = cohort(tmp_path / "c", "P1,contrast,x/1.nii", "P2,contrast,x/2.nii", "P1,plain,y/7.nii", "P2,plain,y/8.nii")
    put(tmp_path / "fake/1.nii", tmp_path / "fake/2.nii")
    sources = read_images(f"{table}:contrast")
    found = match(read_images(tmp_path / "fake"), read_images(f"{table}:plain"), {"source": sources})
    assert [case.subject for case in found.cases] == ["P1", "P2"]
    assert partners(found) == {"1": "7.nii", "2": "8.nii"}
    assert partners(found, "source") == {"1": "1.nii", "2": "2.nii"}


def test_a_reference_without_a_synthetic_image_is_a_failure_in_a_folder_but_not_in_a_cohort(tmp_path):
    table = cohort(tmp_path / "real", "a,plain,a.nii", "b,plain,b.nii")
    put(tmp_path / "fake/a.nii")
    synthetic = read_images(tmp_path / "fake")
    assert [failure.image for failure in match(synthetic, read_images(tmp_path / "real"), {}).failures] == ["b"]
    assert not match(synthetic, read_images(f"{table}:plain"), {}).failures


def test_a_source_is_no_reference(tmp_path):
    put(tmp_path / "fake/a.nii", tmp_path / "real/a.nii")
    sources = read_images(tmp_path / "real")
    found = match(read_images(tmp_path / "fake"), sources, {"source": sources})
    assert "both source and reference" in found.failures[0].reason


def names(*read):
    return [image.name for image in read_images(*read).images]


def test_a_place_is_a_domain_a_column_or_the_files_of_one_name(tmp_path):
    put(*(tmp_path / f"sub-{n}" / f"{name}.nii.gz" for n in (1, 2) for name in ("plain", "labels")))
    assert names(f"{tmp_path}:labels") == ["sub-1/labels", "sub-2/labels"]
    table = cohort(tmp_path / "one", "P1,plain,1.nii,m/1.nii", "P2,plain,2.nii,m/2.nii")
    assert names(f"{table}:plain", "mask") == ["m/1", "m/2"]
    table = cohort(tmp_path / "two", "P1,contrast,1.nii,m.nii", "P1,plain,2.nii,m.nii")
    assert names(table, "mask") == ["m"], "the scans of a subject may share their labels"


@pytest.mark.parametrize("place", ["nowhere", "empty", "cohort.csv:other"])
def test_a_place_without_images_is_named(tmp_path, place):
    (tmp_path / "empty").mkdir()
    cohort(tmp_path, "P1,plain,1.nii")
    with pytest.raises(DataError, match=place):
        read_images(f"{tmp_path}/{place}")


def test_maps_beside_their_images_are_not_judged(tmp_path):
    put(*(tmp_path / name for name in ("a.nii", "a_change.nii", "a_uncertainty.nii", "b_change.nii")))
    assert set(names(tmp_path)) == {"a", "b_change"}


def test_an_output_with_a_suffix_is_matched_by_the_name_of_its_source(tmp_path, matched):
    (tmp_path / "fake").mkdir()
    for name in "ab":
        (tmp_path / "fake" / f"{name}_desc-synthetic.json").write_text('{"Suffix": "_desc-synthetic"}')
    (tmp_path / "fake" / "b_other.json").write_text('{"Suffix": ["_other"]}')
    fake = ["a_desc-synthetic.nii.gz", "b_desc-synthetic.nii.gz", "b_other.nii.gz"]
    found = matched(fake, ["a.nii.gz", "b.nii.gz"], paired=True)
    assert partners(found) == {"a": "a.nii.gz", "b": "b.nii.gz"}
    assert [failure.image for failure in found.failures] == ["b_other"]


def test_what_is_no_image_is_passed_over_with_its_reason_and_broken_names_are_escaped(tmp_path, matched):
    for side in ("fake", "real"):
        (tmp_path / side).mkdir()
    (tmp_path / "fake" / "all.zip").write_bytes(b"any")
    os.mkfifo(tmp_path / "real" / "pipe")
    latin = b"lat\xedn".decode(errors="surrogateescape")
    found = matched([f"{latin}.nii"], [f"{latin}.nii"])
    assert [case.name for case in found.cases] == [r"lat\xedn"]
    assert found.passed_over == {"all.zip": "packed; unpack it first", "pipe": "a named pipe, not a file"}


def test_options_that_no_place_heeds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--root is for a cohort CSV"):
        check_heeded(Options(root=tmp_path), [tmp_path, "x:ct", None])
    with pytest.raises(ConfigError, match="--bids chooses among"):
        check_heeded(Options(bids=(("run", "1"),)), ["cohort.csv:ct", None])
    check_heeded(Options(root=tmp_path, bids=(("run", "1"),)), ["cohort.csv:ct", tmp_path])


LAYOUTS = {
    "nnunet": [
        *(f"imagesTr/P{n}_000{channel}.nii.gz" for n in (1, 2) for channel in (0, 1)),
        *(f"labelsTr/P{n}.nii.gz" for n in (1, 2)),
    ],
    "bids": [
        f"sub-{n}/ses-{v}/ct/sub-{n}_ses-{v}_{end}.nii.gz"
        for n in (1, 2)
        for v in "ab"
        for end in ("ct", "ce-x_ct", "label-liver_mask")
    ],
    "roles": [f"{role}/P{n}.nii.gz" for n in (1, 2) for role in ("source", "target", "masks")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cohort_in_any_layout_has_the_partners_of_what_was_converted_from_it(tmp_path, layout):
    put(*(tmp_path / "data" / name for name in LAYOUTS[layout]))
    if layout == "nnunet":
        (tmp_path / "data/dataset.json").write_text('{"channel_names": {"0": "contrast", "1": "plain"}}')
    pair = ("contrast", "plain")
    sources, references = (read_images(f"{tmp_path / 'data'}:{domain}", pair=pair) for domain in pair)
    labels = read_images(tmp_path / "data", "mask", pair=pair)
    put(*(tmp_path / "made" / f"{image.name}.nii.gz" for image in sources.images))
    found = match(read_images(tmp_path / "made"), references, {"source": sources, "labels": labels})
    assert found.paired
    assert not found.failures
    assert len(found.cases) == len(sources.images) == (4 if layout == "bids" else 2)
    subjects = {image.path: (image.subject, image.session) for image in (*sources.images, *references.images)}
    for case in found.cases:
        assert subjects[case.partners["source"]] == subjects[case.partners["reference"]]
        assert case.partners["labels"].name.split("_ses")[0].startswith(case.subject)


PARTS = Split(train=("a", "b"), validation=("c",), test=("d",), files={})


@pytest.fixture
def table(tmp_path):
    rows = [f"{subject},{domain},{subject}_{domain}.nii" for subject in "abcd" for domain in ("mr", "ct")]
    return cohort(tmp_path, *rows, "e,ct,e_ct.nii")


def subjects(found):
    return "".join(case.subject for case in found)


def test_training_pairs_are_of_the_evaluated_places_domains_or_of_those_that_are_named(table):
    found = training_pairs(table, None, "elsewhere/cohort.csv:mr", "elsewhere/cohort.csv:ct")
    assert subjects(found) == "abcd"  # e has no MR
    assert found[0].partners == {"reference": table.parent / "a_ct.nii", "source": table.parent / "a_mr.nii"}
    assert subjects(training_pairs(f"{table}:mr,ct", PARTS, "folder", "folder")) == "ab"
    found = training_pairs(table, None, None, f"{table}:ct")
    assert subjects(found) == "abcde"
    assert found[0].partners.keys() == {"reference"}


@pytest.mark.parametrize("domains", ["", ":ct", ":mr,ct,pet"])
def test_domains_that_are_not_known_are_asked_for(table, domains):
    with pytest.raises(ConfigError, match="COHORT:SOURCE,REFERENCE"):
        training_pairs(f"{table}{domains}", None, "folder", "folder")


def test_a_domain_that_the_cohort_lacks_is_named(table):
    with pytest.raises(DataError, match="pet"):
        training_pairs(f"{table}:mr,pet", None, "folder", "folder")
