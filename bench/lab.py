"""The lab as a person meets it: seconds to the first paint, from a slider to the new picture, and in the server.

    python -m bench lab [--quick]

The promises, on 2 cores: first paint within 1 s; a new run of 4 optimizers x 1000 steps drawn within 100 ms of a
slider's release, of which the server takes at most 30; a heat map of 64 x 64 cells x 500 steps within 0.3 s; a bundle
of at most 350 KB, gzipped. Chromium is headless and draws WebGL in software; its processes share the cores with the
server. A time is the median of its rounds.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
    app.change({ steps: 1000, runs: NAMES.map((optimizer) => ({ ...first, optimizer, dialect: null, own: {} })) });
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
START = f"""async (to) => {{ {DRAWN}
    return drawn(() => __lab.app.change({{ start: [-5 + to / 1000, -2] }}));
}}"""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main(quick: bool = False) -> dict[str, Any]:
    rounds = 5 if quick else 21
    with serve_lab() as port:
        rows = [*in_the_server(port, rounds), bundle(), *in_the_browser(port, rounds)]
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


def time_calls(call: Callable[[int], Any], rounds: int) -> float:
    times = []
    for i in range(rounds):
        begin = time.perf_counter()
        call(i)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def in_the_server(port: int, rounds: int) -> list[dict[str, Any]]:
    """Whole requests over loopback, each with a setting that the server has not seen."""
    base = {"function": "0.1*x^2 + 2*y^2", "start": [-5.0, -2.0], "domain": [[-6, 6], [-3, 3]]}

    def post(name: str, body: Any) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", f"/api/{name}", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(content.decode())

    def run(*rates: float) -> dict[str, Any]:
        return {**base, "steps": 1000, "runs": [{"optimizer": o, "lr": lr} for o, lr in zip(RUNS, rates)]}

    def heat(i: int) -> dict[str, Any]:
        lr = [0.001 * (1 + i / 100), 1.0]
        return {
            **base,
            "steps": 500,
            "cells": 64,
            "lr": lr,
            "other": [0.0, 0.999],
            "runs": [{"optimizer": "rmsprop", "lr": 0.1}],
        }

    post("run", run(0.5, 0.5, 0.5, 0.5))
    return [
        row("server, all 4 runs new", time_calls(lambda i: post("run", run(*[0.01 + i / 1e4] * 4)), rounds), "ms", 30),
        row(
            "server, 1 of 4 runs new",
            time_calls(lambda i: post("run", run(0.02 + i / 1e4, 0.5, 0.5, 0.5)), rounds),
            "ms",
            30,
        ),
        row("server, heat map 64 x 64 x 500 steps", time_calls(lambda i: post("sweep", heat(i)), rounds), "ms", 300),
    ]


def bundle() -> dict[str, Any]:
    from rmsprop.lab.server import PAGE

    size = sum(len(gzip.compress(path.read_bytes())) for path in Path(PAGE).rglob("*") if path.is_file())
    return row("page, gzipped", size / 1024, "KiB", 350)


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
        page.evaluate(FOUR.replace("NAMES", json.dumps(RUNS)))
        page.wait_for_timeout(1000)
        slider = statistics.median(page.evaluate(SLIDER, 300 + i) for i in range(rounds))
        start = statistics.median(page.evaluate(START, 1 + i) for i in range(rounds))
        browser.close()
    return [
        row("page, first paint in a fresh profile", statistics.median(paints), "ms", 1000),
        row("slider to picture, 1 of 4 runs new", slider, "ms", 100),
        row("start moved to picture, all 4 runs new", start, "ms", 100),
    ]
