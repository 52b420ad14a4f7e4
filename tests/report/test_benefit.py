"""The page as a browser's parser sees it, against the study that it is of."""

import html
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from medgan.report.benefit import command, dice_by_arm, facts, write_report
from medgan.report.findings import read_findings

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


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture
def without_plots(make_study):
    """A study whose page draws nothing: ``without_plots(**fields of benefit.json)``, for what is in words."""

    def make(**fields):
        folder = make_study(**{"comparisons": [], "worst": []} | fields)
        (folder / "curves.csv").unlink()
        return folder

    return make


def test_the_page_is_whole_and_needs_nothing_else(make_study):
    folder = make_study()
    page = page_of(folder)
    assert (folder / "benefit.html").is_file()
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
def test_a_phantom_is_called_one_in_the_title_and_nothing_else_is(without_plots, phantom):
    text = write_report(without_plots(phantom=phantom)).read_text(encoding="utf-8")
    title, heading = (re.search(f"<{tag}>(.*?)</{tag}>", text)[1].lower() for tag in ("title", "h1"))
    assert ("phantom" in title, "phantom" in heading) == (phantom, phantom)


def test_a_quick_run_is_called_no_evidence(without_plots):
    assert "no evidence" in page_of(without_plots(quick=True)).text
    assert "no evidence" not in page_of(without_plots(quick=False)).text


def test_the_page_says_how_it_was_run(without_plots):
    text = page_of(
        without_plots(left_out={"oracle": "no labels"}, failures=[{"child": "real,seed=0", "reason": "NaN"}])
    ).text
    for said in (
        "5f0c2a7b9d",
        "1200 iterations of 4 patches",
        "3 of 32",
        "no labels",
        "Failed: real,seed=0",
        "0, 1, 2",
    ):
        assert said in text
    assert "medgan benefit --pipeline ct_contrast" in text


def test_names_from_files_are_text_and_no_markup(without_plots):
    page = page_of(without_plots(pipeline="<script>alert(1)</script>"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text


def test_a_case_that_cannot_be_shown_is_named_with_the_reason_and_stops_nothing(without_plots):
    case = {
        "arm": "real",
        "subject": "s9",
        "organ": "liver",
        "dice": None,
        "truth": "t.nii.gz",
        "label_map": "l.nii.gz",
    }
    folder = without_plots(worst=[case | {"image": "gone.nii.gz"}])
    text = page_of(folder).text
    assert "Not shown: gone.nii.gz: cannot be read" in text
    assert str(folder) not in text
    assert "Dice not defined" in text


def test_what_a_study_lacks_is_not_shown(without_plots):
    text = page_of(without_plots(rejected={})).text
    assert "Learning curves" not in text
    assert "Worst cases" not in text
    assert "rejected" not in text


def test_dice_of_an_arm_is_the_mean_over_subjects_by_hand(make_study):
    found = read_findings(make_study())
    own = found.rows.query("arm == 'oracle' and organ == 'liver' and test_set == 'in'")
    by_hand = own.groupby("subject")["dice"].mean()
    row = next(row for row in dice_by_arm(found) if row["arm"] == "oracle")
    assert row["cells"][3]["mean"] == pytest.approx(by_hand.mean())
    assert row["cells"][3]["std"] == pytest.approx(by_hand.std())
    assert row["cells"][3]["count"] == 8


def test_a_recorded_command_is_shown_as_it_was(make_study):
    assert command(read_findings(make_study(command="medgan benefit --pipeline x"))) == "medgan benefit --pipeline x"
    assert command(read_findings(make_study(phantom=False, quick=True))).endswith("--quick --data COHORT.csv")


def test_facts_count_the_subjects_of_each_test_set(make_study):
    assert facts(read_findings(make_study()))["Test subjects"] == "8 out of distribution, 8 in distribution"


@pytest.mark.parametrize(("arm", "said"), [("real+synthetic", "100 %, chosen on validation subjects"), (None, "100 %")])
def test_a_ratio_that_was_swept_was_chosen_and_one_that_was_set_was_not(make_study, arm, said):
    assert facts(read_findings(make_study(sweep={"arm": arm})))["Synthetic to real images"] == said


HOSTILE = (
    "<script>alert(1)</script>", "$\\frac{$", '"><img src=x onerror=y>', "{{ 7 * 7 }}", "[/red]", "=cmd()", "a\nb",
)  # fmt: skip


@pytest.mark.parametrize("organ", HOSTILE)
def test_a_hostile_organ_breaks_neither_page_nor_plots(make_study, organ):
    folder = make_study()
    record = json.loads((folder / "benefit.json").read_text())
    record["organs"] = {organ: 2, "liver": 1}
    for row in (*record["comparisons"], *record["worst"]):
        row["organ"] = row["organ"].replace("kidney", organ)
        if "subject" in row:
            row["subject"] = organ
    (folder / "benefit.json").write_text(json.dumps(record))
    rows = pd.read_csv(folder / "benefit.csv").replace({"kidney": organ, "phantom-003": organ})
    rows.to_csv(folder / "benefit.csv", index=False)
    page = write_report(folder).read_text(encoding="utf-8")
    assert html.escape(organ).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    tags = re.findall(r"<(script|img)[^>]*>", page)
    assert "script" not in tags
    assert "onerror=y>" not in page.replace("onerror=y&gt;", "")
    assert page.count("data:image/png") == 1, "the worst case is still shown"
