import gzip

import numpy as np
import pandas as pd
import pytest

from medgan.data.streams import as_it_was, opened, replacing, write_csv
from medgan.errors import DataError

CONTENT = np.random.default_rng(0).bytes(100_000)


def read(path):
    with opened(path) as stream:
        return stream.read()


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_what_is_written_is_read_and_its_folders_are_made(tmp_path, name):
    path = tmp_path / "new" / "deep" / name
    with replacing(path) as stream:
        stream.write(CONTENT)
    assert read(path) == CONTENT
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_gzip_is_told_by_the_content_not_the_name(tmp_path):
    (tmp_path / "packed.nii").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "plain.nii.gz").write_bytes(CONTENT)
    assert read(tmp_path / "packed.nii") == read(tmp_path / "plain.nii.gz") == CONTENT


def test_equal_content_gives_equal_bytes_under_any_name(tmp_path):
    for name in ("a.gz", "b.gz"):
        with replacing(tmp_path / name) as stream:
            stream.write(CONTENT)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def interrupt(path):
    with replacing(path) as stream:
        stream.write(CONTENT)
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
@pytest.mark.parametrize("before", [None, b"the result of an earlier run"])
def test_an_interrupted_write_leaves_everything_as_it_was(tmp_path, name, before):
    path = tmp_path / name
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([] if before is None else [before])


@pytest.mark.parametrize("name", ["a.bin", "a.bin.gz"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, name, full_disk):
    full_disk(len(CONTENT) // 2)
    with (
        pytest.raises(DataError, match=rf"{name}: cannot be written \(File too large\); make room"),
        replacing(tmp_path / name) as stream,
    ):
        stream.write(CONTENT)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written"), replacing(tmp_path / "taken" / "a.bin") as stream:
        stream.write(CONTENT)


def test_broken_gzip_is_named(tmp_path):
    packed = gzip.compress(CONTENT)
    wrong = bytearray(packed)
    wrong[-6] ^= 0xFF
    for name, content in {
        "half": packed[: len(packed) // 2],
        "checksum": bytes(wrong),
        "junk": packed[:10] + b"x" * 99,
    }.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"half: truncated.*copy it again"):
        read(tmp_path / "half")
    with pytest.raises(DataError, match=r"checksum: corrupt gzip \(CRC check failed.*copy it again"):
        read(tmp_path / "checksum")
    with pytest.raises(DataError, match=r"junk: corrupt gzip"):
        read(tmp_path / "junk")


def test_a_file_that_may_not_be_read_is_named(shared_folder, bound_by_permissions):
    path = shared_folder / "secret.nii"
    path.write_bytes(CONTENT)
    path.chmod(0)
    with bound_by_permissions(), pytest.raises(DataError, match=r"secret\.nii: cannot be read \(Permission denied\)"):
        read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.nii: cannot be read \(No such file or directory\)"):
        read(tmp_path / "gone.nii")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=cmd()", "'=cmd()"), ("+1+1", "'+1+1"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1+1", "'\t=1+1"),
        ("-5", "-5"), ("+.5e3", "+.5e3"), ("-", "-"), ("", ""), ("s1", "s1"), ("'s1", "'s1"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_a_spreadsheet_computes_no_cell_of_ours(tmp_path, text, written):
    table = pd.DataFrame({"subject": [text], text or "x": [-1.5]})
    read = pd.read_csv(write_csv(tmp_path / "a.csv", table), dtype=str, keep_default_na=False)
    assert list(read.columns) == ["subject", written or "x"]
    assert read.iloc[0].tolist() == [written, "-1.5"]
    assert as_it_was(written) == text
