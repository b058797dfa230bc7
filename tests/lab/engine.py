"""The page's engine, run by Node: what the browser computes, without a browser."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"


def check_tools() -> None:
    """Skip the test where the page cannot be built."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: it builds the lab's page")
    if not (WEB / "node_modules").exists():
        pytest.skip("the page's packages are not installed: make lab")
    pytest.importorskip("ziglang", reason="ziglang is not installed: it compiles the kernel for the page")


def call(*calls: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return {"value"} or {"error": {"message", "column"}} of every call; arrays as float64."""
    check_tools()
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        ["node", HERE / "engine.mjs"], input=json.dumps(calls), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout, object_hook=_read_array)
    return answers


def ask(kind: str, state: dict[str, Any], **more: Any) -> Any:
    """Return the worker's answer to one request."""
    (answer,) = call(("request", {"kind": kind, "state": state, **more}))
    assert "value" in answer, answer
    return answer["value"]


def make_state(runs: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Return a state of the page: Rosenbrock's valley unless something else is given."""
    usual = {
        "text": "(1 - x)^2 + 100*(y - x^2)^2",
        "domain": [[-2, 2], [-1, 3]],
        "start": [-1.2, 1.0],
        "steps": 300,
        "noise": {"kind": "none", "scale": 1, "seed": 0},
    }
    return {**usual, **changes, "runs": [{"dialect": None, "own": {}, **run} for run in runs]}


def _read_array(found: dict[str, Any]) -> Any:
    return np.frombuffer(base64.b64decode(found["float64"])) if "float64" in found else found
