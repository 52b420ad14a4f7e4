"""Pages in a real browser, and programs of the machine that a test may need."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NOT_SERIOUS = ("minor", "moderate", None)


def required(program: str, folders: str = "") -> str:
    """The path of a program, also in ``folders`` (a pattern below /); the test skips without it, and fails in CI."""
    places = sorted(Path("/").glob(f"{folders}/{program}")) if folders else []
    if place := shutil.which(program) or next(map(str, places), None):
        return place
    message = f"{program} is not installed: Debian has it as a package"
    if os.environ.get("MEDGAN_REQUIRE"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def launched() -> Iterator[Browser]:
    """Debian's Chromium without a window, once a process (the fixture ``browser``); WebGL is computed by the CPU."""
    program = required("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, with what it asked of the network and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    """Addresses other than the page's own and data within it."""
    errors: list[str] = field(default_factory=list)

    def serious(self) -> list[str]:
        """What axe finds that is serious or critical."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {each['help']}" for each in found if each["impact"] not in NOT_SERIOUS]


@contextmanager
def opened(browser: Browser, address: Path | str, width: int = 1280, height: int = 900) -> Iterator[Opened]:
    """A file from disk, or an address of this machine, in a fresh profile."""
    url = address.absolute().as_uri() if isinstance(address, Path) else address
    context = browser.new_context(viewport={"width": width, "height": height})
    shown = Opened(context.new_page())
    shown.page.on("pageerror", lambda error: shown.errors.append(str(error)))
    shown.page.on("console", lambda line: shown.errors.append(line.text) if line.type == "error" else None)
    shown.page.on(
        "request",
        lambda asked: (
            shown.requests.append(asked.url)
            if asked.url.partition("#")[0] != url.partition("#")[0] and not asked.url.startswith(("data:", "blob:"))
            else None
        ),
    )
    shown.page.goto(url)
    yield shown
    context.close()
