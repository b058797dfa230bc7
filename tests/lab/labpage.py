"""The lab's page in a browser, and the numbers that it should show."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine import WEB, check_tools

from rmsprop import RMSprop, expression

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# WebGL in software, and the rest of the page without it: the fastest way on a machine without a GPU.
SOFTWARE = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]


def find_page() -> Path:
    """Return the built page; build it if possible, else skip the test."""
    from rmsprop.lab.export import PAGE

    if not PAGE.exists():
        check_tools()
        subprocess.run(["node", "build.mjs"], cwd=WEB, env={**os.environ, "PYTHON": sys.executable}, check=True)
    return PAGE


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Start a headless Chromium."""
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
    """An open page, its console errors, and its requests to other hosts."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        options = {"viewport": {"width": 1280, "height": 720}, "color_scheme": "light", **context}
        self.url = url
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.foreign_requests: list[str] = []
        self.page.on("console", self._record_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._record_request)

    def _record_message(self, message: Any) -> None:
        # The software driver reports its own speed.
        is_driver = "GL Driver Message" in message.text
        if message.type in ("error", "warning") and not is_driver:
            self.errors.append(message.text)

    def _record_request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign_requests.append(request.url)

    def open(self, hash: str = "") -> Lab:
        self.page.goto(self.url + hash)
        self.wait_until("!!window.__lab && window.__lab.app.answers > 0 && !!window.__lab.app.surface")
        return self

    def wait_until(self, condition: str, seconds: float = 60.0) -> None:
        """Wait for a condition. Playwright's own way evaluates text inside the page, which its policy forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"() => Boolean({condition})"):
            assert time.monotonic() < end, f"not true after {seconds:g} s: {condition}"
            self.page.wait_for_timeout(15)

    def take_new_screenshot(self, name: str, *old: bytes, seconds: float = 60.0) -> bytes:
        """Return a screenshot of an element when it differs from the old ones."""
        end = time.monotonic() + seconds
        while (shot := self.page.locator(name).screenshot()) in old:
            assert time.monotonic() < end, f"{name} did not change in {seconds:g} s"
            self.page.wait_for_timeout(15)
        return bytes(shot)

    def get(self, expression: str) -> Any:
        return self.page.evaluate(f"() => {expression}")

    @contextlib.contextmanager
    def wait_for_answer(self) -> Iterator[None]:
        """Wait until the request that the block causes is answered."""
        before = self.get("__lab.app.answers")
        yield
        self.wait_until(f"__lab.app.answers > {before}")
        self.page.wait_for_timeout(60)

    def get_points(self, run: int) -> list[float]:
        points: list[float] = self.get(f"Array.from(__lab.app.result.runs[{run}].x)")
        return points

    def get_losses(self) -> list[str]:
        """Return the losses beside the timeline, as the page writes them."""
        return [text.strip() for text in self.page.locator("#values .value").all_inner_texts()]

    def close(self) -> None:
        self.context.close()
        assert self.errors == []
        assert self.foreign_requests == []


def format_number(value: float, digits: int = 4) -> str:
    """Return a number as the page writes it."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e6 or size < 1e-4:
        mantissa, _, exponent = f"{value:.{digits - 2}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    text = f"{value:.{digits}g}"
    return (repr(float(text)).removesuffix(".0")).replace("-", "−")


def run_ravine(rule=None, steps=20, lr=0.4):
    """Run the page's default experiment with the library; return the points and the values."""
    f = expression.parse("0.1*x^2 + 2*y^2")
    p = np.array([-5.0, -2.0])
    optimizer = RMSprop(p, lr=lr, dialect=rule)
    points = [p.copy()]
    for _ in range(steps):
        optimizer.step(f.grad(p))
        points.append(p.copy())
    return np.array(points), np.array([f(point) for point in points])


def open_fields(lab):
    """Return the first optimizer's card, with its details open."""
    # The page's own listener gets the event before this one.
    opening = """() => new Promise((done) => {
        const more = document.querySelector('.card .more');
        if (more.open) return done();
        more.addEventListener('toggle', () => done(), { once: true });
        more.open = true;
    })"""
    lab.page.evaluate(opening)
    return lab.page.locator(".card").first
