import unicodedata

import pytest

from data.cohorts import CT_PAIR, image, table
from medgan.data.studies import find_cohort
from medgan.data.tables import read_table
from medgan.errors import DataError

HEADER = "subject,domain,image,mask,split"


@pytest.fixture
def folder(tmp_path):
    """A folder with two images and a mask."""
    for name in ("a/c.nii.gz", "a/p.nii.gz", "a/m.nii.gz"):
        image(tmp_path / name)
    return tmp_path


ROWS = ["subject,domain,image", "one,contrast,a/c.nii.gz", "one,plain,a/p.nii.gz"]
TEXT = "\n".join(ROWS) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", " | ").encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("subject,domain,image", "Subject , DOMAIN,\u00a0Image\u200b").encode(),
        TEXT.replace("contrast", "Contrast").replace("plain", "PLAIN\u00a0").encode(),
        TEXT.replace("a/", "a\\").encode(),
        f"# exported\n\n{TEXT}".encode(),
        f"# {TEXT}".encode(),
        f"sep=;\n{TEXT.replace(',', ';')}".encode(),
        TEXT.replace("\none,p", "\n\n,,\n# the second\none,p").encode(),
        "\n".join(f"{number or ''},{row}" for number, row in enumerate(ROWS)).encode(),
        "\n".join(f"{row},,," for row in ROWS).encode(),
        "\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS).encode(),
        "\n".join(row + ("," + ("age" if not number else "63")) for number, row in enumerate(ROWS)).encode(),
        "\n".join(",".join(reversed(row.split(","))) for row in ROWS).encode(),
    ],
    ids=[
        "semicolons", "tabs", "bars", "mark", "utf-16", "utf-16-le", "utf-16-be", "cr", "crlf", "capital header",
        "capital domain", "backslashes", "comment", "header behind #", "sep", "blank rows", "index", "empty columns",
        "quoted", "more columns", "another order",
    ],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("training", "train"),
        ("TEST", "test"),
        ("testing", "test"),
        ("valid", "validation"),
        ("Validation", "validation"),
    ],
)
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


def test_comments_and_subjects_that_look_like_none_are_told(folder):
    found = read_table(table(folder, "# second site", "nan,contrast,a/c.nii.gz,,"))
    assert "1 line beginning with #" in found.notes[0]
    assert "nan taken for the name of a subject" in found.notes[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one,plain,../nothing.nii.gz,,", "Line 3: image '../nothing.nii.gz' does not exist"),
        ("one,plain,gone.nii.gz,,", r"Line 3: image 'gone.nii.gz' does not exist.*--root"),
        ("one,plain,a/p.nii.gz,gone.nii.gz,", "mask 'gone.nii.gz' does not exist"),
        ("one,plain,C:\\scans\\p.nii.gz,,", r"is a path of another machine; .*--root"),
        ("one,plain,\\\\server\\share\\p.nii.gz,,", "is a path of another machine"),
        ("one,plain,https://host/p.nii.gz,,", "is a path of another machine"),
        ("two,contrast,a/c.nii.gz,,", "Line 3: image 'a/c.nii.gz' is already on line 2"),
        ("two,contrast,./a/c.nii.gz,,", "is already on line 2"),
        ("one,plain,,,", "no image"),
        (",,a/p.nii.gz,,", "no subject and no domain"),
        ("one,plain,a/p.nii.gz,a/p.nii.gz,", "mask 'a/p.nii.gz' is the image itself"),
        ("one,plain,a/p.nii.gz,,holdout", "split 'holdout' is none of train, validation, test"),
        ("one,plain,a/p.nii.gz,,train,what", "more cells than the header"),
        ('one,plain,"a/p.nii.gz,,', "line 3: a quotation mark is opened and not closed"),
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
        (b"", "no column subject, domain, image"),
        (b"subject,domain\none,plain\n", "no column image"),
        (b"subject domain image\n", "not by spaces"),
        (b"patient,modality,path\n", "It has: patient, modality, path"),
        (b"subject,domain,image,Image\n", "two columns 'image'"),
        (b"subject,domain,image\n", "no rows"),
        (b"\xff\xfe\x00binary", "not a CSV in UTF-8 or UTF-16"),
        (f"{HEADER}\nM\u00fcller,contrast,a/c.nii.gz\n".encode("latin-1"), "line 2 has a letter of another encoding"),
        (TEXT.encode() + bytes(3), r"NUL bytes \(line 4\)"),
        (b"PK\x03\x04sheet", "it is a workbook; save the table as comma-separated text"),
        (b"\x1f\x8b", "it is compressed"),
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
