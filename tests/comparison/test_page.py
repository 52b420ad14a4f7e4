import pytest
from typer.testing import CliRunner

from browsing import opened
from comparison.conftest import cases_of
from medgan.cli import app

MEANS = {"$first$": 40.0, "<b>bold</b>": 30.0, "worse": 52.0}


@pytest.fixture(scope="module")
def page(database, judged_run, errors, tmp_path_factory):
    """The page of three runs, whose names would be formulas or markup if they could, and of one on other subjects."""
    baselines = {arm: errors[arm] for arm in ("do_nothing", "intensity_lookup")}
    for number, (name, mean) in enumerate(MEANS.items()):
        values = mean + errors["do_nothing"] - 60 + errors["noise"][number]
        judged_run(
            database, name, cases_of({"synthetic": values, **baselines}), experiment="paged", val_mae=mean,
            phantom=True, parameters={"cycle": number},
        )  # fmt: skip
    judged_run(database, "elsewhere", cases_of(baselines | {"synthetic": values}), experiment="paged", test_set="two")
    path = tmp_path_factory.mktemp("page") / "runs.html"
    arguments = ["compare", "paged", "--tracking", database, "--html", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, f"page: {path}" in result.output) == (0, True), result.output
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_from_disk_asks_nobody_and_is_right_on_a_telephone(browser, page, width):
    with opened(browser, page, width) as shown:
        assert (shown.errors, shown.requests, shown.serious()) == ([], [], [])
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width
        images = shown.page.evaluate("[...document.images].map(image => image.naturalWidth > 0)")
        assert images == [True] * 4, (
            "differences of each table; curves and quality against time where there are runs to compare"
        )


def test_the_answer_comes_first_and_names_are_text(browser, page):
    with opened(browser, page) as shown:
        answers = shown.page.locator(".answer li").all_inner_texts()
        assert answers[0].startswith("ct_contrast, table 1: <b>bold</b> has the best figure (test/mae_hu ")
        assert answers[0].endswith("and is shown to be better than 2 of 2 others.")
        assert answers[1].startswith("ct_contrast, table 2: elsewhere has no run to be compared with")
        # Its error is above the look-up's and below that of doing nothing.
        assert answers[1].endswith("But without any network, intensity look-up had a better figure.")
        assert "Phantom comparison" in shown.page.inner_text("h1")
        said = shown.page.inner_text("body")
        for part in (
            "$first$ is worse than <b>bold</b> (+",
            "intensity look-up is worse than",
            "no run is compared with",
        ):
            assert part in said
        settings = shown.page.locator("table", has_text="setting").last.inner_text()
        assert settings.split() == ["setting", "<b>bold</b>", "$first$", "worse", "cycle", "1", "0", "2"]
