import unicodedata

import pytest

from data.cohorts import CT_PAIR, image, table
from medgan.data.studies import find_cohort
from medgan.data.tables import read_table
from medgan.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """A folder with two images and a mask."""
    for name in ("a/c.nii.gz", "a/p.nii.gz", "a/m.nii.gz"):
        image(tmp_path / name)
    return tmp_path


ROWS = ["subject,domain,image", "one,contrast,a/c.nii.gz", "one,plain,a/p.nii.gz"]
TEXT = "\n".join(ROWS) + "\n"
SAVED = {
    "utf-16-be": TEXT.encode("utf-16-be"),
    "marks that nobody sees": TEXT.replace("subject,domain,image", "Subject , DOMAIN,\u00a0Image\u200b").encode(),
    "comment": f"# exported\n\n{TEXT}".encode(),
    "empty columns": "\n".join(f"{row},,," for row in ROWS).encode(),
    "more columns": "\n".join(row + (",63" if number else ",age") for number, row in enumerate(ROWS)).encode(),
    "another order": "\n".join(",".join(reversed(row.split(","))) for row in ROWS).encode(),
}
"""More of them are rows of ``hostile.table_cases``."""


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_a_table_is_read_as_peoples_programs_save_it(folder, content):
    (folder / "cohort.csv").write_bytes(content)
    found = read_table(folder / "cohort.csv").studies
    assert [(study.subject, study.domain, study.image) for study in found] == [
        ("one", "contrast", folder / "a/c.nii.gz"),
        ("one", "plain", folder / "a/p.nii.gz"),
    ]


@pytest.mark.parametrize("word", ["n/a", "NA", "nan", "None", "", "-", "#N/A"])
def test_a_mask_that_is_not_there_may_be_written_in_any_way(folder, word):
    path = table(folder, f"one,contrast,a/c.nii.gz,{word},{word}")
    (study,) = read_table(path).studies
    assert (study.mask, study.split) == (None, None)


@pytest.mark.parametrize(("word", "part"), [("training", "train"), ("TEST", "test"), ("valid", "validation")])
def test_a_part_may_be_written_as_people_write_it(folder, word, part):
    assert read_table(table(folder, f"one,contrast,a/c.nii.gz,,{word}")).studies[0].split == part


def test_names_with_accents_and_odd_spaces_are_found_however_they_are_encoded(tmp_path):
    image(tmp_path / unicodedata.normalize("NFD", "Müller 1.nii.gz"))
    path = table(tmp_path, unicodedata.normalize("NFC", "one,contrast,Müller\u00a01.nii.gz,,"))
    assert read_table(path).studies[0].image.exists()


def test_absolute_paths_and_paths_that_lead_out_are_allowed_with_a_note(folder):
    path = table(folder / "lists", f"one,contrast,{folder}/a/c.nii.gz,../a/m.nii.gz,", "one,plain,../a/p.nii.gz,,")
    found = read_table(path)
    assert [study.image for study in found.studies] == [folder / "a/c.nii.gz", folder / "a/p.nii.gz"]
    assert found.root == folder / "a"
    assert "1 of its paths are absolute" in found.notes[0]
    assert "3 of its files lie outside" in found.notes[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one,plain,../nothing.nii.gz,,", "Line 3: image '../nothing.nii.gz' does not exist"),
        ("one,plain,gone.nii.gz,,", r"Line 3: image 'gone.nii.gz' does not exist.*--root"),
        ("one,plain,a/p.nii.gz,gone.nii.gz,", "mask 'gone.nii.gz' does not exist"),
        ("one,plain,https://host/p.nii.gz,,", r"is a path of another machine; .*--root"),
        ("two,contrast,./a/c.nii.gz,,", r"Line 3: image './a/c.nii.gz' is already on line 2"),
        ("one,plain,,,", "no image"),
        (",,a/p.nii.gz,,", "no subject and no domain"),
        ("one,plain,a/p.nii.gz,a/p.nii.gz,", "mask 'a/p.nii.gz' is the image itself"),
        ("one,plain,a/p.nii.gz,,train,what", "more cells than the header"),
        ("one,plain," + "x" * 300 + ".nii.gz,,", "does not exist"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_reason(folder, line, message):
    with pytest.raises(DataError, match=message):
        read_table(table(folder, "one,contrast,a/c.nii.gz,,", line))


def test_every_bad_row_is_named_at_once(tmp_path):
    path = table(tmp_path, "one,contrast,a.nii,,", "one,plain,b.nii,,")
    with pytest.raises(DataError, match=r"2 of its rows.*Line 2: .*'a.nii'.*Line 3: .*'b.nii'"):
        find_cohort(path, CT_PAIR)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"subject,domain\none,plain\n", "no column image"),
        (b"subject,domain,image\n", "no rows"),
        (b"\xff\xfe\x00binary", "not a CSV in UTF-8 or UTF-16"),
        (b"\x1f\x8b", "it is compressed; save the table as comma-separated text"),
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
