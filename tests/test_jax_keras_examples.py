"""The examples for JAX and Keras run as a reader runs them, and show what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parent.parent / "examples"


def output(name, **environment):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_jax_example_takes_the_place_of_optax():
    pytest.importorskip("optax", reason="optax is not installed")
    losses = re.findall(r"loss (\S+) -> (\S+)", output("jax_drop_in.py"))
    assert len(losses) == 3
    assert losses[0][0] == losses[1][0]
    assert float(losses[1][1]) == pytest.approx(float(losses[0][1]), rel=0.05)
    assert all(float(after) < 0.2 * float(before) for before, after in losses)


def test_the_keras_example_goes_on_after_it_was_saved():
    pytest.importorskip("keras", reason="keras is not installed")
    pytest.importorskip("torch", reason="torch is not installed")
    text = output("keras_drop_in.py", KERAS_BACKEND="torch")
    assert "init='ones', buffer='lr', momentum=0.5" in text
    first, saved, last = (float(loss) for loss in re.findall(r"\d\.\d{4}", text))
    assert first > saved > last
