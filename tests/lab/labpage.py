"""What the tests of the lab's page share: the built page, a browser, a page that is ready, and its default scene."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import serving

from rmsprop import RMSprop, expression

WEB = Path(__file__).parents[2] / "web"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# WebGL in software, and the page itself put together without it: a machine without a GPU is quickest so.
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]


def built() -> Path:
    """The page's folder; built first where it is missing and can be, else the test is skipped by name."""
    from rmsprop.lab.server import PAGE

    if not (PAGE / "index.html").exists():
        if shutil.which("node") is None:
            pytest.skip("node is not installed: it builds the lab's page")
        if not (WEB / "node_modules").exists():
            pytest.skip("the lab's page is not built: make lab")
        subprocess.run(["node", "build.mjs"], cwd=WEB, check=True)
    return PAGE


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it drives the browser")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"chromium is not installed at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE)
        try:
            yield browser
        finally:
            browser.close()


class Lab:
    """One open page, and what it did that it should not."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 720}, "color_scheme": "light", **context}
        self.url = url
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.expected = 0
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        refused = self.expected and "422" in message.text
        # A software driver remarks on its own speed; that is no word of the page's.
        remark = "GL Driver Message" in message.text
        if message.type in ("error", "warning") and not refused and not remark:
            self.errors.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def open(self, hash: str = "") -> Lab:
        self.page.goto(self.url + hash)
        self.until("!!window.__lab && window.__lab.app.answers > 0 && !!window.__lab.app.surface")
        return self

    def until(self, condition: str, seconds: float = 20.0) -> None:
        """Wait for a condition; the page's policy forbids Playwright's own way, which evaluates text inside it."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"() => Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            self.page.wait_for_timeout(15)

    def get(self, expression: str) -> Any:
        return self.page.evaluate(f"() => {expression}")

    @contextlib.contextmanager
    def answer(self) -> Iterator[None]:
        """Wait until the server has answered what the block did."""
        before = self.get("__lab.app.answers")
        yield
        self.until(f"__lab.app.answers > {before}")
        self.page.wait_for_timeout(60)

    def points(self, run: int) -> list[float]:
        found: list[float] = self.get(f"Array.from(__lab.app.result.runs[{run}].x)")
        return found

    def shown(self) -> list[str]:
        """The losses beside the timeline, as the page writes them."""
        return [text.strip() for text in self.page.locator("#values .value").all_inner_texts()]

    def close(self) -> None:
        self.context.close()
        assert self.errors == []
        assert self.foreign == []


def written(value: float, digits: int = 4) -> str:
    """A number as the page writes it."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e6 or size < 1e-4:
        mantissa, _, exponent = f"{value:.{digits - 2}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return (repr(float(text)).removesuffix(".0")).replace("-", "−")


@pytest.fixture(name="browser", scope="module")
def browser_fixture():
    built()
    with browsing() as found:
        yield found


@pytest.fixture(name="url", scope="module")
def url_fixture():
    with serving() as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(name="lab")
def lab_fixture(browser, url):
    opened = Lab(browser, url).open()
    yield opened
    opened.close()


def ravine(rule=None, steps=20, lr=0.4):
    """The default scene as a user of the library runs it."""
    f = expression.parse("0.1*x^2 + 2*y^2")
    p = np.array([-5.0, -2.0])
    optimizer = RMSprop(p, lr=lr, dialect=rule)
    points = [p.copy()]
    for _ in range(steps):
        optimizer.step(f.grad(p))
        points.append(p.copy())
    return np.array(points), np.array([f(point) for point in points])


def own_fields(lab):
    # The page hears of it in an event, after its own listener this one.
    opening = """() => new Promise((done) => {
        const more = document.querySelector('.card .more');
        if (more.open) return done();
        more.addEventListener('toggle', () => done(), { once: true });
        more.open = true;
    })"""
    lab.page.evaluate(opening)
    return lab.page.locator(".card").first
