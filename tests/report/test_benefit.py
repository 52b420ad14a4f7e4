"""The page as a browser's parser sees it, and what is said of figures whose meaning is known."""

import html
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from medgan.data.streams import write_csv, write_json
from medgan.errors import DataError
from medgan.evaluation.statistics import plain
from medgan.report.benefit import (
    _answer,
    _caveats,
    _details,
    _dice_by_arm,
    _facts,
    _question,
    read_findings,
    shown_of,
    write_report,
)  # fmt: skip
from medgan.report.html import render

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, visible text, and whether all is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.unbalanced = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def page_of(found):
    return Page(write_report(found).read_text(encoding="utf-8"))


@pytest.fixture
def without_plots(make_study):
    """A study whose page draws nothing: ``without_plots(**fields of benefit.json)``, for what is in words."""

    return lambda **fields: make_study(**{"comparisons": [], "worst": [], "curves": pd.DataFrame()} | fields)


def test_the_page_is_whole_and_needs_nothing_else(make_study):
    found = make_study()
    page = page_of(found)
    assert (found.folder / "benefit.html").is_file()
    assert (page.open, page.unbalanced) == ([], [])
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2 * 2 + 1 + 1  # organs x test sets, learning curves, one case
    assert all(source.startswith("data:image/") for source in sources)
    assert ("meta", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in [
        (tag, attributes.get("content")) for tag, attributes in page.tags
    ]
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    assert "kidney: yes" in page.text
    assert "liver: no difference is shown" in page.text


@pytest.mark.parametrize("phantom", [True, False])
def test_a_phantom_is_called_one_in_the_title_and_a_quick_run_no_evidence(without_plots, phantom):
    text = write_report(without_plots(phantom=phantom, quick=phantom)).read_text(encoding="utf-8")
    title, heading = (re.search(f"<{tag}>(.*?)</{tag}>", text)[1].lower() for tag in ("title", "h1"))
    assert {"phantom" in title, "phantom" in heading, "no evidence" in text} == {phantom}


def test_the_page_says_how_it_was_run_and_names_from_files_are_no_markup(without_plots):
    failures = [{"child": "real,seed=0", "reason": "NaN"}]
    page = page_of(without_plots(left_out={"oracle": "no labels"}, failures=failures, pipeline="<script>alert(1)"))
    for words in (
        "5f0c2a7b9d", "1200 iterations of 4 patches", "3 of 32", "no labels", "Failed: real,seed=0", "0, 1, 2",
        "medgan benefit --pipeline ct_contrast", "<script>alert(1)",
    ):  # fmt: skip
        assert words in page.text
    assert "script" not in {tag for tag, _ in page.tags}


def test_a_case_that_cannot_be_shown_is_named_with_the_reason_and_what_a_study_lacks_is_not_shown(without_plots):
    files = {"image": "gone.nii.gz", "truth": "t.nii.gz", "label_map": "l.nii.gz"}
    case = {"arm": "real", "subject": "s9", "organ": "liver", "test_set": "in", "dice": None, "value": 1}
    found = without_plots(worst=[case | files])
    text = page_of(found).text
    assert "Not shown: gone.nii.gz: cannot be read" in text
    assert str(found.folder) not in text
    assert "Dice not defined" in text
    text = page_of(without_plots(rejected={})).text
    assert not [words for words in ("Learning curves", "Worst cases", "rejected") if words in text]


def test_the_page_is_written_anew_from_the_studys_files(make_study, tmp_path):
    found = make_study()
    page = write_report(found).read_text(encoding="utf-8")
    record = found.record | {"comparisons": plain(found.comparisons), "learning_curves": "curves.csv"}
    write_json(tmp_path / "benefit.json", record)
    write_csv(tmp_path / "benefit.csv", found.rows)
    write_csv(tmp_path / "curves.csv", found.curves)
    again = render(tmp_path / "again.html", **shown_of(read_findings(tmp_path))).read_text(encoding="utf-8")
    without_pictures = [re.sub(r"base64,[^\"]*", "", text) for text in (page, again)]
    assert without_pictures[0] == without_pictures[1]
    (tmp_path / "curves.csv").unlink()
    with pytest.raises(DataError, match="own command again"):
        read_findings(tmp_path)


def test_dice_of_an_arm_is_the_mean_over_subjects_by_hand(make_study):
    found = make_study()
    own = found.rows.query("arm == 'oracle' and organ == 'liver' and test_set == 'in'")
    by_hand = own.groupby("subject")["dice"].mean()
    cell = _dice_by_arm(found).set_index("arm").loc["oracle", "liver, in distribution"]
    assert cell == f"{by_hand.mean():.3f} ± {by_hand.std():.3f} (n=8)"


@pytest.mark.parametrize(("arm", "said"), [("real+synthetic", "100 %, chosen on validation subjects"), (None, "100 %")])
def test_a_ratio_that_was_swept_was_chosen_and_one_that_was_set_was_not(make_study, arm, said):
    listed = _facts(make_study(sweep={"arm": arm}))
    assert listed["Synthetic to real images"] == said
    assert listed["Test subjects"] == "8 out of distribution, 8 in distribution"


HOSTILE = "<script>alert(1)</script>{{ 7 * 7 }}[/red]=cmd()a\nb", '$\\frac{$"><img src=x onerror=y>'


@pytest.mark.parametrize("organ", HOSTILE)
def test_a_hostile_organ_breaks_neither_page_nor_plots(make_study, organ):
    found = make_study()
    worst = [case | {"organ": organ, "subject": organ} for case in found.record["worst"]]
    hostile = {"kidney": organ, "phantom-003": organ}
    page = write_report(
        make_study(rows=found.rows.replace(hostile), comparisons=found.comparisons.replace(hostile), worst=worst)
    ).read_text(encoding="utf-8")
    assert html.escape(organ).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    tags = re.findall(r"<(script|img)[^>]*>", page)
    assert "script" not in tags
    assert "onerror=y>" not in page.replace("onerror=y&gt;", "")
    assert page.count("data:image/png") == 1, "the worst case is still shown"


SURE = {"n": 12, "p_value": 0.001, "p_holm": 0.01, "trainings": 3, "lowest_training": 0.0, "highest_training": 0.2}
ADDED = {"arm": "real+standard+synthetic", "reference": "real+standard"}


def effect(mean, lower, upper, **other):
    named = {"test_set": "out", "organ": "kidney", "metric": "dice"} | ADDED
    return named | SURE | {"mean": mean, "lower": lower, "upper": upper} | other


@pytest.mark.parametrize(
    ("bounds", "p_holm", "expected"),
    [
        ((0.02, 0.18), 0.01, "kidney: yes. Dice +0.100 [+0.020, +0.180], n = 12 subjects"),
        ((0.02, 0.18), 0.30, "kidney: yes by the interval, but not after correction over the arms."),
        ((-0.02, 0.22), 0.30, "kidney: no difference is shown."),
        ((-0.02, 0.22), 0.01, "kidney: no difference is shown."),
        ((-0.30, -0.10), 0.01, "kidney: no, it harms."),
        ((None, None), None, "kidney: cannot be said."),
    ],
)
def test_the_answer_is_that_of_the_interval_and_of_the_correction(make_study, bounds, p_holm, expected):
    asked, (told,) = _answer(make_study(comparisons=[effect(0.1, *bounds, p_holm=p_holm)]))
    assert "real+standard+synthetic against real+standard" in asked
    assert told.startswith(expected)


def test_every_organ_has_its_own_answer_and_without_standard_arms_the_plain_pair_is_asked_about(make_study):
    _, told = _answer(make_study(comparisons=[effect(0.1, 0.05, 0.15), effect(0.0, -0.1, 0.1, organ="liver")]))
    assert [line.split(".")[0] for line in told] == ["kidney: yes", "liver: no difference is shown"]
    plain = {"arm": "real+synthetic", "reference": "real"}
    assert _question(make_study(comparisons=[effect(0.1, 0.05, 0.15, **plain)])) == ("real+synthetic", "real")


@pytest.mark.parametrize(
    "effects", [(), (effect(0.1, 0.0, 0.2, arm="oracle"),), (effect(0.1, 0.05, 0.2, test_set="in"),)]
)
def test_without_an_arm_to_judge_nothing_is_claimed(make_study, effects):
    asked, told = _answer(make_study(comparisons=effects))
    assert "cannot be said" in asked
    assert told == []


CONTROL = {"arm": "real+shuffled", "reference": "real"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (effect(-0.15, -0.2, -0.1, **CONTROL), "hurts, as it must"),
        (effect(0.15, 0.1, 0.2, **CONTROL), "HELPS"),
        (effect(0.0, -0.1, 0.1, **CONTROL), "with care"),
        (effect(0.01, -0.1, 0.1, reference="real+matched"), "not shown to be better than histogram matching"),
        (effect(-0.05, -0.08, -0.02, test_set="in"), "In distribution, kidney: lower."),
    ],
)
def test_controls_are_judged_and_what_it_costs_in_distribution_is_said(make_study, given, said):
    (told,) = _details(make_study(comparisons=[given]))
    assert said in told


@pytest.mark.parametrize(("n", "said"), [(5, "0.062: this study is too small"), (12, "0.00049.")])
def test_the_lowest_p_that_a_study_can_reach_is_said(make_study, n, said):
    *_, last = _caveats(make_study(comparisons=[effect(0.1, 0.0, 0.2, n=n)]))
    assert last.partition("below ")[2].startswith(said)
