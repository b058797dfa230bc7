"""Promise: rmsprop.keras.RMSprop replaces that of Keras. Runs tests/keras_suite on each backend, in its own process."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="keras is not installed")
pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SUITE = sorted(HERE.glob("keras_suite/suite_*.py"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_the_suite_passes_on(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    # NumPy warns of the `__array__` of Keras; TensorFlow and absl warn when they are imported.
    quiet = ["ignore:__array__ implementation:DeprecationWarning", "ignore::DeprecationWarning:tensorflow"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [word for rule in quiet for word in ("-W", rule)]
    command += map(str, SUITE)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE.parent, timeout=880)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 40, done.stdout[-2000:]


SAVE = """
import sys, keras, rmsprop.keras
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(optimizer=rmsprop.keras.RMSprop(dialect="sb3"), loss="mse")
model.save(sys.argv[1])
"""
LOAD = """
import sys, keras
{}
print(keras.saving.load_model(sys.argv[1]).optimizer)
"""


def test_a_saved_model_loads_after_importing_rmsprop_keras(tmp_path):
    def run(program):
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", program, str(tmp_path / "model.keras")]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=250)

    assert run(SAVE).returncode == 0
    without = run(LOAD.format(""))
    assert without.returncode == 1
    assert "Could not locate class 'RMSprop'" in without.stderr
    with_it = run(LOAD.format("import rmsprop.keras"))
    assert "RMSprop(dialect='sb3', Rule(rho=0.99" in with_it.stdout, with_it.stderr
