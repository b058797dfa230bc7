"""Promise: after the first step, a step allocates nothing that grows with the model."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rmsprop

pytestmark = pytest.mark.skipif(not rmsprop.is_compiled(), reason="the compiled module is not installed")

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak resident memory from /proc")

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

# Not ru_maxrss, which starts at that of the process that starts this one.
STATUS = """
def read_status(name): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
"""
RESIDENT = """
import numpy as np, rmsprop
n = 8_000_000                                              # 32 MB for each array
param, grad = np.ones(n, "float32"), np.ones(n, "float32")
rule = rmsprop.Rule(buffer="unit", momentum=0.9)
optimizer = rmsprop.RMSprop(param, lr=0.01, dialect=rule, max_norm=1.0, check_finite=True)
optimizer.step(grad)
before = read_status("VmRSS")
for _ in range(3): optimizer.step(grad)
print(read_status("VmHWM") - before)
"""
TORCH_STATE = """
import torch
from rmsprop.torch import RMSprop
def grow(n, options, loaded=False):
    param = torch.nn.Parameter(torch.ones(n))
    param.grad = torch.ones(n)
    if loaded:
        other = RMSprop([param])
        other.step()
        checkpoint = other.state_dict()
    optimizer = RMSprop([param], **options)
    open("/proc/self/clear_refs", "w").write("5")          # forgets the highest so far
    before = read_status("VmRSS")
    optimizer.load_state_dict(checkpoint) if loaded else optimizer.step()
    return (read_status("VmHWM") - before) * 1024 / n      # bytes per parameter
eight, buffered = {"state_dtype": "8bit"}, {"state_dtype": "8bit", "dialect": "tensorflow1", "momentum": 0.9}
narrow = {"state_dtype": "bfloat16"}
for n in 1000, 20_000_000:                                 # first what is loaded at the first use
    peaks = [grow(n, {}), grow(n, narrow), grow(n, eight), grow(n, buffered), grow(n, eight, loaded=True)]
print(peaks)
"""


def run(script):
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return eval(result.stdout)


def test_the_memory_that_python_allocates_does_not_grow_with_the_model():
    # A few lists and numbers per call; one array of the large model is 4 to 8 MB.
    assert all(0 < peak < 20_000 for peak in run(TRACED))


@on_linux
def test_the_peak_memory_of_the_process_does_not_grow():
    assert run(STATUS + RESIDENT) < 4096  # KiB; one array has 31,250


@on_linux
@pytest.mark.slow
def test_the_torch_state_is_made_without_large_copies():
    pytest.importorskip("torch", reason="torch is not installed")
    peaks, kept = run(STATUS + TORCH_STATE), [4.0, 2.0, 1.02, 3.02, 1.02]
    assert all(peak < size + 1.1 for peak, size in zip(peaks, kept)), peaks  # bytes per parameter
