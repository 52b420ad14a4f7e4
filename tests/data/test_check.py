import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from data.cohorts import CT_PAIR, MR_PAIR, as_bids, as_nnunet, as_table, image, mr, table
from medgan.data.check import check_cohort, left_out
from medgan.data.domains import DomainPair
from medgan.data.studies import Cohort, Study, find_cohort

UNPAIRED = CT_PAIR
PAIRED = DomainPair(source=CT_PAIR.source, target=CT_PAIR.target, paired=True)
MR_CT = DomainPair(source=mr("mr"), target=CT_PAIR.target.model_copy(update={"name": "ct"}), paired=True)
SHAPES = pytest.mark.parametrize("shape", [(8, 7, 1), (8, 7, 4)], ids=["2d", "3d"])


def ct(shape, seed=0):
    voxels = np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)
    voxels.flat[:2] = -1000, 1000
    return voxels


@pytest.fixture
def cohort(tmp_path):
    """A function of a shape: three subjects with both domains on one grid, nothing wrong with them."""

    def make(shape):
        for number in range(3):
            for side, domain in enumerate(("contrast", "plain")):
                image(tmp_path / domain / f"s{number}.nii.gz", ct(shape, 2 * number + side))
        return tmp_path

    return make


def checked(folder, pair=UNPAIRED):
    return check_cohort(find_cohort(folder, pair), pair)


def kinds(report):
    return [finding.kind for finding in report.findings]


@SHAPES
@pytest.mark.parametrize("pair", [PAIRED, UNPAIRED], ids=["paired", "unpaired"])
def test_a_sound_cohort_has_no_findings_and_a_reading_of_each_study(cohort, shape, pair):
    report = checked(cohort(shape), pair)
    assert report.findings == ()
    frame = report.frame()
    assert frame["readable"].tolist() == [True] * 6
    first = frame.iloc[0]
    assert (first["image"], first["shape"], first["orientation"]) == ("contrast/s0.nii.gz", shape, "RAS")
    percentiles = np.percentile(ct(shape, 0), [0, 1, 99, 100])
    np.testing.assert_allclose([first[name] for name in ("minimum", "p1", "p99", "maximum")], percentiles, rtol=1e-5)
    assert frame.to_csv(index=False).count("\n") == 7
    assert '"orientation":"RAS"' in frame.to_json(orient="records")


def test_bad_files_are_findings_and_the_rest_is_still_read(cohort):
    folder = cohort((8, 7, 4))
    (folder / "contrast" / "s0.nii.gz").write_bytes(b"")
    (folder / "contrast" / "s1.nii.gz").write_text("text")
    good = (folder / "plain" / "s2.nii.gz").read_bytes()
    (folder / "plain" / "s2.nii.gz").write_bytes(good[: len(good) // 2])
    report = checked(folder, PAIRED)
    assert kinds(report) == ["unreadable"] * 3
    for finding in report.findings:
        assert str(finding.studies[0].image) in finding.text
    assert report.frame()["readable"].sum() == 3


@SHAPES
def test_a_pair_on_two_grids_is_found_only_where_pairs_are_trained_on(cohort, shape):
    folder = cohort(shape)
    image(folder / "plain" / "s1.nii.gz", ct(shape, 3), origin=5)
    (finding,) = checked(folder, PAIRED).findings
    assert finding.kind == "geometry"
    for words in ("s1.nii.gz", "different voxel grids", "`medgan data register`"):
        assert words in finding.text
    assert checked(folder).findings == ()


def test_a_subject_without_a_partner_or_with_too_many_is_found_where_pairs_are_trained_on(cohort):
    folder = cohort((8, 7, 4))
    (folder / "plain" / "s1.nii.gz").unlink()
    image(folder / "plain" / "s2" / "again.nii.gz", ct((8, 7, 4), 9))
    report = checked(folder, PAIRED)
    assert kinds(report) == ["pairing", "pairing"]
    assert "'s1' has no plain image" in report.findings[0].text
    assert "do not pair" in report.findings[1].text


@SHAPES
def test_one_image_under_two_headers_is_a_duplicate_in_a_subject_and_leakage_across_subjects(cohort, shape):
    folder = cohort(shape)
    image(folder / "contrast" / "s3" / "a.nii.gz", ct(shape, 50), descrip="first")
    image(folder / "contrast" / "s3" / "b.nii.gz", ct(shape, 50), descrip="second")
    image(folder / "plain" / "s4.nii.gz", ct(shape, 0).astype(np.float32))
    report = checked(folder)
    assert sorted(kinds(report)) == ["duplicate", "leakage"]
    texts = {finding.kind: finding.text for finding in report.findings}
    assert "contrast/s3/a.nii.gz, contrast/s3/b.nii.gz are one image, 2 times in subject s3" in texts["duplicate"]
    assert "under subjects s0, s4" in texts["leakage"]


def block():
    hu = np.full((8, 7, 4), -1000.0)
    hu[2:7, 1:6] = 50
    return hu


REFUSED = "training refuses it: correct or remove it."


@pytest.mark.parametrize(
    ("voxels", "beside", "words"),
    [
        (ct((8, 7, 4), 2) + 1024, "{}", ["an offset of 1024 may be lost"]),
        (np.clip(ct((8, 7, 4), 2), -1024, 150), "{}", ["no bone"]),
        (np.full((8, 7, 4), -1000), "{}", ["-1000 everywhere"]),
        (np.interp(block(), (-1000, 1000), (0, 1)), "{}", ["cannot be a CT of domain 'contrast'", "no HU", REFUSED]),
        (ct((8, 7, 4), 2), '{"Modality": "PT"}', ["cannot be a CT of", "modality is PT", REFUSED]),
    ],
    ids=["offset", "clipped", "flat", "0 to 1", "another modality"],
)
def test_what_is_no_ct_by_its_intensities_or_words_is_found_once(cohort, voxels, beside, words):
    folder = cohort((8, 7, 4))
    image(folder / "contrast" / "s1.nii.gz", voxels.astype(np.float32))
    (folder / "contrast" / "s1.json").write_text(beside)
    (finding,) = checked(folder).findings
    assert finding.kind == "intensity"
    assert all(word in finding.text for word in ("s1.nii.gz", *words))


def test_arbitrary_units_may_start_at_zero(tmp_path):
    for number in range(2):
        image(tmp_path / "mr" / f"s{number}.nii", ct((8, 7, 4), number) + 1000)
        image(tmp_path / "ct" / f"s{number}.nii", ct((8, 7, 4), 10 + number))
    assert checked(tmp_path, MR_CT).findings == ()


@pytest.mark.parametrize(
    ("shape", "header", "kinds_found"),
    [
        ((8, 7, 1), {"spacing": (2.5, 1, 1)}, ["spacing"]),
        ((8, 7, 4), {"spacing": (2.5, 1, 1)}, ["spacing"]),
        ((8, 7, 1), {"spacing": (1, 1, 10)}, []),
        ((8, 7, 4), {"origin": 1e-5}, []),
    ],
    ids=["2d", "3d", "thickness of a slice", "rounding of a header"],
)
def test_a_spacing_far_from_the_others_is_found(cohort, shape, header, kinds_found):
    folder = cohort(shape)
    image(folder / "contrast" / "s1.nii.gz", ct(shape, 2), **header)
    report = checked(folder)
    assert kinds(report) == kinds_found
    assert all("2.5" in finding.text for finding in report.findings)
    assert "origin" not in header or kinds(checked(folder, PAIRED)) == []


def test_masks_must_be_readable_and_on_the_grid_of_their_image(tmp_path):
    scan = image(tmp_path / "image.nii.gz", ct((8, 7, 4)))
    good = image(tmp_path / "good.nii.gz", np.ones((8, 7, 4), np.uint8))
    small = image(tmp_path / "small.nii.gz", np.ones((8, 7, 3), np.uint8))
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    found = {
        mask.name: kinds(check_cohort(Cohort((Study("one", "contrast", scan, mask),)), UNPAIRED))
        for mask in (good, small, tmp_path / "bad.nii.gz")
    }
    assert found == {"good.nii.gz": [], "small.nii.gz": ["geometry"], "bad.nii.gz": ["unreadable"]}


def test_a_subject_in_two_parts_is_leakage(cohort):
    folder = cohort((8, 7, 4))
    sides = ["contrast", "plain"]
    lines = [f"s{number},{side},{side}/s{number}.nii.gz,,train" for number in range(3) for side in sides]
    table(folder, *lines[:-1], lines[-1].replace("train", "test"))
    (finding,) = checked(folder, PAIRED).findings
    assert (finding.kind, "'s2' is in test and train" in finding.text) == ("leakage", True)


def renamed(folder, contrast, plain):
    """The sound cohort with other names."""
    for domain, pattern in (("contrast", contrast), ("plain", plain)):
        for number in range(3):
            (folder / domain / f"s{number}.nii.gz").rename(folder / domain / f"{pattern.format(number)}.nii.gz")
    return find_cohort(folder, UNPAIRED)


def printed(report, width=400, **how):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report.render(**how))
    return console.export_text()


def test_a_domains_ending_is_said_and_no_finding(cohort):
    report = check_cohort(renamed(cohort((8, 7, 4)), "s{}_ce", "s{}_nc"), UNPAIRED)
    assert report.findings == ()
    assert "contrast/s0_ce and plain/s0_nc are one subject, s0" in printed(report)


def test_names_that_could_be_one_subjects_are_leakage_and_those_that_share_nothing_are_not(cohort):
    folder = cohort((8, 7, 4))
    (finding,) = check_cohort(renamed(folder, "s{}_0", "s{}_1"), UNPAIRED).findings
    assert (finding.kind, "contrast/s0_0 and plain/s0_1" in finding.text) == ("leakage", True)
    shutil.rmtree(folder / "plain")
    for number in range(3):
        image(folder / "plain" / f"t{number}.nii.gz", ct((8, 7, 4), 10 + number))
    assert checked(folder).findings == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [("A7", "a7"), ("01", "1"), ("Mu\u0308ller", "Müller"), ("P-1", "P 01"), ("x_ce", "x_nc"), ("x_0", "x_1")],
)
def test_subjects_of_a_table_that_differ_by_writing_alone_are_leakage(tmp_path, one, other):
    names = [one, other, *(name.replace("x", "y") for name in (one, other) if "_" in name)]
    for number in range(len(names)):
        image(tmp_path / f"{number}.nii.gz", ct((8, 7, 4), number))
    sides = ("contrast", "plain") * 2
    table(tmp_path, *(f"{who},{sides[number]},{number}.nii.gz,," for number, who in enumerate(names)))
    (finding,) = checked(tmp_path).findings
    assert finding.kind == "leakage"
    assert f"'{one}'" in finding.text or f"contrast/{one}" in finding.text
    assert finding.studies[0].subject in (one, other)


def test_the_table_shows_every_study_and_every_finding_whatever_the_names(cohort):
    folder = cohort((8, 7, 4))
    shutil.copy(folder / "plain" / "s0.nii.gz", folder / "plain" / "[red]copy.nii.gz")
    (folder / "contrast" / "s1.nii.gz").write_bytes(b"")
    for name in ("s0", "s2"):  # blank images of two subjects are no leakage
        image(folder / "contrast" / f"{name}.nii.gz", np.full((8, 7, 4), -1000, np.int16))
    report = checked(folder)
    assert sorted(kinds(report)) == ["intensity", "intensity", "leakage", "unreadable"]
    names = [study.image.name for study in report.readings]
    for text in (printed(report, every=True), printed(report, 80, every=True).replace("\n", "")):
        for words in (*names, "leakage: ", "unreadable: ", "7 images of 4 subjects, 4 unique; 4 findings"):
            assert words in text
    assert printed(report).startswith("7 images of 4 subjects, 4 unique; 4 findings\nunreadable: ")


def test_of_two_thousand_images_a_screen_is_shown_and_findings_come_first(cohort):
    folder = cohort((8, 7, 4))
    image(folder / "contrast" / "s1.nii.gz", ct((8, 7, 4), 2) + 1024)
    image(folder / "plain" / "s2.nii.gz", ct((8, 7, 4), 5), spacing=(2.5, 1, 1))
    report = checked(folder)
    many = {
        replace(study, subject=f"{study.subject}-{number}", image=study.image.with_name(f"{number}.nii.gz")): reading
        for number in range(334)
        for study, reading in report.readings.items()
    }
    intensity = tuple(replace(report.findings[0], text=f"{study.image}: odd", studies=(study,)) for study in many)
    cohort = replace(report.cohort, studies=tuple(many))
    large = replace(report, readings=many, findings=(*intensity, report.findings[1]), cohort=cohort)
    lines = printed(large, 80).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[0] == "2004 images of 1002 subjects, 6 unique; 2005 findings"
    text = "\n".join(lines)
    assert text.index("intensity: 2001 more; --all") < text.index("spacing: ") < text.index("with findings")
    for words in ("1002 of 1002 subjects", "8 × 7 × 4", "1…2.5 × 1 × 1"):
        assert words in text
    every = printed(large, 80, every=True).splitlines()
    assert len([line for line in every if ".nii.gz" in line]) > 2004
    assert max(map(len, every)) <= 80


def test_real_pairs_lie_on_one_grid_and_real_slices_hold_four_duplicates_each_within_one_patient(medgan_data):
    pairs = find_cohort(medgan_data / "sts", MR_CT)
    assert check_cohort(pairs.of_subjects(pairs.subjects()[:1]), MR_CT).findings == ()
    report = checked(medgan_data / "tcga_luad")
    assert (len(report.readings), report.frame()["content"].nunique()) == (66, 62)
    assert report.frame()["readable"].all()
    assert kinds(report) == ["duplicate"] * 4
    names = {study.image.name[:7] for finding in report.findings for study in finding.studies}
    assert names == {"ID_0010", "ID_0013", "ID_0032", "ID_0034", "ID_0065", "ID_0066", "ID_0084", "ID_0085"}


def test_what_is_no_image_is_listed_with_its_reason(tmp_path):
    (tmp_path / "contrast").mkdir()
    (tmp_path / "contrast" / "red\x1b.zip").write_bytes(b"any")
    for name in ("contrast/one", "contrast/one_mask", "plain/one", "arterial/one"):
        image(tmp_path / f"{name}.nii.gz")
    cohort = find_cohort(tmp_path, CT_PAIR)
    assert list(left_out(tmp_path, cohort)) == [
        "passed over, no part of folders contrast/ and plain/ (1): arterial/one.nii.gz",
        r"passed over, packed; unpack it first (1): contrast/red\x1b.zip",
    ]
    assert list(left_out(tmp_path / "cohort.csv", cohort)) == []


@pytest.mark.parametrize(
    ("layout", "more", "told"),
    [
        (as_table, "files/late.nii.gz", "no part of its cohort.csv"),
        (as_bids, "sub-one/ses-1/anat/sub-one_ses-1_T1w.nii.gz", "of domain t1"),
        (as_nnunet, "imagesTr/two_0000.nii", "no part of nnU-Net raw"),
    ],
)
def test_an_image_that_is_not_used_is_listed(tmp_path, layout, more, told):
    layout(tmp_path)
    image(tmp_path / more)
    assert list(left_out(tmp_path, find_cohort(tmp_path, CT_PAIR))) == [f"passed over, {told} (1): {more}"]


def test_an_image_without_a_partner_in_its_session_is_a_finding(tmp_path):
    for session, domains in (("a", ("T1w", "ce-gd_T1w")), ("b", ("T1w",))):
        for domain in domains:
            image(tmp_path / f"sub-1/ses-{session}/anat/sub-1_ses-{session}_{domain}.nii.gz", len(domain))
    report = checked(tmp_path, MR_PAIR)
    texts = [finding.text for finding in report.findings if finding.kind == "pairing"]
    assert len(texts) == 1
    assert "sub-1_ses-b_T1w.nii.gz has no partner in its session" in texts[0]
