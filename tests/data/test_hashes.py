import os

import pytest

from medgan.data import hashes as module
from medgan.data.hashes import default_folder, remembered


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """What is known of a file of this test; ``ask.reads`` counts how often it was looked into."""
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED_NS", 0)  # the test's files need not grow old first

    def answer(path, **options):
        def read():
            answer.reads += 1
            return path.read_text()

        return remembered("text 1", path, read, **options)

    answer.reads = 0
    return answer


def entries():
    return list((default_folder() / "remembered").glob("*"))


def test_a_file_is_looked_into_once_and_again_when_its_size_or_time_changes(ask, tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    assert [ask(path), ask(path), ask.reads] == ["one", "one", 1]
    path.write_text("three")
    assert [ask(path), ask.reads] == ["three", 2]
    path.write_text("seven")
    os.utime(path, ns=(0, 0))
    assert [ask(path), ask.reads] == ["seven", 3]
    assert not (tmp_path / "cache").exists()


def test_a_file_put_back_with_its_old_time_and_size_is_looked_into_again(ask, tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    os.utime(path, ns=(0, 0))
    assert ask(path) == "one"
    path.write_text("two")
    os.utime(path, ns=(0, 0))
    assert ask(path) == "two"


def test_what_is_kept_on_disk_serves_the_next_process_unless_it_is_damaged(ask, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("one")
    assert ask(path, on_disk=True) == "one"
    monkeypatch.setattr(module, "_known", {})
    assert [ask(path, on_disk=True), ask.reads] == ["one", 1]
    (entry,) = entries()
    entry.write_text(entry.read_text().replace("one", "two"))
    monkeypatch.setattr(module, "_known", {})
    assert [ask(path, on_disk=True), ask.reads] == ["one", 2]


def test_a_file_that_was_just_written_is_not_remembered(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", 10**12)
    path = tmp_path / "file"
    path.write_text("one")
    assert [ask(path, on_disk=True), ask(path, on_disk=True), ask.reads] == ["one", "one", 2]
    assert not entries()


def test_without_a_place_to_keep_it_the_answer_is_given_all_the_same(ask, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file in the folder's place")
    path = tmp_path / "file"
    path.write_text("one")
    assert ask(path, on_disk=True) == "one"


def test_a_folder_changes_with_the_files_in_it(ask, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "one").write_text("one")
    names = lambda: " ".join(sorted(path.name for path in folder.iterdir()))  # noqa: E731
    assert remembered("names 1", folder, names) == "one"
    assert remembered("names 1", folder / "no_file", names) == "one"
    (folder / "two").write_text("two")
    assert remembered("names 1", folder, names) == "one two"
    assert remembered("names 1", folder / "no_file", names) == "one two"
