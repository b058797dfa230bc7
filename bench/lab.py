"""The lab as a person meets it: time to the first paint, from a slider to the new picture, and for a heat map.

    python -m bench lab [--quick]

The promises, on 2 cores: first paint within 1 s; 4 optimizers drawn within 25 ms of a slider's move with 20 steps, and
within 60 ms with 3000, in 95 of 100 moves; a heat map of 64 x 64 cells x 2000 steps of Rosenbrock's valley within
0.4 s; a page of at most 260 KB, compressed. Chromium is headless and draws WebGL in software.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUNS = ("rmsprop", "adagrad", "momentum", "adam")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]

READY = "!!window.__lab && __lab.app.answers > 0 && !!__lab.app.surface"
FOUR = """() => {
    const { app } = __lab;
    const first = structuredClone(app.state.runs[0]);
    app.change({ steps: STEPS, runs: NAMES.map((optimizer) => ({ ...first, optimizer, dialect: null, own: {} })) });
}"""
DRAWN = """
    const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const drawn = async (act) => {
        const before = __lab.app.answers, begin = performance.now();
        act();
        while (__lab.app.answers === before) await new Promise((done) => setTimeout(done, 0));
        await painted();
        return performance.now() - begin;
    };
"""
SLIDER = f"""async (to) => {{ {DRAWN}
    const slider = document.querySelector('input[type=range][data-name="lr"]');
    return drawn(() => {{ slider.value = to; slider.dispatchEvent(new Event("input", {{ bubbles: true }})); }});
}}"""
HEAT = """async (i) => {
    const { api, app } = __lab, begin = performance.now();
    const text = "(1 - x)^2 + 100*(y - x^2)^2";
    await api.sweep({ ...app.state, text, start: [-1.2, 1 + i / 1000], steps: 2000 }, 0, "rho");
    return performance.now() - begin;
}"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main(quick: bool = False) -> dict[str, Any]:
    rounds = 5 if quick else 21
    with serve_lab() as port:
        rows = [bundle(), *in_the_browser(port, rounds)]
    return {"the lab": rows}


@contextmanager
def serve_lab() -> Iterator[int]:
    """Run `rmsprop lab` in a process of its own; yield its port."""
    words = [sys.executable, "-m", "rmsprop", "lab", "--port", "0", "--no-open"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if found is None:
            raise RuntimeError(f"the lab did not start, it said {line!r}: make lab builds its page")
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def row(what: str, value: float, unit: str, asked: float) -> dict[str, Any]:
    return {"what": what, "measured": value, "unit": unit, "asked, at most": asked}


def bundle() -> dict[str, Any]:
    from rmsprop.lab.export import PAGE

    return row("page, compressed", len(gzip.compress(PAGE.read_bytes())) / 1000, "KB", 260)


def in_the_browser(port: int, rounds: int) -> list[dict[str, Any]]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("the browser's part: skipped, playwright is not installed")
        return []
    if not Path(CHROMIUM).exists():
        print(f"the browser's part: skipped, chromium is not installed at {CHROMIUM}")
        return []
    paints: list[float] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for _ in range(min(rounds, 7)):
            context = browser.new_context(viewport={"width": 1280, "height": 720})
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            while not page.evaluate(f"() => {READY}"):
                page.wait_for_timeout(20)
            paints.append(page.evaluate(PAINT))
            if len(paints) < min(rounds, 7):
                context.close()
        sliders = []
        for steps in (20, 3000):
            page.evaluate(FOUR.replace("NAMES", json.dumps(RUNS)).replace("STEPS", str(steps)))
            page.wait_for_timeout(1000)
            times = sorted(page.evaluate(SLIDER, 300 + i) for i in range(2 * rounds))
            sliders.append(times[int(0.95 * len(times))])
        heat = statistics.median(page.evaluate(HEAT, i) for i in range(rounds))
        browser.close()
    return [
        row("page, first paint in a fresh profile", statistics.median(paints), "ms", 1000),
        row("slider to picture, 20 steps x 4, p95", sliders[0], "ms", 25),
        row("slider to picture, 3000 steps x 4, p95", sliders[1], "ms", 60),
        row("heat map 64 x 64 x 2000 steps", heat, "ms", 400),
    ]
