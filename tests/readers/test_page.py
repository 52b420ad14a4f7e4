"""The page in a real browser, from disk: no request, no error, every answer kept."""

import json

import pytest

from browsing import opened
from medgan.readers.answers import Answers
from medgan.readers.score import hits, score
from readers.studies import write_answers

MARKED = {"ArrowRight": "right", "ArrowLeft": "left"}


def begin(page, name="Dr Ann"):
    page.wait_for_selector("#start:visible")
    if page.locator("#who").is_visible():
        page.fill("#who", name)
    page.click("#start")
    page.wait_for_selector("#trial:visible")


def text(page):
    return page.inner_text("#count")


def shown(page):
    """The grey of every canvas's pixels, summed."""
    return page.evaluate(
        "[...document.querySelectorAll('canvas')].map(c => "
        "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.reduce((a, b) => a + b, 0))"
    )


def read_by_keyboard(page, key="ArrowRight", sure="4"):
    """Answer a trial, and go on after feedback."""
    before = text(page)
    page.keyboard.press(key)
    page.keyboard.press(sure)
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.getElementById('next').textContent === 'Go on' || document.getElementById('trial').hidden"
        " || document.getElementById('count').textContent !== before",
        arg=before,
    )
    if page.inner_text("#next") == "Go on" and page.locator("#trial").is_visible():
        page.keyboard.press("Enter")
        page.wait_for_function(
            "before => document.getElementById('count').textContent !== before"
            " || document.getElementById('trial').hidden",
            arg=before,
        )


def saved(page, folder):
    with page.expect_download() as download:
        page.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_reader_goes_through_all_trials_offline_and_resumes_after_a_reload(browser, choice_study, tmp_path):
    key = choice_study.key
    with opened(browser, choice_study.folder / "study.html") as seen:
        page = seen.page
        begin(page)
        for _ in range(12):
            read_by_keyboard(page)
        assert text(page) == f"13 of {len(key.trials)}"
        page.reload()
        page.wait_for_selector("#trial:visible")
        assert text(page) == f"13 of {len(key.trials)}"
        for number in range(12, len(key.trials)):
            if number % 2:  # by the mouse
                page.click("#choices label:nth-of-type(1)")
                page.click("#sure label:nth-of-type(5)")
                page.fill("#why", "too smooth")
                page.click("#next")
            else:
                read_by_keyboard(page)
            done = number + 1 == len(key.trials)
            page.wait_for_selector("#done:visible" if done else f"#count:has-text('{number + 2} of')")
        path = saved(page, tmp_path)
        page.click("#other")
        begin(page, "Dr Bob")
        assert text(page) == f"1 of {len(key.trials)}", "another reader of this browser begins anew"
        page.keyboard.press("p")
        page.click("#otherPaused")
        page.wait_for_selector("#start:visible")
        page.fill("#who", "Dr Ann")
        page.keyboard.press("Enter")
        page.wait_for_selector("#done:visible")
        assert seen.requests == []
        assert seen.errors == []
        assert seen.serious() == []
    answers = Answers.model_validate(json.loads(path.read_text()))
    assert [answer.trial for answer in answers.answers] == [trial.id for trial in key.trials]
    assert [answer.choice for answer in answers.answers[:13]] == ["right"] * 13
    assert {(answer.choice, answer.confidence, answer.why) for answer in answers.answers[13::2]} == {
        ("left", 5, "too smooth")
    }
    assert all(0 <= answer.seconds < 60 for answer in answers.answers)
    scored = score(key, [path])
    wanted = sum(
        (answer.choice == trial.answer)
        for answer, trial in zip(answers.answers, key.trials, strict=True)
        if trial.role == "scored"
    )
    assert scored.readers.iloc[0]["right"] == pytest.approx(wanted / 12)


@pytest.mark.parametrize("width", [1280, 390])
def test_slices_window_and_zoom_change_what_is_seen_in_both_images_alike(browser, choice_study, width):
    with opened(browser, choice_study.folder / "study.html", width) as seen:
        page = seen.page
        begin(page)
        views = [shown(page)]
        for press in ("ArrowUp", "PageDown", "w", "e", "+", "Shift+ArrowLeft"):
            page.keyboard.press(press)
            views.append(shown(page))
            assert all(a != b for a, b in zip(views[-1], views[-2], strict=True)), press
        page.mouse.move(*(side / 2 for side in (width, 500)))
        page.locator("canvas").first.hover()
        page.mouse.wheel(0, 100)
        page.wait_for_selector("#sliceText:has-text('4 / 9')")
        page.select_option("#preset", label="whole range −360 … 440 HU")
        assert page.inner_text("#window") == "−360 … 440 HU"
        page.click("#in")
        page.keyboard.press("ArrowUp")
        assert page.inner_text("#sliceText") == "5 / 9", "keys work on after the mouse"
        page.click("#reset")
        assert page.inner_text("#window") == "−160 … 240 HU"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.serious() == []
        assert seen.errors == seen.requests == []


def test_a_pause_hides_the_images_and_stops_the_clock(browser, choice_study, tmp_path):
    with opened(browser, choice_study.folder / "study.html") as seen:
        page = seen.page
        begin(page)
        page.keyboard.press("p")
        assert not page.locator("canvas").first.is_visible()
        page.wait_for_timeout(1200)
        assert seen.serious() == []
        page.keyboard.press("Enter")
        read_by_keyboard(page)
        kept = page.evaluate("state.answers")
    assert kept[0]["seconds"] < 1.2


def test_lesions_are_marked_by_mouse_and_by_keyboard_and_unaware_readers_are_asked(browser, make, tmp_path):
    made = make("find", unaware_first=True, burn_in=2)
    key = made.key
    by_id = {trial.id: trial for trial in key.trials}
    with opened(browser, made.folder / "study.html") as seen:
        page = seen.page
        page.wait_for_selector("#start:visible")
        assert "synthetic" not in page.inner_text("body").lower()
        begin(page)
        find = [trial for trial in key.trials if trial.task == "find"]
        for number, trial in enumerate(find):
            if trial.lesions:
                lesion, same = trial.lesions[0], key.equalised
                page.fill("#slice", str(lesion.first))
                if number % 2:
                    box = page.locator("canvas").bounding_box()
                    x, y = (lesion.column + 0.5) / same.columns, (lesion.row + 0.5) / same.rows
                    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
                else:
                    page.focus("canvas")
                    right = round((lesion.column - round(same.columns / 2)) / 2)
                    down = round((lesion.row - round(same.rows / 2)) / 2)
                    steps = {"ArrowRight": right, "ArrowLeft": -right, "ArrowDown": down, "ArrowUp": -down}
                    for press, times in steps.items():
                        for _ in range(times):
                            page.keyboard.press(press)
                    page.keyboard.press("Enter")
                assert page.is_checked("input[value=present]")
                read_by_keyboard(page, "3")
            else:
                read_by_keyboard(page)
            if trial is not find[-1]:
                page.wait_for_selector(f"#count:has-text('{number + 2} of')")
        page.wait_for_selector("#noticed:visible")
        page.fill("#noticed", "rather smooth")
        page.click("#start")
        page.wait_for_selector("#introText:has-text('synthetic')")
        page.click("#start")
        page.wait_for_selector("#trial:visible")
        read_by_keyboard(page)
        answers = page.evaluate("state.answers")
        assert seen.errors == seen.requests == seen.serious() == []
    assert answers[len(find)]["why"] == "rather smooth"
    found = score(key, [write_answers(tmp_path / "a.json", key, "ann", answers)])
    assert found.noticed == {"ann": "rather smooth"}
    assert found.readers.set_index("task").loc["find", "right"] == 1
    marked = [answer for answer in answers if answer["mark"]]
    assert marked
    assert all(hits(by_id[answer["trial"]], type("Mark", (), answer["mark"])) for answer in marked)
