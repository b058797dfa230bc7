"""Promise: after the first step, a step allocates nothing that grows with the model."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rmsprop

pytestmark = pytest.mark.skipif(not rmsprop.is_compiled(), reason="the compiled module is not installed")

TRACED = """
import sys, tracemalloc, numpy as np, rmsprop
def peak(n, max_norm):
    params = {"w": np.ones((n // 10, 10), "float32"), "b": [np.ones(n), np.asfortranarray(np.ones((n // 10, 10)))]}
    grads = {"w": np.ones((n // 10, 10), "float32"), "b": [np.ones(n), np.asfortranarray(np.ones((n // 10, 10)))]}
    rule = rmsprop.Rule(centered=True, buffer="lr", momentum=0.9)
    optimizer = rmsprop.RMSprop(params, lr=0.01, dialect=rule, max_norm=max_norm)
    optimizer.step(grads)
    tracemalloc.start()
    for _ in range(3): optimizer.step(grads)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest
print([peak(n, max_norm) for n in (100, 1_000_000) for max_norm in (None, 1.0)])
"""

RESIDENT = """
import resource, numpy as np, rmsprop
def highest(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = 8_000_000                                              # 32 MB for each array
param, grad = np.ones(n, "float32"), np.ones(n, "float32")
rule = rmsprop.Rule(buffer="unit", momentum=0.9)
optimizer = rmsprop.RMSprop(param, lr=0.01, dialect=rule, max_norm=1.0, check_finite=True)
optimizer.step(grad)
before = highest()
for _ in range(3): optimizer.step(grad)
print(highest() - before)
"""


def run(script):
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return eval(result.stdout)


def test_the_memory_that_python_allocates_does_not_grow_with_the_model():
    # A few lists and numbers per call; one array of the large model is 4 to 8 MB.
    assert all(0 < peak < 20_000 for peak in run(TRACED))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak resident memory in KiB, as Linux gives it")
def test_the_peak_memory_of_the_process_does_not_grow():
    assert run(RESIDENT) < 4096  # KiB; one array has 31,250
