"""Promise: the GIL is free during a step, the number of threads is respected, and a forked child can step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import rmsprop

needs_kernel = pytest.mark.skipif(not rmsprop.is_compiled(), reason="the compiled module is not installed")


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
def test_another_thread_runs_during_a_step(threads):
    param, grad = np.ones(4_000_000, "float32"), np.ones(4_000_000, "float32")
    optimizer = rmsprop.RMSprop(param, lr=0.1, threads=threads)
    optimizer.step(grad)
    turns, done = 0, threading.Event()

    def count_turns():
        nonlocal turns
        while not done.is_set():
            turns += 1
            done.wait(1e-5)  # releases the GIL at once, so that only the step can keep it

    before = sys.getswitchinterval()
    thread = threading.Thread(target=count_turns)
    thread.start()
    try:
        sys.setswitchinterval(1000.0)  # Python never asks the main thread to release the GIL
        start, deadline = turns, time.monotonic() + 120
        # Only a step can let the other thread run. Under load it may get its turn only in one of many steps.
        while turns == start and time.monotonic() < deadline:
            optimizer.step(grad)
        assert turns > start
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()


def run_script(text, **environment):
    """Run a script in a new interpreter and return its output."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


COUNT_THREADS = """
import os, numpy as np, rmsprop
def count(): return len(os.listdir("/proc/self/task"))
param = np.ones(300_000, "float32"); grad = param.copy()
SETUP
before = count()
optimizer = rmsprop.RMSprop(param, lr=0.1, threads=THREADS)
optimizer.step(grad)
print(count() - before)
"""


@needs_kernel
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc, which is Linux only")
@pytest.mark.parametrize(
    ("setup", "threads", "started"),
    [("", 1, 0), ("", 3, 2), ("rmsprop.set_threads(1)", 0, 0), ("rmsprop.set_threads(3)", 0, 2)],
)
def test_the_number_of_threads_is_respected(setup, threads, started):
    script = COUNT_THREADS.replace("SETUP", setup).replace("THREADS", str(threads))
    assert int(run_script(script, OPENBLAS_NUM_THREADS="1")) == started


def test_the_default_number_of_threads_can_be_set_and_read():
    before = rmsprop.threads()
    assert before >= 1
    try:
        rmsprop.set_threads(1)
        assert rmsprop.threads() == 1
    finally:
        rmsprop.set_threads(0)
    assert rmsprop.threads() == before


FORK = """
import os, sys, numpy as np, rmsprop
param = np.ones(300_000, "float32"); grad = np.linspace(-1, 1, 300_000, dtype="float32")
optimizer = rmsprop.RMSprop(param, lr=0.1, threads=2, max_norm=1.0)
optimizer.step(grad)                       # the parent's threads exist now, the child's will not
read, write = os.pipe()
if os.fork() == 0:
    optimizer.step(grad)
    os.write(write, param[:1000].tobytes())
    os._exit(0)
optimizer.step(grad)
os.close(write)
child = b""
while chunk := os.read(read, 4096): child += chunk
os.wait()
print(child == param[:1000].tobytes())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_steps_after_a_threaded_step_of_its_parent():
    assert run_script(FORK).strip() == "True"
