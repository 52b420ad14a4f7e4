"""The server as readers meet it: a real process, real connections, a real kill."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from browsing import opened
from medgan.errors import ConfigError, DataError
from medgan.readers.answers import STORE, Answer, Store
from medgan.readers.score import score
from medgan.readers.server import application
from readers.studies import answer
from readers.test_page import begin, read_by_keyboard, text


class Served:
    """``medgan reader-study serve`` as a process, with its links by reader."""

    def __init__(self, folder, *readers):
        command = [sys.executable, "-m", "medgan", "reader-study", "serve", str(folder), "--port", "0"]
        for reader in readers:
            command += ["--reader", reader]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        self.links, self.lines = {}, []
        for line in self.process.stdout:
            self.lines.append(line)
            if link := re.match(r"(.+): (http://\S+)", line):
                self.links[link[1]] = link[2]
            if line.startswith("answers:"):
                break

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def serve():
    started = []

    def start(*arguments):
        started.append(Served(*arguments))
        return started[-1]

    yield start
    for served in started:
        served.kill()
        served.process.stdout.close()


def ask(address, content=None):
    """A status and a text."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    for attempt in range(50):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            if attempt == 49:
                raise
            threading.Event().wait(0.1)
    return None


def test_a_killed_server_loses_no_answer_and_readers_at_the_same_time_do_not_meet(make, serve):
    made = make(levels=2, seed="served")
    key, served = made.key, serve(made.folder, "ann", "bob")
    acknowledged = {"ann": [], "bob": []}
    kill_after = threading.Barrier(3)

    def read(name):
        trials = key.trials if name == "ann" else key.trials[::-1]
        for number, trial in enumerate(trials):
            if number == 8:
                kill_after.wait()
            try:
                status, _ = ask(f"{served.links[name]}/answers", answer(trial, confidence=1 + number % 5))
            except OSError:
                return
            if status == 204:
                acknowledged[name].append(trial.id)

    readers = [threading.Thread(target=read, args=(name,)) for name in acknowledged]
    for reader in readers:
        reader.start()
    kill_after.wait()
    served.kill()
    for reader in readers:
        reader.join()
    assert all(8 <= len(trials) < len(key.trials) for trials in acknowledged.values())
    again = serve(made.folder)
    assert {link.rpartition("/")[2] for link in again.links.values()} == {
        link.rpartition("/")[2] for link in served.links.values()
    }
    for name, trials in acknowledged.items():
        kept = json.loads(ask(f"{again.links[name]}/answers")[1])
        assert {each["trial"] for each in kept} >= set(trials)
        assert len(kept) - len(trials) <= 1, "at most the one that was under way"
    scored = score(key, [made.folder / STORE])
    assert set(scored.readers["reader"]) == {"ann", "bob"}


def test_only_a_reader_with_a_link_gets_in_and_only_with_answers_to_its_trials(make, serve):
    made = make(seed="strangers")
    served = serve(made.folder, "ann")
    link = served.links["ann"]
    root = link.partition("/r/")[0]
    assert root.startswith("http://127.0.0.1:")
    trial = made.key.trials[0]
    for address in (
        f"{root}/r/guess",
        f"{root}/r/guess/answers",
        f"{root}/key.json",
        f"{root}/docs",
        f"{root}/openapi.json",
    ):
        assert ask(address)[0] == 404
    for wrong in ({"trial": "nobody"}, {"choice": "real"}, {"confidence": 9}, {"why": "x" * 3000}, {"more": 1}):
        assert ask(f"{link}/answers", answer(trial) | wrong)[0] == 422
    assert json.loads(ask(f"{link}/answers")[1]) == []
    assert ask(f"{link}/answers", answer(trial, confidence=2))[0] == 204
    assert ask(f"{link}/answers", answer(trial, confidence=5))[0] == 204
    (kept,) = json.loads(ask(f"{link}/answers")[1])
    assert kept["confidence"] == 2, "the first answer stays"
    _, html = ask(link)
    assert "zaphod" not in html
    assert made.key.seed not in html


def test_two_readers_in_browsers_with_orders_of_their_own_and_a_server_that_goes_away(browser, make, serve):
    made = make(seed="browsers")
    served = serve(made.folder, "ann", "bob")
    with opened(browser, served.links["ann"]) as ann, opened(browser, served.links["bob"]) as bob:
        for seen in (ann, bob):
            begin(seen.page)
            for _ in range(3):
                read_by_keyboard(seen.page)
            assert text(seen.page).startswith("4 of")
        orders = [seen.page.evaluate("study.trials.map(t => t.id)") for seen in (ann, bob)]
        assert orders[0] != orders[1]
        ann.page.reload()
        ann.page.wait_for_selector("#trial:visible")
        assert text(ann.page).startswith("4 of")
        assert ann.errors == bob.errors == []
        own = (served.links["ann"] + "/answers", served.links["bob"] + "/answers")
        assert {*ann.requests, *bob.requests} <= {*own, served.links["ann"], served.links["bob"]}
        served.kill()
        bob.page.keyboard.press("ArrowLeft")
        bob.page.keyboard.press("3")
        bob.page.keyboard.press("Enter")
        bob.page.wait_for_selector("#problem:has-text('Not kept')")
        assert text(bob.page).startswith("4 of"), "it does not go on without the server"
    store = Store(made.folder / STORE, made.key.study)
    assert [len(store.answers(reader)) for reader in store.readers()] == [3, 3]


def test_stores_of_other_studies_and_pages_of_other_keys_are_refused(make, tmp_path):
    one, two = make(seed="one"), make(seed="two")
    application(one.folder)
    (two.folder / STORE).write_bytes((one.folder / STORE).read_bytes())
    with pytest.raises(DataError, match="another study"):
        application(two.folder)
    (two.folder / STORE).unlink()
    (two.folder / "study.html").write_bytes((one.folder / "study.html").read_bytes())
    with pytest.raises(DataError, match="not that of the key"):
        application(two.folder)
    from medgan.readers.server import serve

    with pytest.raises(ConfigError, match="--reader"):
        serve(make(seed="nobody").folder, [], print)
    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(2000))
    with pytest.raises(DataError, match="cannot be used"):
        Store(tmp_path / "broken.sqlite", "x").add_reader("ann")
    assert Answer.model_validate(answer(one.key.trials[0])).confidence == 4
