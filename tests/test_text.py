import pytest

from medgan.text import few, printable, record_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Süd Klinik (1)/CT #2 [a] 東京.nii.gz", "Süd Klinik (1)/CT #2 [a] 東京.nii.gz"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("c1\x9b31m", r"c1\x9b31m"),
        ("two\nlines\tand\rmore", r"two\nlines\tand\rmore"),
        ("line\u2028end", r"line\u2028end"),
        ("gz.\u202eexe", r"gz.\u202eexe"),
        (b"lat\xedn".decode(errors="surrogateescape"), r"lat\xedn"),
        ("lone\ud800", r"lone\ud800"),
    ],
)
def test_what_steers_a_terminal_or_is_no_utf_8_becomes_an_escape(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_a_message_keeps_its_own_lines_and_names_that_differ_still_do_in_records():
    assert printable("one\n\ttwo\x1b", lines=True) == "one\n\ttwo\\x1b"
    names = ["a\x1b", r"a\x1b", r"a\\x1b", "a\\\x1b"]
    assert len({record_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("things", "options", "said"),
    [
        ([], {}, ""),
        (["a", "b"], {}, "a, b"),
        (["a", "b", "c"], {}, "a, b and 1 more"),
        (["a", "b", "c", "d"], {"between": "; ", "last": ", and "}, "a; b, and 2 more"),
    ],
)
def test_a_list_is_cut_and_says_so(things, options, said):
    assert few(things, 2, **options) == said
