"""``study.html``: what a page of any study says, plainly and without help from elsewhere."""

import re

import pandas as pd
import pytest

from medgan.errors import DataError
from medgan.report.html import render
from medgan.report.study import read_content, shown_of, write_page

COMPARISONS = pd.DataFrame(
    [
        {"arm": arm, "reference": "a", "metric": "mae_hu", "mean": mean, "lower": lower, "upper": upper, "n": 5}
        for arm, mean, lower, upper in (
            ("better", -2.0, -3.0, -1.0), ("same", 0.1, -1.0, 1.2), ("alone", 1.0, float("nan"), float("nan")),
        )
    ]
)  # fmt: skip
PAGE = {
    "title": "sweep, ct_contrast",
    "question": "Which settings are better?",
    "description": {"phantom": True, "quick": True, "seeds": [0, 1], "cells": {"a": []}},
    "command": "medgan study sweep --pipeline ct_contrast",
    "findings": {"crossover": "<2 voxels"},
    "comparisons": COMPARISONS,
    "tables": {
        "table.csv": pd.DataFrame({"mean": [1.25, float("nan")], "cell": ["<b>", "NA"]}),
        "none": pd.DataFrame(),
    },
    "failures": {"task & one": "it <broke>"},
    "headlines": (),
    "answer": {},
}
PLAIN = PAGE | {"description": {}, "findings": {}, "tables": {}, "failures": {}}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = write_page(tmp_path_factory.mktemp("page"), **PAGE)
    assert path.name == "study.html"
    return path.read_text(encoding="utf-8")


def test_what_is_shown_and_what_is_not_is_said_in_words(text):
    assert "mae_hu: better is less than a (-2 [-3, -1], n = 5)" in text
    assert "mae_hu: same is not shown to differ from a (+0.1 [-1, +1.2], n = 5)" in text
    assert "mae_hu: alone is not comparable with a (+1, n = 5)" in text


def test_names_are_text_and_failures_phantoms_and_quick_runs_are_named(text):
    for words in ("&lt;2 voxels", "&lt;b&gt;", "task &amp; one: it &lt;broke&gt;", "no evidence", "built-in phantom"):
        assert words in text
    assert "<td>1.25</td>" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_nothing_is_fetched_from_elsewhere(text):
    assert "http:" not in text
    assert "https" not in text
    assert "default-src 'none'" in text
    assert text.count('<img src="data:image/svg+xml;base64,') == 1


def test_a_study_without_comparisons_has_a_page_too(tmp_path):
    empty = PLAIN | {"description": {"phantom": False}, "comparisons": pd.DataFrame()}
    text = write_page(tmp_path, **empty).read_text(encoding="utf-8")
    assert "Paired differences" not in text
    assert "Phantom" not in text


def test_a_size_is_told_by_its_name_and_that_nothing_is_corrected(tmp_path):
    text = write_page(tmp_path, **PLAIN | {"comparisons": COMPARISONS.assign(size=5)}).read_text(encoding="utf-8")
    assert "mae_hu, size 5: better is less than a" in text
    assert "corrected for how many differences are looked at" in text


def test_the_answer_stands_first_and_all_else_below(tmp_path):
    text = write_page(tmp_path, **PAGE | {"answer": {"arm": "same"}}).read_text(encoding="utf-8")
    box, below = text.partition('class="answer"')[2].split("</div>", 1)
    assert "same is not shown to differ from a" in box
    for words in ("crossover", "better is less than a"):
        assert words not in box
        assert words in below


def test_headlines_alone_are_plotted(tmp_path):
    more = pd.concat([COMPARISONS, COMPARISONS.assign(metric="ssim")])
    text = write_page(tmp_path, **PLAIN | {"comparisons": more, "headlines": ("ssim",)}).read_text(encoding="utf-8")
    assert "mae_hu" not in text
    assert "ssim: better is less than a" in text


def test_a_page_is_written_anew_from_what_it_was_written_of(tmp_path, text):
    infinite = pd.DataFrame({"cell": ["007", "NA"], "dice": [float("inf"), float("nan")], "lesion": [None, "a"]})
    write_page(tmp_path, **PAGE | {"tables": PAGE["tables"] | {"i.csv": infinite}})
    before = (tmp_path / "study.html").read_text(encoding="utf-8")
    content = read_content(tmp_path)
    assert content["comparisons"]["upper"].dtype == float
    assert render(tmp_path / "again.html", **shown_of(content)).read_text(encoding="utf-8") == before
    (tmp_path / "page.json").write_text("[]")
    with pytest.raises(DataError, match=r"page\.json.*own command again"):
        read_content(tmp_path)
