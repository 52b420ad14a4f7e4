import pytest

from data.cohorts import as_bids, as_nnunet, image
from medgan.data.studies import read_cohort
from medgan.data.table_writer import propose, write_table
from medgan.data.tables import read_table
from medgan.errors import ConfigError, DataError


def files(root, *names):
    for name in names:
        image(root / name)
    return root


def taken(found):
    return [(study.subject, study.domain, study.mask.name if study.mask else None) for study in found.studies]


@pytest.mark.parametrize(
    ("names", "images", "mask", "rows"),
    [
        (
            ("contrast/P_1_x.nii.gz", "plain/P_1_y.nii"), ["{domain}/{subject}_*.nii*"], None,
            {("P_1", "contrast", None), ("P_1", "plain", None)},
        ),
        (
            ("P1/ce.nii.gz", "P1/native.nii.gz"), ["contrast={subject}/ce*", "plain={subject}/native*"], None,
            {("P1", "contrast", None), ("P1", "plain", None)},
        ),
        (("a/CT/P1.nii", "seg/P1.nii"), ["**/{domain}/{subject}.nii"], "seg/{subject}.nii", {("P1", "ct", "P1.nii")}),
        (("P1/P1_ct.nii",), ["{subject}/{subject}_{domain}.nii"], None, {("P1", "ct", None)}),
        (("train/P1_ct.nii",), ["{split}/{subject}_{domain}.nii"], None, {("P1", "ct", None)}),
    ],
    ids=["pattern", "domains named", "mask", "twice", "split"],
)  # fmt: skip
def test_patterns_say_whose_an_image_is(tmp_path, names, images, mask, rows):
    found = propose(files(tmp_path, *names), images, mask)
    assert {*taken(found)} == rows
    assert found.left_out == {}


def test_every_file_that_is_left_out_has_its_reason(tmp_path):
    root = files(tmp_path, "ct/P1.nii", "other/x.nii", "m/P1_a.nii", "m/P1_b.nii", "m/P2_a.nii", "ct/P\n3.nii")
    (root / "old.zip").write_bytes(b"PK")
    found = propose(root, ["ct=ct/{subject}.nii"], "m/{subject}_*.nii")
    assert taken(found) == [("P1", "ct", None)]
    reasons = {path.relative_to(root).as_posix(): why for path, why in found.left_out.items()}
    assert "it fits no pattern" in reasons["other/x.nii"]
    assert "one of 2 masks of P1" in reasons["m/P1_a.nii"]
    assert reasons["m/P2_a.nii"] == "a mask of no image"
    assert "cannot stand in a table" in reasons["ct/P\n3.nii"]
    assert "packed" in reasons["old.zip"]
    assert any(line.startswith("left out: ct/P\\n3.nii: ") for line in found.lines(root))


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("P1/contrast.nii", "P1/plain.nii"), [("P1", "contrast", None), ("P1", "plain", None)]),
        (("P1_ce.nii", "P1_nc.nii"), [("P1", "contrast", None), ("P1", "plain", None)]),
        (("MR/P-1.nii", "CT/P-1.nii"), [("P-1", "ct", None), ("P-1", "mr", None)]),
        (("P1/ct.nii", "P1/ct_mask.nii"), [("P1", "ct", "ct_mask.nii")]),
    ],
)
def test_without_patterns_a_domain_is_a_word_of_the_path_and_the_rest_the_subject(tmp_path, names, rows):
    assert taken(propose(files(tmp_path, *names))) == rows


def test_what_cannot_be_guessed_is_left_out_with_what_to_do(tmp_path):
    found = propose(files(tmp_path, "P1/ct.nii", "P1/scan.nii", "P1/mr_on_ct.nii"))
    assert [path.name for path in found.left_out] == ["mr_on_ct.nii", "scan.nii"]
    assert all("--image" in why for why in found.left_out.values())
    with pytest.raises(DataError, match=r"no image can be listed.*--image"):
        propose(files(tmp_path / "none", "scan.nii"))


def test_several_masks_beside_a_guessed_image_are_left_out_and_named(tmp_path):
    found = propose(files(tmp_path, "P1/ct.nii", "P1/ct_mask.nii", "P1/ct_seg.nii", "P2/ct.nii", "P2/ct_mask.nii"))
    assert [(study.image.parent.name, study.mask and study.mask.name) for study in found.studies] == [
        ("P1", None),
        ("P2", "ct_mask.nii"),
    ]
    assert {path.name: why for path, why in found.left_out.items()} == dict.fromkeys(
        ["ct_mask.nii", "ct_seg.nii"], "one of 2 masks of P1/ct; say which by --mask"
    )


@pytest.mark.parametrize("layout", [as_bids, as_nnunet])
def test_a_layout_is_written_as_the_cohort_that_it_is(tmp_path, layout):
    layout(tmp_path / "data")
    write_table(tmp_path / "cohort.csv", propose(tmp_path / "data").studies)
    table, own = read_table(tmp_path / "cohort.csv").studies, read_cohort(tmp_path / "data", ()).studies
    assert table == own
    with pytest.raises(ConfigError, match="exists; give another name"):
        write_table(tmp_path / "cohort.csv", own)


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [("P{}_ce", "P{}_nc", "are one subject, P1"), ("P{}_0000", "P{}_0001", "could be one subject's or two subjects'")],
)
def test_who_is_who_is_told_before_a_table_fixes_it(tmp_path, source, target, told):
    sides = (("contrast", source), ("plain", target))
    names = [f"{domain}/{name.format(number)}.nii" for domain, name in sides for number in (1, 2)]
    assert any(told in note for note in propose(files(tmp_path, *names)).notes)


def test_a_subject_that_looks_like_a_comment_is_read_again(tmp_path):
    write_table(tmp_path / "cohort.csv", propose(files(tmp_path, "ct/#1.nii"), ["{domain}/{subject}.nii"]).studies)
    assert [study.subject for study in read_table(tmp_path / "cohort.csv").studies] == ["#1"]


@pytest.mark.parametrize("pattern", ["{domain}/*.nii", "{subject}.nii", "{domain}/{subject}/{time}.nii"])
def test_a_pattern_that_does_not_say_enough_is_refused(tmp_path, pattern):
    with pytest.raises(ConfigError, match=r"write \{subject\} and \{domain\}"):
        propose(files(tmp_path, "ct/P1.nii"), [pattern])
