"""Threads and processes: the GIL is free during a step, their number is respected, and a fork does not hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import rmsprop

# ---- threads and processes -------------------------------------------------------------------------------------------

compiled = pytest.mark.skipif(not rmsprop.compiled(), reason="the compiled module is not installed")


@compiled
@pytest.mark.parametrize("threads", [1, 2])
def test_another_thread_runs_during_a_step(threads):
    param, grad = np.ones(4_000_000, "float32"), np.ones(4_000_000, "float32")
    optimizer = rmsprop.RMSprop(param, lr=0.1, threads=threads)
    optimizer.step(grad)
    turns, done = [0], threading.Event()

    def other():
        while not done.is_set():
            turns[0] += 1
            done.wait(1e-5)  # hands the GIL back at once, so that only the step can keep it

    before = sys.getswitchinterval()
    thread = threading.Thread(target=other)
    thread.start()
    try:
        sys.setswitchinterval(1000.0)  # nobody is asked to hand the GIL over
        seen = []
        for _ in range(5):
            was = turns[0]
            optimizer.step(grad)
            seen.append(turns[0] - was)
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()
    assert max(seen) > 0


def run_script(text, **environment):
    """Run a script in a fresh interpreter and return what it printed."""
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
def alive(): return len(os.listdir("/proc/self/task"))
param = np.ones(300_000, "float32"); grad = param.copy()
SETUP
before = alive()
optimizer = rmsprop.RMSprop(param, lr=0.1, threads=THREADS)
optimizer.step(grad)
print(alive() - before)
"""


@compiled
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
